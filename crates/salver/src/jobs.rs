//! `salver jobs`: hands work in that is done later, waits for it, and looks after the queue.
//!
//! Which jobs there are and what they answered is the server's to say; how that reads is in `view.rs`.

mod list;
mod result;
mod submit;
mod view;
mod wait;

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Result, ensure};
use bytes::Bytes;
use salver_client::{HttpClient, JobGate, JobState};
use serde_json::{Value, json};

use self::list::Looks;
use crate::cli::{JobsAction, JobsOptions, ListOptions, PurgeOptions};
use crate::input::confirmed;
use crate::{out, units};

/// Speaks with one server's queue.
struct Queue {
    client: HttpClient,
    json: bool,
}

/// Waits for the job that a prediction was left to, and returns its answer.
///
/// # Errors
/// Where the job has none, with its reason.
pub(crate) async fn answer(client: HttpClient, id: &str) -> Result<Bytes> {
    // The result goes to standard output; whoever interrupts this needs the id.
    out::error(out::printable(&format!("job {id}")));
    Queue { client, json: false }.answer(id).await
}

/// Runs the command.
///
/// # Errors
/// Where the server is not reached or says no.
pub(crate) async fn run(options: &JobsOptions) -> Result<ExitCode> {
    let queue = Queue { client: HttpClient::new(&options.server.server)?, json: options.json };
    let usual = JobsAction::List(ListOptions::default());
    match options.action.as_ref().unwrap_or(&usual) {
        JobsAction::Submit(submit) => return queue.submit(submit).await,
        JobsAction::Wait(wait) => return queue.wait(&wait.id, wait.timeout).await,
        JobsAction::Drain(drain) => return queue.drain(drain).await,
        JobsAction::Status { id } => queue.status(id).await?,
        JobsAction::Result(result) => queue.result(result).await?,
        JobsAction::List(list) => queue.list(list).await?,
        JobsAction::Dead(dead) => {
            let filter = ListOptions { states: vec![JobState::Dead], model: dead.model.clone(), ..Default::default() };
            queue.show(&filter.filter(), dead.limit, Looks::Dead).await?;
        }
        JobsAction::Cancel { ids } => {
            queue.each(ids, async |id| Ok((queue.client.cancel_job(id).await?, format!("{id}: cancelled.")))).await?;
        }
        JobsAction::Replay { ids } => {
            let replay = async |id: &str| {
                let new = queue.client.replay_job(id).await?;
                let line = format!("{id}: submitted anew as {}", new.id);
                Ok((new, line))
            };
            queue.each(ids, replay).await?;
        }
        JobsAction::Purge(purge) => queue.purge(purge).await?,
        JobsAction::Stats => queue.say_stats(&queue.client.queue_stats().await?)?,
        JobsAction::Pause => queue.say_stats(&queue.client.set_queue_gate(JobGate::Paused).await?)?,
        JobsAction::Resume => queue.say_stats(&queue.client.set_queue_gate(JobGate::Open).await?)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Queue {
    async fn status(&self, id: &str) -> Result<()> {
        let job = self.client.job(id).await?;
        if self.json {
            return out::json(&job);
        }
        out::line(view::job(&job, now()));
        if !job.history.is_empty() {
            out::line(format!("\n{}", view::history(&job)));
        }
        if job.status == JobState::Done {
            out::line(format!("\nIts result: salver jobs result {}", out::printable(&job.id)));
        }
        Ok(())
    }

    /// Does something to each job. One that cannot be dealt with keeps none of the others waiting.
    async fn each(
        &self,
        ids: &[String],
        act: impl AsyncFn(&str) -> salver_core::Result<(salver_client::JobStatus, String)>,
    ) -> Result<()> {
        let (mut told, mut failed): (Vec<Value>, usize) = (Vec::new(), 0);
        for id in ids {
            match act(id).await {
                Ok((job, _)) if self.json => told.push(serde_json::to_value(job)?),
                Ok((_, line)) => out::line(out::printable(&line)),
                // One that is alone is what the command fails for.
                Err(error) if ids.len() == 1 && !self.json => return Err(error.into()),
                Err(error) => {
                    failed += 1;
                    out::error(out::printable(&format!("{id}: {}", error.message())));
                    told.push(json!({ "id": id, "error": error.message() }));
                }
            }
        }
        if self.json {
            out::json(&told)?;
        }
        ensure!(failed == 0, "{failed} of {} jobs were left as they are", ids.len());
        Ok(())
    }

    async fn purge(&self, options: &PurgeOptions) -> Result<()> {
        let filter = options.filter();
        let question = format!("Remove {}, with their results?", view::meant(&filter));
        if !options.yes && !confirmed(&question, "remove them")? {
            out::line("Nothing was removed.");
            return Ok(());
        }
        let count = self.client.purge_jobs(&filter).await?;
        if self.json {
            return out::json(&json!({ "purged": count }));
        }
        out::line(format!("{count} jobs removed."));
        Ok(())
    }

    fn say_stats(&self, stats: &salver_client::JobStats) -> Result<()> {
        if self.json {
            return out::json(stats);
        }
        out::line(view::stats(stats, now()));
        Ok(())
    }
}

/// Milliseconds since 1970, by the clock of this machine.
fn now() -> i64 {
    units::millis(SystemTime::now())
}
