//! The socket that the resident engine listens on: one that systemd has opened (`sd_listen_fds(3)`), or its own.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use pgbr_repo::error::ErrorKind;
use rustix::process::{ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tokio::net::UnixListener;

use crate::exit::Failure;
use crate::lock;
use crate::session::Session;

/// The first descriptor that systemd passes on.
const FIRST_PASSED: ForeignRawFd = 3;

/// A listening socket; one of our own is removed on drop.
pub struct Listener {
    /// The socket.
    pub socket: UnixListener,
    own: Option<PathBuf>,
}

impl Listener {
    /// Whether it is systemd's, which starts the process again when somebody connects.
    pub fn is_passed(&self) -> bool {
        self.own.is_none()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.own {
            // One that stays is replaced by the next engine.
            drop(fs::remove_file(path));
        }
    }
}

/// The socket of systemd where there is one, else a new one at `path`.
pub fn open(session: &Session, path: &Path) -> Result<Listener, Failure> {
    let failed = |error: io::Error| {
        Failure::new(ErrorKind::FileOpen, format!("unable to listen on '{}': {error}", path.display()))
    };
    let (socket, own) = match passed(session).map_err(failed)? {
        Some(socket) => (socket, None),
        None => (bind(path)?, Some(path.to_owned())),
    };
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(Listener { socket: UnixListener::from_std(socket).map_err(failed)?, own })
}

/// The one socket that systemd has opened for this process.
fn passed(session: &Session) -> io::Result<Option<StdListener>> {
    let for_us = session.variable("LISTEN_PID") == Some(std::process::id().to_string());
    if !for_us || session.variable("LISTEN_FDS").is_none_or(|count| count != "1") {
        return Ok(None);
    }
    // A duplicate, which is taken without claiming that nobody else owns the number.
    let own = pidfd_open(
        Pid::from_raw(i32::try_from(std::process::id()).unwrap_or(0)).unwrap_or(Pid::INIT),
        PidfdFlags::empty(),
    )?;
    let socket: OwnedFd = pidfd_getfd(own, FIRST_PASSED, PidfdGetfdFlags::empty())?;
    Ok(Some(StdListener::from(socket)))
}

fn bind(path: &Path) -> Result<StdListener, Failure> {
    let failed = |error: io::Error| {
        Failure::new(ErrorKind::FileOpen, format!("unable to listen on '{}': {error}", path.display()))
    };
    if let Some(directory) = path.parent() {
        lock::create_directory(directory)?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            return Err(Failure::new(
                ErrorKind::LockAcquire,
                format!("unable to listen on '{}': a resident archiver is running", path.display()),
            ));
        }
        // Left by one that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let socket = StdListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(socket)
}
