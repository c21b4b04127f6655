//! The file that is pushed: opened without following links, checked against the stanza, read once and compressed, or,
//! when it is too large to be held, hashed now and streamed later.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::clock::Random;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, StoreSpec};
use crate::filter::{Codecs, Compression, Digest, FilterError, Form, Hasher, SinkClosed};
use crate::format::CompressType;
use crate::postgres::{PgVersion, SystemId, WalFileName, WalHeader};

/// Files up to this size are compressed into memory: a segment of the default size. Larger ones are read twice.
const WHOLE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The most compressed bytes that are held. Ordinary WAL becomes a tenth to a half of its size; what stays above this, random
/// bytes above all, is compressed again while it is streamed, so that no data takes more memory than two parts of an upload.
const HELD_BYTES_MAX: usize = 6 * 1024 * 1024;

/// What the fast gz encoder may take for its output beside the plain segment; what does not fit is streamed.
const GZ_ROOM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of one read.
const READ_BYTES: usize = 128 * 1024;

/// Bytes of one read that is hashed by a second thread: enough that beginning one costs little.
const READ_BESIDE_BYTES: usize = 1024 * 1024;

/// How much of a segment is looked at for its header.
const HEADER_BYTES: usize = 512;

/// A file in the WAL directory that is to be archived.
#[derive(Debug, Clone)]
pub struct WalSource {
    /// The file.
    pub path: PathBuf,
    /// What its name says it is.
    pub name: WalFileName,
}

impl WalSource {
    /// Reads the name of the file at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::ParamInvalid`] for a name that PostgreSQL never gives to be archived (faults.md PU17).
    pub fn new(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| WalFileName::parse(name).ok());
        match name {
            Some(name) => Ok(Self { path: path.to_owned(), name }),
            None => Err(Error::new(
                ErrorKind::ParamInvalid,
                format!("'{}' is not a WAL segment, history or backup file", path.display().to_string().escape_debug()),
            )),
        }
    }
}

/// Which cluster a segment was written by, as its first page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writer {
    pub(super) version: PgVersion,
    pub(super) system_id: SystemId,
}

/// A source that was read once.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The first page's writer; `None` for files without a header, or when it is not to be checked.
    pub(super) writer: Option<Writer>,
    /// Size and checksum of the plain file.
    pub(super) plain: Digest,
    pub(super) content: Content,
}

/// The bytes for the repository.
#[derive(Debug)]
pub(super) enum Content {
    /// Compressed, in pieces; not encrypted.
    Whole(Vec<Bytes>),
    /// Too large, before compression or after it: to be read again.
    Streamed,
}

/// How a source is read.
#[derive(Debug, Clone)]
pub(super) struct PrepareOptions {
    pub(super) header_check: bool,
    pub(super) compress: Compression,
    pub(super) codecs: Codecs,
}

/// Reads the source: header, checksum and, unless it is too large, the compressed bytes. Blocking.
pub(super) fn prepare(source: &WalSource, options: &PrepareOptions, random: &dyn Random) -> Result<Prepared> {
    let (mut file, size_bytes) = open(&source.path)?;
    let mut head = vec![0; HEADER_BYTES];
    let head_bytes = read_full(&mut file, &mut head).map_err(|error| read_failed(&source.path, &error))?;
    head.truncate(head_bytes);
    let is_segment = source.name.holds_wal();
    if is_segment && size_bytes == 0 {
        return Err(Error::new(ErrorKind::Format, format!("WAL file '{}' has 0 bytes", source.path.display())));
    }
    let writer = if is_segment && options.header_check { Some(check_header(source, &head, size_bytes)?) } else { None };
    let compress = if is_segment { options.compress } else { Compression::NONE };
    if size_bytes > WHOLE_BYTES_MAX {
        let plain = hash(&mut file, &head).map_err(|error| read_failed(&source.path, &error))?;
        expect_size(source, plain.size_bytes, size_bytes)?;
        return Ok(Prepared { writer, plain, content: Content::Streamed });
    }
    let spec = StoreSpec { compress, cipher: None, form: Form::Standard, pages: None };
    let encoding = options.codecs.begin_encoding();
    let mut compressor = Compressor {
        path: &source.path,
        spec,
        codecs: &options.codecs,
        random,
        beside: is_segment && encoding.has_core_to_spare(),
        held: Held::default(),
    };
    let whole_place = if compress.kind() == CompressType::Gz { options.codecs.try_whole() } else { None };
    let plain = match &whole_place {
        Some(_) => compressor.whole(&mut file, head, size_bytes)?,
        None => compressor.stream(&mut file, &head)?,
    };
    drop(whole_place);
    expect_size(source, plain.size_bytes, size_bytes)?;
    let held = compressor.held;
    let content = if held.is_full { Content::Streamed } else { Content::Whole(held.finish()) };
    Ok(Prepared { writer, plain, content })
}

