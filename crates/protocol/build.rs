//! Compiles the protocol's files in `proto/` at the root into Rust, without `protoc`.
//!
//! Also writes the descriptor set that gRPC reflection answers from.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../../proto");
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    for (file, set) in [("inference.proto", "inference.bin"), ("tensorflow_serving.proto", "tensorflow_serving.bin")] {
        let mut compiler = protox::Compiler::new(["../../proto"])?;
        let compiler = compiler.include_imports(true).open_files([file])?;
        std::fs::write(out_dir.join(set), compiler.encode_file_descriptor_set())?;
        tonic_prost_build::configure()
            .bytes(".")
            .btree_map(".")
            // Written by hand: packed fields are taken from the wire as they are, and inputs counted.
            .extern_path(".tensorflow.TensorProto", "crate::tfserving_grpc::TensorProto")
            .extern_path(".tensorflow.serving.PredictRequest", "crate::tfserving_grpc::PredictRequest")
            .build_transport(false)
            .emit_rerun_if_changed(false)
            .compile_fds(compiler.include_source_info(true).file_descriptor_set())?;
    }
    Ok(())
}
