//! When times and sizes cannot be trusted, so that contents are compared (repository-behaviour.md §4.6; pgBackRest
//! `manifestBuildValidate`, `manifestDeltaCheck` and `manifestBuildIncr` of `src/info/manifest/manifest.c`). Pure.

use std::fmt;

use crate::format::manifest::FileRow;
use crate::format::{BackupLabel, Manifest};
use crate::pgdata::DisplayPath;
use crate::postgres::WalSegmentName;

/// Why contents are compared although nobody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason<'a> {
    /// A file claims to be newer than the backup.
    Future { file: &'a FileRow, copy_start_s: i64 },
    /// The cluster went on on another timeline.
    Timeline(BackupLabel),
    /// One of both backups is of a cluster at rest.
    Online(BackupLabel),
    /// A file is older than it was.
    Earlier { file: &'a FileRow, prior_s: i64 },
    /// A file has another size, and claims that it was not changed.
    Size { file: &'a FileRow, prior_bytes: u64 },
}

/// The first file that is newer than the second in which the scan ended.
pub(super) fn future(files: &[FileRow], copy_start_s: i64) -> Option<Reason<'_>> {
    let file = files.iter().find(|file| file.timestamp_s > copy_start_s)?;
    Some(Reason::Future { file, copy_start_s })
}

/// What changed of the cluster as a whole since the prior backup. `start` is the segment where an online backup starts.
pub(super) fn circumstances<'a>(
    manifest: &'a Manifest,
    prior: &Manifest,
    start: Option<WalSegmentName>,
) -> Option<Reason<'a>> {
    let stop = prior.header().archive_stop;
    if start.zip(stop).is_some_and(|(start, stop)| start.timeline() != stop.timeline()) {
        return Some(Reason::Timeline(prior.label()));
    }
    (manifest.options().online != prior.options().online).then(|| Reason::Online(prior.label()))
}

/// The first file whose time contradicts the prior backup.
pub(super) fn contradiction<'a>(files: &'a [FileRow], prior: &Manifest) -> Option<Reason<'a>> {
    files.iter().find_map(|file| {
        let before = prior.file(file.name().as_bytes())?;
        let (prior_s, prior_bytes) = (before.timestamp_s, before.size_original_bytes);
        if file.timestamp_s < prior_s {
            Some(Reason::Earlier { file, prior_s })
        } else if file.timestamp_s == prior_s && file.size_original_bytes != prior_bytes {
            Some(Reason::Size { file, prior_bytes })
        } else {
            None
        }
    })
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DELTA: &str = "enabling delta checksum";
        match self {
            Self::Future { file, copy_start_s } => write!(
                formatter,
                "file '{}' has timestamp ({}) in the future (relative to copy start {copy_start_s}), {DELTA}",
                shown(file),
                file.timestamp_s
            ),
            Self::Timeline(prior) => write!(
                formatter,
                "a timeline switch has occurred since the {prior} backup, {DELTA}\n\
                 HINT: this is normal after restoring from backup or promoting a standby."
            ),
            Self::Online(prior) => {
                write!(formatter, "the online option has changed since the {prior} backup, {DELTA}")
            }
            Self::Earlier { file, prior_s } => write!(
                formatter,
                "file '{}' has timestamp earlier than prior backup (prior {prior_s}, current {}), {DELTA}",
                shown(file),
                file.timestamp_s
            ),
            Self::Size { file, prior_bytes } => write!(
                formatter,
                "file '{}' has same timestamp ({}) as prior but different size (prior {prior_bytes}, current {}), \
                 {DELTA}",
                shown(file),
                file.timestamp_s,
                file.size_original_bytes
            ),
        }
    }
}

/// The path in the data directory.
fn shown(file: &FileRow) -> DisplayPath<'_> {
    DisplayPath(file.name().below_pg_data().unwrap_or(file.name().as_bytes()))
}
