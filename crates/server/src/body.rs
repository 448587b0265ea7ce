//! Request bodies: bounded in size, bounded below in speed, collected without needless copies.
//!
//! A body is judged while it arrives, by the bytes that came and never by those it claims; only
//! a claim beyond the limit is believed, and refused at once.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::memory::Held;

/// The least speed of a body: `bytes` in every `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MinRate {
    pub window: Duration,
    pub bytes: usize,
}

/// Why a body was not taken.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// More bytes than the limit.
    TooLarge { limit: usize },
    /// No room for it beside the bodies of other requests.
    NoRoom,
    /// Fewer bytes than the least speed asks for.
    TooSlow(MinRate),
    /// The peer broke off or framed the body wrongly.
    Broken(hyper::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "the request body is larger than {limit} bytes"),
            Self::NoRoom => f.write_str("the server holds as many request bodies as it can; try again later"),
            Self::TooSlow(rate) => write!(
                f,
                "the request body came too slowly: at least {} bytes in {} ms are expected",
                rate.bytes,
                rate.window.as_millis()
            ),
            Self::Broken(_) => f.write_str("the request body broke off or is framed wrongly"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(error),
            Self::TooLarge { .. } | Self::NoRoom | Self::TooSlow(_) => None,
        }
    }
}

/// A request body that fails as soon as it breaks a limit.
pub(crate) struct GuardedBody<B = Incoming> {
    inner: B,
    limit: usize,
    left: usize,
    rate: Option<MinRate>,
    /// None for a body that is not kept in memory.
    held: Option<Arc<Held>>,
    /// Set while waiting for bytes.
    window: Option<Window>,
}

struct Window {
    timer: Pin<Box<Sleep>>,
    received: usize,
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> GuardedBody<B> {
    /// Bounds `inner` to `limit` bytes, to the room in `held` and, where given, to a least speed.
    pub(crate) fn new(inner: B, limit: usize, rate: Option<MinRate>, held: Arc<Held>) -> Self {
        Self { inner, limit, left: limit, rate, held: Some(held), window: None }
    }

    /// Bounds `inner` to a least speed only: whoever reads it passes it on and keeps none of it.
    pub(crate) fn passing(inner: B, rate: Option<MinRate>) -> Self {
        Self { inner, limit: usize::MAX, left: usize::MAX, rate, held: None, window: None }
    }

    /// Waits for the next piece no longer than the least speed allows.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(rate) = self.rate else {
            return Poll::Pending;
        };
        let window = self
            .window
            .get_or_insert_with(|| Window { timer: Box::pin(sleep_until(Instant::now() + rate.window)), received: 0 });
        loop {
            ready!(window.timer.as_mut().poll(cx));
            if window.received < rate.bytes {
                return Poll::Ready(BodyError::TooSlow(rate));
            }
            window.received = 0;
            window.timer.as_mut().reset(Instant::now() + rate.window);
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let len = frame.data_ref().map_or(0, Bytes::len);
        self.left = self.left.checked_sub(len).ok_or(BodyError::TooLarge { limit: self.limit })?;
        if self.held.as_ref().is_some_and(|held| !held.add(len)) {
            return Err(BodyError::NoRoom);
        }
        if let Some(window) = &mut self.window {
            window.received = window.received.saturating_add(len);
        }
        Ok(frame)
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for GuardedBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.left == self.limit && claims_more_than(&self.inner, self.limit) {
            return Poll::Ready(Some(Err(BodyError::TooLarge { limit: self.limit })));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.take(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_slow(cx).map(|error| Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn claims_more_than(body: &impl Body, limit: usize) -> bool {
    body.size_hint().lower() > limit as u64
}

/// Collects a whole body; one that came in one piece is not copied.
///
/// # Errors
/// The body's own.
pub(crate) async fn collect<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Result<Bytes, B::Error> {
    let claimed = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if first.is_empty() && joined.is_empty() {
            first = data;
            if body.is_end_stream() {
                break;
            }
            continue;
        }
        if joined.is_empty() {
            joined.reserve(room_for(first.len() + data.len(), claimed));
            joined.extend_from_slice(&first);
        }
        if joined.capacity() - joined.len() < data.len() {
            let wanted = room_for(joined.len() + data.len(), claimed);
            joined.reserve(wanted - joined.len());
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// Doubles what has been received, but no further than the claim.
fn room_for(received: usize, claimed: usize) -> usize {
    received.saturating_mul(2).min(claimed).max(received)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::memory::Memory;

    /// A body of given pieces that then never ends.
    struct Pieces {
        pieces: VecDeque<Bytes>,
        ends: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = hyper::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
            match self.pieces.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn pieces(lens: &[usize], ends: bool) -> Pieces {
        Pieces { pieces: lens.iter().map(|&len| Bytes::from(vec![7; len])).collect(), ends }
    }

    fn room(bytes: usize) -> Arc<Held> {
        Arc::new(Held::new(Memory::new(bytes)))
    }

    #[tokio::test]
    async fn a_body_without_room_is_not_taken() {
        let body = GuardedBody::new(pieces(&[4, 6], true), 10, None, room(9));
        assert!(matches!(collect(body).await, Err(BodyError::NoRoom)));
    }

    #[tokio::test]
    async fn a_body_at_the_limit_passes_and_one_byte_more_does_not() {
        let body = GuardedBody::new(pieces(&[4, 6], true), 10, None, room(100));
        assert_eq!(collect(body).await.unwrap().len(), 10);
        let body = GuardedBody::new(pieces(&[4, 7], true), 10, None, room(100));
        assert!(matches!(collect(body).await, Err(BodyError::TooLarge { limit: 10 })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up() {
        let rate = MinRate { window: Duration::from_secs(5), bytes: 100 };
        let body = GuardedBody::new(pieces(&[4], false), 10, Some(rate), room(100));
        assert!(matches!(collect(body).await, Err(BodyError::TooSlow(_))));
    }

    /// A body of ten pieces, one a second.
    struct Drip {
        piece: usize,
        left: usize,
        next: Pin<Box<Sleep>>,
    }

    impl Body for Drip {
        type Data = Bytes;
        type Error = hyper::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            ready!(self.next.as_mut().poll(cx));
            let due = self.next.deadline() + Duration::from_secs(1);
            self.next.as_mut().reset(due);
            self.left -= 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; self.piece])))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_at_the_least_speed_is_waited_for_and_a_slower_one_is_not() {
        let rate = MinRate { window: Duration::from_secs(5), bytes: 100 };
        let drip =
            |piece| Drip { piece, left: 10, next: Box::pin(sleep_until(Instant::now() + Duration::from_secs(1))) };
        let body = GuardedBody::new(drip(20), 1000, Some(rate), room(1000));
        assert_eq!(collect(body).await.unwrap().len(), 200);
        let body = GuardedBody::new(drip(19), 1000, Some(rate), room(1000));
        assert!(matches!(collect(body).await, Err(BodyError::TooSlow(_))));
    }

    #[tokio::test]
    async fn pieces_are_joined_in_order() {
        let body = GuardedBody::new(
            Pieces { pieces: ["a", "", "bc", "d"].map(Bytes::from).into(), ends: true },
            10,
            None,
            room(100),
        );
        assert_eq!(collect(body).await.unwrap(), "abcd");
        assert!(collect(GuardedBody::new(pieces(&[], true), 10, None, room(100))).await.unwrap().is_empty());
    }
}
