//! The one task that writes: it takes all calls that wait, runs them in one transaction, and answers
//! when that is on disk. So the price of a commit is shared by everybody who waits for one.
//!
//! All calls of a batch were made before any of them was answered, so they may run in whatever order
//! suits. What [`Batch::run`] writes it must write again if it is run again: nothing of it was kept.

use salver_core::{Error, ErrorKind, Result};
use salver_store::Database;
use tokio::sync::{mpsc, oneshot};

use super::batch::{Batch, Finish};
use crate::types::{Lease, Outcome};

/// Calls that wait until the writer has time; further ones wait to be let in.
const MOST_WAITING: usize = 1024;
/// Calls of one transaction.
const MOST_CALLS: usize = 512;
/// Once the calls of a transaction carry this many bytes, no further call is taken in.
const ENOUGH_BYTES: usize = 8 << 20;
/// How often a transaction is tried that another process got in the way of.
const MOST_TRIES: usize = 4;

/// A call that waits for its answer.
pub(super) struct Ask<Q, R> {
    pub(super) question: Q,
    pub(super) answer: Option<Result<R>>,
    reply: Option<oneshot::Sender<Result<R>>>,
}

impl<Q, R> Ask<Q, R> {
    /// Makes a call whose answer nobody waits for.
    fn unasked(question: Q) -> Self {
        Self { question, answer: None, reply: None }
    }

    /// Whether somebody still waits, or it is to happen in any case.
    pub(super) fn is_wanted(&self) -> bool {
        !self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Sends the answer, or the failure of all. Who has gone away misses nothing.
    pub(super) fn settle(self, failed: Option<&Error>) {
        let _ = self.reply(failed);
    }

    /// Sends the answer, or the failure of all; returns an answer that nobody took.
    fn reply(self, failed: Option<&Error>) -> Option<R> {
        let missing = || Err(Error::new(ErrorKind::Engine, "the queue has no answer to a call"));
        let answer = match failed {
            Some(error) => Err(error.clone()),
            None => self.answer.unwrap_or_else(missing),
        };
        match self.reply {
            Some(reply) => reply.send(answer).err().and_then(Result::ok),
            None => None,
        }
    }
}

type Call = Box<dyn FnOnce(&mut Batch) + Send>;

/// Where calls go in. The task ends when the last one of these is gone.
#[derive(Clone)]
pub(super) struct Writer {
    calls: mpsc::Sender<Call>,
}

impl Writer {
    pub(super) fn spawn(database: Database) -> Self {
        let (calls, rx) = mpsc::channel(MOST_WAITING);
        tokio::spawn(write(database, rx));
        Self { calls }
    }

    /// Puts a call among its like, and waits for the answer.
    pub(super) async fn ask<Q: Send + 'static, R: Send + 'static>(
        &self,
        question: Q,
        place: fn(&mut Batch) -> &mut Vec<Ask<Q, R>>,
    ) -> Result<R> {
        let closed = || Error::not_ready("the queue of jobs is closed; the server is stopping");
        let (tx, rx) = oneshot::channel();
        let ask = Ask { question, answer: None, reply: Some(tx) };
        let call: Call = Box::new(move |batch| place(batch).push(ask));
        self.calls.send(call).await.map_err(|_| closed())?;
        rx.await.map_err(|_| closed())?
    }
}

async fn write(database: Database, mut calls: mpsc::Receiver<Call>) {
    let mut batch = Batch::default();
    while let Some(call) = next(&mut batch, &mut calls).await {
        call(&mut batch);
        while batch.len() < MOST_CALLS && batch.n_bytes() < ENOUGH_BYTES {
            let Ok(call) = calls.try_recv() else { break };
            call(&mut batch);
        }
        batch.drop_unwanted();
        batch = run(&database, batch).await;
    }
}

/// Returns the next call; if there is still something to do, one that does nothing.
async fn next(batch: &mut Batch, calls: &mut mpsc::Receiver<Call>) -> Option<Call> {
    match batch.len() {
        0 => calls.recv().await,
        _ => Some(Box::new(|_| ())),
    }
}

/// Runs a batch and answers its calls; returns what is left to do because of that.
async fn run(database: &Database, mut batch: Batch) -> Batch {
    if batch.len() == 0 {
        return batch;
    }
    let Err(mut error) = try_often(database, &mut batch).await else { return answer(batch, None) };
    if error.kind() == ErrorKind::NotReady || batch.len() == 1 {
        return answer(batch, Some(&error));
    }
    // One of them may be what the database refuses; the others are not to suffer from that.
    let mut left = Batch::default();
    let mut is_away = false;
    for mut single in batch.apart() {
        if !is_away {
            let done = try_often(database, &mut single).await;
            let Err(failure) = done else {
                left.take_in(answer(single, None));
                continue;
            };
            is_away = failure.kind() == ErrorKind::NotReady;
            error = failure;
        }
        left.take_in(answer(single, Some(&error)));
    }
    left
}

async fn try_often(database: &Database, batch: &mut Batch) -> Result<()> {
    let mut tried = 1;
    loop {
        match try_once(database, batch).await {
            Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
            Err(error) if tried == MOST_TRIES => {
                let text = "others change the same jobs all the time; try again shortly";
                return Err(Error::not_ready(text).with_source(error));
            }
            Err(_) => tried += 1,
            Ok(()) => return Ok(()),
        }
    }
}

async fn try_once(database: &Database, batch: &mut Batch) -> Result<()> {
    let mut session = database.write().await?;
    batch.run(&mut session).await?;
    session.commit().await.map_err(|error| match error.kind() {
        ErrorKind::Full | ErrorKind::Conflict | ErrorKind::NotReady => error,
        // It may have happened or not: to run it again would be wrong.
        _ => Error::not_ready("the database did not say whether it kept a change; look before you try again")
            .with_source(error),
    })
}

/// Answers all calls. Jobs that were handed to somebody who has gone away go back.
fn answer(mut batch: Batch, failed: Option<&Error>) -> Batch {
    let mut left = Batch::default();
    for claim in std::mem::take(&mut batch.claims) {
        let now = claim.question.now;
        let given_back = |lease: Lease| Ask::unasked(Finish { hold: lease.hold, outcome: Outcome::GivenBack, now });
        left.finishes.extend(claim.reply(failed).into_iter().flatten().map(given_back));
    }
    batch.reply(failed);
    left
}
