//! The command line: what can be asked for, and the words that explain it.
//!
//! Nothing is done here; `main.rs` hands each action to its module.

mod bench;
mod graph;
mod import;
mod jobs;
mod migrate;
mod time;
mod top;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub(crate) use self::bench::{BenchOptions, BenchProtocol, RawShape};
pub(crate) use self::graph::GraphOptions;
pub(crate) use self::import::ImportOptions;
pub(crate) use self::jobs::{
    DrainOptions, JobsAction, JobsOptions, ListOptions, PurgeOptions, ResultOptions, SubmitOptions,
};
pub(crate) use self::migrate::{MigrateFrom, MigrateOptions};
pub(crate) use self::top::{TopOptions, TopSort};
use crate::new::NewTask;
use crate::settings::layers::with_env_names;
use crate::settings::{GrpcAddr, Secret, ServeOptions, parse_addr, parse_grpc, parse_secret};

const INTRO: &str = "\
Salver serves trained models over HTTP and gRPC.

It reads .onnx files, model folders, models in Python, Triton repositories and TF Serving folders, and
speaks the Open Inference Protocol, the TF Serving and KServe v1 API, MLflow scoring and plain JSON.";

const EXAMPLES: &str = "\
Examples:
  salver demo                             see trained models predict
  salver serve iris.onnx                  serve a file on http://127.0.0.1:8080
  salver predict iris --input '[[5.1, 3.5, 1.4, 0.2]]'
                                          ask the running server";

const NEW_EXAMPLES: &str = "\
Examples:
  salver new mood --task text-classification      a folder mood/ with all that it needs
  salver new models/churn --task tabular          into a folder of models
  salver check mood && salver serve mood          see what it answers";

const WORKER_EXAMPLES: &str = "\
Examples:
  salver serve models --job-workers 0             takes jobs in and works on none
  salver worker models                            works on them, on the same machine
  salver worker models --queue postgres://…       works on those of servers elsewhere";

/// One binary between a trained model and the people who use its predictions.
#[derive(Debug, Parser)]
#[command(name = "salver", version, long_about = INTRO, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What `salver` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Serve models over HTTP and gRPC.
    ///
    /// Prints "http listening on ADDR" and "grpc listening on ADDR" once connections are accepted;
    /// models load meanwhile, and /v2/health/ready tells when all are there. Ctrl-C or SIGTERM
    /// finishes what is in flight and stops; a second one stops at once.
    Serve(Box<ServeOptions>),
    /// Work on the jobs of a queue that servers share.
    ///
    /// Loads the same models as the servers that take the jobs in, and answers on an address of its
    /// own for health and metrics only this machine sees, unless --http says otherwise. Give it the
    /// servers' --queue, or on one machine their --data. Ctrl-C or SIGTERM lets jobs that run end
    /// within --shutdown-grace-ms and gives the others back.
    #[command(after_help = WORKER_EXAMPLES)]
    Worker(Box<ServeOptions>),
    /// Make a model folder that serves at once, to put your own model into.
    ///
    /// Writes a model.toml whose comments explain each key, and a stand-in model that answers, with
    /// the tokenizer it needs. Replace model.onnx (and tokenizer.json) by yours, say in model.toml
    /// what it takes and gives, and let `salver check` tell what does not fit yet.
    #[command(after_help = NEW_EXAMPLES)]
    New(NewOptions),
    /// Show every setting of `serve`, its value and where it came from.
    Config(Box<ConfigOptions>),
    /// Get predictions for rows or tensors.
    ///
    /// MODEL is the name of a model on a running server, or a path: a .onnx file or model folder
    /// is loaded right here, without a server.
    Predict(PredictOptions),
    /// Show what a model file or folder takes, gives and consists of.
    Inspect(InspectOptions),
    /// Register, compare, promote, list, load and pin models of a running server.
    Models(ModelsOptions),
    /// Hand in work that is done later, wait for it, and look after the queue of a running server.
    ///
    /// A job takes what `salver predict` takes, and outlives the request, this command and the server.
    #[command(after_help = jobs::EXAMPLES)]
    Jobs(JobsOptions),
    /// Clear away, save or bring back the registry, beside a running server or without one.
    Registry(RegistryOptions),
    /// Watch what each model of a running server does right now.
    ///
    /// For each version: requests and errors per second, how long half of the requests and all but
    /// one in a hundred took at most (p50, p99), requests that wait, rows per execution, memory, and
    /// the share that the cache answered. Each figure is of the last interval; "-" is not known.
    /// On a terminal the table is drawn in place (q quits, r l m n sort); elsewhere each interval
    /// prints one.
    Top(TopOptions),
    /// Draw the steps of an ensemble on a running server, with the rate and time of each right now.
    ///
    /// Steps that do not wait for each other stand side by side; arrows (←) say what each reads. A box
    /// names the step, the model that it calls, what it runs under (when: for these rows only; each:
    /// once for every item of a list; within: its time limit; else: what is called, or not, where it
    /// fails), then runs per second and how long one took in the mean, and what failed, fell back or
    /// was skipped. A step that did not run in the interval is idle, with its runs so far.
    #[command(after_help = graph::EXAMPLES)]
    Graph(GraphOptions),
    /// Load every model of the given paths once and say which do not work, and why.
    ///
    /// Names the line of model.toml where it does not fit the graph: a column too many, labels that no
    /// output has scores for, a tokenizer that is not there. Of models with a task it shows what they
    /// take and give, and a request. Ends with status 1 if anything is wrong.
    Check(CheckOptions),
    /// Say what of another server's model repository serves as it is, what is ignored and what is refused.
    ///
    /// Reads the files, line by line, without loading a model. Ends with status 1 if anything is
    /// refused.
    Migrate(MigrateOptions),
    /// See or install the ONNX Runtime library.
    Runtime(RuntimeCommand),
    /// Watch trained models predict held-out flowers, handwritten digits and, with an encoder, sentences.
    Demo(DemoOptions),
    /// Measure how fast a server or a model answers.
    ///
    /// A closed loop by default: each connection sends its next request when the last one is
    /// answered. With --rate or --rate-of-peak, requests start on a fixed schedule and latency is
    /// counted from the time that the schedule intended, so a stall of the server shows up.
    ///
    /// What the figures are worth: --pairs compares with an answer that needs no model, --raw
    /// measures the engine alone, --url any other server.
    Bench(Box<BenchOptions>),
    /// Print a completion script for a shell.
    ///
    /// For bash: salver completions bash > ~/.local/share/bash-completion/completions/salver
    Completions(CompletionsOptions),
}

