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

use anyhow::Result;
use salver_client::HttpClient;

use crate::cli::BenchOptions;
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

async fn over_sockets(options: &BenchOptions) -> Result<Report> {
    let client = HttpClient::new(&options.server.server)?;
    let model = Target::model(&client, options).await?;
    let mut runs = Vec::new();
    let Some(pairs) = options.pairs else {
        let target = if options.constant { Target::constant(&client, &model).await? } else { model };
        runs.push(one(&target, options).await?);
        return Ok(Report::new(options, runs));
    };
    let constant = Target::constant(&client, &model).await?;
    for idx in 0..pairs {
        // Each pair begins with the other one, so that a drift of the machine cancels out.
        let order = if idx % 2 == 0 { [&constant, &model] } else { [&model, &constant] };
        for target in order {
            runs.push(one(target, options).await?);
        }
    }
    Ok(Report::new(options, runs))
}

async fn one(target: &Target, options: &BenchOptions) -> Result<Run> {
    let figures: Figures = target.measure(options.connections, plan(options)).await?;
    Ok(Run { what: target.label(), is_constant: target.is_constant(), figures })
}
