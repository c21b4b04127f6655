//! `archive-push-queue-max`: when so much WAL waits that the disk is in danger, a segment may be dropped
//! (repository-behaviour.md §2.6). That leaves a hole in the archive, so it is never done unless the option is set.

use std::fs;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// How much WAL waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// The number of files times the size of the first, as the original counts.
    pub waiting_bytes: u64,
}

/// The files that PostgreSQL has marked as ready in `wal_directory`, by name. Blocking.
///
/// # Errors
/// [`ErrorKind::PathOpen`] when `archive_status` cannot be read.
pub fn ready_files(wal_directory: &Path) -> Result<Vec<String>> {
    let status = wal_directory.join("archive_status");
    let failed = |error: &std::io::Error| {
        Error::new(ErrorKind::PathOpen, format!("unable to list file info for path '{}': {error}", status.display()))
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&status).map_err(|error| failed(&error))? {
        let name = entry.map_err(|error| failed(&error))?.file_name();
        files.extend(name.to_str().and_then(|name| name.strip_suffix(".ready")).map(str::to_owned));
    }
    files.sort_unstable();
    Ok(files)
}

impl QueueState {
    /// The state of a queue of these files. Blocking.
    ///
    /// # Errors
    /// [`ErrorKind::FileInfo`] when the first file cannot be looked at.
    pub fn of(wal_directory: &Path, ready: &[String]) -> Result<Self> {
        let Some(first) = ready.first() else { return Ok(Self { waiting_bytes: 0 }) };
        let path = wal_directory.join(first);
        let size_bytes = fs::metadata(&path)
            .map_err(|error| {
                Error::new(ErrorKind::FileInfo, format!("unable to get info for '{}': {error}", path.display()))
            })?
            .len();
        Ok(Self { waiting_bytes: size_bytes.saturating_mul(ready.len() as u64) })
    }
}

/// How much WAL waits in `wal_directory`. Blocking.
///
/// # Errors
/// As for [`ready_files`] and [`QueueState::of`].
pub fn measure_queue(wal_directory: &Path) -> Result<QueueState> {
    QueueState::of(wal_directory, &ready_files(wal_directory)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pu11_the_queue_is_the_first_size_times_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let status = directory.path().join("archive_status");
        assert_eq!(measure_queue(directory.path()).unwrap_err().kind(), ErrorKind::PathOpen);
        fs::create_dir(&status).unwrap();
        assert_eq!(measure_queue(directory.path()).unwrap().waiting_bytes, 0);
        for name in
            ["000000010000000000000002.ready", "000000010000000000000001.ready", "000000010000000000000000.done"]
        {
            fs::write(status.join(name), "").unwrap();
        }
        assert_eq!(measure_queue(directory.path()).unwrap_err().kind(), ErrorKind::FileInfo);
        fs::write(directory.path().join("000000010000000000000001"), [0; 100]).unwrap();
        assert_eq!(measure_queue(directory.path()).unwrap().waiting_bytes, 200);
    }
}
