//! The one process that this program starts: itself, for the background half of `archive-async`.
//!
//! The process gets the options that came as arguments, none of them secret; files and variables it reads again. It is no
//! child of PostgreSQL: it takes a session of its own ([`detach`]) and its parent does not wait for it.

use std::process::{Command, Stdio};
use std::time::Duration;

use pgbr_config::render;
use pgbr_repo::error::ErrorKind;

use crate::exit::Failure;
use crate::lock::LockType;
use crate::session::Session;

/// How long a background half stays when there is nothing to do.
pub const IDLE_MAX: Duration = Duration::from_secs(5);

/// How often it looks whether there is.
pub const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Starts the background half of the session's command and returns at once.
pub fn start(session: &Session, parameters: &[String]) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(ErrorKind::Kernel, format!("unable to start in the background: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let command = session.command();
    let mut starting = Command::new(program);
    starting
        .args(render::background_arguments(session.options(), command))
        .arg(format!("{command}:async"))
        .args(parameters)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Not waited for: it outlives this process, which ends in a moment.
    starting.spawn().map(drop).map_err(failed)
}

/// Leaves the session and the directory of whoever started this process.
pub fn detach() {
    // Fails for the leader of a process group, which has been detached by another.
    let _ = rustix::process::setsid();
    // So that the file system of the data directory can be unmounted. Every path of the options is absolute.
    let _ = rustix::process::chdir("/");
}

/// Removes the lock file that was left between two rounds, unless somebody holds it.
pub fn remove_lock_file(session: &Session) -> Result<(), Failure> {
    drop(session.try_lock(&[LockType::Archive])?);
    Ok(())
}
