//! Hands jobs out.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use salver_core::{ModelRef, Result};
use salver_store::database::{Row, Session, sql};

use super::rows::{self, CHUNK};
use super::writer::Ask;
use crate::standing::{Standing, count};
use crate::types::{Content, Form, Gate, Hold, Lease, Millis};

/// Jobs of one transaction.
const MOST_JOBS: usize = 1000;
/// Once the jobs of one call carry this many bytes, it gets no further one.
const ENOUGH_BYTES: i64 = 16 << 20;

/// The jobs that are next, behind the columns of each.
pub(super) const NEXT: &str = ", model, form, time_limit, size FROM jobs WHERE state = 1 ORDER BY priority, seq LIMIT ? \
                               {for update skip locked}";

/// Somebody who wants jobs.
pub(super) struct Wish {
    pub(super) most: usize,
    pub(super) is_idle: bool,
    pub(super) lease: Duration,
    pub(super) now: Millis,
}

/// A job that is next.
struct Candidate {
    standing: Standing,
    model: ModelRef,
    form: Form,
    time_limit: Duration,
    size: i64,
}

/// Hands out jobs to those who want some.
pub(super) async fn claim(session: &mut Session, asks: &mut [Ask<Wish, Vec<Lease>>], gate: Gate) -> Result<()> {
    let wanted: usize = asks.iter().map(|ask| ask.question.most.min(MOST_JOBS)).sum();
    let n_jobs = if gate == Gate::Paused { 0 } else { wanted.min(MOST_JOBS) };
    let mut candidates = candidates(session, n_jobs, asks).await?;
    let sizes: Vec<_> = candidates.iter().map(|candidate| (candidate.standing.alone, candidate.size)).collect();
    let shares = deal(&sizes, asks.iter().map(|ask| &ask.question));
    let n_dealt = shares.last().map_or(0, |share| share.end);
    candidates.truncate(n_dealt);
    for (share, ask) in shares.iter().zip(asks.iter()) {
        let share = &mut candidates[share.clone()];
        let Wish { lease, now, .. } = ask.question;
        share.iter_mut().for_each(|candidate| candidate.standing.hand_out(lease, now));
    }
    let mut standings: Vec<Standing> = candidates.iter().map(|candidate| candidate.standing.clone()).collect();
    rows::save(session, &mut standings).await?;
    let mut leases = leases(session, candidates).await?.into_iter();
    for (share, ask) in shares.into_iter().zip(asks) {
        ask.answer = Some(Ok(leases.by_ref().take(share.len()).collect()));
    }
    Ok(())
}

/// Says who gets which of the jobs that are next, each of which is to run alone or not and carries so
/// many bytes.
fn deal<'w>(jobs: &[(bool, i64)], wishes: impl Iterator<Item = &'w Wish>) -> Vec<Range<usize>> {
    let mut begin = 0;
    let shares = wishes.map(|wish| {
        let n_jobs = match jobs.get(begin) {
            Some((true, _)) => usize::from(wish.is_idle).min(wish.most),
            _ => n_beside_each_other(&jobs[begin..], wish.most),
        };
        begin += n_jobs;
        begin - n_jobs..begin
    });
    shares.collect()
}

/// Returns how many of these jobs one worker gets, of which the first is not to run alone.
fn n_beside_each_other(jobs: &[(bool, i64)], most: usize) -> usize {
    let mut n_bytes = 0;
    let fitting = jobs.iter().take(most).take_while(|(alone, size)| {
        let fits = !alone && n_bytes < ENOUGH_BYTES;
        n_bytes += size;
        fits
    });
    fitting.count()
}

/// Returns the jobs that are next, held until the transaction ends.
async fn candidates(session: &mut Session, most: usize, asks: &[Ask<Wish, Vec<Lease>>]) -> Result<Vec<Candidate>> {
    if most == 0 {
        return Ok(Vec::new());
    }
    let statement = rows::select(rows::COLUMNS).then(NEXT);
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for row in session.all(statement.bind(most as i64)).await? {
        match candidate(&row)? {
            Ok(candidate) => found.push(candidate),
            Err(mut standing) => {
                let now = asks.first().map_or(0, |ask| ask.question.now);
                standing.fail("this version of the server cannot read what it asks", now);
                unreadable.push(standing);
            }
        }
    }
    rows::save(session, &mut unreadable).await?;
    Ok(found)
}

