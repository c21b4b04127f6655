//! `start` and `stop`: a file that lets no command begin.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use pgbr_config::opt;
use pgbr_repo::error::ErrorKind;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};

use crate::exit::{Failure, Outcome};
use crate::lock;
use crate::session::Session;

/// Removes the stop file.
pub fn start(session: &Session) -> Result<Outcome, Failure> {
    let stanza = session.options().text(opt::STANZA);
    let file = lock::stop_file(&session.lock_path(), stanza);
    if !lock::remove_if_there(&file)? {
        let of = stanza.map_or_else(String::new, |stanza| format!(" for stanza {stanza}"));
        session.context.warn(format!("stop file does not exist{of}"));
    }
    Ok(Outcome::Done)
}

/// Creates the stop file; with `--force` it also ends the commands that run.
pub fn stop(session: &Session) -> Result<Outcome, Failure> {
    let stanza = session.options().text(opt::STANZA);
    let lock_path = session.lock_path();
    let file = lock::stop_file(&lock_path, stanza);
    if lock::is_there(&file)? {
        let of = stanza.map_or_else(|| "all stanzas".to_owned(), |stanza| format!("stanza {stanza}"));
        session.context.warn(format!("stop file already exists for {of}"));
        return Ok(Outcome::Done);
    }
    lock::create_directory(&lock_path)?;
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new().write(true).create(true).mode(0o640).custom_flags(flags).open(&file).map_err(|error| {
        Failure::new(ErrorKind::FileOpen, format!("unable to create '{}': {error}", file.display()))
    })?;
    if session.options().boolean(opt::FORCE) {
        end_running(session, &lock_path, stanza)?;
    }
    Ok(Outcome::Done)
}

fn end_running(session: &Session, lock_path: &Path, stanza: Option<&str>) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(ErrorKind::PathOpen, format!("unable to list '{}': {error}", lock_path.display()))
    };
    let prefix = stanza.map_or_else(String::new, |stanza| format!("{stanza}-"));
    let mut names = Vec::new();
    for entry in fs::read_dir(lock_path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".lock") && name.starts_with(&prefix) {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut ended = Vec::new();
    for name in names {
        let path = lock_path.join(&name);
        let Some(pid) = lock::holder_of(&path).and_then(|held| held.pid) else {
            session.context.warn(format!("unable to read lock file {}", path.display()));
            continue;
        };
        if ended.contains(&pid) {
            continue;
        }
        ended.push(pid);
        match Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::TERM)) {
            Some(Ok(())) => session.context.info(format!("sent term signal to process {pid}")),
            _ => session.context.warn(format!("unable to send term signal to process {pid}")),
        }
    }
    Ok(())
}