/// Which engines may be used, and where ONNX Runtime is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EngineArgs {
    /// Use this ONNX Runtime library (libonnxruntime.so, 1.31 or newer).
    #[arg(long, value_name = "FILE", env = "SALVER_ORT_LIB", hide_env = true, help_heading = "Models")]
    pub ort_lib: Option<PathBuf>,

    /// Never fetch ONNX Runtime; without it, the built-in engine serves what it can.
    #[arg(long, value_name = "BOOL", env = "SALVER_NO_RUNTIME_INSTALL", hide_env = true, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Models")]
    pub no_runtime_install: bool,

    /// Run models in Python, each in processes of its own. Their code can do anything that you can.
    ///
    /// Off by default: whoever can put a model here, or register one, runs code on this machine.
    #[arg(long, value_name = "BOOL", env = "SALVER_ALLOW_PYTHON", hide_env = true, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Models")]
    pub allow_python: bool,

    /// The interpreter, or the folder of a virtual environment, of models in Python that name none
    /// (default: python3).
    #[arg(long, value_name = "PATH", env = "SALVER_PYTHON", hide_env = true, help_heading = "Models")]
    pub python: Option<PathBuf>,

    /// What to do with a model's requirements.txt: "install" makes an environment of its own, once;
    /// "ignore" relies on what the interpreter of --python has.
    #[arg(
        long,
        value_name = "MODE",
        value_enum,
        env = "SALVER_PYTHON_REQUIREMENTS",
        hide_env = true,
        default_value_t,
        hide_possible_values = true,
        help_heading = "Models"
    )]
    pub python_requirements: PythonRequirements,

    /// Look features up here: redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] or
    /// postgres://USER:PASSWORD@HOST/NAME, for models that name the store NAME; a URL alone is the store
    /// "default". Repeatable; a table [feature_stores] in the file. A password is safer in
    /// SALVER_FEATURE_STORE or the file, where other users do not see it.
    #[arg(long, value_name = "NAME=URL", value_delimiter = ',', env = "SALVER_FEATURE_STORE", hide_env = true, hide_env_values = true, value_parser = parse_secret, help_heading = "Models")]
    pub feature_store: Vec<Secret>,

    /// Let models with engine = "http" ask this server: a host (api.example.com, *.example.com), an
    /// address or a network (10.0.0.0/8), each with :PORT or at every port. Repeatable.
    ///
    /// Nothing is asked that is not listed. A listed name may lead to public addresses and listed ones.
    #[arg(long, value_name = "HOST[:PORT]|CIDR", env = "SALVER_REMOTE_ALLOW", hide_env = true, value_delimiter = ',', value_parser = parse_place, help_heading = "Models")]
    pub remote_allow: Vec<salver_outbound::Place>,
}

fn parse_place(text: &str) -> Result<salver_outbound::Place, String> {
    text.parse().map_err(|error: salver_core::Error| error.message().to_owned())
}

