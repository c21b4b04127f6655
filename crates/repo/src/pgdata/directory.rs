//! [`Directory`]: an open directory. Everything below it is reached through the handle, so that neither a `..` nor a
//! link that somebody plants while we work can lead elsewhere.
//!
//! Linux resolves a whole path beneath a handle at once (`openat2`); where that call is missing or forbidden, the path
//! is walked name by name, each opened without following links. Both refuse every symbolic link on the way.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::{DisplayPath, PgDataError, PgDataErrorKind};
use super::path::RelativePath;

/// Bytes of directory entries asked for at once; a name has at most 255 bytes.
const LISTING_BUFFER_BYTES: usize = 32 * 1024;

/// What kind of entry a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Link,
    /// Socket, FIFO or device.
    Special,
}

/// The attributes of an entry; of a link, those of the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryInfo {
    /// Kind of entry.
    pub kind: EntryKind,
    /// Bytes.
    pub size_bytes: u64,
    /// Last modification, whole seconds since the Unix epoch.
    pub modified_s: i64,
    /// Permission bits, without set-id and sticky bits.
    pub mode: u32,
    /// User id of the owner.
    pub user: u32,
    /// Group id of the owner.
    pub group: u32,
    /// Device and inode: the same for two ways to one entry.
    pub identity: (u64, u64),
    /// Names that the entry has (hard links).
    pub names: u64,
}

impl EntryInfo {
    #[allow(clippy::useless_conversion, reason = "the number of names is narrower on some platforms")]
    fn from_stat(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Link,
            _ => EntryKind::Special,
        };
        Self {
            kind,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified_s: stat.st_mtime,
            mode: stat.st_mode & 0o777,
            user: stat.st_uid,
            group: stat.st_gid,
            identity: (stat.st_dev, stat.st_ino),
            names: u64::from(stat.st_nlink),
        }
    }

    /// The attributes of what a handle is open on.
    pub(crate) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        rustix::fs::fstat(fd).map(|stat| Self::from_stat(&stat))
    }
}

/// An open directory, and the absolute path that it was opened by, for messages.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: Vec<u8>,
}

impl Directory {
    /// Opens the directory at an absolute path that an administrator configured; links on the way are followed.
    ///
    /// # Errors
    /// [`PgDataErrorKind::PathMissing`] when it does not exist, [`PgDataErrorKind::PathOpen`] otherwise.
    pub fn open(path: &[u8]) -> Result<Self, PgDataError> {
        let fd = rustix::fs::openat(
            rustix::fs::CWD,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| Self::open_error(path, errno))?;
        Ok(Self { fd, path: path.to_vec() })
    }

    /// As [`Directory::open`], for a path of the standard library.
    ///
    /// # Errors
    /// As for [`Directory::open`].
    pub fn open_path(path: &Path) -> Result<Self, PgDataError> {
        use std::os::unix::ffi::OsStrExt;
        Self::open(path.as_os_str().as_bytes())
    }

