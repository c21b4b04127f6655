//! Writing files of the cluster in a restore.
//!
//! Files are written in place under their final names: until `pg_control` is renamed into its place at the very end,
//! no server can start on the directory, so a half-written file is harmless. Nothing is durable before the files were
//! synced one by one ([`SyncPolicy::EachFile`]) or all at once ([`sync_file_systems`]), and then the directories.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use sha1::{Digest, Sha1};

use super::accounts::Ids;
use super::directory::{Directory, EntryInfo, EntryKind, stat_entry};
use super::error::{DisplayPath, PgDataError, PgDataErrorKind};
use super::owner::EntryMode;
use super::path::RelativePath;
use super::target::DataRoots;
use super::writeback::Writeback;

/// Bytes read at once when an existing file is hashed.
const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// When the contents of a file become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// When it is finished, as pgBackRest does. Slow for many small files.
    EachFile,
    /// Later, with all others, by [`sync_file_systems`].
    FileSystem,
}

/// What happens to a file that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// It is emptied; if it has other names too (hard links) it is replaced, so that these keep their content.
    Replace,
}

/// The attributes that a file gets when it is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAttributes {
    /// Permission bits.
    pub mode: EntryMode,
    /// Owner; changed only where it differs.
    pub owner: Ids,
    /// Last modification, seconds since the Unix epoch.
    pub modified_s: i64,
}

/// A file being written. Without [`TargetFile::finish`] it stays as it is then: readable only for its owner.
#[derive(Debug)]
pub struct TargetFile {
    fd: OwnedFd,
    path: Vec<u8>,
    writeback: Writeback,
}

impl TargetFile {
    fn new(fd: OwnedFd, path: Vec<u8>) -> Self {
        Self { fd, path, writeback: Writeback::default() }
    }

    /// Creates the file that a manifest calls `name`. Its directory must exist.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileExists`] when it exists and must not; [`PgDataErrorKind::ChangedType`] when a link or
    /// something other than a file is there; [`PgDataErrorKind::FileWrite`], [`PgDataErrorKind::NoSpace`].
    pub fn create(roots: &DataRoots, name: &[u8], existing: Existing) -> Result<Self, PgDataError> {
        let (directory, below) = roots.locate(name)?;
        let path = directory.path_of(&below);
        match create_new(directory, &below) {
            Ok(fd) => return Ok(Self::new(fd, path)),
            Err(Errno::EXIST) if existing == Existing::Replace => {}
            Err(errno) => return Err(create_error(&path, errno)),
        }
        let (fd, info) = open_regular(directory, &below, OFlags::WRONLY)?;
        if info.names > 1 {
            drop(fd);
            directory.remove_file(&below)?;
            let fd = create_new(directory, &below).map_err(|errno| create_error(&path, errno))?;
            return Ok(Self::new(fd, path));
        }
        let file = Self::new(fd, path);
        file.set_length(0)?;
        Ok(file)
    }

    /// The path, for messages.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Makes the file this long: cut off, or grown by a hole that reads as zeros.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileWrite`], [`PgDataErrorKind::NoSpace`].
    pub fn set_length(&self, size_bytes: u64) -> Result<(), PgDataError> {
        rustix::fs::ftruncate(&self.fd, size_bytes)
            .map_err(|errno| PgDataError::system(PgDataErrorKind::FileWrite, "set length of file", &self.path, errno))
    }

    /// Writes all of `bytes` at `offset`, for the changed blocks of a delta.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileWrite`], [`PgDataErrorKind::NoSpace`].
    pub fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), PgDataError> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.fd, bytes, offset) {
                Ok(0) => return Err(self.write_error(Errno::IO)),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    offset = offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.write_error(errno)),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` after what was written before.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileWrite`], [`PgDataErrorKind::NoSpace`].
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), PgDataError> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.fd, bytes) {
                Ok(0) => return Err(self.write_error(Errno::IO)),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    self.writeback.added(&self.fd, count);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.write_error(errno)),
            }
        }
        Ok(())
    }

    /// Sets owner, mode and time, and makes the content durable if `sync` says so.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileOwner`], [`PgDataErrorKind::FileMode`], [`PgDataErrorKind::FileInfo`],
    /// [`PgDataErrorKind::FileSync`].
    pub fn finish(self, attributes: FileAttributes, sync: SyncPolicy) -> Result<(), PgDataError> {
        let fail = |kind, action: &str, errno| PgDataError::system(kind, action, &self.path, errno);
        let info = EntryInfo::of(&self.fd).map_err(|errno| fail(PgDataErrorKind::FileOpen, "get info for", errno))?;
        if (Ids { user: info.user, group: info.group }) != attributes.owner {
            let (user, group) = to_rustix(attributes.owner);
            rustix::fs::fchown(&self.fd, user, group)
                .map_err(|errno| fail(PgDataErrorKind::FileOwner, "set ownership for", errno))?;
        }
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(attributes.mode.bits()))
            .map_err(|errno| fail(PgDataErrorKind::FileMode, "set mode for", errno))?;
        set_modified(&self.fd, attributes.modified_s)
            .map_err(|errno| fail(PgDataErrorKind::FileInfo, "set time for", errno))?;
        if sync == SyncPolicy::EachFile {
            rustix::fs::fsync(&self.fd).map_err(|errno| fail(PgDataErrorKind::FileSync, "sync file", errno))?;
        }
        Ok(())
    }

    fn write_error(&self, errno: Errno) -> PgDataError {
        PgDataError::system(PgDataErrorKind::FileWrite, "write file", &self.path, errno)
    }
}

