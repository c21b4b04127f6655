//! WAL files that PostgreSQL has finished and that are not archived yet.

use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::Path;
use std::time::UNIX_EPOCH;

use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::postgres::{WalFileName, WalSegmentName};

/// The files that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    /// How many.
    pub files: usize,
    /// The one that waits longest, and since when, in seconds since the Unix epoch.
    pub oldest: Option<(i64, String)>,
    /// The first whole segment of them in the order of their names.
    pub first_segment: Option<WalSegmentName>,
}

impl Pending {
    /// What waits in this directory of WAL. Blocking.
    ///
    /// # Errors
    /// [`ErrorKind::PathOpen`], [`ErrorKind::FileInfo`] when it cannot be told.
    pub fn of(wal_directory: &Path) -> Result<Self, Error> {
        let status = wal_directory.join("archive_status");
        let failed = |kind, error: &std::io::Error| Error::new(kind, format!("{}: {error}", status.display()));
        let mut pending = Self::default();
        for entry in fs::read_dir(&status).map_err(|error| failed(ErrorKind::PathOpen, &error))? {
            let entry = entry.map_err(|error| failed(ErrorKind::PathOpen, &error))?;
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|name| name.strip_suffix(".ready")) else { continue };
            let Ok(parsed) = WalFileName::parse(name) else { continue };
            let since = match entry.metadata().and_then(|metadata| metadata.modified()) {
                Ok(modified) => modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                // Archived since the listing.
                Err(error) if error.kind() == IoKind::NotFound => continue,
                Err(error) => return Err(failed(ErrorKind::FileInfo, &error)),
            };
            let waiting = (i64::try_from(since).unwrap_or(i64::MAX), name.to_owned());
            pending.files += 1;
            if let WalFileName::Segment(segment) = parsed {
                let first = pending.first_segment.get_or_insert(segment);
                *first = segment.min(*first);
            }
            pending.oldest = Some(match pending.oldest.take() {
                Some(oldest) => oldest.min(waiting),
                None => waiting,
            });
        }
        Ok(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kg25_the_oldest_file_that_waits_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Pending::of(folder.path()).is_err());
        let status = folder.path().join("archive_status");
        fs::create_dir(&status).unwrap();
        assert_eq!(Pending::of(folder.path()).unwrap(), Pending::default());
        let (first, oldest) = ("000000010000000000000001", "000000010000000000000002");
        for (name, age_s) in [(oldest, 500), (first, 100), ("00000002.history", 50)] {
            let file = fs::File::create(status.join(format!("{name}.ready"))).unwrap();
            file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age_s)).unwrap();
        }
        for other in ["000000010000000000000003.done", "notes.ready"] {
            fs::write(status.join(other), "").unwrap();
        }
        let pending = Pending::of(folder.path()).unwrap();
        let first_segment = WalSegmentName::parse(first).ok();
        assert_eq!(pending, Pending { files: 3, oldest: Some((999_500, oldest.to_owned())), first_segment });
    }
}