    /// Opens the directory if it exists.
    ///
    /// # Errors
    /// [`PgDataErrorKind::PathOpen`].
    pub fn open_if_exists(path: &[u8]) -> Result<Option<Self>, PgDataError> {
        match Self::open(path) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The path that the directory was opened by.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The path of an entry, for messages.
    pub fn path_of(&self, below: &RelativePath) -> Vec<u8> {
        if below.is_root() {
            return self.path.clone();
        }
        let slash: &[u8] = if self.path.ends_with(b"/") { b"" } else { b"/" };
        [&self.path, slash, below.as_bytes()].concat()
    }

    /// The attributes of the directory itself.
    ///
    /// # Errors
    /// [`PgDataErrorKind::PathOpen`].
    pub fn info(&self) -> Result<EntryInfo, PgDataError> {
        EntryInfo::of(&self.fd)
            .map_err(|errno| PgDataError::system(PgDataErrorKind::PathOpen, "get info for", &self.path, errno))
    }

    /// The attributes of an entry below, without following a link; `None` when it does not exist.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileOpen`].
    pub fn info_of(&self, path: &RelativePath) -> Result<Option<EntryInfo>, PgDataError> {
        let result = self.at(path, |parent, name| stat_entry(parent, name));
        match result {
            Ok(info) => Ok(Some(info)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => {
                Err(PgDataError::system(PgDataErrorKind::FileOpen, "get info for", &self.path_of(path), errno))
            }
        }
    }

    /// The text of a link below.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileRead`].
    pub fn link_text(&self, path: &RelativePath) -> Result<Vec<u8>, PgDataError> {
        self.at(path, |parent, name| read_link(parent, name)).map_err(|errno| {
            PgDataError::system(PgDataErrorKind::FileRead, "get destination for link", &self.path_of(path), errno)
        })
    }

    /// Opens a directory below; `None` when it does not exist.
    ///
    /// # Errors
    /// [`PgDataErrorKind::ChangedType`] when it is not a directory or a link is on the way,
    /// [`PgDataErrorKind::PathOpen`] otherwise.
    pub fn open_below(&self, path: &RelativePath) -> Result<Option<Directory>, PgDataError> {
        match self.open_fd(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: self.path_of(path) })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Self::open_error(&self.path_of(path), errno)),
        }
    }

    /// The names in this directory, sorted by their bytes.
    ///
    /// # Errors
    /// [`PgDataErrorKind::PathOpen`].
    pub fn names(&self) -> Result<Vec<Vec<u8>>, PgDataError> {
        list_names(&self.fd).map_err(|errno| PgDataError::system(PgDataErrorKind::PathOpen, "list", &self.path, errno))
    }

    /// The handle.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens an entry below, never through a link. `flags` get close-on-exec and no-follow added.
    pub(crate) fn open_fd(&self, path: &RelativePath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        open_beneath(self.fd.as_fd(), path, flags, mode)
    }

    /// Runs `action` on the directory that holds an entry below and the entry's name there.
    pub(crate) fn at<T>(
        &self,
        path: &RelativePath,
        action: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match path.split() {
            None => action(self.fd.as_fd(), b"."),
            Some((parent, name)) if parent.is_root() => action(self.fd.as_fd(), name),
            Some((parent, name)) => {
                let parent = open_beneath(self.fd.as_fd(), &parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
                action(parent.as_fd(), name)
            }
        }
    }

    fn open_error(path: &[u8], errno: Errno) -> PgDataError {
        match errno {
            Errno::NOENT => {
                let message = format!("missing path '{}'", DisplayPath(path));
                PgDataError::missing(PgDataErrorKind::PathMissing, path, message)
            }
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                PgDataError::system(PgDataErrorKind::ChangedType, "open without following links", path, errno)
            }
            _ => PgDataError::system(PgDataErrorKind::PathOpen, "open path", path, errno),
        }
    }
}

/// Attributes of one name in a directory, without following a link.
pub(crate) fn stat_entry(parent: impl AsFd, name: &[u8]) -> Result<EntryInfo, Errno> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| EntryInfo::from_stat(&stat))
}

/// The text of the link of one name in a directory.
pub(crate) fn read_link(parent: impl AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    rustix::fs::readlinkat(parent, name, Vec::new()).map(std::ffi::CString::into_bytes)
}

/// The names in an open directory without `.` and `..`, sorted by their bytes.
pub(crate) fn list_names(directory: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer: Vec<MaybeUninit<u8>> = vec![MaybeUninit::uninit(); LISTING_BUFFER_BYTES];
    // The handle may have been listed before; its position is shared by its duplicates.
    rustix::fs::seek(&directory, rustix::fs::SeekFrom::Start(0))?;
    let mut listing = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // The directory itself was removed while it was open; it has no entries any more.
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(errno),
        };
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens `path` beneath `root`, refusing every link on the way and at the end.
fn open_beneath(root: BorrowedFd<'_>, path: &RelativePath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let name = if path.is_root() { &b"."[..] } else { path.as_bytes() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, name, flags, mode, resolve) {
        // Missing in the kernel, forbidden by a filter that predates the call, or disturbed by a rename.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => walk_beneath(root, path, flags, mode),
        result => result,
    }
}

