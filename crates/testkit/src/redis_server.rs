//! Starts a Redis for a test on a free port, and takes it away, freezes it or brings it back as the
//! test wants.
//!
//! Where there is no `redis-server`, the test is skipped loudly, or fails if
//! `SALVER_REQUIRE_SERVICES=1`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::service::{guard, skip};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Redis; killed when this is dropped or this process ends.
pub struct RedisServer {
    child: Child,
    /// Ends it where there is no drop.
    guard: Child,
    settings: Settings,
    port: u16,
    folder: TempDir,
    n_prefixes: AtomicUsize,
}

#[derive(Default)]
struct Settings {
    password: String,
    /// Whether all is on disk before it is answered.
    is_durable: bool,
    /// The port for TLS, where there is one; clients must show a certificate there.
    tls_port: Option<u16>,
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
    pub fn start_with_password(password: &str) -> Option<Self> {
        Self::start_with(Settings { password: password.to_owned(), ..Settings::default() })
    }

    /// Starts a Redis that has on disk what it answers, and still has it after a restart.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_durable() -> Option<Self> {
        Self::start_with(Settings { is_durable: true, ..Settings::default() })
    }

    /// Starts a Redis that speaks TLS too, and asks its clients for a certificate there. The files are
    /// in [`RedisServer::folder`]: `ca.pem`, which signed `client.pem`, whose key is `client.key`, and
    /// `stranger.pem`, an authority that signed nothing.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_with_tls() -> Option<Self> {
        Self::start_with(Settings { tls_port: Some(free_port()), ..Settings::default() })
    }

    /// Returns the one Redis of this test process, started on first use; none: there is none here, and
    /// the test is skipped.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<RedisServer>> = OnceLock::new();
        let shared = SHARED.get_or_init(Self::start).as_ref();
        if shared.is_none() {
            skip("redis", "no redis-server in PATH; Debian: apt-get install redis-server");
        }
        shared
    }

    fn start_with(settings: Settings) -> Option<Self> {
        let there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if let Err(error) = there {
            skip("redis", &format!("{error}; Debian: apt-get install redis-server"));
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        if settings.tls_port.is_some() {
            write_certificates(folder.path());
        }
        // Another process may take a port between its choice and its use: then another one is tried.
        for _ in 0..10 {
            let port = free_port();
            let mut child = spawn(port, &settings, &folder);
            if answers(&mut child, port) {
                let guard = guard(child.id(), "-KILL", Some(folder.path()));
                return Some(Self { child, guard, settings, port, folder, n_prefixes: AtomicUsize::new(0) });
            }
        }
        panic!("redis-server does not start on any port");
    }

    /// Returns a prefix for keys that this Redis has given to nobody else.
    pub fn prefix(&self) -> String {
        format!("test:{}", self.n_prefixes.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns its port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its URL, the password included.
    pub fn url(&self) -> String {
        let password: String = self.settings.password.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let user = if password.is_empty() { String::new() } else { format!(":{password}@") };
        format!("redis://{user}127.0.0.1:{}", self.port)
    }

    /// Returns its URL for TLS, which still lacks the certificates; none: it has no TLS.
    pub fn tls_url(&self) -> Option<String> {
        self.settings.tls_port.map(|port| format!("rediss://127.0.0.1:{port}"))
    }

    /// Returns the folder that it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Takes it away without a word.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(&mut self) {
        self.unguard();
        self.child.kill().expect("kill redis-server");
        self.child.wait().expect("wait for redis-server");
    }

    /// Starts it again on the same port: empty, or if it is durable with what it had.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.settings, &self.folder);
        self.guard = guard(self.child.id(), "-KILL", Some(self.folder.path()));
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

    /// First: the number of a process that ended may soon be that of another one.
    fn unguard(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "send {name} to redis-server");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.unguard();
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, settings: &Settings, folder: &TempDir) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", if settings.is_durable { "yes" } else { "no" }, "--appendfsync", "always"]);
    if !settings.password.is_empty() {
        command.args(["--requirepass", &settings.password]);
    }
    if let Some(port) = settings.tls_port {
        command.args(["--tls-port", &port.to_string(), "--tls-ca-cert-file", "ca.pem"]);
        command.args(["--tls-cert-file", "server.pem", "--tls-key-file", "server.key"]);
    }
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("start redis-server")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("the address of a listener").port()
}

fn write_certificates(folder: &Path) {
    let named = |name: &str, hosts: &[&str]| {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("a certificate for hosts");
        // Authorities are told apart by their names.
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let write = |name: &str, pem: String| fs::write(folder.join(name), pem).expect("write a certificate");
    let [ca, _stranger] = ["ca", "stranger"].map(|name| {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        write(&format!("{name}.pem"), ca.pem());
        ca
    });
    for name in ["server", "client"] {
        let key = KeyPair::generate().expect("a key");
        let params = named(name, &["127.0.0.1"]);
        write(&format!("{name}.pem"), params.signed_by(&key, &ca).expect("a signature").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
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

/// Any reply will do, one that asks for a password as well; but not that it still reads its log.
fn ping(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"PING\r\n")?;
    let mut begin = [0; 2];
    stream.read_exact(&mut begin)?;
    Ok(&begin != b"-L")
}