impl Write for TargetFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that a delta restore found in place.
#[derive(Debug)]
pub struct ExistingFile {
    file: TargetFile,
    info: EntryInfo,
}

impl ExistingFile {
    /// Opens the file that a manifest calls `name`. `None` when there is none, or when it has other names too, whose
    /// content must not change with it.
    ///
    /// # Errors
    /// [`PgDataErrorKind::ChangedType`], [`PgDataErrorKind::FileOpen`].
    pub fn open(roots: &DataRoots, name: &[u8]) -> Result<Option<Self>, PgDataError> {
        let (directory, below) = roots.locate(name)?;
        match open_regular(directory, &below, OFlags::RDWR) {
            Ok((_, info)) if info.names > 1 => Ok(None),
            Ok((fd, info)) => Ok(Some(Self { file: TargetFile::new(fd, directory.path_of(&below)), info })),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The attributes it had when it was opened.
    pub fn info(&self) -> &EntryInfo {
        &self.info
    }

    /// Cuts off what the file has grown since the backup; the part before may still be the same.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileWrite`].
    pub fn truncate(&mut self, size_bytes: u64) -> Result<(), PgDataError> {
        if self.info.size_bytes > size_bytes {
            self.file.set_length(size_bytes)?;
            self.info.size_bytes = size_bytes;
        }
        Ok(())
    }

    /// SHA-1 of the content from the beginning.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileRead`].
    pub fn sha1(&mut self) -> Result<[u8; 20], PgDataError> {
        self.rewind()?;
        let mut hash = Sha1::new();
        let mut buffer = vec![0; HASH_BUFFER_BYTES];
        loop {
            match self.read_next(&mut buffer)? {
                0 => return Ok(hash.finalize().into()),
                count => hash.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    }

    /// Goes back to the beginning of the file.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileRead`].
    pub fn rewind(&mut self) -> Result<(), PgDataError> {
        rustix::fs::seek(&self.file.fd, rustix::fs::SeekFrom::Start(0))
            .map(|_| ())
            .map_err(|errno| self.read_error(errno))
    }

    /// The file for writing, with its content and the position where it was left.
    pub fn into_target(self) -> TargetFile {
        self.file
    }

    fn read_next(&mut self, buffer: &mut [u8]) -> Result<usize, PgDataError> {
        loop {
            match rustix::io::read(&self.file.fd, &mut *buffer) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.read_error(errno)),
            }
        }
    }

    fn read_error(&self, errno: Errno) -> PgDataError {
        PgDataError::system(PgDataErrorKind::FileRead, "read file", &self.file.path, errno)
    }
}

impl Read for ExistingFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_next(buffer).map_err(io::Error::other)
    }
}

/// Writes a whole small file, such as recovery settings: durable when this returns, its directory apart.
///
/// # Errors
/// As for [`TargetFile::create`] and [`TargetFile::finish`].
pub fn write_file(
    roots: &DataRoots,
    name: &[u8],
    content: &[u8],
    attributes: FileAttributes,
) -> Result<(), PgDataError> {
    let mut file = TargetFile::create(roots, name, Existing::Replace)?;
    file.append(content)?;
    file.finish(attributes, SyncPolicy::EachFile)
}

/// Makes everything written below `roots` durable: one call for each file system. Errors of writing back that happened
/// since the roots were opened are reported (Linux 5.8 and later). Directories are covered too.
///
/// # Errors
/// [`PgDataErrorKind::PathSync`].
pub fn sync_file_systems(roots: &DataRoots) -> Result<(), PgDataError> {
    let mut devices = BTreeSet::new();
    for (_, directory) in roots.directories() {
        if devices.insert(directory.info()?.identity.0) {
            directory.sync_file_system()?;
        }
    }
    Ok(())
}