/// The same, name by name.
fn walk_beneath(root: BorrowedFd<'_>, path: &RelativePath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    let mut names = path.names().peekable();
    while let Some(name) = names.next() {
        let parent = at.as_ref().map_or(root, AsFd::as_fd);
        if names.peek().is_none() {
            return rustix::fs::openat(parent, name, flags, mode);
        }
        at = Some(rustix::fs::openat(parent, name, step, Mode::empty())?);
    }
    rustix::fs::openat(root, ".", flags, mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn relative(path: &str) -> RelativePath {
        RelativePath::parse(path.as_bytes()).unwrap()
    }

    fn fixture() -> (tempfile::TempDir, Directory) {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temporary.path().join("root/a/b")).unwrap();
        std::fs::create_dir(temporary.path().join("outside")).unwrap();
        std::fs::write(temporary.path().join("outside/secret"), "secret").unwrap();
        std::fs::write(temporary.path().join("root/a/b/file"), "file").unwrap();
        symlink("../outside", temporary.path().join("root/way")).unwrap();
        symlink("../../../outside/secret", temporary.path().join("root/a/b/link")).unwrap();
        symlink("a/b/file", temporary.path().join("root/inner")).unwrap();
        let root = Directory::open_path(&temporary.path().join("root")).unwrap();
        (temporary, root)
    }

    #[test]
    fn hi03_links_are_not_followed_by_either_way_of_opening() {
        let (_temporary, root) = fixture();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for path in ["way/secret", "a/b/link", "inner", "way"] {
            let path = relative(path);
            let walked = walk_beneath(root.fd(), &path, flags, Mode::empty());
            assert!(matches!(walked, Err(Errno::LOOP | Errno::NOTDIR)), "{path:?}: {walked:?}");
            let opened = root.open_fd(&path, OFlags::RDONLY, Mode::empty());
            assert!(matches!(opened, Err(Errno::LOOP | Errno::NOTDIR)), "{path:?}: {opened:?}");
        }
        for path in ["a/b/file", "a/b", ""] {
            walk_beneath(root.fd(), &relative(path), flags, Mode::empty()).unwrap();
            root.open_fd(&relative(path), OFlags::RDONLY, Mode::empty()).unwrap();
        }
        assert_eq!(root.open_below(&relative("way")).unwrap_err().kind(), PgDataErrorKind::ChangedType);
        assert!(root.info_of(&relative("way/secret")).is_err());
        assert!(root.link_text(&relative("way/secret")).is_err());
    }

    #[test]
    fn attributes_and_names() {
        let (temporary, root) = fixture();
        assert_eq!(root.names().unwrap(), [&b"a"[..], b"inner", b"way"]);
        assert_eq!(root.names().unwrap().len(), 3, "a second listing starts from the beginning");
        let info = root.info_of(&relative("a/b/file")).unwrap().unwrap();
        assert_eq!((info.kind, info.size_bytes), (EntryKind::File, 4));
        assert_eq!(root.info_of(&relative("way")).unwrap().unwrap().kind, EntryKind::Link);
        assert_eq!(root.link_text(&relative("way")).unwrap(), b"../outside");
        assert_eq!(root.info_of(&relative("a/x/y")).unwrap(), None);
        assert!(root.open_below(&relative("x")).unwrap().is_none());
        let missing = temporary.path().join("none");
        let error = Directory::open_path(&missing).unwrap_err();
        assert_eq!(error.kind(), PgDataErrorKind::PathMissing);
        assert!(Directory::open_if_exists(missing.as_os_str().as_bytes()).unwrap().is_none());
    }
}
