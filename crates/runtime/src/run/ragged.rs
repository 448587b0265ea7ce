//! Runs one batch of a model with ragged inputs.

use std::time::Instant;

use salver_core::{Inputs, Instance, Result, Tensor};

use super::{Done, Job, run_merged, timed};
use crate::assemble::Member;
use crate::queue::Entry;
use crate::ragged::Ragged;
use crate::slot::Slot;

pub(super) fn execute(instance: &mut dyn Instance, group: &[Entry<Job>], ragged: &Ragged, slot: &Slot) -> Result<Done> {
    let started = Instant::now();
    let requests: Vec<&[Tensor]> = group.iter().map(|entry| entry.payload.inputs.as_slice()).collect();
    let filled = ragged.fill(&requests)?;
    let members: Vec<Member<'_>> =
        filled.iter().zip(group).map(|(inputs, entry)| Member { inputs, rows: entry.rows, length: 0 }).collect();
    let (outputs, assembled) = match filled.as_slice() {
        [alone] => (instance.run(Inputs::Direct(alone))?, started),
        _ => run_merged(instance, &members, None, slot)?,
    };
    let ran = Instant::now();
    let outputs = ragged.split(outputs, &requests, &members)?;
    let rows = members.iter().map(|member| member.rows).sum();
    Ok(Done { outputs, execution: timed(rows, started, assembled, ran) })
}
