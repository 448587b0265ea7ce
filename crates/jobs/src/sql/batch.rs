//! The calls of one transaction, by their kind, and what they write.

use std::collections::HashMap;

use salver_core::{Error, Result};
use salver_store::database::{Session, sql};

use super::claim::{self, Wish};
use super::rows;
use super::submit::{self, Replay};
use super::upkeep::{self, Clear, Due, Note, PutOff};
use super::writer::Ask;
use crate::standing::Standing;
use crate::submission::Submission;
use crate::types::{Beat, Callback, Cleared, Gate, Held, Hold, JobId, Lease, Millis, Outcome, Submitted};

/// How a run ended.
pub(super) struct Finish {
    pub(super) hold: Hold,
    pub(super) outcome: Outcome,
    pub(super) now: Millis,
}

/// Jobs that gave no sign of life.
pub(super) struct Loss {
    pub(super) held: Vec<Held>,
    pub(super) now: Millis,
}

/// A job that nobody wants any more.
pub(super) struct Cancel {
    pub(super) id: JobId,
    pub(super) now: Millis,
}

/// Makes a batch of these kinds of calls, and what is the same for each kind.
macro_rules! batch {
    ($($kind:ident: $question:ty => $answer:ty,)*) => {
        /// Calls that are run together.
        #[derive(Default)]
        pub(super) struct Batch {
            $(pub(super) $kind: Vec<Ask<$question, $answer>>,)*
        }

        impl Batch {
            /// Returns how many calls there are.
            pub(super) fn len(&self) -> usize {
                0 $(+ self.$kind.len())*
            }

            /// Forgets calls whose callers have gone away.
            pub(super) fn drop_unwanted(&mut self) {
                $(self.$kind.retain(Ask::is_wanted);)*
            }

            /// Adds the calls of another batch.
            pub(super) fn take_in(&mut self, other: Self) {
                $(self.$kind.extend(other.$kind);)*
            }

            /// Makes a batch of each call.
            pub(super) fn apart(self) -> Vec<Self> {
                let mut singles = Vec::new();
                $(singles.extend(self.$kind.into_iter().map(|ask| Self { $kind: vec![ask], ..Self::default() }));)*
                singles
            }

            /// Answers all calls.
            pub(super) fn reply(self, failed: Option<&Error>) {
                $(self.$kind.into_iter().for_each(|ask| ask.settle(failed));)*
            }
        }
    };
}

batch! {
    gates: Gate => (),
    submits: Submission => Submitted,
    replays: Replay => Option<JobId>,
    beats: Vec<Beat> => Vec<bool>,
    finishes: Finish => bool,
    losses: Loss => u64,
    cancels: Cancel => bool,
    notes: Note => (),
    put_offs: PutOff => (),
    dues: Due => Vec<Callback>,
    removals: Vec<i64> => u64,
    clears: Clear => Cleared,
    claims: Wish => Vec<Lease>,
}

impl Batch {
    /// Returns how many bytes the calls carry.
    pub(super) fn n_bytes(&self) -> usize {
        let answers = self.finishes.iter().map(|ask| match &ask.question.outcome {
            Outcome::Done(answer) => answer.body.len(),
            Outcome::Failed(_) | Outcome::Troubled(_) | Outcome::Lost(_) | Outcome::GivenBack => 0,
        });
        self.submits.iter().map(|ask| ask.question.content.body.len()).chain(answers).sum()
    }

    /// Runs all calls and notes their answers. What is handed out comes last: what was just submitted
    /// or given back is there for those who wait for it.
    pub(super) async fn run(&mut self, session: &mut Session) -> Result<()> {
        let gate = self.pass_gate(session).await?;
        submit::submit(session, &mut self.submits, gate).await?;
        self.change(session, gate).await?;
        upkeep::remove(session, &mut self.removals).await?;
        upkeep::clear(session, &mut self.clears).await?;
        upkeep::put_off(session, &mut self.put_offs).await?;
        upkeep::due(session, &mut self.dues).await?;
        claim::claim(session, &mut self.claims, gate).await
    }

