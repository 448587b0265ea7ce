//! What `salver models import` can be asked for.

use clap::Args;

/// What stands below the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  salver models import models:/iris/3 --from http://localhost:5000       one version
  salver models import models:/iris@champion --from http://localhost:5000
  salver models import models:/iris --from http://localhost:5000         all versions
  salver models import --all --from http://localhost:5000                all models
  salver models import mlruns/models/m-1f2e/artifacts --name iris        a folder

A server that asks for a login gets MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
MLFLOW_TRACKING_TOKEN. It must hand out its files itself, as `mlflow server` does (--serve-artifacts).
What is in Production there is served here at once; --unstaged leaves stages and aliases out.";

/// What is copied from where.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportOptions {
    /// models:/NAME (all its versions), models:/NAME/VERSION, models:/NAME/STAGE, models:/NAME@ALIAS;
    /// or a folder with MLmodel or model.toml.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub source: Option<String>,

    /// The MLflow tracking server that has it.
    #[arg(long, value_name = "URL", env = "MLFLOW_TRACKING_URI", hide_env_values = true)]
    pub from: Option<String>,

    /// Import every registered model of that server.
    #[arg(long)]
    pub all: bool,

    /// The registered model that it becomes a version of (default: as it is called there).
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub name: Option<String>,

    /// Leave stages and aliases out.
    #[arg(long)]
    pub unstaged: bool,
}