impl Directory {
    /// Creates a directory below. Returns whether it is new; one that is there keeps mode and owner.
    ///
    /// # Errors
    /// [`PgDataErrorKind::ChangedType`] when something else is there; [`PgDataErrorKind::PathCreate`],
    /// [`PgDataErrorKind::FileOwner`].
    pub fn create_directory(&self, path: &RelativePath, mode: EntryMode, owner: Ids) -> Result<bool, PgDataError> {
        let full = self.path_of(path);
        match self.at(path, |parent, name| rustix::fs::mkdirat(parent, name, Mode::RWXU)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return match self.info_of(path)? {
                    Some(info) if info.kind == EntryKind::Directory => Ok(false),
                    _ => {
                        let message = format!("'{}' exists and is not a directory", DisplayPath(&full));
                        Err(PgDataError::new(PgDataErrorKind::ChangedType, &full, message))
                    }
                };
            }
            Err(errno) => {
                return Err(PgDataError::system(PgDataErrorKind::PathCreate, "create path", &full, errno));
            }
        }
        self.set_owner(path, owner)?;
        self.set_mode(path, mode)?;
        Ok(true)
    }

    /// Opens the directory at an absolute path, creating it and its missing parents.
    ///
    /// # Errors
    /// [`PgDataErrorKind::PathCreate`], [`PgDataErrorKind::PathOpen`], [`PgDataErrorKind::FileOwner`].
    pub fn create_all(path: &[u8], mode: EntryMode, owner: Ids) -> Result<Self, PgDataError> {
        let mut missing: Vec<&[u8]> = Vec::new();
        let mut at = path;
        let mut directory = loop {
            if let Some(directory) = Self::open_if_exists(at)? {
                break directory;
            }
            if super::path::parent(at).is_empty() {
                let message = format!("'{}' is not an absolute path", DisplayPath(path));
                return Err(PgDataError::new(PgDataErrorKind::PathCreate, path, message));
            }
            missing.push(super::path::last_name(at));
            at = super::path::parent(at);
        };
        for name in missing.into_iter().rev() {
            let below = RelativePath::parse(name)?;
            directory.create_directory(&below, mode, owner)?;
            directory = directory.open_below(&below)?.ok_or_else(|| {
                let path = directory.path_of(&below);
                PgDataError::system(PgDataErrorKind::PathCreate, "create path", &path, Errno::NOENT)
            })?;
        }
        Ok(directory)
    }

    /// Sets the owner of an entry below, of a link itself, if it differs.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileOwner`].
    pub fn set_owner(&self, path: &RelativePath, owner: Ids) -> Result<(), PgDataError> {
        let (user, group) = to_rustix(owner);
        let result = self.at(path, |parent, name| {
            let info = stat_entry(parent, name)?;
            if (Ids { user: info.user, group: info.group }) == owner {
                return Ok(());
            }
            rustix::fs::chownat(parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW)
        });
        result.map_err(|errno| {
            PgDataError::system(PgDataErrorKind::FileOwner, "set ownership for", &self.path_of(path), errno)
        })
    }

    /// Sets the mode of a file or directory below; never through a link.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileMode`].
    pub fn set_mode(&self, path: &RelativePath, mode: EntryMode) -> Result<(), PgDataError> {
        let bits = Mode::from_raw_mode(mode.bits());
        let result = match self.open_fd(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty()) {
            Ok(fd) => rustix::fs::fchmod(fd, bits),
            // Not readable, but ours: a handle that needs no permission, reached by its own name in /proc.
            Err(Errno::ACCESS) => self.open_fd(path, OFlags::PATH, Mode::empty()).and_then(|fd| {
                if EntryInfo::of(&fd)?.kind == EntryKind::Link {
                    return Err(Errno::LOOP);
                }
                let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
                rustix::fs::chmod(format!("/proc/self/fd/{number}"), bits)
            }),
            Err(errno) => Err(errno),
        };
        result
            .map_err(|errno| PgDataError::system(PgDataErrorKind::FileMode, "set mode for", &self.path_of(path), errno))
    }

    /// Sets the modification time of a file below.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileInfo`].
    pub fn set_modified(&self, path: &RelativePath, modified_s: i64) -> Result<(), PgDataError> {
        let times = timestamps(modified_s);
        self.at(path, |parent, name| rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|errno| PgDataError::system(PgDataErrorKind::FileInfo, "set time for", &self.path_of(path), errno))
    }

    /// Creates a symbolic link below.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileOpen`], as the original.
    pub fn create_link(&self, path: &RelativePath, destination: &[u8], owner: Ids) -> Result<(), PgDataError> {
        self.at(path, |parent, name| rustix::fs::symlinkat(destination, parent, name)).map_err(|errno| {
            PgDataError::system(PgDataErrorKind::FileOpen, "create symlink", &self.path_of(path), errno)
        })?;
        self.set_owner(path, owner)
    }

    /// Removes a file, link or special file below.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileRemove`].
    pub fn remove_file(&self, path: &RelativePath) -> Result<(), PgDataError> {
        self.at(path, |parent, name| rustix::fs::unlinkat(parent, name, AtFlags::empty()))
            .map_err(|errno| PgDataError::system(PgDataErrorKind::FileRemove, "remove", &self.path_of(path), errno))
    }

    /// Renames a file within this directory, replacing what has the new name.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileMove`].
    pub fn rename(&self, from: &RelativePath, to: &RelativePath) -> Result<(), PgDataError> {
        let result = self.at(from, |from_parent, from_name| {
            self.at(to, |to_parent, to_name| rustix::fs::renameat(from_parent, from_name, to_parent, to_name))
        });
        result.map_err(|errno| {
            let action = format!("rename to '{}' file", DisplayPath(to.as_bytes()));
            PgDataError::system(PgDataErrorKind::FileMove, &action, &self.path_of(from), errno)
        })
    }

    /// Makes the entries of a directory below durable.
    ///
    /// # Errors
    /// [`PgDataErrorKind::PathSync`], [`PgDataErrorKind::PathMissing`].
    pub fn sync(&self, path: &RelativePath) -> Result<(), PgDataError> {
        let full = self.path_of(path);
        let Some(directory) = self.open_below(path)? else {
            let message = format!("missing path '{}'", DisplayPath(&full));
            return Err(PgDataError::missing(PgDataErrorKind::PathMissing, &full, message));
        };
        rustix::fs::fsync(directory.fd())
            .map_err(|errno| PgDataError::system(PgDataErrorKind::PathSync, "sync path", &full, errno))
    }

    /// Makes everything on the file system of this directory durable.
    ///
    /// # Errors
    /// [`PgDataErrorKind::PathSync`].
    pub fn sync_file_system(&self) -> Result<(), PgDataError> {
        rustix::fs::syncfs(self.fd())
            .map_err(|errno| PgDataError::system(PgDataErrorKind::PathSync, "sync file system of", self.path(), errno))
    }
}

