//! Connections that a test can break: TCP, perhaps with TLS over it, and a switch for a hard reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// Makes the connection end with RST instead of FIN.
#[derive(Debug, Clone, Default)]
pub(super) struct ResetSwitch(Arc<AtomicBool>);

impl ResetSwitch {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A TCP connection that looks at its [`ResetSwitch`] when it ends.
#[derive(Debug)]
pub(super) struct BreakableTcp {
    stream: TcpStream,
    reset: ResetSwitch,
}

impl BreakableTcp {
    pub(super) fn new(stream: TcpStream) -> (Self, ResetSwitch) {
        let reset = ResetSwitch::default();
        (Self { stream, reset: reset.clone() }, reset)
    }
}

impl Drop for BreakableTcp {
    fn drop(&mut self) {
        if self.reset.0.load(Ordering::Acquire) {
            // Closing with unsent data thrown away is what makes the system send RST.
            let _set = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for BreakableTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BreakableTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.0.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection as the HTTP layer sees it.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Takes a connection over, with TLS when there is an acceptor.
pub(super) async fn accept(tcp: TcpStream, tls: Option<&TlsAcceptor>) -> io::Result<(Box<dyn Wire>, ResetSwitch)> {
    tcp.set_nodelay(true)?;
    let (tcp, reset) = BreakableTcp::new(tcp);
    let wire: Box<dyn Wire> = match tls {
        None => Box::new(tcp),
        Some(tls) => Box::new(tls.accept(tcp).await?),
    };
    Ok((wire, reset))
}
