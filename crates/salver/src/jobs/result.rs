//! Shows what a job answered.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use salver_client::{JobAnswer, JobStatus};
use serde_json::{Value, json};

use super::Queue;
use crate::cli::ResultOptions;
use crate::units::bytes;
use crate::{out, predict};

impl Queue {
    pub(super) async fn result(&self, options: &ResultOptions) -> Result<()> {
        let answer = self.client.job_result(&options.id).await?;
        match &options.output {
            Some(file) => self.save(&answer, file),
            None => self.print(&answer, &options.id),
        }
    }

    fn save(&self, answer: &JobAnswer, file: &Path) -> Result<()> {
        fs::write(file, &answer.body).with_context(|| format!("write {}", file.display()))?;
        let (count, media) = (answer.body.len() as u64, &answer.content_type);
        if self.json {
            let header_len = answer.header_len;
            return out::json(
                &json!({ "file": file, "bytes": count, "content_type": media, "header_len": header_len }),
            );
        }
        out::line(out::printable(&format!("{} of {media} are in {}.", bytes(count), file.display())));
        if let Some(len) = answer.header_len {
            out::line(format!("The first {len} bytes are JSON; the tensors follow."));
        }
        Ok(())
    }

    /// Prints rows as a table, other JSON as it is, and everything else byte for byte.
    pub(super) fn print(&self, answer: &JobAnswer, id: &str) -> Result<()> {
        if answer.is_json() {
            let value = json_of(answer)?;
            return match predict::table(&value).filter(|_| !self.json) {
                Some(table) => {
                    table.print();
                    Ok(())
                }
                None => out::json(&value),
            };
        }
        let (count, media) = (bytes(answer.body.len() as u64), &answer.content_type);
        ensure!(
            answer.is_lines() || !out::is_terminal(),
            "the result is {count} of {media}; write it into a file: salver jobs result {id} --output FILE"
        );
        out::raw(&answer.body);
        Ok(())
    }

    /// Returns what programs get of a job that is done: all that is known of it, with its result, if
    /// that is JSON.
    pub(super) async fn with_result(&self, mut job: JobStatus) -> Result<JobStatus> {
        if job.result.is_none() {
            let answer = self.client.job_result(&job.id).await?;
            job.result = answer.is_json().then(|| json_of(&answer)).transpose()?;
        }
        Ok(job)
    }
}

fn json_of(answer: &JobAnswer) -> Result<Value> {
    serde_json::from_slice(&answer.body).context("read the result")
}
