//! Starts a Redis for a test on a free port, and takes it away, freezes it or brings it back as the
//! test wants.
//!
//! Where there is no `redis-server`, the test is skipped loudly, or fails if
//! `SALVER_REQUIRE_SERVICES=1`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Redis; killed when this is dropped.
pub struct RedisServer {
    child: Child,
    port: u16,
    password: String,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a Redis that everybody may use; none: there is none here, and the test is skipped.
    ///
    /// # Panics
    /// If it does not start, or is not there though `SALVER_REQUIRE_SERVICES=1`.
    pub fn start() -> Option<Self> {
        Self::start_with_password("")
    }

    /// Starts a Redis that asks for a password.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub fn start_with_password(password: &str) -> Option<Self> {
        let there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if let Err(error) = there {
            let required = std::env::var("SALVER_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "SALVER_REQUIRE_SERVICES=1, but redis-server does not start: {error}");
            eprintln!("SKIPPED: redis ({error}; Debian: apt-get install redis-server)");
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        // Another process may take a port between its choice and its use: then another one is tried.
        for _ in 0..10 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = listener.local_addr().expect("the address of a listener").port();
            drop(listener);
            let mut child = spawn(port, password, &folder);
            if answers(&mut child, port) {
                return Some(Self { child, port, password: password.to_owned(), folder });
            }
        }
        panic!("redis-server does not start on any port");
    }

    /// Returns its port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its URL, the password included.
    pub fn url(&self) -> String {
        let password: String = self.password.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let user = if password.is_empty() { String::new() } else { format!(":{password}@") };
        format!("redis://{user}127.0.0.1:{}", self.port)
    }

    /// Takes it away without a word.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill redis-server");
        self.child.wait().expect("wait for redis-server");
    }

    /// Starts it again on the same port, empty.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.password, &self.folder);
        assert!(answers(&mut self.child, self.port), "redis-server does not start again on port {}", self.port);
    }

    /// Stops its process: connections stay open and nothing is answered.
    ///
    /// # Panics
    /// If the signal cannot be sent.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets its process go on.
    ///
    /// # Panics
    /// If the signal cannot be sent.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "send {name} to redis-server");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, password: &str, folder: &TempDir) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    if !password.is_empty() {
        command.args(["--requirepass", password]);
    }
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("start redis-server")
}

/// Waits until it answers; false: it ended instead.
fn answers(child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if child.try_wait().expect("look at redis-server").is_some() {
            return false;
        }
        if ping(port).is_ok_and(|answered| answered) {
            return true;
        }
        std::thread::yield_now();
    }
    panic!("redis-server does not answer on port {port}");
}

/// Any reply will do; one that asks for a password as well.
fn ping(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"PING\r\n")?;
    Ok(stream.read(&mut [0; 1])? == 1)
}
