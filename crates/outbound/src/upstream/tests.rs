use std::io;
use std::net::IpAddr;

use parking_lot::Mutex;
use salver_core::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// Says of every host that it is at the next of these addresses, the last one again and again.
#[derive(Debug)]
struct Says(Mutex<Vec<IpAddr>>);

impl Lookup for Says {
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let mut addresses = self.0.lock();
        let found = if addresses.len() > 1 { vec![addresses.remove(0)] } else { addresses.clone() };
        Box::pin(async { Ok(found) })
    }
}

fn upstream(url: &str, listed: &str, addresses: &str) -> Upstream {
    let listed = Listed::new(listed.split_whitespace().map(|text| text.parse().unwrap()), "--list");
    let addresses = addresses.split_whitespace().map(|address| address.parse().unwrap()).collect();
    let options = UpstreamOptions {
        connect_limit: Duration::from_secs(60),
        idle_limit: Duration::from_secs(60),
        user_agent: "test".into(),
    };
    let target = listed.target(url).unwrap();
    Upstream::new(target, &listed, Arc::new(Says(Mutex::new(addresses))), &options).unwrap()
}

/// Answers connections one after the other with these bytes, and closes each; returns what it was asked.
async fn listen(answers: &'static [&'static str]) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.push(read(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (port, asked)
}

/// Reads a request whose body is `{}`.
async fn read(stream: &mut TcpStream) -> String {
    let mut asked = Vec::new();
    while !asked.ends_with(b"{}") {
        assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
    }
    String::from_utf8(asked).unwrap()
}

async fn post(upstream: &Upstream, headers: &HeaderMap) -> std::result::Result<Reply, Miss> {
    upstream.send(Ask { path: "/chat", headers, body: Some(&Bytes::from_static(b"{}")) }).await
}

#[tokio::test]
async fn a_call_carries_what_it_is_given_and_nothing_else() {
    let (port, asked) = listen(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"]).await;
    let upstream = upstream(&format!("http://a.example:{port}/v1/?x=1"), "a.example 127.0.0.1", "127.0.0.1");
    let headers = HeaderMap::from_iter([("x-team".parse().unwrap(), "ml".parse().unwrap())]);
    let reply = post(&upstream, &headers).await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.body(2).await.unwrap(), "hi");
    let asked = asked.await.unwrap().remove(0).to_lowercase();
    assert!(asked.starts_with("post /v1/chat?x=1 http/1.1\r\n"), "{asked}");
    let head = asked.split("\r\n\r\n").next().unwrap();
    let mut names: Vec<&str> = head.lines().skip(1).map(|line| line.split(':').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-length", "host", "user-agent", "x-team"], "{asked}");
}

#[tokio::test]
async fn connections_are_kept_for_the_next_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..3 {
            read(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        }
    });
    let upstream = upstream(&url, "127.0.0.1", "");
    for _ in 0..3 {
        assert_eq!(post(&upstream, &HeaderMap::new()).await.unwrap().body(9).await.unwrap(), "hi");
    }
    served.await.unwrap();
}

#[tokio::test]
async fn a_name_that_begins_to_lead_inside_is_not_followed() {
    let (port, _) = listen(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"]).await;
    let url = format!("http://a.example:{port}");
    let rebound = upstream(&url, "a.example 127.0.0.1", "127.0.0.1 169.254.169.254");
    assert_eq!(post(&rebound, &HeaderMap::new()).await.unwrap().status(), 200);
    let refusal = post(&rebound, &HeaderMap::new()).await.unwrap_err();
    let Miss::Refused(text) = refusal else { panic!("{refusal:?}") };
    assert!(text.contains("--list") && !text.contains("169"), "{text}");
    for inside in ["127.0.0.1", "::1", "10.0.0.1", "::ffff:127.0.0.1"] {
        let miss = post(&upstream(&url, "a.example 10.1.0.0/16", inside), &HeaderMap::new()).await.unwrap_err();
        assert!(matches!(miss, Miss::Refused(_)), "{inside}: {miss:?}");
    }
}

#[tokio::test]
async fn redirects_are_answers() {
    let (port, _) = listen(&["HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\n\r\n"]).await;
    let upstream = upstream(&format!("http://127.0.0.1:{port}"), "127.0.0.1", "");
    assert_eq!(post(&upstream, &HeaderMap::new()).await.unwrap().status(), 302);
}

#[tokio::test]
async fn answers_are_read_up_to_a_bound() {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    ];
    let (port, _) = listen(ANSWERS).await;
    let upstream = upstream(&format!("http://127.0.0.1:{port}"), "127.0.0.1", "");
    let mut read = Vec::new();
    for most in [4, 5, 4, 4, 6, 6] {
        read.push(post(&upstream, &HeaderMap::new()).await.unwrap().body(most).await);
    }
    assert_eq!(read[..4], vec![Err(Unread::TooLarge); 4]);
    assert!(matches!(&read[4..], [Err(Unread::Lost(_)), Err(Unread::Lost(_))]), "{read:?}");
}

#[tokio::test]
async fn what_goes_wrong_says_whether_something_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let miss = post(&upstream(&format!("http://127.0.0.1:{free}/?secret"), "127.0.0.1", ""), &HeaderMap::new()).await;
    assert!(matches!(&miss, Err(Miss::Unreached(text)) if text.contains("refused") && !text.contains("secret")));
    let nowhere = post(&upstream("http://a.example", "a.example", ""), &HeaderMap::new()).await;
    assert!(matches!(&nowhere, Err(Miss::Unreached(text)) if text.contains("nowhere")), "{nowhere:?}");
    let (port, _) = listen(&["", "nonsense"]).await;
    let odd = upstream(&format!("http://127.0.0.1:{port}"), "127.0.0.1", "");
    for _ in 0..2 {
        let miss = post(&odd, &HeaderMap::new()).await;
        assert!(matches!(miss, Err(Miss::Lost(_))), "{miss:?}");
    }
}
