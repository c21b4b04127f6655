//! The WAL of one cluster generation: find, list, and the spec to read and write it.

use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, LoadSpec};
use crate::filter::{Form, Passphrase};
use crate::format::{ArchiveId, CompressType, WalObjectName, path};
use crate::postgres::{Timeline, WalFileName, WalHeader, WalSegmentName, WalSegmentSize};
use crate::storage::{ByteRange, EntryKind, ListOptions, StorageExt, StoragePath};
use crate::transfer::{self, LoadSteps};

use super::open::Repository;
use super::stored_file::{decode_all, decode_failed};
use crate::progress::Context;

/// History and backup files are a few hundred bytes; a timeline history grows by a line a promotion.
const SMALL_FILE_BYTES_MAX: usize = 1024 * 1024;

/// Stored bytes that are taken at once where only the beginning of a segment is wanted.
const HEADER_PIECE_BYTES: usize = 16 * 1024;

/// The archive of one generation of the cluster in one repository.
#[derive(Debug, Clone)]
pub struct Archive {
    repository: Repository,
    id: ArchiveId,
    passphrase: Option<Passphrase>,
}

/// A file that is in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedFile {
    /// Its path in the repository.
    pub path: StoragePath,
    /// The segment's name with checksum and compression; `None` for history and backup files.
    pub segment: Option<WalObjectName>,
}

/// A segment in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedSegment {
    /// Its name with checksum and compression.
    pub name: WalObjectName,
    /// Stored bytes.
    pub size_bytes: u64,
    /// When it was archived, seconds since the Unix epoch.
    pub modified_s: i64,
}

/// What is directly in the directory of an archive.
#[derive(Debug, Default)]
pub(super) struct Overview {
    /// The directories of segments, each by the name that its first segment would have, in ascending order.
    pub(super) directories: Vec<WalSegmentName>,
    /// The highest timeline that has a history file.
    pub(super) latest: Option<Timeline>,
}

impl ArchivedFile {
    /// How the file is compressed.
    pub fn compress(&self) -> CompressType {
        self.segment.map_or(CompressType::None, |segment| segment.compress)
    }
}

impl Archive {
    /// The archive `id`, with the passphrase that archive.info holds.
    pub fn new(repository: Repository, id: ArchiveId, passphrase: Option<Passphrase>) -> Self {
        Self { repository, id, passphrase }
    }

    /// The repository that holds it.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The generation.
    pub fn id(&self) -> ArchiveId {
        self.id
    }

    /// What encrypts its files.
    pub fn passphrase(&self) -> Option<&Passphrase> {
        self.passphrase.as_ref()
    }

    /// Whether the directory of this generation is there: it is made by the first file.
    ///
    /// # Errors
    /// The storage's; a listing that fails is not an answer.
    pub async fn is_present(&self) -> Result<bool> {
        let directory = path::archive_directory(self.repository.stanza(), self.id);
        let page = self.repository.storage().list_page(&directory, &ListOptions::default(), None).await?;
        Ok(!page.entries.is_empty())
    }

    /// Every version of a file in this archive: none, one, or for a segment more than one.
    ///
    /// # Errors
    /// The storage's. An empty answer is a fact.
    pub async fn find(&self, name: WalFileName) -> Result<Vec<ArchivedFile>> {
        let stanza = self.repository.stanza();
        match name {
            WalFileName::Segment(segment) => self.find_segment(segment, false).await,
            WalFileName::Partial(segment) => self.find_segment(segment, true).await,
            WalFileName::BackupHistory { segment, offset } => {
                self.find_small(path::backup_history_file(stanza, self.id, segment, offset)).await
            }
            WalFileName::History(timeline) => self.find_small(path::timeline_history(stanza, self.id, timeline)).await,
        }
    }

    /// Every version of each of these segments, in no order. One listing does for all that share a directory, which is 4 GiB of
    /// WAL.
    ///
    /// # Errors
    /// The storage's. A segment that is not in the answer is not in the archive.
    pub async fn find_segments(&self, segments: &[WalSegmentName]) -> Result<Vec<ArchivedFile>> {
        let mut left = segments.to_vec();
        left.sort_unstable();
        let mut files = Vec::new();
        while let Some(first) = left.first().copied() {
            let (group, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|name| name.first16() == first.first16());
            left = rest;
            let last = group.last().copied().unwrap_or(first);
            let found = self.list_segments(first, Some(common_prefix(first, last))).await?;
            files.extend(found.into_iter().filter(|name| !name.partial && group.contains(&name.segment)).map(|name| {
                ArchivedFile { path: path::wal_object(self.repository.stanza(), self.id, &name), segment: Some(name) }
            }));
        }
        Ok(files)
    }

