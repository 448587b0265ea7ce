//! What one connection is doing, kept by those who see it and read by its watchdog.
//!
//! Pure bookkeeping over atomics; times are milliseconds since the connection began. Nothing
//! here waits or closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    /// Handlers that run, and gRPC calls that are open: silence is no fault while there are any.
    working: AtomicUsize,
    /// Plain replies that are being written.
    replying: AtomicUsize,
    /// When the first byte of an unfinished request head came, plus one; 0: none.
    head_since: AtomicU64,
    /// When a request last ended or a byte was last written.
    last_progress: AtomicU64,
    /// The socket takes no more bytes: the reply is written as far as its handler is concerned,
    /// and not yet read.
    is_write_blocked: AtomicBool,
    is_http2: AtomicBool,
    wants_last_look: AtomicBool,
    leaves_unread: AtomicBool,
}

/// What the watchdog should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again after this time.
    Wait(Duration),
    /// Nothing has been asked for too long: say goodbye and close.
    CloseIdle,
    /// The peer sends its head too slowly or does not read: close without a word.
    Abort,
}

impl Activity {
    /// Starts the books of a new connection.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            working: AtomicUsize::new(0),
            replying: AtomicUsize::new(0),
            head_since: AtomicU64::new(0),
            last_progress: AtomicU64::new(0),
            is_write_blocked: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            wants_last_look: AtomicBool::new(false),
            leaves_unread: AtomicBool::new(false),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Notes that the peer speaks HTTP/2; what came so far was no head of a request.
    pub(crate) fn set_http2(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// Whether the peer speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// Asks the socket to look for bytes that the runtime has not been told of yet.
    pub(crate) fn ask_for_last_look(&self) {
        self.wants_last_look.store(true, Ordering::Relaxed);
    }

    /// Whether the socket should look.
    pub(crate) fn wants_last_look(&self) -> bool {
        self.wants_last_look.load(Ordering::Relaxed)
    }

    /// Notes that the connection ends before all of a request was read.
    pub(crate) fn leave_unread(&self) {
        self.leaves_unread.store(true, Ordering::Relaxed);
    }

    /// Whether the peer may still be sending what nobody will read.
    pub(crate) fn leaves_unread(&self) -> bool {
        self.leaves_unread.load(Ordering::Relaxed)
    }

    /// Whether no request is being handled or answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.working.load(Ordering::Relaxed) == 0 && self.replying.load(Ordering::Relaxed) == 0
    }

    /// Whether nothing at all has been asked: quiet, and no head has begun to arrive.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_quiet() && self.head_since.load(Ordering::Relaxed) == 0
    }

    /// Notes bytes that arrived while no request was open.
    pub(crate) fn head_bytes(&self) {
        if !self.is_http2() && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.elapsed_ms() + 1, Ordering::Relaxed);
        }
    }

    /// Notes that the peer takes no bytes at the moment.
    pub(crate) fn write_blocked(&self) {
        self.is_write_blocked.store(true, Ordering::Relaxed);
    }

    /// Notes bytes that the peer took.
    pub(crate) fn wrote(&self) {
        self.is_write_blocked.store(false, Ordering::Relaxed);
        self.progressed();
    }

    /// Returns how many requests are at a stage.
    fn count(&self, stage: Stage) -> &AtomicUsize {
        match stage {
            Stage::Working => &self.working,
            Stage::Replying => &self.replying,
        }
    }

    fn progressed(&self) {
        self.last_progress.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Notes a complete head; the request is at work until the guard goes.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.head_since.store(0, Ordering::Relaxed);
        self.working.fetch_add(1, Ordering::Relaxed);
        Busy { activity: self.clone(), stage: Stage::Working }
    }

    /// Decides what should happen to the connection now.
    pub(crate) fn judge(&self, header_timeout: Duration, idle_timeout: Duration) -> Verdict {
        let now = Duration::from_millis(self.elapsed_ms());
        let head_since = self.head_since.load(Ordering::Relaxed);
        if head_since != 0 {
            let waited = now.saturating_sub(Duration::from_millis(head_since - 1));
            return remaining(header_timeout, waited).map_or(Verdict::Abort, Verdict::Wait);
        }
        let recheck = header_timeout.min(idle_timeout);
        if self.working.load(Ordering::Relaxed) > 0 {
            return Verdict::Wait(recheck);
        }
        let silent = now.saturating_sub(Duration::from_millis(self.last_progress.load(Ordering::Relaxed)));
        match remaining(idle_timeout, silent) {
            Some(left) => Verdict::Wait(left.min(recheck)),
            None if self.replying.load(Ordering::Relaxed) > 0 || self.is_write_blocked.load(Ordering::Relaxed) => {
                Verdict::Abort
            }
            None => Verdict::CloseIdle,
        }
    }
}

fn remaining(limit: Duration, spent: Duration) -> Option<Duration> {
    limit.checked_sub(spent).filter(|left| !left.is_zero())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Working,
    Replying,
}

/// Keeps a request counted until it is answered or dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    activity: Arc<Activity>,
    stage: Stage,
}

impl Busy {
    /// Moves on to what the peer has to read.
    pub(crate) fn replying(&mut self) {
        self.enter(Stage::Replying);
    }

    /// Goes back to what the peer has to wait for: the next piece of its reply.
    pub(crate) fn working(&mut self) {
        self.enter(Stage::Working);
    }

    fn enter(&mut self, stage: Stage) {
        if self.stage != stage {
            self.activity.progressed();
            self.activity.count(stage).fetch_add(1, Ordering::Relaxed);
            self.activity.count(self.stage).fetch_sub(1, Ordering::Relaxed);
            self.stage = stage;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.progressed();
        self.activity.count(self.stage).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_fresh_connection_waits_and_an_old_idle_one_closes() {
        let activity = Activity::new();
        assert!(matches!(activity.judge(LONG, LONG), Verdict::Wait(_)));
        assert_eq!(activity.judge(LONG, Duration::ZERO), Verdict::CloseIdle);
    }

    #[test]
    fn an_unfinished_head_is_cut_off() {
        let activity = Activity::new();
        activity.head_bytes();
        assert_eq!(activity.judge(Duration::ZERO, LONG), Verdict::Abort);
        assert!(!activity.is_idle());
    }

    #[test]
    fn work_is_waited_for_and_an_unread_reply_is_not() {
        let activity = Arc::new(Activity::new());
        activity.head_bytes();
        let mut busy = activity.begin();
        assert!(matches!(activity.judge(LONG, Duration::ZERO), Verdict::Wait(_)));
        busy.replying();
        assert_eq!(activity.judge(LONG, Duration::ZERO), Verdict::Abort);
        drop(busy);
        assert!(activity.is_idle());
        activity.write_blocked();
        assert_eq!(activity.judge(LONG, Duration::ZERO), Verdict::Abort);
        activity.wrote();
        assert_eq!(activity.judge(LONG, Duration::ZERO), Verdict::CloseIdle);
    }

    #[test]
    fn the_next_piece_of_a_reply_is_waited_for() {
        let activity = Arc::new(Activity::new());
        let mut busy = activity.begin();
        busy.replying();
        assert_eq!(activity.judge(LONG, Duration::ZERO), Verdict::Abort);
        busy.working();
        assert!(matches!(activity.judge(LONG, Duration::ZERO), Verdict::Wait(_)));
        busy.replying();
        assert_eq!(activity.judge(LONG, Duration::ZERO), Verdict::Abort);
        drop(busy);
        assert!(activity.is_idle());
    }
}
