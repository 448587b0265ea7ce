//! Every setting of the server, each declared once.
//!
//! A field is a flag, an environment variable (`SALVER_` and its name in capitals) and a key of
//! the configuration file at the same time; its doc comment is the help text. How the four
//! layers are laid over each other is the business of [`layers`]. What the settings do is not
//! decided here but in `wiring.rs`.

pub(crate) mod layers;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use clap::{Args, FromArgMatches as _, ValueEnum};

use crate::cli::EngineArgs;

/// Settings of `salver serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeOptions {
    /// What to serve: a .onnx file, a model folder (with model.toml or MLmodel), a folder of models,
    /// a Triton model repository, a TF Serving folder of numbered versions or a TF Serving
    /// models.config.
    ///
    /// Without a PATH, ./models is served if it is there. What the registry has in production is
    /// served besides; of two models with one name, that of the PATH.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Read settings from this TOML file; its keys are the long flags with _ for -.
    ///
    /// Flags beat environment variables (SALVER_HTTP for --http), which beat the file, which beats
    /// the defaults. Relative paths in it start from the current folder. `salver config` shows
    /// the result.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Listen here for HTTP; gRPC is answered on the same port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = parse_addr, help_heading = "Listening")]
    pub http: SocketAddr,

    /// Listen here for gRPC as well, or "off".
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081", value_parser = parse_grpc, help_heading = "Listening")]
    pub grpc: GrpcAddr,

    /// Allow an address that other machines can reach. Nobody is asked for a key: whoever reaches
    /// the port may use every model.
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Listening")]
    pub insecure: bool,

    /// Let pages of this origin call the server from a browser ("*": any page). Repeatable.
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', help_heading = "Listening")]
    pub cors: Vec<String>,

    /// Answer requests for this host besides localhost ("*": any host). Repeatable.
    ///
    /// A server on loopback answers to no other name, because a web page can make its own name lead
    /// to this machine. A server that other machines can reach answers to every name, unless some
    /// are given here.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Listening")]
    pub allowed_host: Vec<String>,

    /// Threads that serve connections (default: one per core).
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024), help_heading = "Listening")]
    pub threads: Option<usize>,

    /// How models come and go: "none" loads all at the start, "poll" follows the folders,
    /// "explicit" loads and unloads on request.
    #[arg(long, value_name = "MODE", value_enum, default_value_t = ControlMode::None, hide_possible_values = true, help_heading = "Models")]
    pub model_control: ControlMode,

    /// How often "poll" looks at the folders.
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = RangedU64ValueParser::<u64>::new().range(10..), help_heading = "Models")]
    pub poll_interval_ms: u64,

    /// Pick up changed files of models at once: as "poll", every half second. For development.
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Models")]
    pub reload: bool,

    /// Let TF Serving's clients replace the models of the models.config that the server was started
    /// with (HandleReloadConfigRequest). The folders that they name must lie in this one.
    #[arg(long, value_name = "DIR", help_heading = "Models")]
    pub reload_config_from: Option<PathBuf>,

    /// The most memory that the whole process should hold, such as 2GiB or 500MB (0: no limit).
    ///
    /// With a limit, a model is loaded when it is first asked for, and the one that was not used for
    /// longest leaves to make room.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = parse_bytes, help_heading = "Models")]
    pub memory_limit: u64,

    /// How long a request waits for its model to be loaded, and a load for room.
    #[arg(long, value_name = "MS", default_value_t = 30_000, help_heading = "Models")]
    pub load_wait_ms: u64,

    /// How long a load may take before it counts as failed (0: as long as it takes).
    #[arg(long, value_name = "MS", default_value_t = 600_000, help_heading = "Models")]
    pub load_timeout_ms: u64,

    /// Load this model at the start under explicit control or a memory limit ("*": every model).
    /// Repeatable.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Models")]
    pub load_model: Vec<String>,

    /// Load this model at the start and never let it leave to make room. Repeatable.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Models")]
    pub pin_model: Vec<String>,

    /// Take the files of models in load requests, under explicit control.
    ///
    /// Off by default: whoever reaches the server may then run any ONNX model on it. The files are
    /// kept in --data until the model is unloaded.
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Models")]
    pub allow_model_upload: bool,

    /// Answer with this model on routes that name none, such as /invocations.
    #[arg(long, value_name = "NAME", value_parser = parse_name, help_heading = "Models")]
    pub default_model: Option<salver_core::ModelName>,

    #[command(flatten)]
    pub engine: EngineArgs,

    /// Requests that may wait for one model before more are refused
    /// (default: four batches for each instance, at least 128).
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000), help_heading = "Models")]
    pub max_queue: Option<usize>,

    /// Find each model's best batch size by a short sweep at its first load.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, hide_possible_values = true, help_heading = "Models")]
    pub tune: bool,

    /// Memory for answers of models with a response cache (0: no answer is kept).
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, help_heading = "Models")]
    pub cache_bytes: u64,

    /// Share cached answers with other servers through this Redis:
    /// redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], or rediss:// for TLS. A password is safer
    /// in SALVER_CACHE_REDIS or the file, where other users do not see it.
    #[arg(long, value_name = "URL", value_parser = parse_secret, help_heading = "Models")]
    pub cache_redis: Option<Secret>,

    /// Let clients hand over tensors in shared memory of this machine (Triton's extension). They may
    /// then read and write every object in /dev/shm that the server may.
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Models")]
    pub allow_client_shm: bool,

    /// Where Salver keeps what it stores itself.
    #[arg(long, value_name = "DIR", default_value = "./salver-data", help_heading = "Running")]
    pub data: PathBuf,

    /// Keep a registry of models in --data, which MLflow's clients can use, and serve what it has in
    /// production.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, hide_possible_values = true, help_heading = "Registry")]
    pub registry: bool,

    /// Keep the registry's records here: postgres://USER:PASSWORD@HOST/NAME or sqlite:///PATH
    /// (default: registry/registry.db in --data). A password is safer in SALVER_DATABASE or the file.
    #[arg(long, value_name = "URL", value_parser = parse_secret, help_heading = "Registry")]
    pub database: Option<Secret>,

    /// Keep the files of models and runs here: a folder, file:///PATH or s3://BUCKET/PREFIX, whose
    /// keys come from the AWS_… variables (default: registry/artifacts in --data).
    #[arg(long, value_name = "URL", help_heading = "Registry")]
    pub artifacts: Option<String>,

    /// Serve a version of a registered model under a name of its own, such as
    /// iris-next=models:/iris/Staging: models:/MODEL/VERSION, models:/MODEL/STAGE or
    /// models:/MODEL@ALIAS, with or without models:/. Repeatable; a table [endpoints] in the file.
    ///
    /// What a stage or an alias names is followed. An endpoint that has the name of a registered
    /// model is served in place of its production version.
    #[arg(long, value_name = "NAME=MODEL", value_delimiter = ',', value_parser = parse_endpoint, help_heading = "Registry")]
    pub endpoint: Vec<salver_registry::serving::Endpoint>,

    /// Take jobs: work that outlives its request, kept in a queue in --data.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, hide_possible_values = true, help_heading = "Jobs")]
    pub jobs: bool,

    /// Keep the queue of jobs here, where several servers and workers may share it:
    /// postgres://USER:PASSWORD@HOST/NAME, redis://:PASSWORD@HOST:PORT/DB?prefix=NAME or
    /// sqlite:///PATH (default: jobs/jobs.db in --data). A password is safer in SALVER_QUEUE or the
    /// file.
    #[arg(long, value_name = "URL", value_parser = parse_secret, help_heading = "Jobs")]
    pub queue: Option<Secret>,

    /// Jobs that this process works on at the same time; their requests share batches.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse_job_workers, help_heading = "Jobs")]
    pub job_workers: usize,

    /// Give a job to another worker when its own has given no sign of life for this long.
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(1_000..=3_600_000), help_heading = "Jobs")]
    pub job_lease_ms: u64,

    /// Forget a job this many days after it has ended and its answer has gone.
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(0..=3_650), help_heading = "Jobs")]
    pub job_keep_days: u64,

    /// The most jobs that may wait or run; more are refused with 429.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, help_heading = "Jobs")]
    pub max_jobs: u64,

    /// The most jobs of one caller that may wait or run; more are refused with 429 (0: no such limit).
    /// A caller is an address, or whom --caller-header names.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Jobs")]
    pub max_jobs_per_caller: u64,

    /// The header in which a proxy in front says who submits a job. Anybody who reaches the server past
    /// the proxy can put any name into it.
    #[arg(long, value_name = "NAME", value_parser = parse_header_name, help_heading = "Jobs")]
    pub caller_header: Option<http::HeaderName>,

    /// Sign the messages that jobs have ended with this secret: whsec_ and base64, or a text, of at least
    /// 24 bytes; several with spaces between them sign side by side. Without it no job may have a
    /// callback_url. It is safer in SALVER_CALLBACK_SECRET or the file, where other users do not see it.
    #[arg(long, value_name = "SECRET", value_parser = parse_secret, help_heading = "Jobs")]
    pub callback_secret: Option<Secret>,

    /// Send such messages to this host (hooks.internal, *.internal) or network (10.0.0.0/8) although not
    /// everybody can reach it. Repeatable.
    #[arg(long, value_name = "HOST|CIDR", value_delimiter = ',', value_parser = parse_exception, help_heading = "Jobs")]
    pub callback_allow: Vec<salver_outbound::Exception>,

    /// How long a receiver of such a message may take to answer.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=60_000), help_heading = "Jobs")]
    pub callback_timeout_ms: u64,

    /// The wait before a message that did not arrive is sent again; later waits are up to 5760 times as
    /// long, so that ten more attempts spread over a day.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=60_000), help_heading = "Jobs")]
    pub callback_retry_ms: u64,

    /// What to log: error, warn, info, debug or trace; or directives such as
    /// "info,salver_runtime=debug".
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Running")]
    pub log_level: String,

    /// How logs look: "human", "json", or "auto" (human on a terminal, JSON elsewhere).
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogStyle::Auto, hide_possible_values = true, help_heading = "Running")]
    pub log_format: LogStyle,

    /// Warn of inferences slower than this (0: never).
    #[arg(long, value_name = "MS", default_value_t = 1000, help_heading = "Running")]
    pub slow_ms: u64,

    /// How long a stopping server may finish what is in flight.
    #[arg(long, value_name = "MS", default_value_t = 30_000, help_heading = "Running")]
    pub shutdown_grace_ms: u64,

    /// Show counters under Triton's names on /metrics too (nv_inference_…), for its dashboards.
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Running")]
    pub triton_metrics: bool,

    /// Answer /bench/constant too, the yardstick of `salver bench`.
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, help_heading = "Running")]
    pub bench: bool,

    #[command(flatten)]
    pub limits: LimitOptions,
}

