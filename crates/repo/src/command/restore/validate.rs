//! What has to hold before anything is changed (repository-behaviour.md §5.1).

use std::io;

use jiff::Timestamp;

use super::databases::EmptyDatabases;
use super::options::{PageErrors, RestoreOptions};
use super::plan::{Plan, row_at};
use super::recovery::RecoveryType;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Manifest, PageChecksums};
use crate::format::{ArchiveId, BackupLabel};
use crate::pgdata::clean::BACKUP_MANIFEST;
use crate::pgdata::{Directory, DisplayPath, check_not_running, is_data_directory};
use crate::progress::Context;
use crate::repository::Repository;
use crate::repository::timelines::{BackupStart, TargetTimeline, Timelines};

/// Checks that no server runs on the data directory, and that it is one before anything in it may be removed: otherwise
/// delta and force are switched off, so that a directory with anything in it is refused later.
///
/// # Errors
/// [`ErrorKind::PgRunning`], or those of looking.
pub(super) fn check_destination(options: &mut RestoreOptions, context: &Context) -> Result<()> {
    let directory = Directory::open_if_exists(&options.map.pgdata)?;
    if let Some(directory) = &directory {
        check_not_running(directory)?;
    }
    if !options.delta && !options.force {
        return Ok(());
    }
    let is_data = directory.as_ref().map(is_data_directory).transpose()?.unwrap_or(false);
    if !is_data {
        let path = DisplayPath(&options.map.pgdata);
        context.warn(format!(
            "--delta or --force specified but unable to find 'PG_VERSION' or '{BACKUP_MANIFEST}' in '{path}' to confirm \
             that this is a valid $PGDATA directory. --delta and --force have been disabled and if any files exist in \
             the destination directories the restore will be aborted."
        ));
        options.delta = false;
        options.force = false;
    }
    Ok(())
}

/// Removes the spool of the cluster that is replaced: its acknowledgements and prefetched segments are not of the new
/// one.
///
/// # Errors
/// [`ErrorKind::PathRemove`].
pub(super) fn remove_spool(options: &RestoreOptions) -> Result<()> {
    let Some(spool) = &options.spool else { return Ok(()) };
    match std::fs::remove_dir_all(spool) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(Error::new(ErrorKind::PathRemove, format!("unable to remove '{}': {error}", spool.display())))
        }
    }
}

/// Checks that the timeline that recovery follows can be reached from the backup.
///
/// # Errors
/// As for [`Timelines::verify`]; [`ErrorKind::Format`] for an online backup that does not say where it begins.
pub(super) async fn check_timeline(
    repository: &Repository,
    manifest: &Manifest,
    options: &RestoreOptions,
    context: &Context,
) -> Result<()> {
    if !manifest.options().online {
        return Ok(());
    }
    let (header, cluster) = (manifest.header(), manifest.cluster());
    let (Some(segment), Some(lsn), Some(history_id)) = (header.archive_start, &header.lsn_start, cluster.history_id)
    else {
        return Err(Error::new(
            ErrorKind::Format,
            format!("the manifest of {} does not say where its WAL begins", manifest.label()),
        ));
    };
    let archive_id = ArchiveId { version: cluster.version, history_id };
    let start = BackupStart { archive_id, timeline: segment.timeline(), lsn: lsn.lsn() };
    let target = TargetTimeline::of(&options.goal(), cluster.version)?;
    Timelines::new(repository).verify(target, start, context).await
}

/// A backup of a stopped cluster is restored without recovery unless somebody asked for one.
pub(super) fn settle_type(manifest: &Manifest, options: &mut RestoreOptions) {
    if !manifest.options().online && options.recovery_by_default {
        options.recovery.recovery_type = RecoveryType::None;
    }
}

/// Checks that the manifest is that of the backup, and complete.
///
/// # Errors
/// [`ErrorKind::Format`].
pub(super) fn check_manifest(manifest: &Manifest, label: &BackupLabel) -> Result<()> {
    let refuse = |text: String| Err(Error::new(ErrorKind::Format, text));
    if let Some(row) = manifest.files().iter().find(|row| row.checksum.is_none()) {
        return refuse(format!("manifest validation failed: missing checksum for file '{}'", row.name()));
    }
    if manifest.files().is_empty() {
        return refuse("manifest missing files".to_owned());
    }
    if manifest.label() != *label {
        return Err(Error::new(
            ErrorKind::Format,
            format!("requested backup '{label}' and manifest label '{}' do not match", manifest.label()),
        )
        .hint("this indicates some sort of corruption (at the very least paths have been renamed)."));
    }
    Ok(())
}

/// The line that says what is restored.
pub(super) fn begin_line(repository: &Repository, manifest: &Manifest, options: &RestoreOptions) -> String {
    let mut line = format!("{}: restore backup set {}", repository.index(), manifest.label());
    if manifest.options().online {
        let time = time_text(manifest.header().timestamp_start_s, options);
        line.push_str(&format!(", recovery will start at {time}"));
    }
    line
}

/// A time in the user's zone.
pub(super) fn time_text(time_s: i64, options: &RestoreOptions) -> String {
    match Timestamp::from_second(time_s) {
        Ok(time) => time.to_zoned(options.time_zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{time_s} s after 1970"),
    }
}

/// Looks for files that had invalid page checksums when they were backed up.
///
/// # Errors
/// [`ErrorKind::Checksum`] when there is one and the options do not allow it.
pub(super) fn check_pages(
    manifest: &Manifest,
    plan: &Plan,
    empty: Option<&EmptyDatabases>,
    page_errors: PageErrors,
    context: &Context,
) -> Result<()> {
    let mut count = 0_u64;
    for row in plan.all_files().iter().filter_map(|place| row_at(manifest, *place)) {
        let is_damaged = matches!(row.page_checksums, PageChecksums::Errors(_));
        if !is_damaged || empty.is_some_and(|empty| empty.contains(row.name().as_bytes())) {
            continue;
        }
        let text = format!("backup {} has invalid page checksums in file '{}'", manifest.label(), row.name());
        if page_errors == PageErrors::Refuse {
            return Err(Error::new(ErrorKind::Checksum, text)
                .hint("restore a backup made before the damage with --set.")
                .hint("--no-checksum-page-error restores the file as it was."));
        }
        context.warn(text);
        count += 1;
    }
    if count > 0 {
        context.warn(format!("{count} file(s) with invalid page checksums will be restored"));
    }
    Ok(())
}
