//! The options of `salver migrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Options of `salver migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateOptions {
    /// Whose repository it is.
    #[command(subcommand)]
    pub from: MigrateFrom,

    /// Print JSON: every file and line, what becomes of it and why.
    #[arg(long, global = true)]
    pub json: bool,

    /// Show what serves as it is too, not only what does not.
    #[arg(long, global = true)]
    pub all: bool,
}

/// Whose repository it is.
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateFrom {
    /// A Triton model repository, or one model of one.
    Triton {
        /// The folder that `tritonserver --model-repository` is given.
        #[arg(value_name = "DIR")]
        path: PathBuf,
    },
    /// A folder of TensorFlow Serving's, a folder of those, or a models.config.
    Tfserving {
        /// What `--model_base_path` or `--model_config_file` is given.
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
}