/// What one client may ask of the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitOptions {
    /// Largest request body, before and after decompression.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub body_limit_bytes: usize,

    /// Bodies of all requests together that are in memory at a time.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub buffered_limit_bytes: usize,

    /// How many times larger a compressed body may become.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub decompression_ratio_limit: usize,

    /// All header lines of a request together.
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 10, value_parser = RangedU64ValueParser::<usize>::new().range(1024..=1 << 20))]
    pub header_limit_bytes: usize,

    /// Header lines of a request.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(8..=10_000))]
    pub max_headers: usize,

    /// Longest path and query.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 10, value_parser = RangedU64ValueParser::<usize>::new().range(64..=64 << 10))]
    pub uri_limit_bytes: usize,

    /// Time for a request's header to arrive.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub header_timeout_ms: u64,

    /// How long a connection may stay open without a request.
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub idle_timeout_ms: u64,

    /// Slowest body that is waited for, in bytes per second.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub min_body_rate_bytes: usize,

    /// Time for a body before that rate counts.
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    pub body_grace_ms: u64,

    /// Calls at a time on one HTTP/2 connection.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_streams: u32,

    /// Connections at a time; more wait to be accepted.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub max_connections: usize,

    /// How long an idle connection stays open once the server stops, for a request on its way.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub drain_linger_ms: u64,

    /// Time for one request that sets no limit of its own.
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub default_timeout_ms: u64,

    /// Inputs of one request.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_inputs: usize,

    /// Outputs that one request may name.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_outputs: usize,

    /// Deepest nesting of lists and objects in a JSON body.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(2..=200))]
    pub json_depth_limit: usize,

    /// Longest name of a tensor or parameter.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    pub name_limit_bytes: usize,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Returns the text, for whoever needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where gRPC is answered besides the HTTP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrpcAddr {
    /// Nowhere.
    Off,
    /// On a port of its own.
    At(SocketAddr),
}

