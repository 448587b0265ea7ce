//! What the starters of services have in common: asking whether one is there, waiting until it is
//! ready, and ending it even if the test process does not get to say so.
//!
//! Where a service is missing, its test is skipped loudly, or fails if `SALVER_REQUIRE_SERVICES=1`.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says that a test is skipped.
///
/// # Panics
/// If `SALVER_REQUIRE_SERVICES=1`.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skip(name: &str, reason: &str) {
    let required = std::env::var("SALVER_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required, "SALVER_REQUIRE_SERVICES=1, but there is no {name}: {reason}");
    eprintln!("SKIPPED: {name} ({reason})");
}

/// Returns a port that is free now. Another process may take it before its use: try again then.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("the address of a listener").port()
}

/// A running service; ended when this is dropped or this process ends, however it does.
pub(crate) struct Service {
    child: Child,
    guard: Child,
    signal: &'static str,
}

impl Service {
    /// Starts `command` and returns it with the first line of its stderr that contains `ready`;
    /// none: it ended before. Where this process ends without a drop, `folder` is removed as well.
    ///
    /// # Panics
    /// If it cannot be started, or neither ends nor becomes ready.
    pub(crate) fn start(
        mut command: Command,
        folder: Option<&Path>,
        ready: &'static str,
        signal: &'static str,
    ) -> Option<(Self, String)> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start a service");
        let stderr = child.stderr.take().expect("a piped stderr");
        let service = Self { guard: guard(child.id(), signal, folder), child, signal };
        let (tx, rx) = mpsc::sync_channel(1);
        std::thread::spawn(move || watch(stderr, ready, &tx));
        let line = rx.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("a service does not become ready: {command:?}"));
        line.map(|line| (service, line))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // First: the number of a process that ended may soon be that of another one.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = Command::new("kill").args([self.signal, &self.child.id().to_string()]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// Waits for the end of its input, which comes with the end of this process, and ends the service.
/// So a service may be shared through a `static`, which is never dropped.
pub(crate) fn guard(pid: u32, signal: &str, folder: Option<&Path>) -> Child {
    let script = format!(
        "read _; kill {signal} {pid}; for _ in 1 2 3 4 5 6 7 8 9; do kill -0 {pid} || break; sleep 0.2; done; \
         [ -z \"$1\" ] || rm -rf -- \"$1\""
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, "guard"]).args(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("start a guard")
}

/// Reads to the end: nobody may block on a full pipe.
fn watch(stderr: impl Read, ready: &str, tx: &mpsc::SyncSender<Option<String>>) {
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let found = lines.by_ref().find(|line| line.contains(ready));
    // The other side has given up if it does not listen.
    let _ = tx.send(found);
    lines.for_each(drop);
}
