//! Reading the cluster's files for a backup, while the server goes on changing them.

use std::fmt::{Debug, Display};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::directory::{EntryInfo, EntryKind};
use super::error::{DisplayPath, PgDataError, PgDataErrorKind};
use super::target::DataRoots;
use crate::postgres::data_path::CONTROL_FILE;

/// The bytes of `pg_control` that are written at once (`PG_CONTROL_MAX_SAFE_SIZE`, a disk sector); the rest is zero.
pub const CONTROL_DATA_BYTES: usize = 512;
/// The bytes of the whole file (`PG_CONTROL_FILE_SIZE` in PostgreSQL's `catalog/pg_control.h`).
pub const CONTROL_FILE_BYTES: usize = 8192;
/// Time between two tries to read `pg_control`, as in pgBackRest's `src/postgres/interface.c`.
const CONTROL_PAUSE: Duration = Duration::from_millis(50);
/// Tries before a `pg_control` that is different and wrong each time is given up: ten seconds.
const CONTROL_TRIES: u32 = 200;

/// How much of a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadLimit {
    /// Not more than the size it was listed with; what was added since is replayed from WAL.
    ListedSize(u64),
    /// To its end, wherever that is by then.
    End,
}

/// A regular file of the cluster open for reading. [`Read`] errors carry a [`PgDataError`] that names file and offset.
#[derive(Debug)]
pub struct SourceFile {
    fd: OwnedFd,
    path: Vec<u8>,
    offset: u64,
    limit: ReadLimit,
}

impl SourceFile {
    /// Opens the file that a manifest calls `name`; `None` when it has vanished, which is no error during a backup.
    ///
    /// # Errors
    /// [`PgDataErrorKind::ChangedType`] when it is no regular file any more, or a link is on the way;
    /// [`PgDataErrorKind::FileOpen`] when it cannot be opened; [`PgDataErrorKind::Format`] when the name cannot be
    /// located.
    pub fn open(roots: &DataRoots, name: &[u8], limit: ReadLimit) -> Result<Option<Self>, PgDataError> {
        let (directory, below) = roots.locate(name)?;
        let path = directory.path_of(&below);
        // Without waiting: opening a FIFO that was put in the file's place would never come back.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match directory.open_fd(&below, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno @ (Errno::LOOP | Errno::NOTDIR | Errno::NXIO)) => {
                return Err(PgDataError::system(PgDataErrorKind::ChangedType, "open file", &path, errno));
            }
            Err(errno) => return Err(PgDataError::system(PgDataErrorKind::FileOpen, "open file", &path, errno)),
        };
        let info = EntryInfo::of(&fd)
            .map_err(|errno| PgDataError::system(PgDataErrorKind::FileOpen, "get info for", &path, errno))?;
        if info.kind != EntryKind::File {
            let message = format!("'{}' is not a regular file any more", DisplayPath(&path));
            return Err(PgDataError::new(PgDataErrorKind::ChangedType, &path, message));
        }
        Ok(Some(Self { fd, path, offset: 0, limit }))
    }

    /// The path, for messages.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The bytes read so far; at the end of the file its size as it was read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads one page again from the file, apart from the reading that is going on: for a page whose checksum was
    /// wrong because it was being written. Returns the bytes that were there, fewer than a page at the end of the file.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileRead`].
    pub fn read_page(&self, page_number: u64, page: &mut [u8]) -> Result<usize, PgDataError> {
        let page_size = u64::try_from(page.len()).unwrap_or(u64::MAX);
        let Some(start) = page_number.checked_mul(page_size) else { return Ok(0) };
        let mut filled = 0;
        while let Some(rest) = page.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let offset = start.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            match rustix::io::pread(&self.fd, rest, offset) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.read_error(offset, errno)),
            }
        }
        Ok(filled)
    }

    /// Reads the next bytes; zero of them is the end or the limit.
    ///
    /// # Errors
    /// [`PgDataErrorKind::FileRead`] naming file and offset. Nothing is ever made up for bytes that cannot be read.
    pub fn read_next(&mut self, buffer: &mut [u8]) -> Result<usize, PgDataError> {
        let wanted = match self.limit {
            ReadLimit::End => buffer.len(),
            ReadLimit::ListedSize(size) => {
                usize::try_from(size.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(buffer.len())
            }
        };
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Ok(count) => {
                    self.offset = self.offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                    return Ok(count);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.read_error(self.offset, errno)),
            }
        }
    }

    fn read_error(&self, offset: u64, errno: Errno) -> PgDataError {
        PgDataError::system(PgDataErrorKind::FileRead, &format!("read at offset {offset} of file"), &self.path, errno)
    }
}