impl GrpcAddr {
    /// Returns the address to bind, if there is one.
    pub(crate) fn addr(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(addr) => Some(addr),
        }
    }
}

/// How models come and go, with Triton's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ControlMode {
    /// All are loaded at the start; the folders are not looked at again.
    None,
    /// The folders are looked at again and again.
    Poll,
    /// Models are loaded and unloaded on request.
    Explicit,
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogStyle {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// One readable line per event.
    Human,
    /// One JSON object per event.
    Json,
}

impl ServeOptions {
    /// Returns the settings that hold where nothing is said: no flag, no file, but the environment.
    ///
    /// # Errors
    /// Where an environment variable holds a value that cannot be.
    pub(crate) fn defaults() -> anyhow::Result<Self> {
        let matches = crate::cli::command().try_get_matches_from(["salver", "serve"])?;
        let (_, serve) = matches.subcommand().context("the command serve")?;
        Ok(Self::from_arg_matches(serve)?)
    }

    /// Returns the addresses that machines other than this one can reach.
    pub(crate) fn exposed(&self) -> Vec<SocketAddr> {
        let addrs = [Some(self.http), self.grpc.addr()];
        addrs.into_iter().flatten().filter(|addr| !addr.ip().is_loopback()).collect()
    }

    /// Returns how long a stopping server may finish what is in flight.
    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }
}

