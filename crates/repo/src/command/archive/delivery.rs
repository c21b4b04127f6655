//! The file that a segment is delivered to: complete under its name, or not there (faults.md GE01, GE02, GE09).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::pgdata::Writeback;

/// A file beside the destination, removed again unless it is [kept](Delivery::keep).
#[derive(Debug)]
pub(super) struct Delivery {
    destination: PathBuf,
    temporary: PathBuf,
    file: Option<File>,
    writeback: Writeback,
}

impl Delivery {
    /// Creates the temporary file. One that an earlier, killed process left is replaced.
    pub(super) fn create(destination: &Path) -> Result<Self> {
        let mut temporary = destination.as_os_str().to_owned();
        temporary.push(".pgbackrest.tmp");
        let temporary = PathBuf::from(temporary);
        match fs::remove_file(&temporary) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(ErrorKind::FileRemove, "remove", &temporary, &error)),
        }
        let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(no_follow)
            .open(&temporary)
            .map_err(|error| failed(ErrorKind::FileOpen, "create", &temporary, &error))?;
        let writeback = Writeback::default();
        Ok(Self { destination: destination.to_owned(), temporary, file: Some(file), writeback })
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Err(Error::new(ErrorKind::Assert, "a delivery was written after it was kept"));
        };
        file.write_all(bytes).map_err(|error| failed(ErrorKind::FileWrite, "write", &self.temporary, &error))?;
        self.writeback.added(&*file, bytes.len());
        Ok(())
    }

    /// Makes the file durable and gives it its name.
    pub(super) fn keep(mut self) -> Result<()> {
        if let Some(file) = &self.file {
            file.sync_all().map_err(|error| failed(ErrorKind::FileSync, "sync", &self.temporary, &error))?;
        }
        fs::rename(&self.temporary, &self.destination)
            .map_err(|error| failed(ErrorKind::FileMove, "move into place", &self.destination, &error))?;
        self.file = None;
        let directory = self.destination.parent().filter(|path| !path.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| failed(ErrorKind::PathSync, "sync", directory, &error))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Nothing reads the temporary name, so one that stays is only untidy.
            drop(fs::remove_file(&self.temporary));
        }
    }
}

fn failed(kind: ErrorKind, verb: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(kind, format!("unable to {verb} '{}': {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ge08_nothing_has_the_name_before_all_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("RECOVERYXLOG");
        let mut given_up = Delivery::create(&destination).unwrap();
        given_up.write(b"half").unwrap();
        drop(given_up);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

        fs::write(directory.path().join("RECOVERYXLOG.pgbackrest.tmp"), "left by a killed process").unwrap();
        let mut delivery = Delivery::create(&destination).unwrap();
        delivery.write(b"whole").unwrap();
        delivery.keep().unwrap();
        assert_eq!(fs::read(&destination).unwrap(), b"whole");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn ge15_sec08_a_planted_link_is_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let canary = directory.path().join("canary");
        fs::write(&canary, "untouched").unwrap();
        let destination = directory.path().join("RECOVERYXLOG");
        std::os::unix::fs::symlink(&canary, directory.path().join("RECOVERYXLOG.pgbackrest.tmp")).unwrap();
        std::os::unix::fs::symlink(&canary, &destination).unwrap();
        let mut delivery = Delivery::create(&destination).unwrap();
        delivery.write(b"segment").unwrap();
        delivery.keep().unwrap();
        assert_eq!(fs::read_to_string(&canary).unwrap(), "untouched");
        assert!(fs::symlink_metadata(&destination).unwrap().is_file());
    }
}
