//! What `salver bench` can be asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

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

    /// How long to measure, such as 10s or 500ms.
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,

    /// How long to send requests first that do not count.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub warmup: Duration,

    /// Send this body (JSON of the Open Inference Protocol) instead of one made from the model's
    /// metadata.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Rows of each request.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub rows: usize,

    /// Ask /bench/constant, which answers without a model (`salver serve --bench`).
    #[arg(long, conflicts_with_all = ["pairs", "in_process"])]
    pub constant: bool,

    /// Measure the constant route and the model N times in turn, and print their ratio.
    #[arg(long, value_name = "N", conflicts_with = "in_process", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub pairs: Option<usize>,

    /// Measure the model at PATH through batching and engine, without a server and sockets.
    #[arg(long, value_name = "PATH", conflicts_with = "rate")]
    pub in_process: Option<PathBuf>,

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
}

impl BenchProtocol {
    /// Returns the name as on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::HttpJson => "http-json",
            Self::HttpBinary => "http-binary",
            Self::Grpc => "grpc",
        }
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected requests per second, from 0.01 to 10000000".to_owned()),
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
}
