//! What `salver bench` can be asked for.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::time::parse_duration;
use super::{EngineArgs, ServerArgs};

#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// The model to ask, as NAME or NAME/VERSION.
    #[arg(long, short, value_name = "NAME", default_value = "iris")]
    pub model: String,

    #[command(flatten)]
    pub server: ServerArgs,

    /// How to ask.
    #[arg(long, short, value_enum, default_value_t = BenchProtocol::HttpJson)]
    pub protocol: BenchProtocol,

    /// Requests in flight: a connection each over HTTP, 16 to a connection over gRPC.
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub connections: usize,

    /// Start this many requests per second instead of as many as possible.
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate, conflicts_with = "pairs")]
    pub rate: Option<f64>,

    /// Measure the peak first, then start requests at this share of its rate, such as 0.7.
    #[arg(long, value_name = "SHARE", value_parser = parse_share, conflicts_with_all = ["rate", "pairs", "constant", "in_process"])]
    pub rate_of_peak: Option<f64>,

    /// How long to measure, such as 10s or 500ms.
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,

    /// How long to send requests first that do not count.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub warmup: Duration,

    /// Send this body (JSON of the Open Inference Protocol; with --url any body) instead of one made
    /// from the model's metadata.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// POST the --input file to this address of any server; an answer with status 200 or 202 counts. Each
    /// line of a .jsonl file is a body of its own, sent in turn; pictures and .txt go out as they are.
    #[arg(long, value_name = "URL", requires = "input", conflicts_with_all = ["constant", "pairs", "in_process", "protocol"])]
    pub url: Option<String>,

    /// Rows of each request.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub rows: usize,

    /// Extent of free dimensions other than the first, such as the length of texts.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub length: usize,

    /// Send other values with each request, which no cache can know.
    #[arg(long, conflicts_with_all = ["input", "constant"])]
    pub vary: bool,

    /// Ask what answers without a model: /bench/constant (`salver serve --bench`), or ServerLive
    /// over gRPC.
    #[arg(long, conflicts_with_all = ["pairs", "in_process"])]
    pub constant: bool,

    /// Measure the constant answer and the model N times in turn, and print their ratio.
    #[arg(long, value_name = "N", conflicts_with = "in_process", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub pairs: Option<usize>,

    /// Measure the model at PATH through batching and engine, without a server and sockets. What an
    /// ensemble calls is looked for beside it.
    #[arg(long, value_name = "PATH", conflicts_with = "rate")]
    pub in_process: Option<PathBuf>,

    /// Measure the engine alone with the model at PATH: no batching, no queue, no sockets. Every
    /// batch size of --batches with every shape of --shapes.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["in_process", "rate", "rate_of_peak", "constant", "pairs", "url", "input", "vary", "rows"])]
    pub raw: Option<PathBuf>,

    /// Batch sizes of --raw.
    #[arg(long, value_name = "ROWS", requires = "raw", value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16, 32], value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub batches: Vec<usize>,

    /// Instances and threads of each for --raw, such as 2x1 (default: one instance with all cores,
    /// and on each core an instance with one thread).
    #[arg(long, value_name = "IxT", requires = "raw", value_delimiter = ',')]
    pub shapes: Vec<RawShape>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub engine: EngineArgs,
}

/// How `bench` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchProtocol {
    /// Open Inference Protocol over HTTP, tensors as JSON.
    HttpJson,
    /// Open Inference Protocol over HTTP, tensors as bytes.
    HttpBinary,
    /// Open Inference Protocol over gRPC.
    Grpc,
    /// TF Serving's Predict over gRPC.
    TfservingGrpc,
}

impl BenchProtocol {
    /// Returns the name as on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::HttpJson => "http-json",
            Self::HttpBinary => "http-binary",
            Self::Grpc => "grpc",
            Self::TfservingGrpc => "tfserving-grpc",
        }
    }
}

/// Instances of a model that run at the same time, and the threads of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct RawShape {
    /// Instances, each with a calling thread of its own.
    pub instances: usize,
    /// Threads that one run may use.
    pub threads: usize,
}

impl FromStr for RawShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|number| (1..=1024).contains(number));
        let numbers =
            text.split_once('x').and_then(|(instances, threads)| Some((number(instances)?, number(threads)?)));
        let (instances, threads) = numbers.ok_or("expected instances and threads from 1 to 1024, such as 2x1")?;
        Ok(Self { instances, threads })
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected requests per second, from 0.01 to 10000000".to_owned()),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.01..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a share of the peak, from 0.01 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_positive_number() {
        assert_eq!(parse_rate("1000"), Ok(1000.0));
        for bad in ["0", "-1", "NaN", "inf", "x"] {
            assert!(parse_rate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_shape_is_instances_and_threads() {
        assert_eq!("2x1".parse(), Ok(RawShape { instances: 2, threads: 1 }));
        for bad in ["", "2", "x", "0x1", "1x0", "2x1x1", "1x1025", "-1x1"] {
            assert!(bad.parse::<RawShape>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_share_of_the_peak_is_at_most_the_peak() {
        assert_eq!(parse_share("0.7"), Ok(0.7));
        for bad in ["0", "1.1", "-0.5", "NaN", "70%"] {
            assert!(parse_share(bad).is_err(), "{bad:?}");
        }
    }
}
