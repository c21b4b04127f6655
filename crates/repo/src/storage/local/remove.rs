//! Removing files and trees. A removal is made durable, so that what is removed next cannot be gone before it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::storage::{ErrorClass, Operation, StorageError, StoragePath};

use super::Inner;
use super::directory::file_type;
use super::errno::{failure, is_absent, sync_failure};
use super::temporary::is_temporary;

/// Directories within directories that a walk goes into. A repository has a dozen, a user's data directory some more.
const DEPTH_MAX: usize = 100;

impl Inner {
    pub(super) fn remove(&self, path: &StoragePath) -> Result<(), StorageError> {
        self.remove_many(std::slice::from_ref(path)).pop().map_or(Ok(()), Err)
    }

    /// Removes objects; those that lie in one directory behind each other share its handle and one sync.
    pub(super) fn remove_many(&self, paths: &[StoragePath]) -> Vec<StorageError> {
        let mut failed = Vec::new();
        for group in paths.chunk_by(|one, other| one.parent() == other.parent()) {
            let Some(first) = group.first() else { continue };
            let directory = match self.directory_of(first) {
                Ok(directory) => directory,
                Err(errno) if is_absent(errno) => continue,
                Err(errno) => {
                    failed.extend(group.iter().map(|path| remove_failure(path, errno)));
                    continue;
                }
            };
            for path in group {
                match fs::unlinkat(&directory, path.file_name(), AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => failed.push(remove_failure(path, errno)),
                }
            }
            if let Err(errno) = self.sync(directory.as_fd(), first.as_str()) {
                failed.push(sync_failure(first, "sync its directory", errno));
            }
        }
        failed
    }

    pub(super) fn remove_tree(&self, path: &StoragePath) -> Result<(), StorageError> {
        let fail = |errno| remove_failure(path, errno);
        let directory = match self.directory(path) {
            Err(errno) if is_absent(errno) => return Ok(()),
            outcome => outcome.map_err(fail)?,
        };
        remove_entries(directory.as_fd(), DEPTH_MAX).map_err(fail)?;
        let Some(parent) = path.parent() else {
            return self.sync(directory.as_fd(), "").map_err(|errno| sync_failure(path, "sync it", errno));
        };
        let parent = match self.directory(&parent) {
            Err(errno) if is_absent(errno) => return Ok(()),
            outcome => outcome.map_err(fail)?,
        };
        match fs::unlinkat(&parent, path.file_name(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
        self.sync(parent.as_fd(), path.as_str()).map_err(|errno| sync_failure(path, "sync its directory", errno))
    }

    pub(super) fn remove_stale_uploads(&self, path: &StoragePath, begun_before_s: i64) -> Result<u64, StorageError> {
        match self.directory(path) {
            Err(errno) if is_absent(errno) => Ok(0),
            Ok(directory) => remove_stale(directory.as_fd(), begun_before_s, DEPTH_MAX),
            Err(errno) => Err(errno),
        }
        .map_err(|errno| remove_failure(path, errno))
    }
}

fn remove_failure(path: &StoragePath, errno: Errno) -> StorageError {
    if errno == Errno::NOTEMPTY {
        let what = "something was put into the directory while it was removed";
        return StorageError::new(ErrorClass::Transient, Operation::Remove, path, what);
    }
    failure(Operation::Remove, path, "remove it", errno)
}

/// Removes everything in `directory`.
fn remove_entries(directory: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    for found in Dir::read_from(directory)? {
        let found = found?;
        let name = found.file_name();
        if is_self_or_parent(name) {
            continue;
        }
        match fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Linux says ISDIR, POSIX PERM.
            Err(Errno::ISDIR | Errno::PERM) => {
                let child = open_child(directory, name)?;
                remove_entries(child.as_fd(), depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?)?;
                fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Removes our temporary files that nobody wrote to since `begun_before_s`.
fn remove_stale(directory: BorrowedFd<'_>, begun_before_s: i64, depth: usize) -> Result<u64, Errno> {
    let mut removed: u64 = 0;
    for found in Dir::read_from(directory)? {
        let found = found?;
        let name = found.file_name();
        if is_self_or_parent(name) {
            continue;
        }
        let stat = match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            outcome => outcome?,
        };
        let is_ours = name.to_str().is_ok_and(is_temporary);
        match file_type(&stat) {
            FileType::Directory => {
                let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
                let below = match open_child(directory, name) {
                    Err(Errno::NOENT) => 0,
                    child => remove_stale(child?.as_fd(), begun_before_s, depth)?,
                };
                removed = removed.saturating_add(below);
            }
            FileType::RegularFile | FileType::Symlink if is_ours && stat.st_mtime < begun_before_s => {
                match fs::unlinkat(directory, name, AtFlags::empty()) {
                    Ok(()) => removed = removed.saturating_add(1),
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
            _ => {}
        }
    }
    Ok(removed)
}

fn is_self_or_parent(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// As for listed paths, but for any name: what is not UTF-8 can be removed, too.
fn open_child(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}