/// Reads a job that is next; where another version of this program wrote it, it may be one that this
/// one does not know how to run. It must not be in the way of others for ever.
fn candidate(row: &Row) -> Result<Result<Candidate, Standing>> {
    let standing = rows::standing(row)?;
    let form = row.text("form")?;
    let form = Form::ALL.into_iter().find(|known| known.as_str() == form);
    let (Ok(model), Some(form)) = (row.text("model")?.parse(), form) else { return Ok(Err(standing)) };
    let time_limit = Duration::from_millis(row.int("time_limit")?.unsigned_abs());
    Ok(Ok(Candidate { standing, model, form, time_limit, size: row.int("size")? }))
}

async fn leases(session: &mut Session, candidates: Vec<Candidate>) -> Result<Vec<Lease>> {
    let seqs: Vec<i64> = candidates.iter().map(|candidate| candidate.standing.seq).collect();
    let mut bodies = HashMap::with_capacity(seqs.len());
    for seqs in seqs.chunks(CHUNK) {
        let head = sql("SELECT job, content_type, header_len, bytes FROM job_bodies WHERE job IN ");
        for row in session.all(head.list(seqs.iter().copied()).once()).await? {
            bodies.insert(row.int("job")?, row);
        }
    }
    candidates.into_iter().map(|candidate| lease(&bodies, candidate)).collect()
}

fn lease(bodies: &HashMap<i64, Row>, candidate: Candidate) -> Result<Lease> {
    let Candidate { standing, model, form, time_limit, .. } = candidate;
    let content = match bodies.get(&standing.seq) {
        Some(row) => Content {
            form,
            content_type: row.maybe_text("content_type")?,
            header_len: row.maybe_int("header_len")?.map(i64::unsigned_abs),
            body: row.blob("bytes")?,
        },
        // Only somebody else's hand can have removed it; then the model refuses what is left.
        None => Content { form, content_type: None, header_len: None, body: bytes::Bytes::new() },
    };
    Ok(Lease {
        hold: Hold { id: standing.id, token: standing.token },
        model,
        content,
        total: standing.total.unsigned_abs(),
        time_limit,
        attempt: count(standing.attempts),
        is_alone: standing.alone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs as letters (`A`: alone, `B`: of 16 MiB), wishes as how many, with `!` for an idle worker.
    #[track_caller]
    fn check(jobs: &str, wishes: &str, expected: &str) {
        let sizes: Vec<_> = jobs.chars().map(|job| (job == 'A', if job == 'B' { ENOUGH_BYTES } else { 1 })).collect();
        let wishes: Vec<Wish> = wishes
            .split_whitespace()
            .map(|wish| Wish {
                most: wish.trim_end_matches('!').parse().unwrap(),
                is_idle: wish.ends_with('!'),
                lease: Duration::ZERO,
                now: 0,
            })
            .collect();
        let shares = deal(&sizes, wishes.iter());
        let shares: Vec<&str> = shares.into_iter().map(|share| &jobs[share]).collect();
        assert_eq!(shares.join(" "), expected, "{jobs}");
    }

    #[test]
    fn jobs_are_dealt_in_their_order() {
        check("abcd", "2 1 5", "ab c d");
        check("", "2 1!", " ");
        check("ab", "0 1", " a");
    }

    #[test]
    fn a_job_that_runs_alone_goes_to_an_idle_worker_by_itself() {
        check("Aab", "2!", "A");
        check("Aab", "2 2! 2", " A ab");
        check("abAc", "9! 9 9!", "ab  A");
        check("A", "0! 1!", " A");
    }

    #[test]
    fn a_worker_gets_no_more_bytes_than_it_can_hold() {
        check("BBab", "4 4", "B B");
        check("aBab", "4 4", "aB ab");
    }
}
