//! Takes connections: a bounded number at a time, whatever the transport, and never in a busy loop.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::log::Log;

/// Connections at a time. A caller keeps five at most; each WAL file brings one more for a moment.
const CONNECTIONS_MAX: usize = 64;

/// The pause after the system refused a connection, for lack of descriptors for example.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is ready for requests, and its place among all.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    _place: OwnedSemaphorePermit,
}

/// A listener: takes connections and makes them ready.
pub(super) trait Listener: Send + Sync + 'static {
    /// A connection as the system gives it.
    type Raw: Send + 'static;
    /// A connection that is ready.
    type Ready: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Raw>> + Send;

    /// Makes it ready; without an answer it is dropped, and the listener has said why.
    fn greet(self: Arc<Self>, raw: Self::Raw) -> impl Future<Output = Option<Self::Ready>> + Send;
}

/// Takes connections until the shutdown; the listener is closed then.
pub(super) fn start<L: Listener>(listener: L, log: Log, shutdown: CancellationToken) -> mpsc::Receiver<Connection> {
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = take(Arc::new(listener), &log, &ready) => {}
        }
    });
    connections
}

async fn take<L: Listener>(listener: Arc<L>, log: &Log, ready: &mpsc::Sender<Connection>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let raw = match listener.accept().await {
            Ok(raw) => raw,
            Err(error) => {
                log.warn("a connection was not taken", &[("error", Value::from(error.to_string()))]);
                tokio::time::sleep(REFUSED_PAUSE).await;
                continue;
            }
        };
        let (listener, ready) = (Arc::clone(&listener), ready.clone());
        tokio::spawn(async move {
            if let Some(stream) = listener.greet(raw).await {
                // The server has ended when nobody takes it.
                drop(ready.send(Connection { stream: Box::new(stream), _place: place }).await);
            }
        });
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
