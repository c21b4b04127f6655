//! The WAL of one cluster generation: find, list, and the spec to read and write it.

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Passphrase;
use crate::format::{ArchiveId, CompressType, WalObjectName, path};
use crate::postgres::{Timeline, WalFileName, WalSegmentName};
use crate::storage::{EntryKind, ListOptions, StorageExt, StoragePath};
use crate::transfer::{self, LoadSteps};

use super::open::Repository;
use super::stored_file::decode_all;
use crate::progress::Context;

/// History and backup files are a few hundred bytes; a timeline history grows by a line a promotion.
const SMALL_FILE_BYTES_MAX: usize = 1024 * 1024;

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
        let directory = path::archive_directory(self.repository.stanza(), self.id);
        let entries = self.repository.storage().list_all(&directory, &ListOptions::default()).await?;
        Ok(entries
            .iter()
            .filter_map(|entry| match WalFileName::parse(&entry.name) {
                Ok(WalFileName::History(timeline)) => Some(timeline),
                _ => None,
            })
            .max())
    }

    /// Reads an archived file from its start to its end through `job`, which gets the stored bytes.
    ///
    /// # Errors
    /// The storage's, or the job's.
    pub async fn load<J: LoadSteps>(&self, file: &ArchivedFile, context: &Context, job: J) -> Result<J::Result> {
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