    /// Sets the gate, and returns how it is.
    async fn pass_gate(&mut self, session: &mut Session) -> Result<Gate> {
        for ask in &mut self.gates {
            session.execute(sql("UPDATE job_gate SET gate = ?").bind(ask.question.as_str())).await?;
            ask.answer = Some(Ok(()));
        }
        match self.submits.is_empty() && self.claims.is_empty() && self.replays.is_empty() {
            true => Ok(Gate::Open),
            false => rows::gate(session).await,
        }
    }

    /// Changes jobs that are there, one call after the other, and then writes all of them.
    async fn change(&mut self, session: &mut Session, gate: Gate) -> Result<()> {
        let mut changing = Changing::load(session, self.ids()).await?;
        for ask in &mut self.beats {
            ask.answer = Some(Ok(ask.question.iter().map(|beat| changing.beat(beat)).collect()));
        }
        let mut answers = Vec::new();
        for ask in &mut self.finishes {
            let Finish { hold, outcome, now } = &ask.question;
            let finished = changing.held(*hold).map(|standing| {
                standing.finish(outcome, *now);
                standing.seq
            });
            ask.answer = Some(Ok(finished.is_some()));
            if let (Some(seq), Outcome::Done(answer)) = (finished, outcome) {
                answers.push((seq, answer));
            }
        }
        rows::answers(session, &answers).await?;
        for ask in &mut self.losses {
            let Loss { held, now } = &ask.question;
            ask.answer = Some(Ok(held.iter().filter(|held| changing.lose(held, *now)).count() as u64));
        }
        for ask in &mut self.cancels {
            ask.answer = Some(Ok(changing.cancel(&ask.question)));
        }
        for ask in &mut self.replays {
            let standing = changing.get(ask.question.of);
            ask.answer = Some(submit::replay(session, standing, &ask.question, gate).await?);
        }
        for ask in &mut self.notes {
            upkeep::note(session, changing.get(ask.question.id), &ask.question).await?;
            ask.answer = Some(Ok(()));
        }
        rows::save(session, &mut changing.standings).await
    }

    fn ids(&self) -> Vec<JobId> {
        let beats = self.beats.iter().flat_map(|ask| ask.question.iter().map(|beat| beat.hold.id));
        let finishes = self.finishes.iter().map(|ask| ask.question.hold.id);
        let losses = self.losses.iter().flat_map(|ask| ask.question.held.iter().map(|held| held.hold.id));
        let cancels = self.cancels.iter().map(|ask| ask.question.id);
        let replays = self.replays.iter().map(|ask| ask.question.of);
        let notes = self.notes.iter().map(|ask| ask.question.id);
        beats.chain(finishes).chain(losses).chain(cancels).chain(replays).chain(notes).collect()
    }
}

/// The jobs that a batch changes.
struct Changing {
    standings: Vec<Standing>,
    places: HashMap<JobId, usize>,
}

impl Changing {
    async fn load(session: &mut Session, mut ids: Vec<JobId>) -> Result<Self> {
        ids.sort_unstable();
        ids.dedup();
        let standings = rows::load(session, &ids).await?;
        let places = standings.iter().enumerate().map(|(idx, standing)| (standing.id, idx)).collect();
        Ok(Self { standings, places })
    }

    fn get(&mut self, id: JobId) -> Option<&mut Standing> {
        self.places.get(&id).and_then(|idx| self.standings.get_mut(*idx))
    }

    fn held(&mut self, hold: Hold) -> Option<&mut Standing> {
        self.get(hold.id).filter(|standing| standing.is_held_by(hold))
    }

    fn beat(&mut self, beat: &Beat) -> bool {
        let standing = self.held(beat.hold);
        standing.map(|standing| standing.beat(rows::int(beat.done))).is_some()
    }

    fn lose(&mut self, held: &Held, now: Millis) -> bool {
        let silent = self.held(held.hold).filter(|standing| standing.beats == held.beats);
        silent.map(|standing| standing.lose(now)).is_some()
    }

    /// Returns whether there is such a job.
    fn cancel(&mut self, cancel: &Cancel) -> bool {
        let Some(standing) = self.get(cancel.id) else { return false };
        if !standing.state.has_ended() {
            standing.cancel(cancel.now);
        }
        true
    }
}
