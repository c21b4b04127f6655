//! Writing: temporary file, sync, rename, sync of the directory; and links.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{self, Errno};

use crate::storage::{
    Condition, Durability, EntryKind, ErrorClass, ObjectInfo, Operation, PartTag, StorageError, StoragePath, UploadId,
    UploadPart,
};

use super::Inner;
use super::directory::file_type;
use super::errno::{failure, is_absent, sync_failure};
use super::read::{object_info, size_bytes, version};
use super::step::Step;
use super::temporary::is_temporary;

/// Files of a repository (repository-format.md §1).
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);

/// A file under its temporary name, in the directory of its final name.
struct Temporary {
    directory: OwnedFd,
    file: OwnedFd,
    name: String,
}

impl Inner {
    pub(super) fn put(
        &self,
        path: &StoragePath,
        body: &[u8],
        condition: &Condition,
        durability: Durability,
    ) -> Result<ObjectInfo, StorageError> {
        let temporary = self.create(path, durability)?;
        let outcome =
            self.write_at(&temporary, path, body, 0).and_then(|()| self.place(&temporary, path, condition, durability));
        if outcome.is_err() {
            temporary.discard();
        }
        outcome
    }

    pub(super) fn upload_create(&self, path: &StoragePath, durability: Durability) -> Result<UploadId, StorageError> {
        let temporary = self.create(path, durability)?;
        Ok(UploadId(match durability {
            Durability::Now => format!("now/{}", temporary.name),
            Durability::Deferred => format!("deferred/{}", temporary.name),
        }))
    }

    pub(super) fn upload_part(
        &self,
        path: &StoragePath,
        upload: &UploadId,
        part: &UploadPart,
    ) -> Result<PartTag, StorageError> {
        let (temporary, _) = self.reopen(path, upload)?;
        self.write_at(&temporary, path, &part.body, part.offset)?;
        Ok(PartTag { number: part.number, tag: format!("{}+{}", part.offset, part.body.len()) })
    }

    pub(super) fn upload_complete(
        &self,
        path: &StoragePath,
        upload: &UploadId,
        parts: &[PartTag],
        condition: &Condition,
    ) -> Result<ObjectInfo, StorageError> {
        let (temporary, durability) = self.reopen(path, upload)?;
        let stat = fs::fstat(&temporary.file).map_err(|errno| write_failure(path, "look at its parts", errno))?;
        if parts_size_bytes(parts) != Some(size_bytes(&stat)) {
            let what = format!("the {} bytes that were written are not those of its parts", stat.st_size);
            return Err(StorageError::new(ErrorClass::Permanent, Operation::Write, path, what));
        }
        let outcome = self.place(&temporary, path, condition, durability);
        // A sync that failed must not be answered by one that succeeds on the next try: the bytes may be gone.
        if outcome.as_ref().is_err_and(|error| error.class() != ErrorClass::Conflict) {
            temporary.discard();
        }
        outcome
    }

