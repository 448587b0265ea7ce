//! What `salver top` can be asked for.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::ServerArgs;
use super::time::parse_duration;

/// Intervals below this would measure the looking.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct TopOptions {
    #[command(flatten)]
    pub server: ServerArgs,

    /// How long each measurement takes, such as 1s or 500ms.
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,

    /// What comes first.
    #[arg(long, short, value_enum, default_value_t = TopSort::Rate)]
    pub sort: TopSort,

    /// Print one table after one interval and end; with --json, one object.
    #[arg(long)]
    pub once: bool,

    /// Print one JSON object per interval, each on its own line.
    #[arg(long)]
    pub json: bool,
}

/// The order of the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopSort {
    /// The most requests per second first.
    Rate,
    /// The highest 99th percentile first.
    Latency,
    /// The most memory first.
    Memory,
    /// By name.
    Name,
}

impl TopSort {
    /// Returns the name as on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Name => "name",
        }
    }
}

pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < LEAST_INTERVAL {
        return Err(format!("at least {LEAST_INTERVAL:?}"));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_long_enough_to_measure() {
        assert_eq!(parse_interval("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_interval("10ms"), Err("at least 100ms".to_owned()));
        assert!(parse_interval("0").is_err() && parse_interval("x").is_err());
    }
}
