//! Starts an S3 for tests: moto, which keeps everything in memory.
//!
//! `cargo xtask test` names a Python that has it in `SALVER_TEST_PYTHON`; else `moto_server` in PATH
//! or the module of `python3` will do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::service::{Service, skip};

/// A running S3; stopped when this is dropped or the test process ends.
pub struct S3 {
    _service: Service,
    /// Host and port.
    address: String,
    n_buckets: AtomicUsize,
}

impl S3 {
    /// The key that [`S3::environment`] names; any other one would do as well.
    pub const SECRET: &'static str = "a-secret-that-no-message-repeats";

    /// Returns the one S3 of this test process, started on first use; none: there is none here, and
    /// the test is skipped.
    ///
    /// # Panics
    /// As [`S3::start`].
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<S3>> = OnceLock::new();
        let shared = SHARED.get_or_init(Self::start_if_there);
        shared.as_ref().or_else(skip_s3)
    }

    /// Starts an S3; none: there is none here, and the test is skipped.
    ///
    /// # Panics
    /// If it does not start, or is not there though `SALVER_REQUIRE_SERVICES=1`.
    pub fn start() -> Option<Self> {
        Self::start_if_there().or_else(skip_s3)
    }

    fn start_if_there() -> Option<Self> {
        let mut server = moto()?;
        server.args(["-H", "127.0.0.1", "-p", "0"]);
        let (service, line) = Service::start(server, None, "Running on http://", "-KILL").expect("moto does not start");
        let (_, address) = line.split_once("http://").expect("an address after `Running on`");
        let address = address.trim().trim_end_matches('/').to_owned();
        Some(Self { _service: service, address, n_buckets: AtomicUsize::new(0) })
    }

    /// Returns the URL of the server.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the `AWS_…` variables that a client needs.
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "salver".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", Self::SECRET.to_owned()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Makes an empty bucket and returns its URL.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn bucket(&self) -> String {
        let name = format!("test-{}", self.n_buckets.fetch_add(1, Ordering::Relaxed));
        let mut stream = TcpStream::connect(&self.address).expect("connect to moto");
        let address = &self.address;
        // What looks like a signature tells moto that S3 is meant; it does not check it.
        let request = format!(
            "PUT /{name} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=salver/20260101/us-east-1/s3/aws4_request\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("ask moto for a bucket");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("read the reply of moto");
        assert!(reply.starts_with("HTTP/1.1 200"), "moto makes no bucket: {reply}");
        format!("s3://{name}")
    }
}

fn skip_s3<T>() -> Option<T> {
    skip("s3", "no moto; pip install 'moto[s3]' flask flask-cors, or set SALVER_TEST_PYTHON to a Python with them");
    None
}

/// Returns a command that starts moto.
fn moto() -> Option<Command> {
    let module = |python: &str| (python.to_owned(), vec!["-m", "moto.server"]);
    let candidates = match std::env::var("SALVER_TEST_PYTHON") {
        Ok(python) => vec![module(&python)],
        Err(_) => vec![("moto_server".to_owned(), Vec::new()), module("python3")],
    };
    let command = |(program, arguments): &(String, Vec<&str>)| {
        let mut command = Command::new(program);
        command.args(arguments);
        command
    };
    let is_there = |candidate: &(String, Vec<&str>)| {
        let mut asked = command(candidate);
        asked.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    };
    candidates.iter().find(|candidate| is_there(candidate)).map(command)
}
