//! `salver top`, against a real server and against one that misbehaves.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, atomic::AtomicBool};

use bytes::Bytes;
use salver_client::HttpClient;
use salver_core::ModelRef;
use serde_json::Value;

use crate::support::{demo_model, refuse, salver, serve, succeed};

/// A running `salver top --json`.
struct Top {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Top {
    fn start(server: &str) -> Self {
        let mut child = salver()
            .args(["top", "--json", "--interval", "100ms", "--server", server])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Reads on until `wanted` comes.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let value = self.next();
            if wanted(&value) {
                return value;
            }
        }
    }

    /// Reads no more; the command must notice and end.
    fn leave(mut self) {
        drop(self.lines);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Asks for predictions for as long as `work` takes.
fn under_load<T>(server: &str, work: impl FnOnce() -> T) -> T {
    let is_over = Arc::new(AtomicBool::new(false));
    let (server, told) = (server.to_owned(), is_over.clone());
    let load = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (client, iris): (_, ModelRef) = (HttpClient::new(&server).unwrap(), "iris".parse().unwrap());
        while !told.load(Ordering::Relaxed) {
            let body = Bytes::from_static(b"[[5.1, 3.5, 1.4, 0.2]]");
            runtime.block_on(client.predict(&iris, "application/json", body)).unwrap();
        }
    });
    let result = work();
    is_over.store(true, Ordering::Relaxed);
    load.join().unwrap();
    result
}

fn ready_server() -> salver_testkit::ServerProcess {
    let server = serve(&[demo_model("iris").to_str().unwrap()]);
    let mut top = Top::start(&server.url(""));
    top.until(|value| value["models"][0]["state"] == "ready");
    top.leave();
    server
}

#[test]
fn one_interval_under_load_is_a_table_or_an_object() {
    let server = ready_server();
    let url = server.url("");
    let once = |more: &[&str]| succeed(&[&["top", "--once", "--interval", "300ms", "--server", &url], more].concat());
    let (table, json) = under_load(&url, || (once(&[]), once(&["--json"])));
    for part in ["model", "p99", "iris", "ready", "req/s", "resident"] {
        assert!(table.contains(part), "{part:?} in {table}");
    }
    assert!(!table.contains('\u{1b}') && table.contains("µs") | table.contains("ms"), "{table}");
    let figures: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.trim().lines().count(), 1);
    let model = &figures["models"][0];
    assert_eq!((&model["model"], &model["version"], &model["state"]), (&"iris".into(), &1.into(), &"ready".into()));
    for name in ["requests_per_s", "p50_s", "p99_s", "mean_batch_rows"] {
        assert!(model[name].as_f64().is_some_and(|figure| figure > 0.0), "{name}: {json}");
    }
    assert_eq!(model["errors_per_s"], 0.0);
    assert!(model["memory_bytes"].as_f64().is_some_and(|bytes| bytes > 0.0), "{json}");
    assert!(model["p50_s"].as_f64() <= model["p99_s"].as_f64(), "{json}");
    assert!(figures["server"]["cpu_cores"].as_f64().is_some_and(|cores| cores > 0.0), "{json}");
}

#[test]
fn once_fails_where_nobody_answers() {
    refuse(&["top", "--once", "--server", "http://127.0.0.1:1"], &["127.0.0.1:1", "salver serve"]);
    refuse(&["top", "--interval", "1ms"], &["--interval", "at least 100ms"]);
}

const DOWN: u8 = 0;
const GARBAGE: u8 = 1;
const UP: u8 = 2;

/// A server that is down, talks nonsense or is up, as `mode` says.
fn fickle(mode: Arc<AtomicU8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            match mode.load(Ordering::SeqCst) {
                DOWN => drop(stream),
                mode => answer(stream.unwrap(), mode),
            }
        }
    });
    url
}

fn answer(mut stream: TcpStream, mode: u8) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.extend(byte);
    }
    let body = match mode {
        GARBAGE if head.starts_with(b"GET /metrics") => "fine 1\n<html>\u{1b}[31m\n",
        _ if head.starts_with(b"GET /metrics") => "salver_queue_requests{model=\"m\",version=\"1\"} 3\n# EOF\n",
        _ => "[{\"name\":\"m\",\"version\":\"1\",\"state\":\"READY\"}]",
    };
    let reply = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // Whoever asked may be gone already.
    let _ = stream.write_all(reply.as_bytes());
}

#[test]
fn a_server_that_is_gone_is_named_and_tried_again() {
    let mode = Arc::new(AtomicU8::new(DOWN));
    let mut top = Top::start(&fickle(mode.clone()));
    let error = |value: &Value| value["error"].as_str().map(str::to_owned);
    assert!(error(&top.next()).unwrap().contains("no answer from"));
    mode.store(GARBAGE, Ordering::SeqCst);
    let told = top.until(|value| error(value).is_some_and(|text| !text.contains("no answer from")));
    assert!(error(&told).unwrap().contains("line 2: expected a name"), "{told}");
    mode.store(UP, Ordering::SeqCst);
    let figures = top.until(|value| error(value).is_none());
    assert_eq!((&figures["models"][0]["queue"], &figures["models"][0]["state"]), (&3.into(), &"ready".into()));
    mode.store(DOWN, Ordering::SeqCst);
    top.until(|value| error(value).is_some());
    top.leave();
}
