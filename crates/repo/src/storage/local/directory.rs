//! Directories as handles: paths are resolved name by name, and no symbolic link is followed below the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::PoisonError;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

use crate::storage::{Durability, Operation, StorageError, StoragePath};

use super::Inner;
use super::errno::{failure, sync_failure};
use super::step::Step;

/// Directories of a repository (repository-format.md §1).
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o750);

const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory of the running system: device, inode, and time of birth, since an inode is used again.
pub(super) type DirectoryId = (u32, u32, u64, i64, u32);

/// Directories that are remembered as durable; of more, some are synced again.
const DURABLE_MAX: usize = 10_000;

/// `None` where the system does not tell the time of birth.
fn directory_id(directory: BorrowedFd<'_>) -> Option<DirectoryId> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let stat = fs::statx(directory, "", AtFlags::EMPTY_PATH, wanted).ok()?;
    let known = StatxFlags::from_bits_retain(stat.stx_mask).contains(wanted);
    let birth = stat.stx_btime;
    known.then_some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino, birth.tv_sec, birth.tv_nsec))
}

/// The file type in a mode.
pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Opens directory `name` in `parent`.
///
/// # Errors
/// `LOOP` when it is a symbolic link, `NOTDIR` when it is some other file.
pub(super) fn open_child(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    match fs::openat(parent, name, DIRECTORY_FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
        // The kernel says "not a directory" for a link, too; a link must not look like an absent object.
        Err(Errno::NOTDIR) => match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if file_type(&stat) == FileType::Symlink => Err(Errno::LOOP),
            _ => Err(Errno::NOTDIR),
        },
        outcome => outcome,
    }
}

/// Opens the directory at `relative` below `base`.
pub(super) fn open_below(base: BorrowedFd<'_>, relative: &str) -> Result<OwnedFd, Errno> {
    let mut directory = base.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
    for name in relative.split('/').filter(|name| !name.is_empty()) {
        directory = open_child(directory.as_fd(), name)?;
    }
    Ok(directory)
}

impl Inner {
    /// Opens the directory at `path`.
    pub(super) fn directory(&self, path: &StoragePath) -> Result<OwnedFd, Errno> {
        let root = fs::open(&self.root, DIRECTORY_FLAGS, Mode::empty())?;
        if path.as_str().is_empty() { Ok(root) } else { open_below(root.as_fd(), path.as_str()) }
    }

    /// Opens the directory that holds `path`, which is not the root.
    pub(super) fn directory_of(&self, path: &StoragePath) -> Result<OwnedFd, Errno> {
        self.directory(&path.parent().ok_or(Errno::ISDIR)?)
    }

    /// Opens the directory at `path` and makes what is missing on the way. With [`Durability::Now`] the entry of each
    /// directory on the way is durable afterwards, also of those that another writer has just made.
    pub(super) fn make_directory(&self, path: &StoragePath, durability: Durability) -> Result<OwnedFd, StorageError> {
        let fail = |step: &str, errno| failure(Operation::Write, path, step, errno);
        let mut directory = self.make_root().map_err(|errno| fail("make the repository directory", errno))?;
        for name in path.as_str().split('/').filter(|name| !name.is_empty()) {
            let child = self.make_child(directory.as_fd(), name).map_err(|errno| fail("make its directory", errno))?;
            if durability == Durability::Now {
                self.make_durable(directory.as_fd(), child.as_fd(), name)
                    .map_err(|errno| sync_failure(path, "sync the directory above it", errno))?;
            }
            directory = child;
        }
        Ok(directory)
    }

    /// Makes the entries of `directory` durable.
    pub(super) fn sync(&self, directory: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        self.steps.before(Step::SyncDirectory, name)?;
        match fs::fsync(directory) {
            // File systems that cannot sync a directory (CIFS and some FUSE drivers) say so; the original skips them.
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            outcome => outcome,
        }
    }

    fn make_child(&self, parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
        match open_child(parent, name) {
            Err(Errno::NOENT) => {}
            outcome => return outcome,
        }
        self.steps.before(Step::MakeDirectory, name)?;
        match fs::mkdirat(parent, name, DIRECTORY_MODE) {
            Ok(()) => {
                let child = open_child(parent, name)?;
                // Whatever the umask took away.
                fs::fchmod(&child, DIRECTORY_MODE)?;
                Ok(child)
            }
            Err(Errno::EXIST) => open_child(parent, name),
            Err(errno) => Err(errno),
        }
    }

    fn make_durable(&self, parent: BorrowedFd<'_>, child: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let durable = || self.durable_directories.lock().unwrap_or_else(PoisonError::into_inner);
        let id = directory_id(child);
        if id.is_some_and(|id| durable().contains(&id)) {
            return Ok(());
        }
        self.sync(parent, &format!("parent of {name}"))?;
        if let Some(id) = id {
            let mut durable = durable();
            if durable.len() >= DURABLE_MAX {
                durable.clear();
            }
            durable.insert(id);
        }
        Ok(())
    }

    fn make_root(&self) -> Result<OwnedFd, Errno> {
        match fs::open(&self.root, DIRECTORY_FLAGS, Mode::empty()) {
            Err(Errno::NOENT) => {}
            outcome => return outcome,
        }
        make_path(&self.root)?;
        fs::open(&self.root, DIRECTORY_FLAGS, Mode::empty())
    }
}

/// Makes a directory outside any repository, and those above it.
fn make_path(path: &Path) -> Result<(), Errno> {
    match fs::mkdir(path, DIRECTORY_MODE) {
        Err(Errno::NOENT) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(Errno::NOENT)?;
            make_path(parent)?;
            return make_path(path);
        }
        Err(Errno::EXIST) => return Ok(()),
        outcome => outcome?,
    }
    fs::chmod(path, DIRECTORY_MODE)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::fsync(fs::open(parent, DIRECTORY_FLAGS, Mode::empty())?)
}
