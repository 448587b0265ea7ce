//! What a worker prints: lines for the log, and the last of them for messages.
//!
//! A worker may print without end or without line breaks. Lines are cut, and more than the log
//! should carry are counted instead; the worker is never kept waiting for the log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::process;

/// The longest line that is logged as one.
const MAX_LINE: usize = 4 << 10;
/// Lines that are remembered for messages.
const KEPT: usize = 12;
/// Lines a second that are logged, and how many may come at once.
const RATE: f64 = 100.0;
const BURST: f64 = 1000.0;
/// How long the reader waits before it looks around.
const TICK: Duration = Duration::from_secs(1);

/// The end of what a worker has printed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// Returns the last lines as one text.
    pub(crate) fn text(&self) -> String {
        self.0.lock().iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Reads what a worker prints until it has ended; the thread ends soon after.
///
/// # Errors
/// Where no thread can be started.
pub(crate) fn follow(
    model: Arc<str>,
    worker: u32,
    printed: OwnedFd,
    ended: Arc<OwnedFd>,
) -> std::io::Result<(Tail, JoinHandle<()>)> {
    rustix::io::ioctl_fionbio(&printed, true)?;
    let tail = Tail::default();
    let own = tail.clone();
    let reader = std::thread::Builder::new().name("python-output".to_owned()).spawn(move || {
        let mut log = Log { model, worker, tail: own, budget: Budget::new(Instant::now()), line: Vec::new() };
        read(File::from(printed), &ended, &mut log);
        log.finish();
    })?;
    Ok((tail, reader))
}

/// Reads to the end: of the file, or of the process once nothing more is there. A process that
/// left its group may hold the file open for ever.
fn read(mut printed: File, ended: &OwnedFd, log: &mut Log) {
    let mut chunk = [0; 16 << 10];
    loop {
        let [_, has_ended] = process::wait_for([printed.as_fd(), ended.as_fd()], TICK);
        loop {
            match printed.read(&mut chunk) {
                Ok(0) => return,
                Ok(len) => log.take(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        if has_ended {
            return;
        }
    }
}

struct Log {
    model: Arc<str>,
    worker: u32,
    tail: Tail,
    budget: Budget,
    line: Vec<u8>,
}

impl Log {
    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in part.chunks(MAX_LINE) {
                self.line.extend_from_slice(piece);
                if self.line.last() == Some(&b'\n') || self.line.len() >= MAX_LINE {
                    self.write();
                }
            }
        }
    }

    fn write(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let line = text.trim_end();
        if !line.is_empty() {
            self.tail.push(line);
            match self.budget.spend(Instant::now()) {
                Spent::Yes => tracing::info!(model = &*self.model, worker = self.worker, "{line}"),
                Spent::YesAfter(missed) => {
                    tracing::warn!(
                        model = &*self.model,
                        worker = self.worker,
                        missed,
                        "printed more than the log takes"
                    );
                    tracing::info!(model = &*self.model, worker = self.worker, "{line}");
                }
                Spent::No => {}
            }
        }
        self.line.clear();
    }

    fn finish(mut self) {
        self.write();
        if self.budget.missed > 0 {
            let missed = self.budget.missed;
            tracing::warn!(model = &*self.model, worker = self.worker, missed, "printed more than the log takes");
        }
    }
}

/// How many lines may be logged.
struct Budget {
    lines: f64,
    at: Instant,
    missed: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Spent {
    Yes,
    /// This many lines before were not logged.
    YesAfter(u64),
    No,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { lines: BURST, at: now, missed: 0 }
    }

    fn spend(&mut self, now: Instant) -> Spent {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.lines = (self.lines + passed * RATE).min(BURST);
        self.at = now;
        if self.lines < 1.0 {
            self.missed += 1;
            return Spent::No;
        }
        self.lines -= 1.0;
        match std::mem::take(&mut self.missed) {
            0 => Spent::Yes,
            missed => Spent::YesAfter(missed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_instead_of_logged() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let logged = (0..5000).filter(|_| budget.spend(start) == Spent::Yes).count();
        assert_eq!(logged, 1000);
        assert_eq!(budget.spend(start + Duration::from_millis(15)), Spent::YesAfter(4000));
        assert_eq!(budget.spend(start + Duration::from_millis(15)), Spent::No);
        assert_eq!(budget.spend(start + Duration::from_secs(60)), Spent::YesAfter(1));
    }

    #[test]
    fn the_last_lines_stay_whatever_was_printed() {
        let (read, write) = std::io::pipe().unwrap();
        let (ended, _running) = std::io::pipe().unwrap();
        let (tail, reader) = follow("m".into(), 1, read.into(), Arc::new(ended.into())).unwrap();
        let mut write = write;
        let flood: String = (0..2000).map(|idx| format!("line {idx}\n")).collect();
        let long = "x".repeat(MAX_LINE + 10);
        std::io::Write::write_all(&mut write, format!("{flood}\n\n{long}\nno break").as_bytes()).unwrap();
        std::io::Write::write_all(&mut write, &[0xff, b'!']).unwrap();
        drop(write);
        reader.join().unwrap();
        let text = tail.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), KEPT);
        assert_eq!(lines[KEPT - 4], "line 1999");
        assert_eq!(
            (lines[KEPT - 3].len(), lines[KEPT - 2], lines[KEPT - 1]),
            (MAX_LINE, "x".repeat(10).as_str(), "no break\u{fffd}!")
        );
    }

    #[test]
    fn the_reader_ends_with_the_process_though_the_file_is_still_open() {
        let (read, mut write) = std::io::pipe().unwrap();
        let (ended, running) = std::io::pipe().unwrap();
        let (tail, reader) = follow("m".into(), 1, read.into(), Arc::new(ended.into())).unwrap();
        std::io::Write::write_all(&mut write, b"last words").unwrap();
        drop(running);
        reader.join().unwrap();
        assert_eq!(tail.text(), "last words");
        drop(write);
    }
}
