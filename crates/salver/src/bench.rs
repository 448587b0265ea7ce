//! `salver bench`: how fast a server, or a model without one, answers.
//!
//! Before anything is measured, one answer is decoded and checked: a fast wrong answer is none.

mod grpc;
mod http;
mod in_process;
mod load;
mod outgoing;
mod raw;
mod report;
mod request;
mod target;
mod wire;

use std::time::Instant;

use anyhow::Result;
use salver_client::HttpClient;

use crate::cli::BenchOptions;
use crate::progress::{Position, Progress};
use load::{Pace, Plan};
use report::{Report, Run};
use request::Size;
use target::Target;

/// Runs the command.
///
/// # Errors
/// Where the server is not reached, its answer is wrong, or calls failed while measuring.
pub(crate) async fn run(options: &BenchOptions) -> Result<()> {
    if let Some(path) = &options.raw {
        return raw::measure(path, options)?.print(options.json);
    }
    let report = match &options.in_process {
        Some(path) => in_process::measure(path, options).await?,
        None => over_sockets(options).await?,
    };
    report.print(options.json)?;
    report.check()
}

/// Returns how long to call at `pace`.
fn plan(options: &BenchOptions, pace: Pace) -> Plan {
    Plan { warmup: options.warmup, duration: options.duration, pace }
}

/// Returns what free dimensions become.
fn size(options: &BenchOptions) -> Size {
    Size { rows: options.rows, length: options.length }
}

/// Shows the time that `n_runs` runs take.
fn progress(options: &BenchOptions, n_runs: usize) -> Progress {
    let all = (options.warmup + options.duration) * u32::try_from(n_runs).unwrap_or(u32::MAX);
    let start = Instant::now();
    Progress::bar("measuring, seconds:", move || Position { done: start.elapsed().as_secs(), all: all.as_secs() })
}

async fn over_sockets(options: &BenchOptions) -> Result<Report> {
    let runs = match &options.url {
        Some(url) => {
            let target = Target::url(url, options).await?;
            alone(&target, options).await?
        }
        None => of_salver(options).await?,
    };
    Ok(Report::new(options, runs))
}

/// Measures the model, the constant answer, or both in turn.
async fn of_salver(options: &BenchOptions) -> Result<Vec<Run>> {
    let client = HttpClient::new(&options.server.server)?;
    let model = Target::model(&client, options).await?;
    if !options.constant && options.pairs.is_none() {
        return alone(&model, options).await;
    }
    let constant = model.constant().await?;
    let Some(pairs) = options.pairs else {
        return alone(&constant, options).await;
    };
    // Each pair begins with the other one, so that a drift of the machine cancels out.
    let order = (0..pairs).flat_map(|idx| if idx % 2 == 0 { [&constant, &model] } else { [&model, &constant] });
    let _measuring = progress(options, 2 * pairs);
    let mut runs = Vec::with_capacity(2 * pairs);
    for target in order {
        runs.push(one(target, options, Pace::ClosedLoop).await?);
    }
    Ok(runs)
}

/// Measures one target; where a share of its peak is meant, the peak first.
async fn alone(target: &Target, options: &BenchOptions) -> Result<Vec<Run>> {
    let _measuring = progress(options, if options.rate_of_peak.is_some() { 2 } else { 1 });
    let Some(share) = options.rate_of_peak else {
        let pace = options.rate.map_or(Pace::ClosedLoop, Pace::PerSecond);
        return Ok(vec![one(target, options, pace).await?]);
    };
    let peak = one(target, options, Pace::ClosedLoop).await?;
    let rate = peak.figures.per_second * share;
    Ok(vec![peak, one(target, options, Pace::PerSecond(rate)).await?])
}

async fn one(target: &Target, options: &BenchOptions, pace: Pace) -> Result<Run> {
    let rate = match pace {
        Pace::ClosedLoop => None,
        Pace::PerSecond(rate) => Some(rate),
    };
    let figures = target.measure(options.connections, plan(options, pace)).await?;
    Ok(Run { what: target.label(), is_constant: target.is_constant(), rate, figures })
}
