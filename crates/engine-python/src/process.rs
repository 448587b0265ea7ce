//! Processes of workers: started, watched and ended so that nothing of them stays behind.
//!
//! A worker is the leader of a process group of its own, which ends with it: what it started does
//! too. All workers of an engine are started by one thread, because a worker asks the system to be
//! ended with its parent, and for the system the parent is the thread.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use salver_core::{Error, ErrorKind, Result};

/// Starts processes, and knows which of them live.
#[derive(Clone)]
pub(crate) struct Processes(Arc<Shared>);

struct Shared {
    orders: Mutex<Option<mpsc::SyncSender<Order>>>,
    alive: Mutex<BTreeSet<u32>>,
}

/// A command to start, and where the process goes.
type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);

/// A running process and its group.
pub(crate) struct Process {
    child: Child,
    handle: Arc<OwnedFd>,
    /// Set once it has ended and nothing is left of it.
    ended: Option<ExitStatus>,
    owner: Processes,
}

impl Processes {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { orders: Mutex::default(), alive: Mutex::default() }))
    }

    /// Starts a process as the leader of its own group.
    ///
    /// # Errors
    /// `Unsupported` where the program is not there, `Full` where there is no room for a process.
    pub(crate) fn start(&self, mut command: Command) -> Result<Process> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.process_group(0);
        let child = self.order(command).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => ErrorKind::Unsupported,
                _ => ErrorKind::Full,
            };
            Error::new(kind, format!("'{program}' cannot be started: {error}")).with_source(error)
        })?;
        self.0.alive.lock().insert(child.id());
        match rustix::process::pidfd_open(pid(&child), PidfdFlags::empty()) {
            Ok(handle) => Ok(Process { child, handle: Arc::new(handle), ended: None, owner: self.clone() }),
            Err(error) => {
                self.clear_away(child)?;
                Err(Error::new(ErrorKind::Full, "no descriptors left for another worker").with_source(error))
            }
        }
    }

    fn order(&self, command: Command) -> std::io::Result<Child> {
        let (tx, rx) = mpsc::sync_channel(1);
        let mut orders = self.0.orders.lock();
        let to_starter = match &mut *orders {
            Some(orders) => orders,
            none => none.insert(starter()?),
        };
        let gone = || std::io::Error::other("the thread that starts workers has ended");
        to_starter.send((command, tx)).map_err(|_| gone())?;
        drop(orders);
        rx.recv().map_err(|_| gone())?
    }

    fn clear_away(&self, mut child: Child) -> Result<()> {
        let ended = end_group(&mut child);
        self.0.alive.lock().remove(&child.id());
        ended.map(drop).map_err(|error| Error::engine("a worker cannot be waited for").with_source(error))
    }

    /// Returns the bytes that all living processes hold by themselves.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.0.alive.lock().iter().filter_map(|pid| resident_bytes(*pid)).sum()
    }
}

/// Starts the thread that starts processes; it ends with the last [`Processes`].
fn starter() -> std::io::Result<mpsc::SyncSender<Order>> {
    let (tx, rx) = mpsc::sync_channel::<Order>(8);
    std::thread::Builder::new().name("python-starter".to_owned()).spawn(move || {
        for (mut command, reply) in rx {
            // Whoever asked has gone: the process is not wanted.
            if let Err(mpsc::SendError(Ok(mut child))) = reply.send(command.spawn()) {
                let _ = end_group(&mut child);
            }
        }
    })?;
    Ok(tx)
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Ends a process and all of its group, and waits for them.
fn end_group(child: &mut Child) -> std::io::Result<ExitStatus> {
    let group = pid(child);
    // The leader is not waited for yet, so the number still stands for this group.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    let status = child.wait()?;
    // Orphans of the group are children of this process where it is the first of its container.
    while rustix::process::waitpgid(group, WaitOptions::empty()).is_ok_and(|ended| ended.is_some()) {}
    Ok(status)
}

/// Returns the bytes that a process holds by itself: not files, and not what it shares.
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut pages = statm.split(' ').skip(1).map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Pins the process, and what it starts from now on, to a core.
    pub(crate) fn stay_on(&self, core: Option<usize>) {
        let Some(core) = core else {
            return;
        };
        let mut cores = rustix::thread::CpuSet::new();
        cores.set(core);
        if let Err(error) = rustix::thread::sched_setaffinity(Some(pid(&self.child)), &cores) {
            tracing::warn!(core, %error, "a worker cannot be pinned to its core");
        }
    }

    /// Becomes readable when the process has ended.
    pub(crate) fn handle(&self) -> &Arc<OwnedFd> {
        &self.handle
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some() || is_readable(self.handle.as_fd(), Duration::ZERO)
    }

    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(self.id())
    }

    /// Gives the process `grace` to end by itself, then ends it and all that it started.
    pub(crate) fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        if self.ended.is_none() {
            is_readable(self.handle.as_fd(), grace);
            self.ended = end_group(&mut self.child).ok();
            self.owner.0.alive.lock().remove(&self.child.id());
        }
        self.ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// Ends a process, which may have ended already.
pub(crate) fn kill(handle: &OwnedFd) {
    // The only other reason is that it has ended.
    let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
}

/// Says in words how a process ended.
pub(crate) fn ending(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.signal(), status.code())) {
        Some((Some(9), _)) => "was killed (signal 9)".to_owned(),
        Some((Some(11), _)) => "crashed (signal 11, a fault of memory)".to_owned(),
        Some((Some(signal), _)) => format!("ended by signal {signal}"),
        Some((None, Some(code))) => format!("exited with status {code}"),
        _ => "ended".to_owned(),
    }
}

/// Waits until one of `files` is readable or closed; returns which are.
pub(crate) fn wait_for<const N: usize>(files: [BorrowedFd<'_>; N], limit: Duration) -> [bool; N] {
    let mut polled = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN));
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut polled, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            // Anything else is a lack of memory: as if nothing had come.
            Err(_) => return [false; N],
            Ok(_) => {
                let mut polled = polled.iter().map(|file| !file.revents().is_empty());
                return std::array::from_fn(|_| polled.next().unwrap_or_default());
            }
        }
    }
}

fn is_readable(file: BorrowedFd<'_>, limit: Duration) -> bool {
    let [is_readable] = wait_for([file], limit);
    is_readable
}

#[cfg(test)]
mod tests;
