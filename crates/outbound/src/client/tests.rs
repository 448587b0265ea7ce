use std::io;
use std::net::IpAddr;

use salver_core::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// Says of every host that it is at these addresses.
#[derive(Debug)]
struct Says(Vec<IpAddr>);

impl Lookup for Says {
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

fn client(addresses: &str, exceptions: &str, time_limit: Duration) -> Client {
    let allowed = exceptions.split_whitespace().map(|text| text.parse().unwrap()).collect();
    let options = ClientOptions { allowed, time_limit, most_per_host: 2, user_agent: "test".into() };
    let addresses = addresses.split_whitespace().map(|address| address.parse().unwrap()).collect();
    Client::new(options, Arc::new(Says(addresses)))
}

const LONG: Duration = Duration::from_secs(60);

/// Answers one connection with these bytes; returns what it was asked.
async fn listen(answer: &'static str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = read(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
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

async fn post(client: &Client, url: &str) -> std::result::Result<u16, Failure> {
    let headers = [("webhook-id", "1".to_owned())];
    client.post(&client.target(url).unwrap(), &headers, Bytes::from_static(b"{}")).await
}

#[tokio::test]
async fn a_message_arrives_at_the_address_that_was_checked() {
    let (port, asked) = listen("HTTP/1.1 204 No Content\r\n\r\n").await;
    let client = client("127.0.0.1", "127.0.0.0/8", LONG);
    assert_eq!(post(&client, &format!("http://hooks.example:{port}/a?b=c")).await, Ok(204));
    let asked = asked.await.unwrap().to_lowercase();
    assert!(asked.starts_with("post /a?b=c http/1.1\r\n"), "{asked}");
    for line in
        [&format!("host: hooks.example:{port}"), "webhook-id: 1", "content-type: application/json", "user-agent: test"]
    {
        assert!(asked.contains(&format!("\r\n{line}\r\n")), "{line}: {asked}");
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_followed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://hooks.example:{}/", listener.local_addr().unwrap().port());
    for addresses in ["127.0.0.1", "::1", "8.8.8.8 127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"] {
        let refusal = post(&client(addresses, "10.0.0.0/8 other.example", LONG), &url).await.unwrap_err();
        let Failure::Refused(text) = refusal else { panic!("{addresses}: {refusal:?}") };
        assert!(text.contains("not public") && !text.contains("127"), "{text}");
    }
    assert!(matches!(post(&client("", "", LONG), &url).await, Err(Failure::Failed(text)) if text.contains("nowhere")));
    let came = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(came.is_err(), "somebody connected");
    // The same name is followed where it is meant.
    let (port, _) = listen("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let allowed = client("127.0.0.1", "hooks.example", LONG);
    assert_eq!(post(&allowed, &format!("http://hooks.example:{port}/")).await, Ok(200));
}

#[tokio::test]
async fn an_address_that_is_not_allowed_any_more_is_not_used() {
    let (port, asked) = listen("").await;
    let target = client("", "127.0.0.1", LONG).target(&format!("http://127.0.0.1:{port}/")).unwrap();
    let refusal = client("", "", LONG).post(&target, &[], Bytes::new()).await.unwrap_err();
    assert!(matches!(refusal, Failure::Refused(_)), "{refusal:?}");
    assert!(!asked.is_finished());
}

#[tokio::test]
async fn redirects_are_answers() {
    let (port, _) = listen("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\n\r\n").await;
    assert_eq!(post(&client("127.0.0.1", "a.example", LONG), &format!("http://a.example:{port}/")).await, Ok(302));
}

#[tokio::test]
async fn what_goes_wrong_is_said_without_the_url() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let sender = client("127.0.0.1", "a.example", LONG);
    let Err(Failure::Failed(text)) = post(&sender, &format!("http://a.example:{free}/?secret")).await else { panic!() };
    assert!(text.contains("refused") && !text.contains("secret"), "{text}");
    let (port, _) = listen("nonsense").await;
    let Err(Failure::Failed(text)) = post(&sender, &format!("http://a.example:{port}/?secret")).await else { panic!() };
    assert!(!text.contains("secret"), "{text}");
    // It speaks no TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://a.example:{}/", listener.local_addr().unwrap().port());
    let (sent, _) = tokio::join!(post(&sender, &url), async { listener.accept().await.map(drop) });
    assert!(matches!(sent, Err(Failure::Failed(_))), "{sent:?}");
}

#[tokio::test]
async fn who_does_not_answer_holds_up_only_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://slow.example:{}/", listener.local_addr().unwrap().port());
    let sender = client("127.0.0.1", "*.example", LONG);
    let mut slow = (Box::pin(post(&sender, &url)), Box::pin(post(&sender, &url)));
    let mut held = Vec::new();
    for _ in 0..2 {
        tokio::select! {
            accepted = listener.accept() => held.push(accepted.unwrap()),
            done = &mut slow.0 => panic!("{done:?}"),
            done = &mut slow.1 => panic!("{done:?}"),
        }
    }
    assert_eq!(post(&sender, &url).await, Err(Failure::Busy));
    let (port, _) = listen("HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(post(&sender, &format!("http://quick.example:{port}/")).await, Ok(200));
    drop(slow);
    assert!(sender.under_way.lock().is_empty());
    let impatient = client("127.0.0.1", "*.example", Duration::from_millis(1));
    assert_eq!(post(&impatient, &url).await, Err(Failure::Failed("no answer within 1ms".into())));
}
