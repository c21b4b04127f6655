//! The marker by which CloudNativePG asks for the check of an empty archive, in the data directory.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use pgbr_repo::error::{Error, ErrorKind, Result};

/// Its name.
pub const MARKER: &str = ".check-empty-wal-archive";

/// Whether it is there. Blocking.
///
/// # Errors
/// [`ErrorKind::FileInfo`] when it cannot be told.
pub fn is_there(pgdata: &Path) -> Result<bool> {
    let path = pgdata.join(MARKER);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            Err(Error::new(ErrorKind::FileInfo, format!("unable to get info for '{}': {error}", path.display())))
        }
    }
}

/// Removes it, durably. The instance manager may have been faster. Blocking.
///
/// # Errors
/// [`ErrorKind::FileRemove`]: with the marker there the check would come back against an archive that is not empty any more.
pub fn remove(pgdata: &Path) -> Result<()> {
    let path = pgdata.join(MARKER);
    let failed = |error: &io::Error| {
        Error::new(ErrorKind::FileRemove, format!("unable to remove '{}': {error}", path.display()))
    };
    match fs::remove_file(&path) {
        Ok(()) => File::open(pgdata).and_then(|directory| directory.sync_all()).map_err(|error| failed(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_what_is_gone_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MARKER), "").unwrap();
        assert!(is_there(folder.path()).unwrap());
        remove(folder.path()).unwrap();
        remove(folder.path()).unwrap();
        assert!(!is_there(folder.path()).unwrap());
    }
}