    pub(super) fn upload_abort(&self, path: &StoragePath, upload: &UploadId) -> Result<(), StorageError> {
        match self.reopen(path, upload) {
            Ok((temporary, _)) => match fs::unlinkat(&temporary.directory, &temporary.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(write_failure(path, "remove its temporary file", errno)),
            },
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes what was written with deferred durability durable, with one call for each file system.
    pub(super) fn flush(&self, path: &StoragePath) -> Result<(), StorageError> {
        let handles: Vec<_> =
            self.deferred.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        for handle in handles {
            self.steps
                .before(Step::SyncFileSystem, "")
                .and_then(|()| fs::syncfs(&*handle))
                .map_err(|errno| sync_failure(path, "sync the file system", errno))?;
        }
        Ok(())
    }

    pub(super) fn create_directory(&self, path: &StoragePath) -> Result<(), StorageError> {
        self.make_directory(path, Durability::Deferred).map(drop)
    }

    pub(super) fn sync_directory(&self, path: &StoragePath) -> Result<(), StorageError> {
        let directory = self.directory(path).map_err(|errno| failure(Operation::Link, path, "open it", errno))?;
        self.sync(directory.as_fd(), path.as_str()).map_err(|errno| sync_failure(path, "sync it", errno))
    }

    pub(super) fn symlink(&self, path: &StoragePath, target: &str) -> Result<(), StorageError> {
        self.link(path, |directory, name| fs::symlinkat(target, directory, name))
    }

    pub(super) fn hard_link(&self, existing: &StoragePath, path: &StoragePath) -> Result<(), StorageError> {
        let from = self.directory_of(existing).map_err(|errno| failure(Operation::Link, existing, "open it", errno))?;
        self.link(path, |directory, name| fs::linkat(&from, existing.file_name(), directory, name, AtFlags::empty()))
    }

    /// Makes a link under a temporary name and renames it over what is there.
    fn link(&self, path: &StoragePath, make: impl Fn(&OwnedFd, &str) -> Result<(), Errno>) -> Result<(), StorageError> {
        let fail = |step: &str, errno| failure(Operation::Link, path, step, errno);
        let directory = self.make_directory(&parent_of(path)?, Durability::Now)?;
        let temporary = loop {
            let name = self.temporary_name(path.file_name());
            match make(&directory, &name) {
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail("make it", errno)),
                Ok(()) => break name,
            }
        };
        let placed = fs::renameat(&directory, &temporary, &directory, path.file_name());
        // Two names of one file are left as they are by a rename, the temporary one too.
        let _absent = fs::unlinkat(&directory, &temporary, AtFlags::empty());
        placed.map_err(|errno| fail("rename it", errno))?;
        self.sync(directory.as_fd(), path.file_name()).map_err(|errno| sync_failure(path, "sync its directory", errno))
    }

    /// Creates the temporary file for an object.
    fn create(&self, path: &StoragePath, durability: Durability) -> Result<Temporary, StorageError> {
        let directory = self.make_directory(&parent_of(path)?, durability)?;
        if durability == Durability::Deferred {
            self.remember_deferred(&directory).map_err(|errno| write_failure(path, "open its directory", errno))?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let name = self.temporary_name(path.file_name());
            match fs::openat(&directory, &name, flags, FILE_MODE) {
                // Left by an earlier process with this number.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(write_failure(path, "create its temporary file", errno)),
                Ok(file) => {
                    let temporary = Temporary { directory, file, name };
                    // Whatever the umask took away.
                    if let Err(errno) = fs::fchmod(&temporary.file, FILE_MODE) {
                        temporary.discard();
                        return Err(write_failure(path, "set its mode", errno));
                    }
                    return Ok(temporary);
                }
            }
        }
    }

    /// Opens the temporary file of an upload again.
    fn reopen(&self, path: &StoragePath, upload: &UploadId) -> Result<(Temporary, Durability), StorageError> {
        let unknown = || StorageError::new(ErrorClass::Missing, Operation::Write, path, "there is no such upload");
        let (durability, name) = match upload.0.split_once('/') {
            Some(("now", name)) => (Durability::Now, name),
            Some(("deferred", name)) => (Durability::Deferred, name),
            _ => return Err(unknown()),
        };
        if !is_temporary(name) || name.contains('/') {
            return Err(unknown());
        }
        let open = || {
            let directory = self.directory_of(path)?;
            let file =
                fs::openat(&directory, name, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            Ok(Temporary { directory, file, name: name.to_owned() })
        };
        match open() {
            Ok(temporary) => Ok((temporary, durability)),
            Err(errno) if is_absent(errno) => Err(unknown()),
            Err(errno) => Err(write_failure(path, "open its temporary file", errno)),
        }
    }

    fn write_at(
        &self,
        temporary: &Temporary,
        path: &StoragePath,
        mut bytes: &[u8],
        mut offset: u64,
    ) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let written = self
                .steps
                .before(Step::Write, &temporary.name)
                .and_then(|()| io::retry_on_intr(|| io::pwrite(&temporary.file, bytes, offset)))
                .map_err(|errno| write_failure(path, &format!("write at byte {offset}"), errno))?;
            if written == 0 {
                return Err(write_failure(path, &format!("write at byte {offset}"), Errno::IO));
            }
            bytes = bytes.get(written..).unwrap_or_default();
            offset = offset.saturating_add(written as u64);
        }
        Ok(())
    }

