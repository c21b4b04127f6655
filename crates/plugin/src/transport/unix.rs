//! The socket in a pod. The folder is shared with PostgreSQL's container, which takes every entry in it for a plugin.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::TransportError;
use super::accept::{self, Listener};
use super::limits::Services;

/// Only the user of the pod connects.
const SOCKET_MODE: u32 = 0o600;

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;

/// Serves on the socket `path` until the shutdown.
///
/// A socket that nobody listens on any more is replaced. It is left in place at the end: where the socket is missing,
/// CloudNativePG believes that the pod has no such plugin, and may take WAL for archived; where it refuses, it tries again.
///
/// # Errors
/// When the socket cannot be made; something else than an abandoned socket is not touched.
pub async fn serve(path: &Path, services: Services, shutdown: CancellationToken) -> Result<(), TransportError> {
    let listener = open(path)?;
    let connections = accept::start(listener, services.log.clone(), shutdown.clone());
    services.log.info("listening", &[("socket", path.display().to_string().into())]);
    services.serve(connections, shutdown).await
}

fn open(path: &Path) -> Result<UnixListener, TransportError> {
    remove_abandoned(path)?;
    listener(path).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => TransportError::SocketInUse { path: path.to_owned() },
        _ => TransportError::Socket { path: path.to_owned(), source },
    })
}

/// Makes the socket. It has its mode before it listens, so nobody else gets in between, and no other name for a moment.
fn listener(path: &Path) -> io::Result<UnixListener> {
    let socket = unix_socket()?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    listen(&socket, BACKLOG)?;
    UnixListener::from_std(StdListener::from(socket))
}

fn unix_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

/// Removes the socket of a process that is gone: the folder outlives the container.
fn remove_abandoned(path: &Path) -> Result<(), TransportError> {
    let failed = |source| TransportError::Socket { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(TransportError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let address = SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))?;
    match connect(unix_socket().map_err(failed)?, &address) {
        // A full queue is somebody's, too.
        Ok(()) | Err(Errno::AGAIN) => Err(TransportError::SocketInUse { path: path.to_owned() }),
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(errno.into())),
    }
}

impl Listener for UnixListener {
    type Raw = UnixStream;
    type Ready = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        UnixListener::accept(self).await.map(|(stream, _)| stream)
    }

    async fn greet(self: Arc<Self>, raw: UnixStream) -> Option<UnixStream> {
        Some(raw)
    }
}
