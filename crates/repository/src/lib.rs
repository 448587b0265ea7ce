//! Model folders to model specifications: model.toml, Triton, TF Serving, bare files.