/// What happens with the requirements of models in Python.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PythonRequirements {
    /// They are installed.
    #[default]
    Install,
    /// They are there already.
    Ignore,
}

/// Which running server is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// The running server.
    #[arg(
        long,
        value_name = "URL",
        env = "SALVER_SERVER",
        hide_env = true,
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    pub server: String,
}

#[derive(Debug, Args)]
pub(crate) struct NewOptions {
    /// The model's name, or FOLDER/NAME: what is made must not be there yet.
    #[arg(value_name = "NAME")]
    pub folder: PathBuf,

    /// What the model does for people.
    #[arg(long, value_name = "TASK", value_enum)]
    pub task: NewTask,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigOptions {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub serve: ServeOptions,
}

#[derive(Debug, Args)]
pub(crate) struct PredictOptions {
    /// NAME, NAME/VERSION or NAME@ALIAS on a server, or the path of a model.
    pub model: String,

    /// JSON text, @FILE, - for standard input, or the path of a .json, .csv or .npy file.
    #[arg(long, short, value_name = "INPUT")]
    pub input: String,

    /// Print the server's JSON answer instead of a table.
    #[arg(long)]
    pub json: bool,

    /// Wait for the answer where the model leaves what is not in its cache to a job.
    #[arg(long)]
    pub wait: bool,

    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectOptions {
    /// A .onnx file or a folder of models.
    pub path: PathBuf,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsOptions {
    /// What to do (default: list).
    #[command(subcommand)]
    pub action: Option<ModelsAction>,

    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

/// What can be done to the models of a running server.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ModelsAction {
    /// List every version: its state, the memory it takes, when it was last used.
    List,
    /// Show the versions of one model; or one version: what it takes and gives, and its files.
    Show {
        /// NAME, NAME/VERSION or NAME@ALIAS.
        model: String,
    },
    /// Load or reload a model (under explicit model control).
    Load {
        /// The model.
        model: String,
    },
    /// Stop serving a model (under explicit model control).
    Unload {
        /// The model.
        model: String,
    },
    /// Keep a model in memory until it is unpinned or the server ends.
    Pin {
        /// The model.
        model: String,
    },
    /// Let a model leave memory again to make room.
    Unpin {
        /// The model.
        model: String,
    },
    /// Forget the cached answers of a model, or of all models.
    PurgeCache {
        /// The model (default: all).
        model: Option<String>,
    },
    /// Register a file or folder as the next version of a model.
    #[command(after_help = "Example: salver models push iris iris.onnx --metric accuracy=0.97 --stage staging")]
    Push(PushOptions),
    /// Copy models from an MLflow tracking server into this registry, or register a model's folder.
    ///
    /// A version comes with its files, its description and tags, its stage and aliases, and the
    /// metrics and parameters of the run that made it. Files go from server to server, never
    /// through memory as a whole; a version is there when all of it is. What is here already is
    /// passed over, so the same line can be run again.
    #[command(after_help = import::EXAMPLES)]
    Import(ImportOptions),
    /// Copy the files of a registered version into a folder.
    Pull {
        /// NAME/VERSION, NAME/STAGE or NAME@ALIAS, also as models:/…; NAME alone is what is in production.
        model: String,
        /// Made if it is not there; files that are in it already are replaced.
        folder: PathBuf,
    },
    /// Compare versions side by side: what was measured, what they take and give, what they are made of.
    Compare {
        /// The registered model.
        model: String,
        /// Two versions or more.
        #[arg(required = true, num_args = 2..)]
        versions: Vec<i64>,
    },
    /// Put a version into production; the one that was there is archived.
    #[command(after_help = "Servers of this registry serve it within a second, without losing a request.")]
    Promote {
        /// NAME/VERSION, NAME/STAGE or NAME@ALIAS; NAME alone is its newest version.
        model: String,
        /// Where to: production or staging.
        #[arg(long, default_value = "production")]
        stage: String,
    },
    /// Put the version back into production that was there before.
    Rollback {
        /// The registered model.
        model: String,
    },
    /// Put a version aside: out of production and staging, and still there.
    Archive {
        /// NAME/VERSION.
        model: String,
    },
    /// Delete a version, or a model with all its versions; what was in production when stays known.
    Delete {
        /// NAME/VERSION, or NAME for all there is.
        model: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Show who changed what of a model, newest first, or what was in production when.
    History {
        /// The registered model (default: all).
        model: Option<String>,
        /// Show what was in production at this time (RFC 3339, such as 2026-11-22T10:00:00Z) instead.
        #[arg(long, value_name = "TIME", requires = "model")]
        at: Option<String>,
        /// The most changes to show.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Describe a model or a version in Markdown.
    Describe {
        /// NAME or NAME/VERSION.
        model: String,
        /// The text, @FILE, or - for standard input.
        text: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RegistryOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: RegistryAction,

    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub place: RegistryPlace,
}

/// Where a registry is: what `serve` takes.
#[derive(Debug, Args)]
pub(crate) struct RegistryPlace {
    /// The folder of the server's own files.
    #[arg(
        long,
        value_name = "DIR",
        env = "SALVER_DATA",
        hide_env = true,
        default_value = "./salver-data",
        global = true
    )]
    pub data: PathBuf,

    /// Where the records are (default: registry/registry.db in --data).
    #[arg(long, value_name = "URL", env = "SALVER_DATABASE", hide_env = true, value_parser = parse_secret, global = true)]
    pub database: Option<Secret>,

    /// Where the files of models and runs are (default: registry/artifacts in --data).
    #[arg(long, value_name = "URL", env = "SALVER_ARTIFACTS", hide_env = true, global = true)]
    pub artifacts: Option<String>,
}

/// What can be done to a registry as a whole.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RegistryAction {
    /// Delete files that no run, logged model or version refers to any more.
    Gc {
        /// Only count them.
        #[arg(long)]
        dry_run: bool,
        /// Leave those alone that are younger: their upload may not be over.
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
        grace_s: u64,
    },
    /// Write everything into a new folder: rows as JSON lines, and the files.
    Backup {
        /// Made if it is not there; must be empty.
        folder: PathBuf,
    },
    /// Bring a backup back, into a registry that has nothing yet; also from one database to another.
    Restore {
        /// What `backup` wrote.
        folder: PathBuf,
    },
}

/// What becomes a version.
#[derive(Debug, Clone, Args)]
pub(crate) struct PushOptions {
    /// The registered model; registered now if it is not yet.
    pub name: String,

    /// A file such as model.onnx, or a folder (with model.toml, or as MLflow saves it).
    pub path: PathBuf,

    /// What was measured, such as accuracy=0.94. Repeatable.
    #[arg(long, value_name = "KEY=NUMBER", value_parser = parse_metric)]
    pub metric: Vec<(String, f64)>,

    /// A parameter of the training. Repeatable.
    #[arg(long, value_name = "KEY=TEXT", value_parser = parse_pair)]
    pub param: Vec<(String, String)>,

    /// A tag of the version. Repeatable.
    #[arg(long, value_name = "KEY=TEXT", value_parser = parse_pair)]
    pub tag: Vec<(String, String)>,

    /// What it is, in Markdown: the text, or @FILE.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,

    /// Put it into this stage at once: staging or production.
    #[arg(long, value_name = "STAGE")]
    pub stage: Option<String>,

    /// Give it this alias.
    #[arg(long, value_name = "ALIAS")]
    pub alias: Option<String>,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn parse_metric(text: &str) -> Result<(String, f64), String> {
    let (key, value) = parse_pair(text)?;
    let value = value.parse().map_err(|_| format!("'{value}' is not a number"))?;
    Ok((key, value))
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// What `serve` takes: files, folders, repositories.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RuntimeCommand {
    #[command(subcommand)]
    pub action: RuntimeAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeAction {
    /// Show where the library is looked for, what is there and which one is used.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        engine: EngineArgs,
    },
    /// Put the library into the user's cache, from the package index or from a wheel.
    Install {
        /// Take it from this wheel (for machines without network).
        #[arg(long, value_name = "WHEEL")]
        from: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// End after the predictions instead of serving on.
    #[arg(long)]
    pub exit: bool,

    /// Also answer for sentences, with the encoder that examples/text/encoder.py put into this folder
    /// (default: models/minilm, where it is there).
    #[arg(long, value_name = "DIR")]
    pub encoder: Option<PathBuf>,

    /// Listen here for HTTP (default: 127.0.0.1:8080, or a free port where that one is taken).
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub http: Option<std::net::SocketAddr>,

    /// Listen here for gRPC (default: 127.0.0.1:8081, or a free port), or "off": gRPC is then
    /// asked on the HTTP port.
    #[arg(long, value_name = "ADDR", value_parser = parse_grpc)]
    pub grpc: Option<GrpcAddr>,

    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Builds the whole command line, with the environment variables of the settings.
pub(crate) fn command() -> clap::Command {
    // Of a flag that is given twice the last one counts, so that scripts can append their own.
    let last_wins = |sub: clap::Command| sub.args_override_self(true);
    // Nobody asks a worker, so its addresses are in nobody's way.
    let aside = |sub: clap::Command| {
        sub.mut_arg("http", |http| http.default_value("127.0.0.1:0")).mut_arg("grpc", |grpc| grpc.default_value("off"))
    };
    with_env_names(Cli::command().mut_subcommands(last_wins).mut_subcommand("worker", aside))
}
