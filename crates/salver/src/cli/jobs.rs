//! What `salver jobs` can be asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand};
use salver_client::{JobFilter, JobOptions, JobState};

use super::ServerArgs;

pub(super) const EXAMPLES: &str = "\
Examples:
  id=$(salver jobs submit iris '[[5.1, 3.5, 1.4, 0.2]]')
                                          hand a job in; its id is printed
  salver jobs wait $id                    wait for it, and print its result
  salver jobs list --watch                see what waits and runs, each second
  salver jobs dead                        see what needs a person
  salver jobs drain                       let the queue run empty before an upgrade";

const SUBMIT_EXAMPLES: &str = "\
Examples:
  salver jobs submit iris '[[5.1, 3.5, 1.4, 0.2]]' --wait
  salver jobs submit iris @rows.csv --priority 9
                                          the last in the queue
  salver jobs submit iris requests.jsonl  one request on each line, one answer on each line
  cat rows.json | salver jobs submit iris/3 - --key night-2026-11-22
                                          the same key makes no second job
  salver jobs submit iris @request.json --v2
                                          a request of the Open Inference Protocol";

const WAIT_EXAMPLES: &str = "\
Examples:
  salver jobs wait $id --timeout 10m || echo \"status $?\"
  salver jobs wait $id --json | jq .result

It ends with status
  0  where the job is done
  1  where it failed, was cancelled or has expired
  2  where the time is up; the job goes on";

const PURGE_EXAMPLES: &str = "\
Examples:
  salver jobs purge --status done,failed --older-than 7d
  salver jobs purge --status dead --model iris --yes";

#[derive(Debug, Args)]
pub(crate) struct JobsOptions {
    /// What to do (default: list).
    #[command(subcommand)]
    pub action: Option<JobsAction>,

    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub server: ServerArgs,
}

/// What can be done with the jobs of a running server.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum JobsAction {
    /// Hand a job in, and print its id: it runs as soon as a worker has time.
    ///
    /// Once the id is printed, the job survives a crash of the server and of the machine. A body that
    /// the model cannot read is refused at once.
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit(Box<SubmitOptions>),
    /// Show all that is known of a job, and what happened to it.
    Status {
        /// What `submit` printed.
        id: String,
    },
    /// Wait until a job has ended, and print its result.
    #[command(after_help = WAIT_EXAMPLES)]
    Wait(WaitOptions),
    /// Print the result of a job that is done.
    Result(ResultOptions),
    /// List jobs, newest first.
    #[command(after_help = "Example: salver jobs list --status queued,scheduled,running --watch")]
    List(ListOptions),
    /// End jobs that have not ended; one that runs stops within seconds.
    Cancel {
        /// What `submit` printed.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// List the jobs that ended their workers too often, and why: somebody has to look at them.
    #[command(
        after_help = "Once the model is mended: salver jobs replay ID. To be rid of them: salver jobs purge --status dead"
    )]
    Dead(DeadOptions),
    /// Submit jobs that failed or are dead anew, with the same body and options.
    Replay {
        /// What `submit` printed.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Remove jobs that have ended, with their results and all that is known of them.
    #[command(
        after_help = PURGE_EXAMPLES,
        group = ArgGroup::new("which").args(["states", "model", "older_than"]).required(true).multiple(true),
    )]
    Purge(PurgeOptions),
    /// Count jobs, and say whether the queue is open.
    Stats,
    /// Let jobs come in, but begin none: those that run end.
    Pause,
    /// Let jobs come in and begin again, after `pause` or `drain`.
    Resume,
    /// Let no more jobs come in, and wait until nothing waits or runs.
    ///
    /// The queue stays closed until `salver jobs resume`, also over a restart of the server.
    Drain(DrainOptions),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SubmitOptions {
    /// NAME, NAME/VERSION or NAME@ALIAS.
    pub model: String,

    /// JSON text, @FILE, - for standard input, or the path of a .json, .csv, .npy, .jsonl or .ndjson file.
    pub body: String,

    /// The body is a request of the Open Inference Protocol, and so is the answer.
    #[arg(long)]
    pub v2: bool,

    /// The body has one request on each line, whatever its file is called.
    #[arg(long)]
    pub lines: bool,

    #[command(flatten)]
    pub treatment: Treatment,

    /// Wait until it has ended, and print its result; Ctrl-C ends the waiting, not the job.
    #[arg(long)]
    pub wait: bool,

    /// Wait no longer than this, such as 10m; ends with status 2 then.
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "wait")]
    pub timeout: Option<Duration>,
}

/// How a job is to be treated.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Treatment {
    /// 1 goes first, 9 last (default: 5).
    #[arg(long, value_name = "1..9", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub priority: Option<u8>,

    /// Do not begin before this time has passed, such as 10s or 2h.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub delay: Option<Duration>,

    /// How long one run may take (default: 10m).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub time_limit: Option<Duration>,

    /// How often it runs again after it failed for a reason that may pass (default: 3).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retries: Option<u32>,

    /// How long its result is kept (default: 24h).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub result_ttl: Option<Duration>,

    /// Tell this URL that it has ended, with a signed message.
    #[arg(long, value_name = "URL")]
    pub callback_url: Option<String>,

    /// Name this submission: one that is repeated under the same key finds the job that it made.
    #[arg(long, value_name = "IDEMPOTENCY_KEY")]
    pub key: Option<String>,
}

