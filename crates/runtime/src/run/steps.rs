//! Runs one batch of sequences on one instance: with controls and states among the inputs, and the
//! new states kept before anybody is answered.

use super::{After, Done, Job, Runner, merged, name, timed};
use crate::assemble::Member;
use crate::queue::Entry;
use crate::sequence::table::{Place, SequenceId, Step};
use crate::sequence::{Row, Sequences, Steps};
use crate::slot::Slot;

use std::sync::Arc;
use std::time::Instant;

use salver_core::{Error, ErrorKind, Inputs, Instance, Result, Tensor};

type Kept = Vec<Arc<[Tensor]>>;

impl Runner {
    /// Runs a batch. What did not run because the instance is gone waits again.
    pub(crate) fn run_steps(&mut self, slot: &Slot, sequences: &Sequences, batch: &mut Steps) -> After {
        if !self.held.look(slot) {
            sequences.put_back(slot, batch);
            return After::Gone(0);
        }
        let _online = slot.shared().online();
        self.desk.lay_out(batch.entries.iter_mut().filter_map(|entry| entry.payload.reply.take()));
        let has_all_rows = sequences.has_fixed_rows();
        let taken = Instant::now();
        let after = self.run_rows(slot, sequences, &batch.entries, &batch.steps, 0, has_all_rows, taken);
        if let After::Gone(from) = after {
            self.return_rest(slot, sequences, batch, from);
        }
        batch.entries.clear();
        batch.steps.clear();
        after
    }

    /// Puts back what has a reply to come from `from` on.
    fn return_rest(&self, slot: &Slot, sequences: &Sequences, batch: &mut Steps, from: usize) {
        let replies = self.desk.take_back(from);
        let mut rest = Steps::default();
        let taken = batch.entries.drain(..).zip(batch.steps.drain(..)).skip(from).zip(replies);
        for ((mut entry, step), reply) in taken {
            match reply {
                None => sequences.ran(&[step], Vec::new()),
                some => {
                    entry.payload.reply = some;
                    rest.entries.push(entry);
                    rest.steps.push(step);
                }
            }
        }
        sequences.put_back(slot, &mut rest);
    }

    /// Runs requests from the `first`-th of the batch on. `has_all_rows`: the rows between them that
    /// hold no request are there as well.
    #[expect(clippy::too_many_arguments, reason = "one recursion, called from one place")]
    fn run_rows(
        &mut self,
        slot: &Slot,
        sequences: &Sequences,
        group: &[Entry<Job>],
        steps: &[Step<Arc<[Tensor]>>],
        first: usize,
        has_all_rows: bool,
        taken: Instant,
    ) -> After {
        let result = self.guarded(slot, |instance| execute(instance, group, steps, has_all_rows, slot));
        if !self.desk.came_back() {
            return After::GivenUp;
        }
        let error = match result {
            Ok((done, kept)) => {
                self.held.prove(slot);
                sequences.ran(steps, kept);
                self.answer(slot, group, first, done, taken);
                return After::Next;
            }
            Err(error) => error,
        };
        self.held.review(slot, &error, group.len() == 1);
        let error = name(slot, error);
        let is_gone = self.held.is_gone(slot);
        let is_last_word = group.len() == 1 || sequences.fails_as_a_whole();
        if is_last_word || is_gone || error.kind() == ErrorKind::NotReady {
            sequences.ran(steps, Vec::new());
            self.refuse(slot, group, first, &error);
            return if is_gone { After::Gone(first + group.len()) } else { After::Next };
        }
        let middle = group.len() / 2;
        let ((front, back), (its, others)) = (group.split_at(middle), steps.split_at(middle));
        match self.run_rows(slot, sequences, front, its, first, false, taken) {
            After::Next => self.run_rows(slot, sequences, back, others, first + middle, false, taken),
            early => early,
        }
    }
}

fn execute(
    instance: &mut dyn Instance,
    group: &[Entry<Job>],
    steps: &[Step<Arc<[Tensor]>>],
    has_all_rows: bool,
    slot: &Slot,
) -> Result<(Done, Kept)> {
    let started = Instant::now();
    let filling = slot.interface.filling.as_ref().ok_or_else(|| Error::engine("the model has no sequences"))?;
    let fill = |(entry, step): (&Entry<Job>, &Step<Arc<[Tensor]>>)| {
        let row = Row { id: &step.id, place: step.place, is_ready: true };
        filling.fill(&entry.payload.inputs, row, step.state.as_deref())
    };
    let rows: Vec<Vec<Tensor>> = group.iter().zip(steps).map(fill).collect::<Result<_>>()?;
    let own: Vec<usize> =
        if has_all_rows { steps.iter().map(|step| step.row).collect() } else { (0..rows.len()).collect() };
    let n_rows = own.last().map_or(0, |last| last + 1);
    let empty = match (group.first(), steps.first()) {
        (Some(entry), Some(step)) if n_rows > rows.len() => {
            let row = Row { id: &SequenceId::Number(0), place: Place::default(), is_ready: false };
            filling.fill(&entry.payload.inputs, row, step.state.as_deref())?
        }
        _ => Vec::new(),
    };
    let (outputs, assembled, ran) = match (rows.as_slice(), n_rows) {
        ([alone], 1) => {
            let outputs = instance.run(Inputs::Direct(alone))?;
            (vec![outputs], started, Instant::now())
        }
        _ => {
            let mut members = vec![Member { inputs: &empty, rows: 1, length: 0 }; n_rows];
            own.iter().zip(&rows).for_each(|(&row, inputs)| members[row].inputs = inputs);
            let (all, assembled, ran) = merged(instance, &members, None, slot)?;
            let mut all: Vec<_> = all.into_iter().map(Some).collect();
            let outputs = own.iter().filter_map(|&row| all[row].take()).collect();
            (outputs, assembled, ran)
        }
    };
    let kept = match filling.keeps_state() {
        true => outputs.iter().map(|outputs| filling.keep(outputs)).collect::<Result<_>>()?,
        false => Vec::new(),
    };
    Ok((Done { outputs, execution: timed(group.len(), started, assembled, ran) }, kept))
}
