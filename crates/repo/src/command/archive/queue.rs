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

/// Counts the files that PostgreSQL has marked as ready in `wal_directory`. Blocking.
///
/// # Errors
/// [`ErrorKind::PathOpen`] when `archive_status` cannot be read, [`ErrorKind::FileInfo`] when the first file cannot.
pub fn measure_queue(wal_directory: &Path) -> Result<QueueState> {
    let status = wal_directory.join("archive_status");
    let failed = |error: &std::io::Error| {
        Error::new(ErrorKind::PathOpen, format!("unable to list file info for path '{}': {error}", status.display()))
    };
    let mut first: Option<String> = None;
    let mut files: u64 = 0;
    for entry in fs::read_dir(&status).map_err(|error| failed(&error))? {
        let name = entry.map_err(|error| failed(&error))?.file_name();
        let Some(file) = name.to_str().and_then(|name| name.strip_suffix(".ready")) else { continue };
        files += 1;
        if first.as_deref().is_none_or(|first| file < first) {
            first = Some(file.to_owned());
        }
    }
    let Some(first) = first else { return Ok(QueueState { waiting_bytes: 0 }) };
    let path = wal_directory.join(first);
    let size_bytes = fs::metadata(&path)
        .map_err(|error| {
            Error::new(ErrorKind::FileInfo, format!("unable to get info for '{}': {error}", path.display()))
        })?
        .len();
    Ok(QueueState { waiting_bytes: size_bytes.saturating_mul(files) })
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