/// Reads `IP:PORT` or `localhost:PORT`.
pub(crate) fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().map_err(|_| format!("'{port}' is no port number"))?;
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// Reads `off` or what [`parse_addr`] reads.
pub(crate) fn parse_grpc(text: &str) -> Result<GrpcAddr, String> {
    match text {
        "off" => Ok(GrpcAddr::Off),
        addr => parse_addr(addr).map(GrpcAddr::At).map_err(|error| format!("{error}, or \"off\"")),
    }
}

/// Reads a number of bytes: plain, or with a unit of thousands (MB) or of 1024s (MiB).
fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    let expected = || format!("'{text}': expected a number of bytes, such as 2GiB, 500MB or 1073741824");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    let count: u64 = digits.parse().map_err(|_| expected())?;
    count.checked_mul(factor).ok_or_else(|| format!("'{text}' is more than any machine has"))
}

/// Takes any text: what is wrong with a secret is said without repeating it, by who uses it.
#[expect(clippy::unnecessary_wraps, reason = "clap wants a result")]
pub(crate) fn parse_secret(text: &str) -> Result<Secret, String> {
    Ok(Secret(text.to_owned()))
}

fn parse_job_workers(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= 1024);
    number.ok_or_else(|| "expected a number from 0 (others work on jobs) to 1024".to_owned())
}

fn parse_endpoint(text: &str) -> Result<salver_registry::serving::Endpoint, String> {
    text.parse().map_err(|error: salver_core::Error| error.to_string())
}

fn parse_header_name(text: &str) -> Result<http::HeaderName, String> {
    text.parse().map_err(|_| "expected the name of a header, such as X-User".to_owned())
}

fn parse_exception(text: &str) -> Result<salver_outbound::Exception, String> {
    text.parse().map_err(|error: salver_core::Error| error.message().to_owned())
}

fn parse_name(text: &str) -> Result<salver_core::ModelName, String> {
    salver_core::ModelName::new(text).map_err(|error| error.to_string())
}
