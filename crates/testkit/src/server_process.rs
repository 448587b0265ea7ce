//! Starts the real server for a test, waits until it listens, and stops it when the test ends.
//!
//! The server runs in a folder of its own, with ports of its own choice and without `SALVER_…`
//! settings from outside. What it printed is kept, and shown when the test fails.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;

/// How long anything here waits before it calls the server stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to start a server.
#[derive(Debug)]
pub struct ServerOptions {
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    grpc: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { binary: default_binary(), arguments: Vec::new(), environment: Vec::new(), grpc: true }
    }
}

impl ServerOptions {
    /// Starts from `salver serve` without models; both ports are free ones of the loopback.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes another binary than `SALVER_BIN`, or `salver` beside the test's own folder.
    #[must_use]
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = binary.into();
        self
    }

    /// Adds one argument after `serve`: a path (absolute: the server runs elsewhere) or a flag.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts without the second port.
    #[must_use]
    pub fn without_grpc(mut self) -> Self {
        self.grpc = false;
        self
    }

    /// Starts the server and returns once it listens.
    ///
    /// # Panics
    /// If it cannot be started, ends, or does not listen within a minute.
    pub fn start(&self) -> ServerProcess {
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = Command::new(&self.binary);
        let grpc = if self.grpc { "127.0.0.1:0" } else { "off" };
        command.args(["serve", "--http", "127.0.0.1:0", "--grpc", grpc]).args(&self.arguments);
        // The library that was fetched once serves every test.
        let settings = std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| name.to_str().is_some_and(|name| name.starts_with("SALVER_") && name != "SALVER_CACHE"));
        settings.for_each(|name| {
            command.env_remove(name);
        });
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("start {}: {error}; build it with `cargo build -p salver`, or set SALVER_BIN", self.binary.display())
        });
        ServerProcess::wait_until_it_listens(child, folder, self.grpc)
    }
}

/// `target/debug/deps/TEST` runs `target/debug/salver`.
fn default_binary() -> PathBuf {
    if let Some(named) = std::env::var_os("SALVER_BIN") {
        return PathBuf::from(named);
    }
    let test = std::env::current_exe().expect("the path of the test");
    let folder = test.ancestors().find(|folder| folder.join("deps").is_dir()).expect("a target folder");
    folder.join("salver")
}

/// A running server; killed when this is dropped.
pub struct ServerProcess {
    child: Child,
    http: SocketAddr,
    grpc: Option<SocketAddr>,
    output: Arc<Output>,
    folder: TempDir,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    /// Streams that came to their end.
    n_ended: Mutex<usize>,
    added: Condvar,
    ended: Condvar,
}

impl ServerProcess {
    fn wait_until_it_listens(mut child: Child, folder: TempDir, wants_grpc: bool) -> Self {
        let output = Arc::new(Output::default());
        let (tx, rx) = mpsc::sync_channel(2);
        collect(child.stdout.take().expect("a piped stdout"), output.clone(), Some(tx));
        collect(child.stderr.take().expect("a piped stderr"), output.clone(), None);
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self { child, http: unknown, grpc: None, output, folder };
        let deadline = Instant::now() + PATIENCE;
        while server.http == unknown || (wants_grpc && server.grpc.is_none()) {
            match rx.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Listening::Http(address)) => server.http = address,
                Ok(Listening::Grpc(address)) => server.grpc = Some(address),
                // The drop of `server` shows what it printed.
                Err(error) => panic!("the server does not listen: {error}"),
            }
        }
        server
    }

    /// Returns the address of the HTTP port.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Returns the address of the gRPC port.
    ///
    /// # Panics
    /// If the server was started without one.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc.expect("the server was started without a gRPC port")
    }

    /// Returns `http://ADDRESS` and `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Returns the folder in which the server runs.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Returns the process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the lines printed so far, to either stream.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines.lock().clone()
    }

    /// Waits until a line contains `text`, and returns it.
    ///
    /// # Panics
    /// If none does within a minute.
    pub fn wait_for_line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.output.lines.lock();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let timeout = self.output.added.wait_until(&mut lines, deadline).timed_out();
            assert!(!timeout, "the server never printed `{text}`");
        }
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "send SIGTERM to the server");
    }

    /// Waits until the server has ended and all of its output was read.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let mut n_ended = self.output.n_ended.lock();
        while *n_ended < 2 {
            let timeout = self.output.ended.wait_until(&mut n_ended, deadline).timed_out();
            assert!(!timeout, "the server does not end");
        }
        drop(n_ended);
        self.child.wait().expect("wait for the server")
    }
}

impl Drop for ServerProcess {
    #[expect(clippy::print_stderr, reason = "shown by the test harness for a test that failed")]
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server printed:");
            for line in self.output.lines.lock().iter() {
                eprintln!("{line}");
            }
            eprintln!("---");
        }
    }
}

enum Listening {
    Http(SocketAddr),
    Grpc(SocketAddr),
}

impl Listening {
    fn of_line(line: &str) -> Option<Self> {
        let address = |marker: &str| line.split_once(marker)?.1.split_whitespace().next()?.parse().ok();
        address("http listening on ").map(Self::Http).or_else(|| address("grpc listening on ").map(Self::Grpc))
    }
}

fn collect(stream: impl Read + Send + 'static, output: Arc<Output>, listening: Option<mpsc::SyncSender<Listening>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Nobody listens any more once both addresses are known.
            if let (Some(tx), Some(found)) = (&listening, Listening::of_line(&line)) {
                let _ = tx.try_send(found);
            }
            output.lines.lock().push(line);
            output.added.notify_all();
        }
        *output.n_ended.lock() += 1;
        output.ended.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Held from writing a script to running it: a process that another test starts in between
    /// would hold the script open for writing, and then it cannot be run.
    static SCRIPTS: Mutex<()> = Mutex::new(());

    /// A stand-in for the server: a shell script.
    fn script(folder: &TempDir, body: &str) -> PathBuf {
        let path = folder.path().join("server");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn it_waits_for_both_addresses_and_stops_with_the_signal() {
        let _one_at_a_time = SCRIPTS.lock();
        let folder = TempDir::new().unwrap();
        let body = "echo \"$@\"; echo secret=$SALVER_TEST >&2; echo http listening on 127.0.0.1:81\n\
                    echo grpc listening on 127.0.0.1:82; exec tail -f /dev/null";
        let options = ServerOptions::new().binary(script(&folder, body)).arg("--log-level").arg("debug");
        let mut server = options.env("SALVER_TEST", "7").start();
        assert_eq!((server.http().port(), server.grpc().port()), (81, 82));
        assert_eq!(server.url("/health"), "http://127.0.0.1:81/health");
        server.wait_for_line("serve --http 127.0.0.1:0 --grpc 127.0.0.1:0 --log-level debug");
        server.wait_for_line("secret=7");
        server.terminate();
        assert!(!server.wait().success());
    }

    #[test]
    fn a_server_without_grpc_is_up_with_the_first_address() {
        let _one_at_a_time = SCRIPTS.lock();
        let folder = TempDir::new().unwrap();
        let body = "echo http listening on 127.0.0.1:81; exec tail -f /dev/null";
        let server = ServerOptions::new().binary(script(&folder, body)).without_grpc().start();
        assert_eq!(server.http().port(), 81);
    }

    #[test]
    #[should_panic(expected = "the server does not listen")]
    fn a_server_that_ends_at_once_fails_the_test_at_once() {
        let _one_at_a_time = SCRIPTS.lock();
        let folder = TempDir::new().unwrap();
        ServerOptions::new().binary(script(&folder, "echo no models; exit 1")).start();
    }
}
