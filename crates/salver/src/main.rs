//! `salver`: one binary between a trained model and the people who use its predictions.
//!
//! Reads the command line and hands it to the module of the command. What the commands share is
//! joined in `wiring.rs`; what is printed goes through `out.rs`.

mod bench;
mod callbacks;
mod check;
mod cli;
mod config;
mod curl;
mod demo;
mod features;
mod graph;
mod input;
mod inspect;
mod jobs;
mod memory;
mod migrate;
mod models;
mod new;
mod out;
mod predict;
mod preview;
mod production;
mod progress;
mod queue;
mod registry;
mod reload;
mod runtime;
mod serve;
mod settings;
mod sources;
mod top;
mod units;
mod wiring;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::FromArgMatches as _;

use cli::{Action, Cli};

/// How long threads that still work may hold up the end of the process.
const LINGER: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

fn run(args: &[OsString]) -> Result<ExitCode> {
    let merged = settings::layers::merge(cli::command(), args)?;
    let cli = Cli::from_arg_matches(&merged.matches)?;
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    match &cli.action {
        Action::Serve(options) => done(block_on(options.threads, serve::run(options))),
        Action::Worker(options) => done(block_on(options.threads, serve::run(options))),
        Action::Config(options) => done(config::run(&merged.settings, options.json)),
        Action::Predict(options) => done(block_on(None, predict::run(options))),
        Action::New(options) => done(new::run(options)),
        Action::Inspect(options) => done(inspect::run(options)),
        Action::Models(options) => done(block_on(Some(1), models::run(options))),
        Action::Jobs(options) => block_on(Some(1), jobs::run(options)),
        Action::Registry(options) => done(block_on(Some(1), registry::run(options))),
        Action::Graph(options) => done(block_on(Some(1), graph::run(options))),
        Action::Top(options) => done(block_on(Some(1), top::run(options))),
        Action::Check(options) => block_on(None, check::run(options)),
        Action::Migrate(options) => migrate::run(options),
        Action::Runtime(command) => runtime::run(&command.action),
        Action::Demo(options) => done(block_on(None, demo::run(options))),
        // In process it measures what serves, which has threads; else the load generator, for which one is best.
        Action::Bench(options) => done(block_on(options.in_process.is_none().then_some(1), bench::run(options))),
        Action::Completions(options) => {
            let mut script = Vec::new();
            clap_complete::generate(options.shell, &mut cli::command(), "salver", &mut script);
            out::raw(&script);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs a command's async part; one thread needs no scheduler between threads.
fn block_on<T>(threads: Option<usize>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = match threads {
        Some(1) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Some(threads) = threads.filter(|&threads| threads > 1) {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().context("start the threads")?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(LINGER);
    result
}

/// Tells what went wrong on standard error.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // Help and version come this way too, and go to standard output.
        let _ = usage.print();
        return u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    out::error(format!("error: {}", out::printable(&format!("{error:#}"))));
    ExitCode::FAILURE
}
