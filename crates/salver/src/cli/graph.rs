//! What `salver graph` can be asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::ServerArgs;
use super::top::parse_interval;

pub(super) const EXAMPLES: &str = "\
Examples:
  salver graph recommender                the steps, and what each did in one second
  salver graph recommender@stable --watch see it live
  salver graph recommender --total        what each step did since the ensemble was loaded
  salver graph recommender --svg graph.svg
                                          a picture, for a browser or a page
  salver graph recommender --json | jq '.steps[] | [.name, .interval.mean_ms]'";

#[derive(Debug, Args)]
pub(crate) struct GraphOptions {
    /// NAME, NAME/VERSION or NAME@ALIAS of an ensemble.
    pub model: String,

    #[command(flatten)]
    pub server: ServerArgs,

    /// How long to measure, such as 1s or 500ms.
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,

    /// Measure nothing: show at once what the steps did since the ensemble was loaded.
    #[arg(long, conflicts_with_all = ["interval", "watch"])]
    pub total: bool,

    /// Measure again and again, until Ctrl-C.
    #[arg(long, short)]
    pub watch: bool,

    /// Write a picture into this file instead ("-": standard output).
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub svg: Option<PathBuf>,

    /// Print JSON: the graph, and what each step did in the interval; with --watch, one line each time.
    #[arg(long)]
    pub json: bool,
}