impl Treatment {
    /// Returns it in the client's words.
    pub(crate) fn options(&self) -> JobOptions {
        JobOptions {
            priority: self.priority,
            delay: self.delay,
            time_limit: self.time_limit,
            retries: self.retries,
            result_ttl: self.result_ttl,
            callback_url: self.callback_url.clone(),
            idempotency_key: self.key.clone(),
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct WaitOptions {
    /// What `submit` printed.
    pub id: String,

    /// Wait no longer than this, such as 10m.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ResultOptions {
    /// What `submit` printed.
    pub id: String,

    /// Write it into this file, byte for byte, instead of showing it.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ListOptions {
    /// Only those in these states.
    #[arg(long = "status", value_name = "STATUS,…", value_delimiter = ',', value_parser = any_state())]
    pub states: Vec<JobState>,

    /// Only those of this model, as `submit` was told it.
    #[arg(long)]
    pub model: Option<String>,

    /// The most jobs to show (default: 20).
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,

    /// On a terminal, show them anew each second (q quits).
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
}

impl ListOptions {
    /// Returns which jobs are meant.
    pub(crate) fn filter(&self) -> JobFilter {
        JobFilter { states: self.states.clone(), model: self.model.clone(), older_than: None }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DeadOptions {
    /// Only those of this model, as `submit` was told it.
    #[arg(long)]
    pub model: Option<String>,

    /// The most jobs to show (default: 20).
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PurgeOptions {
    /// Only those in these states; those that are "dead" have "failed", too.
    #[arg(long = "status", value_name = "STATUS,…", value_delimiter = ',', value_parser = ended_state())]
    pub states: Vec<JobState>,

    /// Only those of this model, as `submit` was told it.
    #[arg(long)]
    pub model: Option<String>,

    /// Only those that were submitted longer ago, such as 12h or 7d.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub older_than: Option<Duration>,

    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

impl PurgeOptions {
    /// Returns which jobs are meant.
    pub(crate) fn filter(&self) -> JobFilter {
        JobFilter { states: self.states.clone(), model: self.model.clone(), older_than: self.older_than }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DrainOptions {
    /// Close the queue and do not wait.
    #[arg(long)]
    pub no_wait: bool,

    /// Wait no longer than this, such as 10m; ends with status 2 then.
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "no_wait")]
    pub timeout: Option<Duration>,
}

fn any_state() -> impl TypedValueParser<Value = JobState> {
    PossibleValuesParser::new(JobState::ALL.map(JobState::as_str)).try_map(|name| name.parse())
}

fn ended_state() -> impl TypedValueParser<Value = JobState> {
    let ended = JobState::ALL.into_iter().filter(|state| state.has_ended()).map(JobState::as_str);
    PossibleValuesParser::new(ended).try_map(|name| name.parse())
}

/// Reads what the server reads: `500ms`, `30s`, `1h 30m`, `7d`.
fn parse_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("expected a time such as 30s, 10m or 7d ({error})"))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;
    use crate::cli::{Action, Cli, command};

    fn parse(words: &[&str]) -> Result<JobsOptions, clap::Error> {
        let matches = command().try_get_matches_from(["salver", "jobs"].iter().chain(words))?;
        match Cli::from_arg_matches(&matches)?.action {
            Action::Jobs(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(words: &[&str], because: &str) {
        let error = parse(words).unwrap_err().to_string();
        assert!(error.contains(because), "{words:?}: {error}");
    }

    #[test]
    fn a_submission_says_how_its_job_is_treated() {
        let words =
            ["submit", "iris", "-", "--v2", "--priority", "1", "--delay", "1h 30m", "--retries=0", "--key", "k"];
        let Some(JobsAction::Submit(submit)) = parse(&words).unwrap().action else { panic!() };
        let options = submit.treatment.options();
        assert_eq!((options.priority, options.retries), (Some(1), Some(0)));
        assert_eq!(options.delay, Some(Duration::from_secs(5400)));
        assert_eq!((options.time_limit, options.result_ttl), (None, None));
        assert_eq!(options.idempotency_key.as_deref(), Some("k"));
        assert!(submit.v2 && submit.body == "-" && !submit.wait);
    }

    #[test]
    fn what_no_server_takes_is_refused_here() {
        refused(&["submit", "iris", "[]", "--priority", "10"], "1..=9");
        refused(&["submit", "iris", "[]", "--delay", "10"], "expected a time such as 30s");
        refused(&["submit", "iris", "[]", "--timeout", "10s"], "--wait");
        refused(&["submit", "iris"], "<BODY>");
        refused(&["list", "--status", "dun"], "possible values: scheduled, queued");
        refused(&["list", "--watch", "--json"], "cannot be used with");
        refused(&["cancel"], "<ID>");
    }

    #[test]
    fn nothing_is_purged_that_was_not_named() {
        refused(&["purge"], "--older-than");
        refused(&["purge", "--yes"], "--older-than");
        refused(&["purge", "--status", "done,running"], "'running'");
        let words = ["purge", "--status", "done,failed", "--older-than", "7d"];
        let Some(JobsAction::Purge(purge)) = parse(&words).unwrap().action else { panic!() };
        let older_than = Some(Duration::from_secs(7 * 86_400));
        let states = vec![JobState::Done, JobState::Failed];
        assert_eq!(purge.filter(), JobFilter { states, model: None, older_than });
    }

    #[test]
    fn json_and_server_may_stand_behind_the_verb() {
        let options = parse(&["stats", "--json", "--server", "http://a:1"]).unwrap();
        assert!(options.json && options.server.server == "http://a:1");
        assert!(parse(&[]).unwrap().action.is_none());
    }
}
