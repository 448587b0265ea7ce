//! The end: what has been accepted is answered, what is idle is closed, what is new is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use salver_core::ErrorKind;
use tokio::net::TcpStream;

use crate::raw::Raw;
use crate::server::{OIP_BODY, TestServer};

const ECHO: &str = "/v2/models/echo/infer";

fn request(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{OIP_BODY}", OIP_BODY.len())
}

#[tokio::test]
async fn a_request_in_flight_is_answered_and_its_connection_closed() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    raw.send(request("/v2/models/slow/infer")).await;
    server.fake.wait_inside(1).await;
    server.shutdown.cancel();
    // The listener is gone as soon as the drain begins.
    while TcpStream::connect(server.http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.fake.gate.add_permits(1);
    let reply = raw.reply().await.unwrap();
    assert_eq!((reply.status, reply.closes()), (200, true));
    assert!(raw.is_closed().await);
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_comes_on_an_idle_connection_is_still_answered() {
    let server = TestServer::with(|options| options.limits.drain_linger = Duration::from_secs(10)).await;
    let mut raw = server.raw().await;
    assert_eq!(raw.post(ECHO, "", OIP_BODY).await.status, 200);
    server.shutdown.cancel();
    while TcpStream::connect(server.http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.get("/v2/health/ready", "").await.status, 400);
    assert!(raw.is_closed().await, "the reply said close");
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let server = TestServer::start().await;
    let mut used = server.raw().await;
    assert_eq!(used.get("/v2", "").await.status, 200);
    let mut fresh = server.raw().await;
    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
    assert!(used.is_closed().await && fresh.is_closed().await);
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_is_dropped() {
    let server = TestServer::with(|options| options.shutdown_grace = Duration::from_millis(50)).await;
    let mut raw = server.raw().await;
    raw.send(request("/v2/models/slow/infer")).await;
    server.fake.wait_inside(1).await;
    server.shutdown.cancel();
    assert_eq!(server.task.await.unwrap().unwrap_err().kind(), ErrorKind::Deadline);
    server.fake.wait_inside(0).await;
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn dropping_the_server_drops_everything() {
    let server = TestServer::start().await;
    let mut raw = server.raw().await;
    raw.send(request("/v2/models/slow/infer")).await;
    server.fake.wait_inside(1).await;
    server.task.abort();
    server.fake.wait_inside(0).await;
    assert!(raw.is_closed().await);
}

/// Sends requests one after the other until the server says close; each must be answered.
async fn hammer(mut raw: Raw, answered: Arc<AtomicUsize>) {
    loop {
        raw.send(request(ECHO)).await;
        let reply = raw.reply().await.expect("an accepted request was lost");
        assert_eq!(reply.status, 200);
        answered.fetch_add(1, Ordering::SeqCst);
        if reply.closes() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_under_load() {
    for round in 0..5 {
        let server = TestServer::with(|options| options.limits.drain_linger = Duration::from_secs(2)).await;
        let answered = Arc::new(AtomicUsize::new(0));
        let mut clients = Vec::new();
        for _ in 0..16 {
            clients.push(tokio::spawn(hammer(server.raw().await, answered.clone())));
        }
        while answered.load(Ordering::SeqCst) < 50 + 37 * round {
            tokio::task::yield_now().await;
        }
        server.shutdown.cancel();
        for client in clients {
            client.await.unwrap();
        }
        server.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_the_kernel_has_accepted_is_answered_too() {
    let server = TestServer::with(|options| options.limits.connections = 1).await;
    let mut first = server.raw().await;
    assert_eq!(first.get("/v2", "").await.status, 200);
    // No slot is free: this connection stays in the kernel's backlog, its request with it.
    let mut second = server.raw().await;
    second.send(request(ECHO)).await;
    server.shutdown.cancel();
    let reply = second.reply().await.expect("an accepted request was lost");
    assert_eq!((reply.status, reply.closes()), (200, true));
    server.task.await.unwrap().unwrap();
}
