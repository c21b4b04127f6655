//! The generations of a stanza, and the first and last segment that is archived of each.

use crate::error::{Error, ErrorKind, Result};
use crate::format::path::{self, WalObjectName};
use crate::format::{ArchiveId, ArchiveInfo, DbGeneration};
use crate::postgres::WalSegmentName;
use crate::repository::Repository;
use crate::storage::{EntryKind, ListOptions, StorageExt, StoragePath};

use super::load::Present;
use super::report::{ArchiveRange, GenerationReport, WalRange};

/// The name of a directory of segments: timeline and the high half of the position.
const DIRECTORY_NAME_DIGITS: usize = 16;

/// The generations of all repositories with their archives.
#[derive(Debug, Default)]
pub(super) struct Generations {
    pub(super) generations: Vec<GenerationReport>,
    pub(super) archives: Vec<ArchiveRange>,
}

impl Generations {
    /// Adds those of a repository. After an error some of them are there.
    pub(super) async fn add(&mut self, present: &Present) -> Result<()> {
        let repository = present.index();
        let generations = present.backup_info.history().generations();
        // The newest, which is not by all means the one that [db] names; as in the original.
        let newest = generations.last().map(|generation| generation.id);
        for generation in generations {
            let DbGeneration { id, version, system_id, .. } = *generation;
            self.generations.push(GenerationReport { repository, id, version, system_id });
            let archive_id = archive_id(&present.archive_info, generation)?;
            let wal = wal_range(&present.repository, archive_id).await?;
            if wal.is_some() || newest == Some(id) {
                self.archives.push(ArchiveRange { repository, history_id: id, archive_id, wal });
            }
        }
        Ok(())
    }
}

/// The archive of a generation of backup.info: archive.info may number generations otherwise, so the same number with
/// the same cluster is best, and the newest generation of the same cluster comes after that.
fn archive_id(archive_info: &ArchiveInfo, generation: &DbGeneration) -> Result<ArchiveId> {
    let history = archive_info.history();
    let (version, system_id) = (generation.version, generation.system_id);
    let same = history.generation(generation.id).filter(|found| found.is_cluster(version, system_id));
    same.map(DbGeneration::archive_id).or_else(|| history.archive_ids_of(version, system_id).next()).ok_or_else(|| {
        Error::new(
            ErrorKind::ArchiveMismatch,
            format!("unable to retrieve the archive id for database version '{version}' and system-id '{system_id}'"),
        )
    })
}

async fn wal_range(repository: &Repository, id: ArchiveId) -> Result<Option<WalRange>> {
    let directory = path::archive_directory(repository.stanza(), id);
    let listed = repository.storage().list_all(&directory, &ListOptions::default()).await?;
    let mut names: Vec<String> =
        listed.into_iter().map(|entry| entry.name).filter(|name| is_segment_directory(name)).collect();
    names.sort_unstable();
    // Not every directory has segments: some have only backup history files, or what expire left of them.
    let mut min = None;
    for name in &names {
        min = segments(repository, &directory, name).await?.into_iter().min();
        if min.is_some() {
            break;
        }
    }
    let Some(min) = min else { return Ok(None) };
    for name in names.iter().rev() {
        if let Some(max) = segments(repository, &directory, name).await?.into_iter().max() {
            return Ok(Some(WalRange { min, max }));
        }
    }
    Ok(None)
}

fn is_segment_directory(name: &str) -> bool {
    name.len() == DIRECTORY_NAME_DIGITS && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
}

/// The whole segments in a directory, in no promised order.
async fn segments(repository: &Repository, archive: &StoragePath, name: &str) -> Result<Vec<WalSegmentName>> {
    let directory = archive.join(name).map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
    let listed = repository.storage().list_all(&directory, &ListOptions::default()).await?;
    Ok(listed
        .iter()
        .filter(|entry| entry.kind == EntryKind::Object)
        .filter_map(|entry| WalObjectName::parse(&entry.name))
        .filter(|object| !object.partial)
        .map(|object| object.segment)
        .collect())
}
