//! The socket of one connection, with a look at what passes.
//!
//! Tells the books ([`Activity`]) when a head begins and when bytes leave, recognises HTTP/2 by
//! its preface, and scans HTTP/1 heads ([`HeadScan`]). It changes no byte. At the end it lets a peer
//! finish sending what nobody will read: closing at once would take the reply away from it too.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::activity::Activity;
use super::head_scan::HeadScan;

/// How an HTTP/2 connection begins (RFC 9113 §3.4), as far as no HTTP/1 method does.
const HTTP2_PREFACE: &[u8] = b"PRI";
const DISCARD_TIME: Duration = Duration::from_secs(2);
const DISCARD_PIECE: usize = 8 << 10;

/// What the scan of the latest HTTP/1 head found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadLength {
    /// A `Content-Length` stood there.
    Present,
    /// None stood there.
    Absent,
    /// The head came together with an earlier request, so nobody looked.
    Unseen,
}

/// Carries the result of a scan from the socket to the handler of the request.
#[derive(Debug, Default)]
pub(crate) struct HeadReport(AtomicU8);

impl HeadReport {
    fn put(&self, has_length: bool) {
        self.0.store(if has_length { 2 } else { 1 }, Ordering::Relaxed);
    }

    /// Returns the result for the request that begins now, once.
    pub(crate) fn take(&self) -> HeadLength {
        match self.0.swap(0, Ordering::Relaxed) {
            1 => HeadLength::Absent,
            2 => HeadLength::Present,
            _ => HeadLength::Unseen,
        }
    }
}

/// A socket under observation.
pub(crate) struct WatchedIo {
    stream: TcpStream,
    activity: Arc<Activity>,
    report: Arc<HeadReport>,
    scan: HeadScan,
    /// What must still come for the connection to be HTTP/2; `None` once it is known not to be.
    preface: Option<&'static [u8]>,
    is_shut: bool,
    /// How long what comes after the reply is thrown away.
    discard: Option<Pin<Box<Sleep>>>,
}

impl WatchedIo {
    /// Observes `stream` on behalf of `activity` and `report`.
    pub(crate) fn new(stream: TcpStream, activity: Arc<Activity>, report: Arc<HeadReport>) -> Self {
        let preface = Some(HTTP2_PREFACE);
        Self { stream, activity, report, scan: HeadScan::default(), preface, is_shut: false, discard: None }
    }

    fn saw(&mut self, bytes: &[u8]) {
        self.look_for_preface(bytes);
        if self.activity.is_http2() || bytes.is_empty() || !self.activity.is_quiet() {
            return;
        }
        self.activity.head_bytes();
        if self.scan.is_done() {
            self.scan = HeadScan::default();
        }
        self.scan.feed(bytes);
        if self.scan.is_done() {
            self.report.put(self.scan.has_length());
        }
    }

    /// The preface may come in pieces of any size.
    fn look_for_preface(&mut self, bytes: &[u8]) {
        let Some(missing) = self.preface.filter(|missing| !missing.is_empty()) else {
            return;
        };
        let (seen, rest) = missing.split_at(missing.len().min(bytes.len()));
        self.preface = bytes.starts_with(seen).then_some(rest);
        if self.preface.is_some_and(<[u8]>::is_empty) {
            self.activity.set_http2();
        }
    }

    fn note_write(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Ready(Ok(_)) => self.activity.wrote(),
            Poll::Pending => self.activity.write_blocked(),
            Poll::Ready(Err(_)) => {}
        }
    }

    /// Reads and forgets until the peer is done or has had its time.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.discard.get_or_insert_with(|| Box::pin(sleep(DISCARD_TIME)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut piece = [0; DISCARD_PIECE];
        loop {
            let mut buf = ReadBuf::new(&mut piece);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Notes bytes that lie in the kernel while the runtime does not know of them yet.
    fn look_behind_the_runtime(&self) {
        let mut byte = [MaybeUninit::uninit()];
        if SockRef::from(&self.stream).peek(&mut byte).is_ok_and(|len| len > 0) {
            self.activity.head_bytes();
        }
    }
}

impl AsyncRead for WatchedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        match polled {
            Poll::Ready(Ok(())) => self.saw(&buf.filled()[before..]),
            Poll::Pending if self.activity.wants_last_look() => self.look_behind_the_runtime(),
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        polled
    }
}

impl AsyncWrite for WatchedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        if self.activity.leaves_unread() {
            ready!(self.poll_discard(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `sent` in pieces of `size` bytes is taken for HTTP/2, and whether a head has begun.
    async fn look(sent: &[u8], size: usize) -> (bool, bool) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let activity = Arc::new(Activity::new());
        let mut io = WatchedIo::new(stream, activity.clone(), Arc::default());
        sent.chunks(size).for_each(|piece| io.saw(piece));
        (activity.is_http2(), !activity.is_idle())
    }

    #[tokio::test]
    async fn the_preface_of_http2_is_known_in_pieces_of_any_size() {
        for size in [1, 2, 3, 24] {
            assert_eq!(look(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", size).await, (true, false), "{size}");
        }
    }

    #[tokio::test]
    async fn heads_that_begin_alike_are_none() {
        for sent in ["PR", "PUT / HTTP/1.1", "POST / HTTP/1.1", "GET / PRI", "PPRI"] {
            for size in [1, 3, 24] {
                assert_eq!(look(sent.as_bytes(), size).await, (false, true), "{sent} {size}");
            }
        }
    }
}
