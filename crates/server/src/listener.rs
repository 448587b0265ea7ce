//! Accepts connections until told to stop, and then what the kernel has already accepted.
//!
//! An error of `accept` never ends the loop: the usual one, no free file descriptors, is waited
//! out with growing pauses. Connections are owned here, on whichever thread they run: they are joined,
//! or dropped with the loop.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::connection::{self, OwnedExecutor, Shutdown};
use crate::edge::Edge;
use crate::event_loops::EventLoops;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Everything that a listener's loop needs.
pub(crate) struct Acceptor {
    pub listener: TcpListener,
    pub loops: Arc<EventLoops>,
    pub edge: Arc<Edge>,
    pub builder: Arc<auto::Builder<OwnedExecutor>>,
    pub shutdown: Shutdown,
}

impl Acceptor {
    /// Accepts until the drain begins, then returns when every connection has ended.
    pub(crate) async fn run(self) {
        let Self { listener, loops, edge, builder, shutdown } = self;
        let slots = Arc::new(Semaphore::new(edge.limits().connections));
        let mut connections = JoinSet::new();
        let mut pause = FIRST_PAUSE;
        let start = |connections: &mut JoinSet<()>, stream: TcpStream, slot: Option<OwnedSemaphorePermit>| {
            let (edge, builder, shutdown) = (edge.clone(), builder.clone(), shutdown.clone());
            let seat = loops.seat();
            let handle = seat.as_ref().map_or_else(Handle::current, |seat| seat.handle().clone());
            let served = async move {
                // Only there it is known which thread is to hear of what arrives.
                match tokio::net::TcpStream::from_std(stream) {
                    Ok(stream) => connection::serve(stream, edge, builder, shutdown).await,
                    Err(error) => tracing::debug!(%error, "take over a connection"),
                }
                drop((slot, seat));
            };
            connections.spawn_on(served, &handle);
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.drain.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    note_panic(ended);
                    continue;
                }
                accepted = accept(&listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    pause = FIRST_PAUSE;
                    start(&mut connections, stream, slot);
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "accepting connections pauses");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = shutdown.drain.cancelled() => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        for stream in backlog(listener) {
            start(&mut connections, stream, None);
        }
        while let Some(ended) = connections.join_next().await {
            note_panic(ended);
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    let slot = slots.clone().acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    let stream = stream.into_std()?;
    prepare(&stream);
    Ok((stream, slot))
}

/// Replies are written whole, so waiting for more to send only costs time.
fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "set TCP_NODELAY");
    }
}

/// Takes the connections that the kernel completed before the listener closed.
fn backlog(listener: TcpListener) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    let Ok(listener) = listener.into_std() else {
        return streams;
    };
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok() {
            prepare(&stream);
            streams.push(stream);
        }
    }
    streams
}

/// Whether the error concerns only the connection that was to be accepted.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}
