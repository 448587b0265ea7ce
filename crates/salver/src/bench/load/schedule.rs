//! A fixed rate: request `i` is meant to start at `i / rate`, whoever is free takes it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use super::{Tally, Window};

/// Requests that are due within this time become due together: a wake-up for each would take from
/// the server what is to be measured. Latency counts from the moment of each all the same.
const STEP: Duration = Duration::from_micros(100);

/// Hands out the moments at which requests are meant to start.
pub(super) struct Schedule {
    pub(super) window: Window,
    rate: f64,
    total: u64,
    callers: usize,
    alarm: Alarm,
    due: Semaphore,
    next: AtomicU64,
}

impl Schedule {
    /// Plans `rate` requests a second for as long as the window is open, warm-up included.
    ///
    /// # Errors
    /// Where the system has no timer to give.
    pub(super) fn new(window: Window, rate: f64, callers: usize) -> io::Result<Self> {
        let total = ((window.end - window.start).as_secs_f64() * rate).floor() as u64;
        let (alarm, due, next) = (Alarm::new()?, Semaphore::new(0), AtomicU64::new(0));
        Ok(Self { window, rate, total, callers, alarm, due, next })
    }

    fn intended(&self, idx: u64) -> Instant {
        self.window.start + Duration::from_secs_f64(idx as f64 / self.rate)
    }

    /// Makes each request due at its time.
    ///
    /// # Errors
    /// Where the timer cannot be set.
    pub(super) async fn release(&self) -> io::Result<()> {
        let mut released = 0;
        while released < self.total {
            let now = Instant::now();
            let next = self.intended(released);
            if now < next {
                self.alarm.after((next - now).max(STEP)).await?;
                continue;
            }
            let due = ((now - self.window.start).as_secs_f64() * self.rate).floor() as u64 + 1;
            let due = due.clamp(released + 1, self.total);
            self.due.add_permits(usize::try_from(due - released).unwrap_or(0));
            released = due;
        }
        // One more for each caller tells it that the schedule is over.
        self.due.add_permits(self.callers);
        Ok(())
    }

    pub(super) async fn take(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let idx = self.next.fetch_add(1, Ordering::Relaxed);
        (idx < self.total).then(|| self.intended(idx))
    }

    /// Requests that nobody was left to send are failures, not silence.
    pub(super) fn count_unsent(&self, tally: &mut Tally) {
        let sent = self.next.load(Ordering::Relaxed).min(self.total);
        if sent < self.total {
            tally.errors += self.total - sent;
            tally.first_error.get_or_insert_with(|| "not sent: no connection was free in time".to_owned());
        }
    }
}

/// A timer of the system's, which wakes the thread that sends: the runtime's own only know
/// milliseconds, and a thread that keeps the time would be one more to share the cores with the
/// server.
struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    #[expect(unsafe_code, reason = "tokio has no safe way to wait for a timer of the system's")]
    fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: an `OwnedFd` is open for as long as it lives, and is the same descriptor all the time.
        Ok(Self(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?))
    }

    async fn after(&self, time: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(time).map_err(io::Error::other)?,
        };
        // It is never read: to set it anew is enough for it to be heard again.
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
