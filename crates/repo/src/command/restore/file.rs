//! One file: what is there, what is written, and whether it is right.

use std::io::Read;

use super::databases::EmptyDatabases;
use super::remap::Layout;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::block_delta::BlockHasher;
use crate::filter::order;
use crate::filter::{Codecs, Hasher, Passphrase, SinkClosed};
use crate::format::block_map::BlockChecksum;
use crate::format::manifest::{FileLocation, FileRow, Manifest};
use crate::format::path;
use crate::pgdata::{
    DataRoots, Directory, DisplayPath, EntryMode, Existing, ExistingFile, PgDataError, PgDataErrorKind, SyncPolicy,
    TargetFile,
};
use crate::postgres::data_path::CONTROL_FILE;
use crate::progress::cancelled;
use crate::repository::Repository;
use crate::repository::backup_file::{check_content, geometry, is_content, undecodable, whole_spec};
use crate::transfer::PieceReader;
use tokio_util::sync::CancellationToken;

/// Bytes read at once when an existing file is looked at.
const LOOK_BYTES: usize = 256 * 1024;

/// The name under which `pg_control` is restored; it gets its own when everything else is durable.
pub(super) const CONTROL_FILE_TEMPORARY: &str = "pg_data/global/pg_control.pgbackrest.tmp";

/// What may be kept of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    /// Nothing is there.
    Fresh,
    /// Nothing.
    Overwrite,
    /// What has the right content.
    ByChecksum,
    /// What has the right size and a time before the backup began to copy.
    ByTime,
}

