//! Runs one request to a decoupled model: its answers go out one by one.

use std::ops::ControlFlow;
use std::time::Instant;

use salver_core::{InferResponse, Inputs, Result, Tensor, Timings};

use super::{Done, Job, Outlet, Runner, timed};
use crate::pieces::NotTaken;
use crate::queue::Entry;
use crate::slot::Slot;

impl Runner {
    /// Runs `entry` until the model has no more answers or nobody reads them. While a runner waits
    /// for its reader its time does not count.
    pub(super) fn run_pieces(&mut self, slot: &Slot, entry: &Entry<Job>, outlet: &Outlet) -> Result<Done> {
        let (desk, started) = (self.desk.clone(), Instant::now());
        let mut failed = None;
        let mut hand_out = |outputs: Vec<Tensor>| {
            if !desk.pause() {
                return ControlFlow::Break(());
            }
            let timings = Timings {
                queue: started.saturating_duration_since(entry.arrived),
                compute_infer: started.elapsed(),
                batch_rows: entry.rows,
                ..Timings::default()
            };
            let flow = match outlet.hand_out(slot, outputs, timings, entry.payload.deadline) {
                Ok(flow) => flow,
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            };
            if desk.resume(Instant::now()) { flow } else { ControlFlow::Break(()) }
        };
        self.guarded(slot, |instance| instance.run_stream(Inputs::Direct(&entry.payload.inputs), &mut hand_out))?;
        match failed {
            Some(error) => Err(error),
            None => {
                Ok(Done { outputs: vec![Vec::new()], execution: timed(entry.rows, started, started, Instant::now()) })
            }
        }
    }
}

impl Outlet {
    fn hand_out(
        &self,
        slot: &Slot,
        outputs: Vec<Tensor>,
        timings: Timings,
        deadline: Option<Instant>,
    ) -> Result<ControlFlow<()>> {
        let outputs = slot.interface.present(&self.wanted, outputs)?;
        let response =
            InferResponse { model: slot.info.clone(), id: self.id.clone(), outputs, timings, cache: None, cost: None };
        match self.inlet.send(response, deadline) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(NotTaken::Gone) => Ok(ControlFlow::Break(())),
            Err(NotTaken::Late) => Err(slot.ran_too_long()),
        }
    }
}
