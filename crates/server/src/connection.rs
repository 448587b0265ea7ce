//! Drives one accepted connection: HTTP/1.1 or HTTP/2, its time-outs and its end.
//!
//! The end has two phases. Draining: HTTP/2 peers are told to go, HTTP/1 replies say
//! `Connection: close`, and an idle HTTP/1 connection stays open for a moment, because a request
//! may be on its way. Abort: what is left is dropped.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use salver_core::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::activity::{Activity, Verdict};
use self::io::{HeadReport, WatchedIo};
use crate::Limits;
use crate::edge::{Edge, Peer};

pub(crate) mod activity;
pub(crate) mod head_scan;
pub(crate) mod io;

/// How often a peer with open streams must show that it is alive.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(60);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// hyper's own number of header fields, kept on the stack.
const HYPER_HEADERS: usize = 100;

/// The two phases of the end, seen by every connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    /// Finish what there is, take nothing new.
    pub drain: CancellationToken,
    /// Drop everything.
    pub abort: CancellationToken,
}

/// Spawns the tasks of HTTP/2 streams so that they are counted and can be stopped.
#[derive(Debug, Clone)]
pub(crate) struct OwnedExecutor {
    tracker: TaskTracker,
    abort: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for OwnedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        // Boxed, because a task is moved several times until it stands where it runs, and each
        // `async` around a future has room for it twice.
        let (abort, future) = (self.abort.clone(), Box::pin(future));
        self.tracker.spawn(async move { abort.run_until_cancelled_owned(future).await });
    }
}

/// Makes the connection settings that every listener shares.
pub(crate) fn builder(limits: &Limits, tracker: TaskTracker, shutdown: &Shutdown) -> auto::Builder<OwnedExecutor> {
    let mut builder = auto::Builder::new(OwnedExecutor { tracker, abort: shutdown.abort.clone() });
    // Heads are timed by the watchdog: hyper's own time-out counts the wait for a request too.
    builder.http1().header_read_timeout(None).half_close(false);
    if limits.headers > HYPER_HEADERS {
        builder.http1().max_headers(limits.headers);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    builder
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: TcpStream,
    edge: Arc<Edge>,
    builder: Arc<auto::Builder<OwnedExecutor>>,
    shutdown: Shutdown,
) {
    let activity = Arc::new(Activity::new());
    let report = Arc::new(HeadReport::default());
    let address = stream.peer_addr().ok().map(|address| address.ip());
    let io = TokioIo::new(WatchedIo::new(stream, activity.clone(), report.clone()));
    let peer = Peer { activity: activity.clone(), head_report: report, address };
    let service = service_fn(|request: http::Request<Incoming>| {
        let (edge, peer) = (edge.clone(), peer.clone());
        async move { Ok::<_, Infallible>(edge.handle(peer, request).await) }
    });
    let connection = pin!(builder.serve_connection(io, service));
    let signals = Signals::new();
    Driver { connection, activity: &activity, limits: edge.limits(), signals, shutdown: &shutdown }.run().await;
}

/// Something that a connection is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Drain,
    Abort,
    /// Look whether the peer still does its part.
    Look,
}

/// What has not been said yet. A signal is looked at only once it has something to say: a
/// connection looks around several times with each request.
type Signals = FuturesUnordered<BoxFuture<'static, Signal>>;

fn when(token: &CancellationToken, signal: Signal) -> BoxFuture<'static, Signal> {
    Box::pin(token.clone().cancelled_owned().map(move |()| signal))
}

fn look_in(time: Duration) -> BoxFuture<'static, Signal> {
    Box::pin(sleep(time).map(|()| Signal::Look))
}

/// What both kinds of connection can do.
trait GracefulConnection: Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>> {
    fn say_goodbye(self: Pin<&mut Self>);
}

impl<I, S, B> GracefulConnection for auto::Connection<'_, I, S, OwnedExecutor>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: hyper::service::Service<http::Request<Incoming>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn say_goodbye(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

struct Driver<'a, C> {
    connection: Pin<&'a mut C>,
    activity: &'a Activity,
    limits: &'a Limits,
    signals: Signals,
    shutdown: &'a Shutdown,
}

/// What happened next on a connection.
enum Event {
    /// It ended, or has to.
    End,
    Signal(Signal),
}

impl<C: GracefulConnection> Driver<'_, C> {
    /// Until the connection has ended. Each future that holds a copy of this is memory of every
    /// connection, so it is lent.
    async fn run(&mut self) {
        self.signals.push(when(&self.shutdown.abort, Signal::Abort));
        self.signals.push(when(&self.shutdown.drain, Signal::Drain));
        self.signals.push(look_in(self.recheck()));
        let mut said_goodbye = false;
        loop {
            match self.next().await {
                Event::End | Event::Signal(Signal::Abort) => return,
                Event::Signal(Signal::Drain) => return self.drain().await,
                Event::Signal(Signal::Look) => {}
            }
            match self.judge() {
                Verdict::Wait(time) => self.signals.push(look_in(time)),
                Verdict::CloseIdle if said_goodbye => return,
                Verdict::CloseIdle => {
                    said_goodbye = true;
                    self.connection.as_mut().say_goodbye();
                    // HTTP/2 closes once its peer has heard; give that the same patience.
                    self.signals.push(look_in(self.limits.idle_timeout));
                }
                Verdict::Abort => return,
            }
        }
    }

    /// Drives the connection until something happens.
    async fn next(&mut self) -> Event {
        tokio::select! {
            biased;
            ended = self.connection.as_mut() => { note_end(ended); Event::End }
            Some(signal) = self.signals.next() => Event::Signal(signal),
        }
    }

    /// The time until the first look; short enough to notice a slow head soon.
    fn recheck(&self) -> Duration {
        self.limits.header_timeout.min(self.limits.idle_timeout)
    }

    fn judge(&self) -> Verdict {
        self.activity.judge(self.limits.header_timeout, self.limits.idle_timeout)
    }

    async fn drain(&mut self) {
        // The look that was planned is not one of these.
        self.signals = Signals::new();
        self.signals.push(when(&self.shutdown.abort, Signal::Abort));
        self.signals.push(look_in(self.limits.drain_linger));
        let mut is_http2 = false;
        loop {
            // Asked each time: a connection may say only now that it speaks HTTP/2.
            if !is_http2 && self.activity.is_http2() {
                is_http2 = true;
                self.connection.as_mut().say_goodbye();
            }
            match self.next().await {
                Event::End | Event::Signal(Signal::Abort) => return,
                Event::Signal(Signal::Drain | Signal::Look) => {}
            }
            // An HTTP/2 connection ends by itself once its peer has heard.
            if is_http2 {
                continue;
            }
            if self.judge() == Verdict::Abort {
                return;
            }
            self.activity.ask_for_last_look();
            if let Poll::Ready(ended) = self.poll_once().await {
                return note_end(ended);
            }
            if self.activity.is_idle() {
                self.connection.as_mut().say_goodbye();
            }
            self.signals.push(look_in(self.limits.drain_linger.max(Duration::from_millis(10))));
        }
    }

    async fn poll_once(&mut self) -> Poll<C::Output> {
        poll_fn(|cx| Poll::Ready(self.connection.as_mut().poll(cx))).await
    }
}

fn note_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