/// Everything that restoring a file needs.
#[derive(Debug)]
pub(super) struct Restorer {
    /// Where bytes come from.
    pub repository: Repository,
    /// The backup.
    pub manifest: Manifest,
    /// Passphrase of its files.
    pub passphrase: Option<Passphrase>,
    /// Where they go.
    pub layout: Layout,
    /// The open destinations.
    pub roots: DataRoots,
    /// What may be kept.
    pub reuse: Reuse,
    /// Databases that come back empty.
    pub empty: Option<EmptyDatabases>,
    /// States of decoders.
    pub codecs: Codecs,
    /// Ends the work.
    pub cancel: CancellationToken,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileOutcome {
    /// It was right already.
    Kept,
    /// It is empty, or was made without its content.
    Made,
    /// Its content came from the repository.
    Copied,
    /// As much of it came from the repository as blocks.
    Patched(u64),
}

/// What was found where a file goes.
#[derive(Debug)]
pub(super) enum Found {
    /// The file as it should be.
    Right,
    /// Nothing that can be used.
    Nothing,
    /// A file whose blocks have these checksums.
    Blocks(Vec<BlockChecksum>),
}

impl Restorer {
    /// The name under which a file is written.
    pub(super) fn written_name<'a>(&self, row: &'a FileRow) -> &'a [u8] {
        let name = row.name().as_bytes();
        if name == CONTROL_FILE.as_bytes() { CONTROL_FILE_TEMPORARY.as_bytes() } else { name }
    }

    /// Where a file is written, for messages.
    pub(super) fn written_path(&self, row: &FileRow) -> String {
        let name = self.written_name(row);
        match self.roots.locate(name) {
            Ok((directory, below)) => DisplayPath(&directory.path_of(&below)).to_string(),
            Err(_) => DisplayPath(name).to_string(),
        }
    }

    /// Whether only the length of a file is restored.
    pub(super) fn is_emptied(&self, row: &FileRow) -> bool {
        self.empty.as_ref().is_some_and(|empty| empty.contains(row.name().as_bytes()))
    }

    /// The error told with the file, the backup and the object that it is about.
    pub(super) fn about(&self, row: &FileRow, error: Error) -> Error {
        let stanza = self.repository.stanza();
        let source = match self.manifest.location(row) {
            FileLocation::Nowhere => String::new(),
            FileLocation::Bundle { label, place } => {
                let object = path::bundle(stanza, &label, place.id);
                format!(" from backup {label}, '{object}' at {}", place.offset_bytes)
            }
            FileLocation::Object { label, stored } => match path::file(stanza, &label, row.name(), stored) {
                Ok(object) => format!(" from backup {label}, '{object}'"),
                Err(_) => format!(" from backup {label}"),
            },
        };
        error.context(format!("error restoring '{}'{source}", self.written_path(row)))
    }

    /// Fails when the restore was asked to stop.
    pub(super) fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
    }

    /// Looks at what is there and makes it the file if that needs no bytes from the repository. Blocking.
    pub(super) fn look(&self, row: &FileRow) -> Result<Found> {
        match self.reuse {
            Reuse::Fresh | Reuse::Overwrite => Ok(Found::Nothing),
            Reuse::ByTime => self.look_at_time(row),
            Reuse::ByChecksum => self.look_at_content(row),
        }
    }

    fn look_at_time(&self, row: &FileRow) -> Result<Found> {
        let (directory, below) = self.roots.locate(self.written_name(row))?;
        let is_right = directory.info_of(&below)?.is_some_and(|info| {
            info.size_bytes == row.size_bytes
                && info.modified_s == row.timestamp_s
                && info.modified_s < self.manifest.header().timestamp_copy_start_s
        });
        Ok(if is_right { Found::Right } else { Found::Nothing })
    }

    fn look_at_content(&self, row: &FileRow) -> Result<Found> {
        let Some(mut file) = self.open_existing(row)? else { return Ok(Found::Nothing) };
        let blocks = row.is_block_incremental().then(|| geometry(row)).transpose()?;
        let size_bytes = file.info().size_bytes;
        if size_bytes < row.size_bytes && (blocks.is_none() || size_bytes == 0) {
            return Ok(Found::Nothing);
        }
        file.truncate(row.size_bytes)?;
        let mut hash = Hasher::default();
        let mut hasher = blocks.map(BlockHasher::new);
        let mut buffer = vec![0; LOOK_BYTES.min(usize::try_from(row.size_bytes).unwrap_or(LOOK_BYTES).max(1))];
        loop {
            self.check_cancelled()?;
            let count = file.read(&mut buffer).map_err(|error| {
                Error::new(ErrorKind::FileRead, format!("unable to read '{}': {error}", self.written_path(row)))
            })?;
            let read = buffer.get(..count).unwrap_or_default();
            if read.is_empty() {
                break;
            }
            hash.observe(read);
            if let Some(hasher) = &mut hasher {
                hasher.observe(read);
            }
        }
        if is_content(hash.digest(), row) {
            file.into_target().finish(self.layout.attributes(row), SyncPolicy::FileSystem)?;
            return Ok(Found::Right);
        }
        Ok(hasher.map_or(Found::Nothing, |hasher| Found::Blocks(hasher.finish())))
    }

    /// Opens a file that is there for reading and writing; one that only denies it to its own owner is made writable.
    pub(super) fn open_existing(&self, row: &FileRow) -> Result<Option<ExistingFile>> {
        let name = self.written_name(row);
        match ExistingFile::open(&self.roots, name) {
            Err(error) if error.errno() == Some(rustix::io::Errno::ACCESS) => {
                self.make_writable(name)?;
                Ok(ExistingFile::open(&self.roots, name)?)
            }
            opened => Ok(opened?),
        }
    }

    fn make_writable(&self, name: &[u8]) -> Result<(), PgDataError> {
        let (directory, below) = self.roots.locate(name)?;
        directory.set_mode(&below, EntryMode::file(0o600))
    }

    /// Opens a file to write all of it. Blocking.
    pub(super) fn create(&self, row: &FileRow) -> Result<TargetFile> {
        let name = self.written_name(row);
        let existing = if self.reuse == Reuse::Fresh { Existing::Refuse } else { Existing::Replace };
        match TargetFile::create(&self.roots, name, existing) {
            Err(error) if existing == Existing::Replace && error.errno() == Some(rustix::io::Errno::ACCESS) => {
                self.make_writable(name)?;
                TargetFile::create(&self.roots, name, existing).map_err(|error| self.write_failed(row, error))
            }
            created => created.map_err(|error| self.write_failed(row, error)),
        }
    }

    /// Makes an empty file, or one of the right length without content. Blocking.
    pub(super) fn make(&self, row: &FileRow) -> Result<FileOutcome> {
        if !self.is_emptied(row) && matches!(self.look(row)?, Found::Right) {
            return Ok(FileOutcome::Kept);
        }
        let file = self.create(row)?;
        let made = file.set_length(row.size_bytes);
        made.and_then(|()| file.finish(self.layout.attributes(row), SyncPolicy::FileSystem))
            .map_err(|error| self.write_failed(row, error))?;
        Ok(FileOutcome::Made)
    }

    /// Writes the whole file from the next `stored_bytes` of `source`, or from all of it. Blocking.
    pub(super) fn write_whole(&self, row: &FileRow, source: &mut PieceReader, stored_bytes: Option<u64>) -> Result<()> {
        let mut file = self.create(row)?;
        let spec = whole_spec(&self.manifest, row, self.passphrase.as_ref());
        let mut chain = order::load(&spec, &self.codecs).map_err(|error| undecodable(&error))?;
        let mut refused = None;
        let mut sink = |bytes: &[u8]| {
            file.append(bytes).map_err(|error| {
                refused = Some(error);
                SinkClosed
            })
        };
        let mut take = |stored: &[u8]| {
            self.check_cancelled()?;
            chain.write(stored, &mut sink).map_err(|error| undecodable(&error))
        };
        let taken = match stored_bytes {
            Some(stored_bytes) => source.exact(stored_bytes, &mut take),
            None => source.all(&mut take),
        };
        let report = taken.and_then(|()| chain.finish(&mut sink).map_err(|error| undecodable(&error)));
        if let Some(error) = refused {
            return Err(self.write_failed(row, error));
        }
        check_content(report?.plain, row)?;
        file.finish(self.layout.attributes(row), SyncPolicy::FileSystem).map_err(|error| self.write_failed(row, error))
    }

    /// The error of writing; one for lack of room says how much is needed and free (faults.md RS01).
    pub(super) fn write_failed(&self, row: &FileRow, error: PgDataError) -> Error {
        let no_space = error.kind() == PgDataErrorKind::NoSpace;
        let failed = Error::from(error);
        if !no_space {
            return failed;
        }
        let free = self.roots.locate(self.written_name(row)).ok().and_then(|(directory, _)| free_bytes(directory));
        let free = free.map_or_else(|| "an unknown number of".to_owned(), |free| free.to_string());
        failed.hint(format!("the file needs {} bytes, {free} bytes are free.", row.size_bytes))
    }
}

/// Bytes that this user may still write to the file system of a directory.
pub(super) fn free_bytes(directory: &Directory) -> Option<u64> {
    let status = rustix::fs::fstatvfs(directory.fd()).ok()?;
    status.f_bavail.checked_mul(status.f_frsize)
}
