//! The end of a backup: the manifest is completed and checked, and gives the line of backup.info.

use super::file_row::PageChecksums;
use super::rows::Database;
use super::{Manifest, ManifestOptions};
use crate::format::annotation::Annotations;
use crate::format::archive_id::HistoryId;
use crate::format::backup_entry::{BackupEntry, BackupSizes, EntryOptions, MapSizes};
use crate::format::checksum::Checksum;
use crate::format::compress_type::CompressType;
use crate::format::info::REPOSITORY_FORMAT;
use crate::format::json::UnknownAttributes;
use crate::format::label::BackupType;
use crate::format::stored_lsn::StoredLsn;
use crate::format::text::shown;
use crate::postgres::{SystemId, WalSegmentName};

/// What is known when all files are copied.
#[derive(Debug, Clone)]
pub struct Completion {
    /// When the backup ended, seconds since the Unix epoch.
    pub timestamp_stop_s: i64,
    /// First and last WAL segment that it needs; `None` offline.
    pub archive: Option<(WalSegmentName, WalSegmentName)>,
    /// Where it started and ended in the WAL; `None` offline.
    pub lsn: Option<(StoredLsn, StoredLsn)>,
    /// Generation of the cluster in backup.info.
    pub history_id: HistoryId,
    /// System identifier of the cluster.
    pub system_id: SystemId,
    /// The databases; none offline.
    pub databases: Vec<Database>,
    /// What was noted.
    pub annotations: Annotations,
    /// All options.
    pub options: ManifestOptions,
}

/// Why a manifest is not that of a finished backup. Each text names a file, at most ten of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("manifest validation failed: {}", problems.join("; "))]
pub struct IncompleteManifest {
    /// What is wrong.
    pub problems: Vec<String>,
}

/// Most problems that an error lists: one error is one message, whatever the number of files.
const PROBLEMS_MAX: usize = 10;

impl Manifest {
    /// Enters what is known at the end of a backup.
    pub fn complete(&mut self, completion: Completion) {
        self.header.timestamp_stop_s = completion.timestamp_stop_s;
        (self.header.archive_start, self.header.archive_stop) = completion.archive.unzip();
        (self.header.lsn_start, self.header.lsn_stop) = completion.lsn.unzip();
        self.cluster.history_id = Some(completion.history_id);
        self.cluster.system_id = Some(completion.system_id);
        self.databases = completion.databases;
        self.databases.sort_by(|one, other| one.name.cmp(&other.name));
        self.databases.dedup_by(|one, other| one.name == other.name);
        self.annotations = completion.annotations;
        // The whole set has one type, which was settled when the backup began.
        self.options = ManifestOptions { compress_type: self.options.compress_type, ..completion.options };
    }

    /// Whether this is the manifest of a finished backup, and not the copy that a running one leaves.
    pub fn is_complete(&self) -> bool {
        self.cluster.history_id.is_some() && self.header.timestamp_stop_s != 0
    }

    /// Checks that every file was copied (`manifestValidate` of pgBackRest, strict).
    ///
    /// # Errors
    /// [`IncompleteManifest`] naming the files.
    pub fn validate(&self) -> Result<(), IncompleteManifest> {
        let mut problems = Vec::new();
        if !self.is_complete() {
            problems.push("the backup is not finished".to_owned());
        }
        for file in &self.files {
            let name = || shown(file.name().as_bytes());
            match file.checksum {
                None => problems.push(format!("missing checksum for file '{}'", name())),
                Some(checksum) if file.size_bytes == 0 && checksum != Checksum::EMPTY => {
                    problems.push(format!("invalid checksum '{checksum}' for zero size file '{}'", name()));
                }
                _ => {}
            }
            if file.size_bytes != 0 && file.size_repo_bytes == 0 {
                problems.push(format!("repo size must be > 0 for file '{}'", name()));
            }
            if problems.len() >= PROBLEMS_MAX {
                break;
            }
        }
        problems.truncate(PROBLEMS_MAX);
        if problems.is_empty() { Ok(()) } else { Err(IncompleteManifest { problems }) }
    }

    /// Sums over the files; `None` when one has more than 64 bits.
    pub fn sizes(&self) -> Option<BackupSizes> {
        let mut sizes = BackupSizes::default();
        let mut map = MapSizes::default();
        let add = |sum: &mut u64, size: u64| -> Option<()> {
            *sum = sum.checked_add(size)?;
            Some(())
        };
        for file in &self.files {
            let repo = file.size_repo_counted_bytes();
            let map_size = file.block_incr.map_or(0, |block_incr| block_incr.map_size_bytes);
            add(&mut sizes.size_bytes, file.size_bytes)?;
            add(&mut sizes.size_repo_bytes, repo)?;
            add(&mut map.size_repo_bytes, map_size)?;
            if file.reference.is_none() {
                // Parts of sums that fit.
                sizes.size_delta_bytes += file.size_bytes;
                sizes.size_repo_delta_bytes += repo;
                map.size_repo_delta_bytes += map_size;
            }
        }
        sizes.map = self.header.block_incr.then_some(map);
        Some(sizes)
    }

    /// Whether a file has page checksum errors.
    pub fn has_page_errors(&self) -> bool {
        self.files.iter().any(|file| matches!(file.page_checksums, PageChecksums::Errors(_)))
    }

    /// The line of backup.info for a finished backup.
    ///
    /// # Errors
    /// [`IncompleteManifest`] when the backup is not finished.
    pub fn backup_entry(&self) -> Result<BackupEntry, IncompleteManifest> {
        let incomplete = |problem: &str| IncompleteManifest { problems: vec![problem.to_owned()] };
        let history_id = self.cluster.history_id.ok_or_else(|| incomplete("the backup is not finished"))?;
        let mut references = self.references().to_vec();
        references.retain(|label| *label != self.label);
        references.sort_unstable();
        Ok(BackupEntry {
            label: self.label,
            format: REPOSITORY_FORMAT,
            version: self.envelope.version().clone(),
            annotations: self.annotations.clone(),
            archive_start: self.header.archive_start,
            archive_stop: self.header.archive_stop,
            error: Some(self.has_page_errors()),
            sizes: self.sizes().ok_or_else(|| incomplete("the sum of all sizes has more than 64 bits"))?,
            lsn_start: self.header.lsn_start.clone(),
            lsn_stop: self.header.lsn_stop.clone(),
            prior: self.prior,
            references: (self.backup_type() != BackupType::Full).then_some(references),
            timestamp_start_s: self.header.timestamp_start_s,
            timestamp_stop_s: self.header.timestamp_stop_s,
            history_id,
            options: EntryOptions {
                archive_check: self.options.archive_check,
                archive_copy: self.options.archive_copy,
                backup_standby: self.options.backup_standby.unwrap_or_default(),
                checksum_page: self.options.checksum_page.unwrap_or_default(),
                compress: self.options.compress_type != CompressType::None,
                hardlink: self.options.hardlink,
                online: self.options.online,
            },
            unknown: UnknownAttributes::default(),
        })
    }
}
