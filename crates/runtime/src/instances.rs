//! Makes the instances of a version when it is loaded.

use std::any::Any;
use std::thread::Builder;

use salver_core::{Error, ErrorKind, Instance, InstanceGroup, Model, Placement, Result};

use crate::run::panic_text;

/// An instance and where it runs.
pub(crate) type Placed = (Box<dyn Instance>, Placement);

/// Makes every instance of `groups`. The first one alone: whatever is wrong with the model shows
/// once. Where it runs elsewhere, the others start side by side, as each may take seconds.
///
/// # Errors
/// What the engine says of one of them.
pub(crate) fn make(model: &dyn Model, groups: &[InstanceGroup]) -> Result<Vec<Placed>> {
    let mut left = groups.iter().flat_map(placements);
    let Some(first) = left.next() else {
        return Ok(Vec::new());
    };
    let mut made = vec![place(model, first)?];
    if made[0].0.computes_here() {
        made.extend(left.map(|placement| place(model, placement)).collect::<Result<Vec<_>>>()?);
        return Ok(made);
    }
    std::thread::scope(|scope| {
        let start = |placement| Builder::new().spawn_scoped(scope, move || place(model, placement));
        let threads: Vec<_> = left.map(start).collect();
        for thread in threads {
            let thread = thread
                .map_err(|error| Error::new(ErrorKind::Full, "no more threads can be started").with_source(error))?;
            let panicked = |panic: Box<dyn Any + Send>| {
                Err(Error::engine(format!("making an instance panicked: {}", panic_text(panic.as_ref()))))
            };
            made.push(thread.join().unwrap_or_else(panicked)?);
        }
        Ok(made)
    })
}

fn place(model: &dyn Model, placement: Placement) -> Result<Placed> {
    Ok((model.instance(&placement)?, placement))
}

fn placements(group: &InstanceGroup) -> impl Iterator<Item = Placement> + use<> {
    let (threads, count, cores) = (group.threads.max(1), group.count.max(1), group.cores.clone());
    let devices = group.devices().into_iter().flat_map(move |device| std::iter::repeat_n(device, count));
    devices.enumerate().map(move |(idx, device)| {
        let core = cores.get(idx % cores.len().max(1)).copied();
        Placement { device, threads, core }
    })
}
