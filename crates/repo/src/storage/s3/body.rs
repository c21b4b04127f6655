//! Bodies on the wire: requests that show their progress, answers that may not stall.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::transport::TransportError;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes handed to the connection at once: small enough that a stalled upload is noticed.
const FRAME_SIZE_BYTES: usize = 64 * 1024;

/// The slowest peer that is still alive (faults.md OS25): less than this on average over one idle time-out of waiting
/// is a stall.
const RATE_BYTES_PER_S_MIN: u64 = 64;

/// A request body in small frames that counts what the connection took.
pub(super) struct CountedBody {
    inner: SdkBody,
    frame: Bytes,
    taken_bytes: Arc<AtomicU64>,
}

impl CountedBody {
    pub(super) fn new(inner: SdkBody, taken_bytes: Arc<AtomicU64>) -> Self {
        Self { inner, frame: Bytes::new(), taken_bytes }
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        while this.frame.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.frame = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
        let next = this.frame.split_to(this.frame.len().min(FRAME_SIZE_BYTES));
        this.taken_bytes.fetch_add(next.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        let held = self.frame.len() as u64;
        hint.set_lower(hint.lower().saturating_add(held));
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

/// An answer's body that fails when it stalls. Only the time spent waiting for the peer counts, not the time in which
/// nobody asked for more.
pub(super) struct LiveBody {
    inner: Incoming,
    idle_timeout: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    waited: Duration,
    received_bytes: u64,
}

impl LiveBody {
    pub(super) fn new(inner: Incoming, idle_timeout: Duration) -> Self {
        Self { inner, idle_timeout, waiting: None, waited: Duration::ZERO, received_bytes: 0 }
    }

    /// Notes the end of a wait and what it brought; false when the peer is too slow.
    fn is_fast_enough(&mut self, received_bytes: usize) -> bool {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        self.received_bytes = self.received_bytes.saturating_add(received_bytes as u64);
        if self.waited < self.idle_timeout {
            return true;
        }
        let enough = RATE_BYTES_PER_S_MIN.saturating_mul(self.waited.as_secs());
        let fast = self.received_bytes >= enough;
        self.waited = Duration::ZERO;
        self.received_bytes = 0;
        fast
    }
}

impl Body for LiveBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref).map(Bytes::len);
            if length.is_some_and(|length| !this.is_fast_enough(length)) {
                return Poll::Ready(Some(Err(TransportError::TooSlow.into())));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let idle_timeout = this.idle_timeout;
        let (_, sleep) =
            this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(idle_timeout))));
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Some(Err(TransportError::timeout("read from", idle_timeout).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A whole small body, or its beginning when it is longer than `limit_bytes`.
pub(super) async fn collect(body: Incoming, limit_bytes: usize, idle_timeout: Duration) -> Result<Collected, BoxError> {
    let mut body = LiveBody::new(body, idle_timeout);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = limit_bytes.saturating_sub(bytes.len());
        bytes.extend_from_slice(data.get(..room).unwrap_or(&data));
        if data.len() > room {
            return Ok(Collected { bytes: bytes.into(), complete: false });
        }
    }
    Ok(Collected { bytes: bytes.into(), complete: true })
}

/// What [`collect`] took.
pub(super) struct Collected {
    pub(super) bytes: Bytes,
    /// Whether this is the whole body.
    pub(super) complete: bool,
}