/// Opens the source again to stream it. Blocking.
pub(super) fn open(path: &Path) -> Result<(File, u64)> {
    // Neither a link nor a FIFO in place of the file is followed or waited for.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => ErrorKind::FileMissing,
            // A link, and a socket or a device without a driver.
            Some(Errno::LOOP | Errno::NXIO) => ErrorKind::ParamInvalid,
            _ => ErrorKind::FileOpen,
        };
        Error::new(kind, format!("unable to open '{}' for read: {error}", path.display()))
    })?;
    let metadata = file.metadata().map_err(|error| read_failed(path, &error))?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::ParamInvalid, format!("'{}' is not a regular file", path.display())));
    }
    Ok((file, metadata.len()))
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match file.read(rest) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

pub(super) fn read_failed(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::FileRead, format!("unable to read '{}': {error}", path.display()))
}

/// The error of a chain over this source.
pub(super) fn chain_failed(path: &Path, error: &FilterError) -> Error {
    Error::new(ErrorKind::FileRead, format!("unable to compress '{}': {error}", path.display()))
}

fn check_header(source: &WalSource, head: &[u8], size_bytes: u64) -> Result<Writer> {
    let header = WalHeader::parse(head).map_err(|error| {
        Error::new(ErrorKind::Format, format!("WAL file '{}' of {size_bytes} bytes: {error}", source.path.display()))
    })?;
    if u64::from(header.segment_size.bytes()) != size_bytes {
        return Err(Error::new(
            ErrorKind::FileRead,
            format!(
                "WAL file '{}' has {size_bytes} bytes but its header says {}",
                source.path.display(),
                header.segment_size.bytes()
            ),
        ));
    }
    Ok(Writer { version: header.version, system_id: header.system_id })
}

/// A file that changed its size while it was read is not archived under a checksum of neither state.
fn expect_size(source: &WalSource, read_bytes: u64, expected_bytes: u64) -> Result<()> {
    if read_bytes == expected_bytes {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::FileRead,
        format!("'{}' changed from {expected_bytes} to {read_bytes} bytes while it was read", source.path.display()),
    ))
}

fn hash(file: &mut File, head: &[u8]) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    hasher.observe(head);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let bytes = read_full(file, &mut buffer)?;
        hasher.observe(buffer.get(..bytes).unwrap_or_default());
        if bytes < buffer.len() {
            return Ok(hasher.digest());
        }
    }
}

/// Bytes of one block of compressed bytes: large enough to be given back to the system when it is freed.
const BLOCK_BYTES: usize = 512 * 1024;

/// Compressed bytes, as long as they are not too many.
#[derive(Default)]
struct Held {
    blocks: Vec<Bytes>,
    /// The block that is being filled.
    block: BytesMut,
    bytes: usize,
    is_full: bool,
}

