//! Lists jobs: once, or on a terminal again and again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use salver_client::{JobFilter, JobStatus};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use super::{Queue, now, view};
use crate::cli::ListOptions;
use crate::out;
use crate::top::screen::Screen;

/// How many jobs are shown where nothing is said.
const USUAL: usize = 20;
/// The most jobs that a server puts into one reply.
const MOST_OF_A_PAGE: usize = 1_000;
/// How often a list is drawn anew.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What of jobs is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    /// How far they are.
    Usual,
    /// What ended them.
    Dead,
}

impl Queue {
    pub(super) async fn list(&self, options: &ListOptions) -> Result<()> {
        if options.watch && out::is_terminal() {
            return self.watch(options).await;
        }
        self.show(&options.filter(), options.limit, Looks::Usual).await
    }

    /// Prints what fits the filter.
    pub(super) async fn show(&self, filter: &JobFilter, limit: Option<usize>, looks: Looks) -> Result<()> {
        let found = self.find(filter, limit.unwrap_or(USUAL)).await?;
        if self.json {
            return out::json(&json!({ "jobs": found.jobs, "more": found.are_more }));
        }
        out::line(found.table(looks));
        if found.are_more {
            out::line(format!("There are more; --limit {} shows them.", 10 * found.jobs.len().max(1)));
        }
        Ok(())
    }

    async fn find(&self, filter: &JobFilter, limit: usize) -> Result<Found> {
        let (mut jobs, mut after): (Vec<JobStatus>, Option<String>) = (Vec::new(), None);
        loop {
            let room = (limit - jobs.len()).min(MOST_OF_A_PAGE);
            if room == 0 {
                return Ok(Found { jobs, are_more: after.is_some() });
            }
            let mut page = self.client.jobs(filter, room, after.as_deref()).await?;
            // A server that gives more than was asked for is not let past the limit.
            page.jobs.truncate(room);
            jobs.append(&mut page.jobs);
            after = page.next_page_token;
            if after.is_none() {
                return Ok(Found { jobs, are_more: false });
            }
        }
    }

    /// Draws the list in place, until somebody quits.
    async fn watch(&self, options: &ListOptions) -> Result<()> {
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut screen = Screen::enter();
        let (mut page, mut problem) = (format!("Waiting for {} …", self.client.base()), String::new());
        loop {
            screen.draw(&format!("{problem}{page}"), "q quit");
            tokio::select! {
                looked = self.page(options, &mut ticks) => match looked {
                    Ok(drawn) => (page, problem) = (drawn, String::new()),
                    Err(error) => problem = format!("{}; trying again\n\n", out::printable(&format!("{error:#}"))),
                },
                key = screen.key() => if matches!(key, b'q' | b'Q') {
                    return Ok(());
                },
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
            }
        }
    }

    /// Waits for the next turn and looks. A look that is given up changes nothing.
    async fn page(&self, options: &ListOptions, ticks: &mut Interval) -> Result<String> {
        ticks.tick().await;
        let filter = options.filter();
        let look = async {
            tokio::try_join!(
                async { Ok(self.client.queue_stats().await?) },
                self.find(&filter, options.limit.unwrap_or(USUAL))
            )
        };
        let looked = tokio::time::timeout(PATIENCE, look).await;
        let (stats, found) =
            looked.with_context(|| format!("no answer from {} within {PATIENCE:?}", self.client.base()))??;
        let head = view::head(&self.client.base().to_string(), &stats);
        Ok(format!("{head}\n\n{}", found.table(Looks::Usual)))
    }
}

/// Jobs that fit a filter.
struct Found {
    jobs: Vec<JobStatus>,
    /// Whether there are others.
    are_more: bool,
}

impl Found {
    fn table(&self, looks: Looks) -> String {
        match (self.jobs.is_empty(), looks) {
            (true, Looks::Usual) => "No jobs.".to_owned(),
            (true, Looks::Dead) => "No job is dead.".to_owned(),
            (false, Looks::Usual) => view::jobs(&self.jobs, now()),
            (false, Looks::Dead) => view::dead(&self.jobs, now()),
        }
    }
}