    /// The segments of the same 4 GiB of WAL that follow `segment`, first one first (faults.md GE04).
    ///
    /// # Errors
    /// The storage's.
    pub async fn segments_after(&self, segment: WalSegmentName) -> Result<Vec<WalSegmentName>> {
        let found = self.list_segments(segment, None).await?;
        let mut names: Vec<WalSegmentName> =
            found.iter().filter(|name| !name.partial && name.segment > segment).map(|name| name.segment).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The directories of segments, each by the name that its first segment would have, in ascending order.
    ///
    /// # Errors
    /// The storage's.
    pub async fn wal_directories(&self) -> Result<Vec<WalSegmentName>> {
        Ok(self.overview().await?.directories)
    }

    /// What one listing of the archive's own directory tells.
    ///
    /// # Errors
    /// The storage's.
    pub(super) async fn overview(&self) -> Result<Overview> {
        let directory = path::archive_directory(self.repository.stanza(), self.id);
        let mut overview = Overview::default();
        for entry in self.repository.storage().list_all(&directory, &ListOptions::default()).await? {
            match entry.kind {
                EntryKind::Directory => {
                    overview.directories.extend(WalSegmentName::parse(&format!("{}00000000", entry.name)).ok());
                }
                _ => {
                    if let Ok(WalFileName::History(timeline)) = WalFileName::parse(&entry.name) {
                        overview.latest = overview.latest.max(Some(timeline));
                    }
                }
            }
        }
        overview.directories.sort_unstable();
        Ok(overview)
    }

    /// The whole segments in the directory of `segment`, in ascending order; a segment may be there more than once.
    ///
    /// # Errors
    /// The storage's.
    pub async fn segments_of(&self, segment: WalSegmentName) -> Result<Vec<ArchivedSegment>> {
        let directory = path::wal_directory(self.repository.stanza(), self.id, segment);
        let entries = self.repository.storage().list_all(&directory, &ListOptions::default()).await?;
        let objects = entries.iter().filter(|entry| entry.kind == EntryKind::Object);
        Ok(objects
            .filter_map(|entry| {
                let name = WalObjectName::parse(&entry.name).filter(|name| !name.partial)?;
                Some(ArchivedSegment { name, size_bytes: entry.size_bytes, modified_s: entry.modified_s })
            })
            .collect())
    }

    /// The last whole segment by its name, which is of the newest timeline; `None` without any.
    ///
    /// # Errors
    /// The storage's.
    pub async fn newest_segment(&self) -> Result<Option<ArchivedSegment>> {
        // A directory may be there without segments.
        for directory in self.wal_directories().await?.into_iter().rev() {
            let segments = self.segments_of(directory).await?;
            if let Some(newest) = segments.into_iter().max_by_key(|segment| segment.name.segment) {
                return Ok(Some(newest));
            }
        }
        Ok(None)
    }

    /// The size of segments, as the header of one says; no more of it is read.
    ///
    /// # Errors
    /// The storage's, or [`ErrorKind::Format`] for what is no WAL.
    pub async fn segment_size(&self, name: &WalObjectName, context: &Context) -> Result<WalSegmentSize> {
        let path = path::wal_object(self.repository.stanza(), self.id, name);
        let shown = path.to_string();
        let file = ArchivedFile { path, segment: Some(*name) };
        let (compress, passphrase, codecs) = (name.compress, self.passphrase.clone(), context.codecs.clone());
        let header = self.load(&file, context, move |source| {
            let spec = LoadSpec {
                compress,
                cipher: passphrase.as_ref(),
                form: Form::Standard,
                plain_size_max_bytes: Some(WalSegmentSize::MAX.bytes().into()),
            };
            let mut chain = order::load(&spec, &codecs).map_err(|error| decode_failed(&shown, &error))?;
            let mut header = Vec::new();
            while header.len() < WalHeader::SIZE_BYTES {
                let Some(piece) = source.next(HEADER_PIECE_BYTES)? else { break };
                let mut sink = |plain: &[u8]| {
                    let missing = WalHeader::SIZE_BYTES.saturating_sub(header.len());
                    header.extend_from_slice(plain.get(..missing.min(plain.len())).unwrap_or_default());
                    Ok(())
                };
                chain.write(&piece, &mut sink).map_err(|error| decode_failed(&shown, &error))?;
            }
            WalHeader::parse(&header).map_err(|error| Error::new(ErrorKind::Format, format!("'{shown}': {error}")))
        });
        Ok(header.await?.segment_size)
    }

    /// The path at which a file is to be stored.
    pub fn path_of(&self, name: WalFileName, object: Option<&WalObjectName>) -> Result<StoragePath> {
        let stanza = self.repository.stanza();
        Ok(match (name, object) {
            (WalFileName::Segment(_) | WalFileName::Partial(_), Some(object)) => {
                path::wal_object(stanza, self.id, object)
            }
            (WalFileName::BackupHistory { segment, offset }, None) => {
                path::backup_history_file(stanza, self.id, segment, offset)
            }
            (WalFileName::History(timeline), None) => path::timeline_history(stanza, self.id, timeline),
            _ => return Err(Error::new(ErrorKind::Assert, format!("'{name}' has the wrong kind of name"))),
        })
    }

    /// The plain bytes of a small file: a timeline history or a backup history file.
    ///
    /// # Errors
    /// The storage's, [`ErrorKind::FileMissing`] included, or the decoder's.
    pub async fn read_small(&self, path: &StoragePath, context: &Context) -> Result<Vec<u8>> {
        let stored = self.repository.storage().read_all(path, SMALL_FILE_BYTES_MAX).await?;
        let limit = SMALL_FILE_BYTES_MAX as u64;
        decode_all(path.as_str(), &stored, CompressType::None, self.passphrase(), limit, &context.codecs)
    }

    /// A timeline's history file; `None` when it is not archived.
    ///
    /// # Errors
    /// The storage's or the decoder's.
    pub async fn timeline_history(&self, timeline: Timeline, context: &Context) -> Result<Option<Vec<u8>>> {
        let path = path::timeline_history(self.repository.stanza(), self.id, timeline);
        match self.read_small(&path, context).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::FileMissing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The highest timeline that has a history file in this archive.
    ///
    /// # Errors
    /// The storage's.
    pub async fn latest_timeline(&self) -> Result<Option<Timeline>> {
        Ok(self.overview().await?.latest)
    }

    /// Reads an archived file from its start through `job`, which takes of the stored bytes what it needs.
    ///
    /// # Errors
    /// The storage's, or the job's.
    pub async fn load<T, F>(&self, file: &ArchivedFile, context: &Context, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut transfer::PieceReader) -> Result<T> + Send + 'static,
    {
        let storage = self.repository.storage().as_ref();
        transfer::load(storage, &file.path, ByteRange::ALL, None, &context.budget, job).await
    }

    /// Reads an archived file from its start to its end through `job`, a step at a time.
    ///
    /// # Errors
    /// The storage's, or the job's.
    pub async fn load_steps<J: LoadSteps>(&self, file: &ArchivedFile, context: &Context, job: J) -> Result<J::Result> {
        transfer::load_steps(self.repository.storage().as_ref(), &file.path, &context.budget, job).await
    }

    async fn find_segment(&self, segment: WalSegmentName, partial: bool) -> Result<Vec<ArchivedFile>> {
        let prefix = WalObjectName::prefix(segment, partial);
        let found = self.list_segments(segment, Some(prefix)).await?;
        Ok(found
            .into_iter()
            .filter(|name| name.segment == segment && name.partial == partial)
            .map(|name| ArchivedFile {
                path: path::wal_object(self.repository.stanza(), self.id, &name),
                segment: Some(name),
            })
            .collect())
    }

    async fn list_segments(&self, segment: WalSegmentName, prefix: Option<String>) -> Result<Vec<WalObjectName>> {
        let directory = path::wal_directory(self.repository.stanza(), self.id, segment);
        let options = ListOptions { recurse: false, name_prefix: prefix };
        let entries = self.repository.storage().list_all(&directory, &options).await?;
        Ok(entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Object)
            .filter_map(|entry| WalObjectName::parse(&entry.name))
            .collect())
    }

    async fn find_small(&self, path: StoragePath) -> Result<Vec<ArchivedFile>> {
        let exists = self.repository.storage().exists(&path).await?;
        Ok(if exists { vec![ArchivedFile { path, segment: None }] } else { Vec::new() })
    }
}

/// What both names begin with, and so every name between them.
fn common_prefix(first: WalSegmentName, last: WalSegmentName) -> String {
    let (first, last) = (first.to_string(), last.to_string());
    first.chars().zip(last.chars()).take_while(|(one, other)| one == other).map(|(one, _)| one).collect()
}
