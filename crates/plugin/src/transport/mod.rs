//! How callers reach the services: a unix socket in a pod, mutual TLS for the operator.
//!
//! - [`unix`] and [`tls`] listen
//! - [`limits`] holds what is the same for both: sizes, numbers, panics, the health service

mod accept;
mod certificate;
pub mod limits;
mod receive;
pub mod tls;
pub mod unix;

use std::path::PathBuf;

/// Why a server cannot listen, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The socket cannot be made.
    #[error("unable to listen on socket '{}': {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process listens.
    #[error("another process listens on socket '{}'", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has its name.
    #[error("'{}' is not a socket: it is left alone, remove it to go on", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The address is none, or cannot be listened on.
    #[error("unable to listen on address '{address}': {source}")]
    Address {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the TLS settings cannot be used.
    #[error("unable to use '{}' for TLS: {reason}", path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// Why, without any of its content.
        reason: String,
    },
    /// The server ended.
    #[error("unable to serve: {0}")]
    Serve(#[from] tonic::transport::Error),
}
