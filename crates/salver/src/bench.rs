//! `salver bench`: how fast a server, or a model without one, answers.
//!
//! Before anything is measured, one answer is decoded and checked: a fast wrong answer is none.

mod grpc;
mod http;
mod in_process;
mod load;
mod report;
mod request;
mod target;

use std::time::Instant;

use anyhow::Result;
use salver_client::HttpClient;

use crate::cli::BenchOptions;
use crate::progress::{Position, Progress};
use load::{Figures, Pace, Plan};
use report::{Report, Run};
use target::Target;

/// Runs the command.
///
/// # Errors
/// Where the server is not reached, its answer is wrong, or calls failed while measuring.
pub(crate) async fn run(options: &BenchOptions) -> Result<()> {
    let report = match &options.in_process {
        Some(path) => in_process::measure(path, options).await?,
        None => over_sockets(options).await?,
    };
    report.print(options.json)?;
    report.check()
}

/// Returns how long and how fast to call.
fn plan(options: &BenchOptions) -> Plan {
    let pace = options.rate.map_or(Pace::ClosedLoop, Pace::PerSecond);
    Plan { warmup: options.warmup, duration: options.duration, pace }
}

/// Shows the time that `n_runs` runs take.
fn progress(options: &BenchOptions, n_runs: usize) -> Progress {
    let all = (options.warmup + options.duration) * u32::try_from(n_runs).unwrap_or(u32::MAX);
    let start = Instant::now();
    Progress::bar("measuring, seconds:", move || Position { done: start.elapsed().as_secs(), all: all.as_secs() })
}

async fn over_sockets(options: &BenchOptions) -> Result<Report> {
    let client = HttpClient::new(&options.server.server)?;
    let model = Target::model(&client, options).await?;
    let constant = match options.constant || options.pairs.is_some() {
        true => Some(Target::constant(&client, &model).await?),
        false => None,
    };
    let order: Vec<&Target> = match (options.pairs, &constant) {
        // Each pair begins with the other one, so that a drift of the machine cancels out.
        (Some(pairs), Some(constant)) => {
            (0..pairs).flat_map(|idx| if idx % 2 == 0 { [constant, &model] } else { [&model, constant] }).collect()
        }
        (None, Some(constant)) => vec![constant],
        (_, None) => vec![&model],
    };
    let measuring = progress(options, order.len());
    let mut runs = Vec::with_capacity(order.len());
    for target in order {
        runs.push(one(target, options).await?);
    }
    drop(measuring);
    Ok(Report::new(options, runs))
}

async fn one(target: &Target, options: &BenchOptions) -> Result<Run> {
    let figures: Figures = target.measure(options.connections, plan(options)).await?;
    Ok(Run { what: target.label(), is_constant: target.is_constant(), figures })
}
