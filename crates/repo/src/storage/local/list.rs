//! Listing a directory. A recursive listing ends each page after a whole directory and goes on behind it, so that its
//! memory is that of the largest directory.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Dir, FileType};
use rustix::io::Errno;

use crate::storage::{
    Entry, EntryKind, ErrorClass, ListOptions, ListPage, Operation, PageToken, StorageError, StoragePath,
};

use super::Inner;
use super::directory::{file_type, open_below};
use super::errno::{failure, is_absent};
use super::read::{entry_kind, size_bytes};
use super::temporary::is_temporary;

/// A recursive page ends with the directory that reaches this.
const PAGE_ENTRIES: usize = 10_000;

/// One listing.
struct Listing<'a> {
    path: &'a StoragePath,
    base: OwnedFd,
    /// What the first name must begin with.
    prefix: &'a str,
}

impl Inner {
    pub(super) fn list(
        &self,
        path: &StoragePath,
        options: &ListOptions,
        page: Option<&PageToken>,
    ) -> Result<ListPage, StorageError> {
        let base = match self.directory(path) {
            Err(errno) if is_absent(errno) => return Ok(ListPage::default()),
            outcome => outcome.map_err(|errno| failure(Operation::List, path, "open it", errno))?,
        };
        let listing = Listing { path, base, prefix: options.name_prefix.as_deref().unwrap_or_default() };
        if options.recurse {
            return listing.recurse(page);
        }
        Ok(ListPage { entries: listing.entries_of("")?.unwrap_or_default(), next: None })
    }
}

impl Listing<'_> {
    /// The page behind the directory that `page` names, in the order: a directory's own files, then its directories.
    fn recurse(&self, page: Option<&PageToken>) -> Result<ListPage, StorageError> {
        let mut pending = match page {
            None => VecDeque::from([String::new()]),
            Some(token) => self.behind(&token.0)?,
        };
        let mut entries = Vec::new();
        while let Some(directory) = pending.pop_front() {
            let Some(found) = self.entries_of(&directory)? else { continue };
            if found.is_empty() && !directory.is_empty() {
                entries.push(Entry::directory(&directory));
            }
            let (below, own): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|entry| entry.kind == EntryKind::Directory);
            entries.extend(own);
            for entry in below.into_iter().rev() {
                pending.push_front(entry.name);
            }
            if entries.len() >= PAGE_ENTRIES && !pending.is_empty() {
                return Ok(ListPage { entries, next: Some(PageToken(directory)) });
            }
        }
        Ok(ListPage { entries, next: None })
    }

    /// The directories still to be listed when `done` is: those in it, and those behind each directory on its way.
    fn behind(&self, done: &str) -> Result<VecDeque<String>, StorageError> {
        let done = StoragePath::parse(done).map_err(|error| self.fail(error.to_string()))?;
        let mut pending = VecDeque::new();
        let mut above = StoragePath::root();
        for name in done.as_str().split('/').filter(|name| !name.is_empty()) {
            let next = above.join(name).map_err(|error| self.fail(error.to_string()))?;
            let later = self.directories_of(above.as_str())?.into_iter().filter(|found| found.as_str() > next.as_str());
            // What lies deeper comes first.
            for directory in later.rev() {
                pending.push_front(directory);
            }
            above = next;
        }
        for directory in self.directories_of(done.as_str())?.into_iter().rev() {
            pending.push_front(directory);
        }
        Ok(pending)
    }

    fn directories_of(&self, relative: &str) -> Result<Vec<String>, StorageError> {
        let entries = self.entries_of(relative)?.unwrap_or_default().into_iter();
        Ok(entries.filter(|entry| entry.kind == EntryKind::Directory).map(|entry| entry.name).collect())
    }

    /// The entries of the directory at `relative`, with names from the listed directory, sorted; `None` when it
    /// vanished.
    fn entries_of(&self, relative: &str) -> Result<Option<Vec<Entry>>, StorageError> {
        let fail = |errno| failure(Operation::List, self.path, "read the directory", errno);
        let directory = match open_below(self.base.as_fd(), relative) {
            Err(errno) if is_absent(errno) => return Ok(None),
            outcome => outcome.map_err(fail)?,
        };
        let mut entries = Vec::new();
        for found in Dir::read_from(&directory).map_err(fail)? {
            let found = found.map_err(fail)?;
            let Ok(name) = found.file_name().to_str() else {
                let shown = found.file_name().to_string_lossy().into_owned();
                return Err(self.fail(format!("'{shown}' in '{relative}' has a name that is not UTF-8")));
            };
            let hidden = matches!(name, "." | "..") || is_temporary(name);
            if hidden || (relative.is_empty() && !name.starts_with(self.prefix)) {
                continue;
            }
            entries.extend(entry(directory.as_fd(), relative, name).map_err(fail)?);
        }
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(Some(entries))
    }

    fn fail(&self, what: String) -> StorageError {
        StorageError::new(ErrorClass::Permanent, Operation::List, self.path, what)
    }
}

/// One entry; `None` when it vanished while the directory was read.
fn entry(directory: BorrowedFd<'_>, relative: &str, name: &str) -> Result<Option<Entry>, Errno> {
    let look = || {
        let stat = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((entry_kind(directory, name, &stat)?, stat))
    };
    let (kind, stat) = match look() {
        Err(Errno::NOENT) => return Ok(None),
        outcome => outcome?,
    };
    let size_bytes = if file_type(&stat) == FileType::RegularFile { size_bytes(&stat) } else { 0 };
    let name = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
    Ok(Some(Entry { name, kind, size_bytes, modified_s: stat.st_mtime, version: None }))
}