impl Held {
    fn take(&mut self, mut piece: &[u8]) -> Result<(), SinkClosed> {
        self.bytes += piece.len();
        if self.bytes > HELD_BYTES_MAX {
            (self.blocks, self.block, self.is_full) = (Vec::new(), BytesMut::new(), true);
            return Err(SinkClosed);
        }
        while !piece.is_empty() {
            if self.block.capacity() == 0 {
                self.block.reserve(BLOCK_BYTES);
            }
            let (now, later) = piece.split_at(piece.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            piece = later;
            if self.block.len() == BLOCK_BYTES {
                self.blocks.push(std::mem::take(&mut self.block).freeze());
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.block.is_empty() {
            self.blocks.push(self.block.freeze());
        }
        self.blocks
    }
}

/// Compresses a file as far as the result can be held; when it cannot, only the checksum is taken.
struct Compressor<'a> {
    path: &'a Path,
    spec: StoreSpec<'a>,
    codecs: &'a Codecs,
    random: &'a dyn Random,
    /// Hash on another core, a third of the time that zst and its like take for a segment: PostgreSQL waits for it.
    beside: bool,
    held: Held,
}

impl Compressor<'_> {
    /// Compresses the file, whose first bytes have been read.
    fn stream(&mut self, file: &mut File, head: &[u8]) -> Result<Digest> {
        let unread = |error: io::Error| read_failed(self.path, &error);
        match self.compress_rest(file, head) {
            Ok(plain) => Ok(plain),
            Err(Stop::Filter(FilterError::SinkClosed(_))) => {
                file.seek(SeekFrom::Start(head.len() as u64)).map_err(unread)?;
                hash(file, head).map_err(unread)
            }
            Err(Stop::Filter(error)) => Err(chain_failed(self.path, &error)),
            Err(Stop::Read(error)) => Err(unread(error)),
        }
    }

    /// gz takes a third of the original's time over a segment that is in memory as a whole, and half as long again in pieces;
    /// `plain` is its head.
    fn whole(&mut self, file: &mut File, mut plain: Vec<u8>, size_bytes: u64) -> Result<Digest> {
        let room = usize::try_from(size_bytes).unwrap_or(0);
        plain.reserve_exact(room.saturating_sub(plain.len()).saturating_add(1));
        // One byte more than expected, so that a file that grows is noticed.
        let mut rest = file.take(size_bytes.saturating_add(1));
        rest.read_to_end(&mut plain).map_err(|error| read_failed(self.path, &error))?;
        let compress = || order::compress_whole(self.spec.compress, &plain, GZ_ROOM_BYTES_MAX, self.codecs);
        let (digest, compressed) =
            if self.beside { Digest::beside(&plain, compress) } else { (Digest::of(&plain), compress()) };
        match compressed {
            Some(compressed) => self.held.blocks.push(Bytes::from(compressed)),
            None => self.held.is_full = true,
        }
        Ok(digest)
    }

    fn compress_rest(&mut self, file: &mut File, head: &[u8]) -> Result<Digest, Stop> {
        let mut sink = |piece: &[u8]| self.held.take(piece);
        let mut chain = order::store(&self.spec, self.codecs, self.random)?;
        chain.write(head, &mut sink)?;
        let mut buffer = vec![0; if self.beside { READ_BESIDE_BYTES } else { READ_BYTES }];
        loop {
            let bytes = read_full(file, &mut buffer)?;
            let plain = buffer.get(..bytes).unwrap_or_default();
            match self.beside {
                true => chain.write_beside(plain, &mut sink)?,
                false => chain.write(plain, &mut sink)?,
            }
            if bytes < buffer.len() {
                return Ok(chain.finish(&mut sink)?.plain);
            }
        }
    }
}

/// Why a file was not compressed to its end.
enum Stop {
    Filter(FilterError),
    Read(io::Error),
}

impl From<FilterError> for Stop {
    fn from(error: FilterError) -> Self {
        Self::Filter(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}
