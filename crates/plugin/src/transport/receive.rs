//! Bounds what callers can make a server hold: the size of a message, of all messages that arrive at a time, and how long
//! one may take to arrive.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::PollSemaphore;
use tonic::Status;
use tonic::body::Body;

/// The largest message. CloudNativePG's callers refuse to send or take more than 4 MiB by default, and Kubernetes stores
/// objects of 1.5 MiB at most: two of those fit often.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A message up to this size never waits for others.
const MESSAGE_BYTES_SMALL: usize = 64 * 1024;

/// All larger messages that arrive at a time.
const ARRIVING_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// How long a request may take to arrive, waiting for its turn included.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(30);

/// In front of each message of gRPC: a flag and four bytes of length.
const PREFIX_BYTES: usize = 5;

/// A permit of [`Arriving`] stands for so many bytes.
const UNIT_BYTES: usize = 1024;

/// What all arriving messages of a server share.
#[derive(Debug, Clone)]
pub(super) struct Arriving(Arc<Semaphore>);

impl Arriving {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ARRIVING_BYTES_MAX / UNIT_BYTES)))
    }
}

/// The body of a request, within the bounds.
pub(super) struct Received {
    inner: Body,
    prefix: Prefix,
    /// Bytes beyond the prefix that may still come.
    left_bytes: Option<usize>,
    turn: Turn,
    deadline: Pin<Box<Sleep>>,
}

#[derive(Default)]
struct Prefix {
    bytes: [u8; PREFIX_BYTES],
    filled: usize,
}

/// Room for a larger message among those that arrive.
enum Turn {
    NotNeeded(PollSemaphore),
    Waiting { semaphore: PollSemaphore, units: u32, frame: Option<Bytes> },
    Taken(#[expect(dead_code, reason = "gives the room back when the body is dropped")] OwnedSemaphorePermit),
}

impl Received {
    pub(super) fn new(inner: Body, arriving: &Arriving) -> Self {
        Self {
            inner,
            prefix: Prefix::default(),
            left_bytes: None,
            turn: Turn::NotNeeded(PollSemaphore::new(Arc::clone(&arriving.0))),
            deadline: Box::pin(tokio::time::sleep(ARRIVAL_TIME_MAX)),
        }
    }

    /// Counts a frame. Every method takes one message, so all bytes after the first prefix belong to it.
    fn count(&mut self, frame: &Bytes) -> Result<(), Status> {
        let rest = self.prefix.take(frame);
        if self.left_bytes.is_none() {
            let Some(announced) = self.prefix.announced() else { return Ok(()) };
            if announced > MESSAGE_BYTES_MAX {
                return Err(too_large(announced));
            }
            self.left_bytes = Some(announced);
        }
        let left = self.left_bytes.unwrap_or(0);
        self.left_bytes = Some(left.checked_sub(rest).ok_or_else(|| too_large(MESSAGE_BYTES_MAX.saturating_add(1)))?);
        Ok(())
    }

    /// Whether the message has to wait for room.
    fn needs_turn(&self) -> Option<u32> {
        let announced = self.prefix.announced()?;
        let units = u32::try_from(announced.div_ceil(UNIT_BYTES)).ok()?;
        (announced > MESSAGE_BYTES_SMALL).then_some(units)
    }
}

impl Prefix {
    /// Takes what belongs to the prefix and says how many bytes are left of the frame.
    fn take(&mut self, frame: &[u8]) -> usize {
        let missing = self.bytes.iter_mut().skip(self.filled);
        let taken = missing.zip(frame).map(|(place, byte)| *place = *byte).count();
        self.filled += taken;
        frame.len() - taken
    }

    fn announced(&self) -> Option<usize> {
        let [_flag, length @ ..] = self.bytes;
        (self.filled == PREFIX_BYTES).then(|| usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX))
    }
}

fn too_large(bytes: usize) -> Status {
    Status::resource_exhausted(format!(
        "a message of {bytes} bytes is too large: at most {MESSAGE_BYTES_MAX} are taken"
    ))
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.deadline.as_mut().poll(context).is_ready() {
            let seconds = ARRIVAL_TIME_MAX.as_secs();
            return Poll::Ready(Some(Err(Status::deadline_exceeded(format!(
                "the request did not arrive in {seconds} s"
            )))));
        }
        loop {
            if let Turn::Waiting { semaphore, units, frame } = &mut this.turn {
                let Some(permit) = ready!(semaphore.poll_acquire_many(context, *units)) else {
                    return Poll::Ready(Some(Err(Status::unavailable("the server ends"))));
                };
                let frame = frame.take().unwrap_or_default();
                this.turn = Turn::Taken(permit);
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            let Some(bytes) = frame.data_ref().cloned() else { return Poll::Ready(Some(Ok(frame))) };
            if let Err(status) = this.count(&bytes) {
                return Poll::Ready(Some(Err(status)));
            }
            match (&this.turn, this.needs_turn()) {
                (Turn::NotNeeded(semaphore), Some(units)) => {
                    this.turn = Turn::Waiting { semaphore: semaphore.clone(), units, frame: Some(bytes) };
                }
                _ => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        !matches!(self.turn, Turn::Waiting { .. }) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received() -> Received {
        Received::new(Body::empty(), &Arriving::new())
    }

    fn prefix(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes
    }

    #[tokio::test]
    async fn kg03_a_message_is_refused_by_what_it_announces() {
        let over = u32::try_from(MESSAGE_BYTES_MAX).unwrap() + 1;
        let status = received().count(&prefix(over).into()).unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(received().count(&prefix(over - 1).into()).is_ok());
    }

    #[tokio::test]
    async fn a_prefix_may_come_in_pieces() {
        let mut body = received();
        for byte in prefix(100_000) {
            assert_eq!(body.needs_turn(), None);
            body.count(&vec![byte].into()).unwrap();
        }
        assert_eq!(body.needs_turn(), Some(98));
        body.count(&vec![0; 100_000].into()).unwrap();
        let status = body.count(&vec![0].into()).unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "more than was announced");
    }
}