impl Read for SourceFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_next(buffer).map_err(io::Error::other)
    }
}

/// `pg_control` as it is stored in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRead<T> {
    /// 512 valid bytes and zeros up to 8192.
    pub bytes: Vec<u8>,
    /// What the check made of them.
    pub control: T,
}

/// `pg_control` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlReadError<E: Debug + Display> {
    /// The file itself could not be read.
    #[error(transparent)]
    File(#[from] PgDataError),
    /// The content is wrong and stays so.
    #[error("invalid pg_control '{path}': {reason}")]
    Invalid {
        /// The path.
        path: String,
        /// What the check says.
        reason: E,
    },
}

/// Reads `pg_control`, whose CRC `check` must verify. The server may be writing it, and not every file system makes that
/// atomic: bad bytes are read again 50 ms later, until they are good, or bad in the same way twice. Blocking.
///
/// # Errors
/// [`ControlReadError::File`] when the file is missing, shorter than its data or unreadable;
/// [`ControlReadError::Invalid`] with the last reason of `check`.
pub fn read_control<T, E: Debug + Display>(
    roots: &DataRoots,
    check: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<ControlRead<T>, ControlReadError<E>> {
    let mut last: Option<Vec<u8>> = None;
    let mut tries = CONTROL_TRIES;
    loop {
        let (mut bytes, path) = read_control_data(roots)?;
        let reason = match check(&bytes) {
            Ok(control) => {
                bytes.resize(CONTROL_FILE_BYTES, 0);
                return Ok(ControlRead { bytes, control });
            }
            Err(reason) => reason,
        };
        tries = tries.saturating_sub(1);
        if tries == 0 || last.as_ref() == Some(&bytes) {
            return Err(ControlReadError::Invalid { path: DisplayPath(&path).to_string(), reason });
        }
        last = Some(bytes);
        std::thread::sleep(CONTROL_PAUSE);
    }
}

fn read_control_data(roots: &DataRoots) -> Result<(Vec<u8>, Vec<u8>), PgDataError> {
    let limit = ReadLimit::ListedSize(u64::try_from(CONTROL_DATA_BYTES).unwrap_or(u64::MAX));
    let Some(mut file) = SourceFile::open(roots, CONTROL_FILE.as_bytes(), limit)? else {
        let message = format!("'{CONTROL_FILE}' is missing");
        return Err(PgDataError::missing(PgDataErrorKind::FileMissing, CONTROL_FILE.as_bytes(), message));
    };
    let mut bytes = vec![0; CONTROL_DATA_BYTES];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_next(rest)? {
            0 => {
                let message = format!(
                    "unable to read {CONTROL_DATA_BYTES} bytes from '{}': it has {filled}",
                    DisplayPath(file.path())
                );
                return Err(PgDataError::new(PgDataErrorKind::FileRead, file.path(), message));
            }
            count => filled += count,
        }
    }
    Ok((bytes, file.path.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgdata::{LinkPolicy, Target};
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    struct Cluster(tempfile::TempDir);

    impl Cluster {
        fn new() -> Self {
            let temporary = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(temporary.path().join("pg/global")).unwrap();
            std::fs::write(temporary.path().join("canary"), "secret").unwrap();
            Self(temporary)
        }

        fn pg(&self, path: &str) -> PathBuf {
            self.0.path().join("pg").join(path)
        }

        fn roots(&self) -> DataRoots {
            let pgdata = self.0.path().join("pg");
            DataRoots::open(&[Target::data(pgdata.as_os_str().as_bytes())], &LinkPolicy::Any).unwrap()
        }

        fn read(&self, name: &str, limit: ReadLimit) -> Result<Option<Vec<u8>>, PgDataError> {
            let Some(mut file) = SourceFile::open(&self.roots(), name.as_bytes(), limit)? else { return Ok(None) };
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            assert_eq!(file.offset(), u64::try_from(content.len()).unwrap());
            Ok(Some(content))
        }
    }

    #[test]
    fn bk01_a_vanished_file_is_no_error() {
        let cluster = Cluster::new();
        assert_eq!(cluster.read("pg_data/base/1/2", ReadLimit::End).unwrap(), None);
        assert_eq!(cluster.read("pg_data/global/1", ReadLimit::End).unwrap(), None);
    }

    #[test]
    fn bk02_growth_is_not_read() {
        let cluster = Cluster::new();
        std::fs::write(cluster.pg("grown"), [7; 100]).unwrap();
        let mut file =
            SourceFile::open(&cluster.roots(), b"pg_data/grown", ReadLimit::ListedSize(60)).unwrap().unwrap();
        let mut buffer = [0; 50];
        assert_eq!(file.read_next(&mut buffer).unwrap(), 50);
        std::fs::File::options().append(true).open(cluster.pg("grown")).unwrap().write_all(&[8; 1000]).unwrap();
        assert_eq!(file.read_next(&mut buffer).unwrap(), 10);
        assert_eq!(file.read_next(&mut buffer).unwrap(), 0);
        assert_eq!(cluster.read("pg_data/grown", ReadLimit::End).unwrap().unwrap().len(), 1100);
        assert_eq!(cluster.read("pg_data/grown", ReadLimit::ListedSize(0)).unwrap().unwrap().len(), 0);
    }

    #[test]
    fn bk03_a_shrunk_file_has_its_true_size() {
        let cluster = Cluster::new();
        std::fs::write(cluster.pg("shrunk"), [7; 8192 * 2]).unwrap();
        for (left, first) in [(0, 4096), (12_000, 8192), (8192, 8192), (16_384, 100)] {
            let size = 8192 * 2;
            std::fs::write(cluster.pg("shrunk"), vec![7; 8192 * 2]).unwrap();
            let mut file =
                SourceFile::open(&cluster.roots(), b"pg_data/shrunk", ReadLimit::ListedSize(size)).unwrap().unwrap();
            let mut buffer = vec![0; first];
            file.read_exact(&mut buffer).unwrap();
            std::fs::File::options().write(true).open(cluster.pg("shrunk")).unwrap().set_len(left).unwrap();
            let mut rest = Vec::new();
            file.read_to_end(&mut rest).unwrap();
            assert_eq!(file.offset(), left.max(u64::try_from(first).unwrap()));
        }
    }

    #[test]
    fn bk04_sec18_what_is_no_file_any_more_is_not_read() {
        let cluster = Cluster::new();
        symlink("../canary", cluster.pg("link")).unwrap();
        std::fs::create_dir(cluster.pg("directory")).unwrap();
        symlink("..", cluster.pg("way")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(cluster.pg("socket")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            cluster.pg("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for name in ["link", "directory", "socket", "fifo", "way/canary"] {
            let error = cluster.read(&format!("pg_data/{name}"), ReadLimit::End).unwrap_err();
            assert_eq!(error.kind(), PgDataErrorKind::ChangedType, "{name}: {error}");
        }
        drop(socket);
    }

    #[test]
    fn bk24_a_read_error_names_file_and_offset() {
        // The memory of a process is a regular file by its mode, and nothing is mapped at its first page.
        let roots = DataRoots::open(&[Target::data(b"/proc/self")], &LinkPolicy::Any).unwrap();
        let mut file = SourceFile::open(&roots, b"pg_data/mem", ReadLimit::End).unwrap().unwrap();
        let error = file.read_next(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), PgDataErrorKind::FileRead);
        assert_eq!(error.errno(), Some(Errno::IO));
        assert!(error.to_string().starts_with("unable to read at offset 0 of file '/proc/self/mem'"), "{error}");
        let error = file.read(&mut [0; 8]).unwrap_err();
        assert!(error.get_ref().unwrap().is::<PgDataError>());
        assert_eq!(file.read_page(0, &mut [0; 8]).unwrap_err().kind(), PgDataErrorKind::FileRead);
    }

    #[test]
    fn pages_are_read_again() {
        let cluster = Cluster::new();
        std::fs::write(cluster.pg("pages"), [[1; 10], [2; 10], [3; 10]].concat()).unwrap();
        let mut file = SourceFile::open(&cluster.roots(), b"pg_data/pages", ReadLimit::End).unwrap().unwrap();
        let mut page = [0; 10];
        file.read_exact(&mut page).unwrap();
        assert_eq!(file.read_page(2, &mut page).unwrap(), 10);
        assert_eq!(page, [3; 10]);
        assert_eq!(file.read_page(3, &mut page).unwrap(), 0);
        assert_eq!(file.read_page(u64::MAX, &mut page).unwrap(), 0);
        file.read_exact(&mut page).unwrap();
        assert_eq!(page, [2; 10], "reading goes on where it was");
    }

    fn first_byte_is_good(bytes: &[u8]) -> Result<usize, String> {
        if bytes.first() == Some(&b'g') { Ok(bytes.len()) } else { Err("bad crc".into()) }
    }

    #[test]
    fn bk27_pg_control_is_read_until_it_is_good() {
        let cluster = Cluster::new();
        let path = cluster.pg("global/pg_control");
        let write = |head: [u8; 2]| std::fs::write(&path, [&head[..], &[0xaa; 8190]].concat()).unwrap();
        write([b'b', 0]);
        let tries = std::cell::Cell::new(0_u8);
        // The server writes after each look at the file, and is done at the fourth.
        let check = |bytes: &[u8]| {
            let result = first_byte_is_good(bytes);
            tries.set(tries.get() + 1);
            write([if tries.get() == 3 { b'g' } else { b'b' }, tries.get()]);
            result
        };
        let read = read_control(&cluster.roots(), check).unwrap();
        assert_eq!(tries.get(), 4);
        assert_eq!(read.control, CONTROL_DATA_BYTES);
        assert_eq!(read.bytes.len(), CONTROL_FILE_BYTES);
        assert_eq!(read.bytes[..2], [b'g', 3]);
        assert!(read.bytes[2..512].iter().all(|&byte| byte == 0xaa));
        assert!(read.bytes[512..].iter().all(|&byte| byte == 0), "what follows the data is zero");
    }

    #[test]
    fn bk27_pg_control_that_stays_bad_is_an_error() {
        let cluster = Cluster::new();
        let read = || read_control(&cluster.roots(), first_byte_is_good).unwrap_err();
        assert!(
            matches!(read(), ControlReadError::File(error) if error.kind() == PgDataErrorKind::FileMissing),
            "missing"
        );
        std::fs::write(cluster.pg("global/pg_control"), [b'g'; 511]).unwrap();
        assert!(matches!(read(), ControlReadError::File(error) if error.kind() == PgDataErrorKind::FileRead), "short");
        std::fs::write(cluster.pg("global/pg_control"), [b'b'; 8192]).unwrap();
        let error = read().to_string();
        assert!(error.starts_with("invalid pg_control '") && error.ends_with(": bad crc"), "{error}");
    }
}
