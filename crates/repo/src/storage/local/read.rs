//! Reading: size and time of an entry, and the bytes of a file piece by piece.

use std::os::fd::{AsFd, OwnedFd};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{self, Errno};

use crate::storage::{
    ByteRange, EntryKind, ErrorClass, ObjectInfo, ObjectRead, ObjectVersion, Operation, StorageError, StoragePath,
};
use crate::workers::spawn_blocking;

use super::directory::file_type;
use super::errno::failure;
use super::{Inner, PIECE_BYTES, finished};

/// An opened file with its first piece: a small object costs one blocking task.
pub(super) struct Opened {
    info: ObjectInfo,
    first: Option<Bytes>,
    body: Body,
}

/// What is still to be read of a file.
struct Body {
    file: OwnedFd,
    path: StoragePath,
    version: ObjectVersion,
    offset: u64,
    end: u64,
    /// Taken back from the piece before it, when its reader is done with that.
    buffer: BytesMut,
}

impl Inner {
    pub(super) fn info(&self, path: &StoragePath) -> Result<ObjectInfo, StorageError> {
        let fail = |errno| failure(Operation::Info, path, "look it up", errno);
        if path.as_str().is_empty() {
            let root = self.directory(path).map_err(fail)?;
            return Ok(object_info(&fs::fstat(&root).map_err(fail)?, EntryKind::Directory));
        }
        let directory = self.directory_of(path).map_err(fail)?;
        let stat = fs::statat(&directory, path.file_name(), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        let kind = entry_kind(directory.as_fd(), path.file_name(), &stat).map_err(fail)?;
        Ok(object_info(&stat, kind))
    }

    pub(super) fn open(
        &self,
        path: &StoragePath,
        range: ByteRange,
        pin: Option<&ObjectVersion>,
    ) -> Result<Opened, StorageError> {
        let fail = |errno| failure(Operation::Read, path, "open it", errno);
        let directory = self.directory_of(path).map_err(fail)?;
        // Without NONBLOCK a FIFO that somebody put there would hold us for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = fs::openat(&directory, path.file_name(), flags, Mode::empty()).map_err(fail)?;
        let stat = fs::fstat(&file).map_err(fail)?;
        if file_type(&stat) != FileType::RegularFile {
            let what = "it is not a regular file";
            return Err(StorageError::new(ErrorClass::Permanent, Operation::Read, path, what));
        }
        let version = version(&stat);
        if pin.is_some_and(|pin| *pin != version) {
            let what = "it was replaced since it was looked at";
            return Err(StorageError::new(ErrorClass::Conflict, Operation::Read, path, what));
        }
        let info = object_info(&stat, EntryKind::Object);
        let range = range.within(path, info.size_bytes)?;
        let buffer = BytesMut::new();
        let mut body = Body { file, path: path.clone(), version, offset: range.start, end: range.end, buffer };
        let first = body.next_piece()?;
        Ok(Opened { info, first, body })
    }
}

impl Opened {
    pub(super) fn into_object_read(self) -> ObjectRead {
        let pieces = stream::try_unfold((self.first, self.body), |(first, body)| async move {
            if let Some(piece) = first {
                return Ok(Some((piece, (None, body))));
            }
            if body.offset >= body.end {
                return Ok(None);
            }
            let path = body.path.clone();
            let work = spawn_blocking(move || {
                let mut body = body;
                Ok((body.next_piece()?, body))
            });
            let (piece, body) = finished(Operation::Read, &path, work).await?;
            Ok(piece.map(|piece| (piece, (None, body))))
        });
        ObjectRead { info: self.info, body: Box::pin(pieces) }
    }
}

impl Body {
    /// Reads the next piece; `None` at the end of the range.
    fn next_piece(&mut self) -> Result<Option<Bytes>, StorageError> {
        let wanted = usize::try_from(self.end - self.offset).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
        if wanted == 0 {
            return Ok(None);
        }
        self.buffer.resize(wanted, 0);
        let mut filled = 0;
        while let Some(space) = self.buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
            let read = io::retry_on_intr(|| io::pread(&self.file, &mut *space, self.offset));
            let read = read.map_err(|errno| self.fail("read it", errno))?;
            if read == 0 {
                let what = format!("it ended at byte {} of {}", self.offset, self.end);
                return Err(StorageError::new(ErrorClass::Transient, Operation::Read, &self.path, what));
            }
            filled += read;
            self.offset = self.offset.saturating_add(read as u64);
        }
        if self.offset >= self.end {
            self.check_unchanged()?;
        }
        Ok(Some(self.buffer.split().freeze()))
    }

    /// A file that somebody wrote to in place while it was read has bytes of two versions.
    fn check_unchanged(&self) -> Result<(), StorageError> {
        let stat = fs::fstat(&self.file).map_err(|errno| self.fail("look at it again", errno))?;
        if version(&stat) == self.version {
            return Ok(());
        }
        Err(StorageError::new(ErrorClass::Conflict, Operation::Read, &self.path, "it was written to while it was read"))
    }

    fn fail(&self, step: &str, errno: Errno) -> StorageError {
        failure(Operation::Read, &self.path, step, errno)
    }
}

/// Size, time and inode of a file: another file or another content differs in one of them.
pub(super) fn version(stat: &Stat) -> ObjectVersion {
    ObjectVersion(format!("{}-{}.{:09}-{}", stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ino))
}

pub(super) fn object_info(stat: &Stat, kind: EntryKind) -> ObjectInfo {
    let is_object = kind == EntryKind::Object;
    ObjectInfo {
        size_bytes: if is_object { size_bytes(stat) } else { 0 },
        modified_s: stat.st_mtime,
        version: is_object.then(|| version(stat)),
        kind,
    }
}

pub(super) fn size_bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The kind of entry `name` in `directory`.
pub(super) fn entry_kind(directory: std::os::fd::BorrowedFd<'_>, name: &str, stat: &Stat) -> Result<EntryKind, Errno> {
    Ok(match file_type(stat) {
        FileType::RegularFile => EntryKind::Object,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => {
            let target = fs::readlinkat(directory, name, Vec::new())?;
            EntryKind::Link(target.to_string_lossy().into_owned())
        }
        _ => EntryKind::Special,
    })
}