    /// Gives the temporary file its name.
    fn place(
        &self,
        temporary: &Temporary,
        path: &StoragePath,
        condition: &Condition,
        durability: Durability,
    ) -> Result<ObjectInfo, StorageError> {
        let name = path.file_name();
        if durability == Durability::Now {
            self.steps
                .before(Step::SyncFile, &temporary.name)
                .and_then(|()| fs::fsync(&temporary.file))
                .map_err(|errno| sync_failure(path, "sync it", errno))?;
        }
        self.steps.before(Step::Place, name).and_then(|()| temporary.rename(name, condition)).map_err(|errno| {
            match errno {
                Errno::EXIST if *condition != Condition::None => {
                    let what = "the condition of the write does not hold: another object has the name";
                    StorageError::new(ErrorClass::Conflict, Operation::Write, path, what)
                }
                Errno::NOENT => StorageError::new(
                    ErrorClass::Missing,
                    Operation::Write,
                    path,
                    "its temporary file was removed by somebody else",
                ),
                errno => write_failure(path, "rename its temporary file", errno),
            }
        })?;
        if durability == Durability::Now {
            self.sync(temporary.directory.as_fd(), name)
                .map_err(|errno| sync_failure(path, "sync its directory", errno))?;
        }
        let stat = fs::fstat(&temporary.file).map_err(|errno| write_failure(path, "look at it", errno))?;
        Ok(object_info(&stat, EntryKind::Object))
    }

    /// Keeps a handle for [`Inner::flush`], from before the first deferred write to its file system.
    fn remember_deferred(&self, directory: &OwnedFd) -> Result<(), Errno> {
        let device = fs::fstat(directory)?.st_dev;
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        if let std::collections::btree_map::Entry::Vacant(entry) = deferred.entry(device) {
            entry.insert(Arc::new(directory.try_clone().map_err(|_| Errno::MFILE)?));
        }
        Ok(())
    }
}

impl Temporary {
    fn discard(&self) {
        // The error that led here is the one to report; what stays is found by remove_stale_uploads.
        let _absent = fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
    }

    /// `EXIST` when the condition does not hold.
    fn rename(&self, name: &str, condition: &Condition) -> Result<(), Errno> {
        match condition {
            Condition::None => fs::renameat(&self.directory, &self.name, &self.directory, name),
            Condition::Absent => self.rename_to_absent(name),
            Condition::Never => Err(Errno::EXIST),
            Condition::Version(expected) => {
                // Between two writers on condition the look and the rename are one step; a file system without locks
                // has only the look.
                let _unsupported = fs::flock(&self.directory, FlockOperation::LockExclusive);
                let outcome = match fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if file_type(&stat) == FileType::RegularFile && version(&stat) == *expected => {
                        fs::renameat(&self.directory, &self.name, &self.directory, name)
                    }
                    Ok(_) | Err(Errno::NOENT) => Err(Errno::EXIST),
                    Err(errno) => Err(errno),
                };
                let _unsupported = fs::flock(&self.directory, FlockOperation::Unlock);
                outcome
            }
        }
    }

    fn rename_to_absent(&self, name: &str) -> Result<(), Errno> {
        let flags = RenameFlags::NOREPLACE;
        match fs::renameat_with(&self.directory, &self.name, &self.directory, name, flags) {
            // NFS and old kernels cannot; a hard link fails on an existing name just as well.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs::linkat(&self.directory, &self.name, &self.directory, name, AtFlags::empty())?;
                fs::unlinkat(&self.directory, &self.name, AtFlags::empty())
            }
            outcome => outcome,
        }
    }
}

/// The bytes of all parts, if the receipts follow each other without a gap.
fn parts_size_bytes(parts: &[PartTag]) -> Option<u64> {
    let mut end: u64 = 0;
    for (index, part) in parts.iter().enumerate() {
        let (offset, length) = part.tag.split_once('+')?;
        if offset.parse() != Ok(end) || usize::try_from(part.number).ok() != index.checked_add(1) {
            return None;
        }
        end = end.checked_add(length.parse().ok()?)?;
    }
    Some(end)
}

fn parent_of(path: &StoragePath) -> Result<StoragePath, StorageError> {
    path.parent().ok_or_else(|| {
        StorageError::new(ErrorClass::Permanent, Operation::Write, path, "the repository directory is not an object")
    })
}

/// A failed step of a write. Something missing on the way (a directory removed at this moment) is no missing object.
fn write_failure(path: &StoragePath, step: &str, errno: Errno) -> StorageError {
    let error = failure(Operation::Write, path, step, errno);
    match error.class() {
        ErrorClass::Missing => StorageError::new(ErrorClass::Transient, Operation::Write, path, error.detail()),
        _ => error,
    }
}
