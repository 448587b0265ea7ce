//! One HTTP/1.1 connection that sends one request after the other.
//!
//! As little work as possible for each request, because the load generator usually shares the
//! machine with the server: the request is written as one buffer, and of the reply only status,
//! length and `connection` are looked at. Replies must carry a Content-Length.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::load::{CallError, Caller};
use super::outgoing::Outgoing;

/// Replies beyond this size are refused.
const MAX_REPLY_BYTES: usize = 1 << 30;

/// One connection and its requests.
pub(crate) struct HttpCaller {
    host_port: String,
    outgoing: Outgoing,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// The reply's head, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status.
    pub status: u16,
    /// Bytes of the head.
    pub len: usize,
    /// Bytes of the body.
    pub body_len: usize,
    /// `Inference-Header-Content-Length`.
    pub inference_header_len: Option<usize>,
    closes: bool,
}

impl Head {
    /// Whether the request was answered, or taken in as a job.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self.status, 200 | 202)
    }
}

impl HttpCaller {
    /// Makes a caller that connects on first need.
    pub(crate) fn new(host_port: String, outgoing: Outgoing) -> Self {
        Self { host_port, outgoing, stream: None, buffer: Vec::with_capacity(16 << 10) }
    }

    /// Sends a request and returns the reply's head; the body is then in [`HttpCaller::body`].
    ///
    /// # Errors
    /// What happened to the connection.
    pub(crate) async fn exchange(&mut self) -> Result<Head, CallError> {
        let request = self.outgoing.next()?;
        self.send(&request).await.map_err(CallError::Lost)
    }

    async fn send(&mut self, request: &[u8]) -> Result<Head, String> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(&self.host_port).await?,
        };
        self.buffer.clear();
        stream.write_all(request).await.map_err(|error| format!("send: {error}"))?;
        let mut head = None;
        loop {
            if head.is_none() {
                head = parse_head(&self.buffer)?;
            }
            if let Some(head) = head.take_if(|head| self.buffer.len() >= head.len + head.body_len) {
                if !head.closes {
                    self.stream = Some(stream);
                }
                return Ok(head);
            }
            let got = stream.read_buf(&mut self.buffer).await.map_err(|error| format!("receive: {error}"))?;
            if got == 0 {
                return Err("the server closed the connection before its reply was complete".to_owned());
            }
            if self.buffer.len() > MAX_REPLY_BYTES {
                return Err(format!("the reply is longer than {MAX_REPLY_BYTES} bytes"));
            }
        }
    }

    /// Returns the body of the last reply.
    pub(crate) fn body(&self, head: &Head) -> &[u8] {
        self.buffer.get(head.len..head.len + head.body_len).unwrap_or_default()
    }
}

impl Caller for HttpCaller {
    async fn call(&mut self) -> Result<(), CallError> {
        let head = self.exchange().await?;
        if head.is_answer() {
            return Ok(());
        }
        let body: String = String::from_utf8_lossy(self.body(&head)).chars().take(300).collect();
        Err(CallError::Refused(format!("status {}: {body}", head.status)))
    }
}

async fn connect(host_port: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(host_port).await.map_err(|error| format!("connect to {host_port}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| format!("connect to {host_port}: {error}"))?;
    Ok(stream)
}

/// Reads the head of a reply, or `None` while it is not complete.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > 64 << 10 { Err("the reply has no end of header".to_owned()) } else { Ok(None) };
    };
    let odd = || "the reply's header is not understood".to_owned();
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| odd())?;
    let mut lines = text.split("\r\n");
    let status =
        lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()).ok_or_else(odd)?;
    let mut head = Head { status, len: end + 4, body_len: 0, inference_header_len: None, closes: false };
    let mut has_len = false;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(odd)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.body_len = value.parse().map_err(|_| odd())?;
            has_len = true;
        } else if name.eq_ignore_ascii_case("inference-header-content-length") {
            head.inference_header_len = Some(value.parse().map_err(|_| odd())?);
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    if !has_len {
        return Err("the reply has no Content-Length".to_owned());
    }
    if head.body_len > MAX_REPLY_BYTES {
        return Err(format!("the reply is longer than {MAX_REPLY_BYTES} bytes"));
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_status_and_lengths() {
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nInference-Header-Content-Length:3\r\n\r\nhello";
        let head = parse_head(reply).unwrap().unwrap();
        assert_eq!((head.status, head.body_len, head.inference_header_len, head.closes), (200, 5, Some(3), false));
        assert_eq!(&reply[head.len..], b"hello");
        for cut in 0..head.len {
            assert_eq!(parse_head(&reply[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn replies_that_cannot_be_followed_are_refused() {
        for reply in [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 abc\r\ncontent-length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        ] {
            assert!(parse_head(reply.as_bytes()).is_err(), "{reply:?}");
        }
    }
}