fn create_new(directory: &Directory, below: &RelativePath) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    directory.open_fd(below, flags, Mode::RUSR | Mode::WUSR)
}

fn create_error(path: &[u8], errno: Errno) -> PgDataError {
    let kind = match errno {
        Errno::EXIST => PgDataErrorKind::FileExists,
        Errno::LOOP | Errno::NOTDIR => PgDataErrorKind::ChangedType,
        _ => PgDataErrorKind::FileWrite,
    };
    PgDataError::system(kind, "create file", path, errno)
}

/// Opens a file that is there, without ever waiting, and makes sure that it is one.
fn open_regular(
    directory: &Directory,
    below: &RelativePath,
    access: OFlags,
) -> Result<(OwnedFd, EntryInfo), PgDataError> {
    let path = directory.path_of(below);
    let fail = |errno| match errno {
        Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => {
            PgDataError::system(PgDataErrorKind::ChangedType, "open file", &path, errno)
        }
        _ => PgDataError::system(PgDataErrorKind::FileOpen, "open file", &path, errno),
    };
    let fd = directory.open_fd(below, access | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty()).map_err(fail)?;
    let info = EntryInfo::of(&fd).map_err(fail)?;
    if info.kind != EntryKind::File {
        let message = format!("'{}' is not a regular file", DisplayPath(&path));
        return Err(PgDataError::new(PgDataErrorKind::ChangedType, &path, message));
    }
    Ok((fd, info))
}

fn set_modified(fd: &OwnedFd, modified_s: i64) -> Result<(), Errno> {
    rustix::fs::futimens(fd, &timestamps(modified_s))
}

fn timestamps(modified_s: i64) -> Timestamps {
    let time = Timespec { tv_sec: modified_s, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// The largest id means "leave as it is" to the system.
fn to_rustix(owner: Ids) -> (Option<Uid>, Option<Gid>) {
    let known = |id: u32| Some(id).filter(|&id| id != u32::MAX);
    (known(owner.user).map(Uid::from_raw), known(owner.group).map(Gid::from_raw))
}

#[cfg(test)]
#[path = "write_test.rs"]
mod tests;
