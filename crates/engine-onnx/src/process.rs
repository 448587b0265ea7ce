//! Runs a helper program for a bounded time.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The most output that is kept, of each stream.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// Runs `command` without input and returns what it printed.
///
/// # Errors
/// In words for people: it could not be started, took too long, or failed (with the end of what it
/// printed to its error stream).
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| format!("start `{program}`: {error}"))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(format!("`{program}` has no output"));
    };
    let (tx, rx) = mpsc::sync_channel(2);
    let errors = read_on_thread(stderr, tx.clone());
    let printed = read_on_thread(stdout, tx);
    let deadline = Instant::now() + limit;
    // Both streams end when the program does, or when it closes them and lets us go.
    for _ in 0..2 {
        if rx.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            stop(&mut child);
            return Err(format!("`{program}` was not done after {} s", limit.as_secs()));
        }
    }
    let status = child.wait().map_err(|error| format!("wait for `{program}`: {error}"))?;
    let (printed, errors) = (printed.join().unwrap_or_default(), errors.join().unwrap_or_default());
    if status.success() { Ok(printed) } else { Err(format!("`{program}` failed: {}", last_lines(&errors))) }
}

fn read_on_thread(stream: impl Read + Send + 'static, done: mpsc::SyncSender<()>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut stream = stream;
        // What cannot be read is missing from a message; what exceeds the limit is drained, so that
        // the program does not wait for us.
        let _ = stream.by_ref().take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        let _ = done.send(());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The end of what went wrong; what was only warned of is left out.
fn last_lines(text: &str) -> String {
    let is_kept = |line: &&str| !line.is_empty() && !line.starts_with("WARNING");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(is_kept).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit_ms: u64) -> Result<String, String> {
        output(Command::new("sh").args(["-c", script]), Duration::from_millis(limit_ms))
    }

    #[test]
    fn it_returns_what_was_printed_or_says_what_went_wrong() {
        assert_eq!(shell("echo hello", 60_000).unwrap(), "hello\n");
        assert_eq!(
            shell("echo a >&2; echo WARNING: again >&2; echo b >&2; exit 3", 60_000).unwrap_err(),
            "`sh` failed: a; b"
        );
        let missing = output(&mut Command::new("salver-no-such-program"), Duration::from_secs(60)).unwrap_err();
        assert!(missing.starts_with("start `salver-no-such-program`"), "{missing}");
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped() {
        assert_eq!(shell("exec tail -f /dev/null", 1).unwrap_err(), "`sh` was not done after 0 s");
    }
}
