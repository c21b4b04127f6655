//! A backup of a standby on its own, without any contact to its primary. The original cannot do this.
//!
//! A standby cannot write WAL, so nothing in the WAL marks this backup. What replaces the marks
//! (`do_pg_backup_start` and `do_pg_backup_stop` of PostgreSQL's `access/transam/xlog.c`, and the section about backups
//! of a standby in its manual):
//!
//! - **Begin**: the redo position of the last restartpoint. Starting the backup asks the server for a new one and waits
//!   for it; when no checkpoint of the primary was replayed since the last, that one counts, and it may be old.
//! - **End**: the minimum recovery point. Before the server writes a page that WAL up to some position has changed, it
//!   writes that position into `pg_control`. So `pg_control` must be copied after everything else: recovery of the copy
//!   goes on until the position that it finds there, and that is what the backup needs.
//! - **Full page writes**: the server refuses at the begin and at the end when the primary ran with
//!   `full_page_writes=off` meanwhile.
//! - **Promotion**: the server refuses to stop a backup that it began as a standby.
//!
//! All WAL from begin to end must be in the repository. The primary archives it, and it archives whole segments: with an
//! idle primary that never switches, the end of the backup is in a segment that is not archived.

use super::archive_check::WalRange;
use super::cluster::{Cluster, current_control};
use super::options::BackupOptions;
use super::start::{Started, check_server_of};
use crate::db::{BackupStop, Database};
use crate::error::{Error, ErrorKind, Result};
use crate::pgdata::Scan;
use crate::postgres::{ControlFile, Lsn, Timeline, WalSegmentName, WalSegmentSize};
use crate::progress::Context;
use crate::repository::{Archive, wait_for_segment};

/// Starts the backup at a restartpoint.
///
/// # Errors
/// [`ErrorKind::DbMismatch`] when server and data directory do not belong together, [`ErrorKind::ArchiveTimeout`] when
/// the begin of the backup is not in the archive, and the errors of the session: the server refuses when
/// `full_page_writes` was off.
pub(super) async fn start(
    standby: &dyn Database,
    cluster: &Cluster,
    archive: Option<&Archive>,
    options: &BackupOptions,
    context: &Context,
) -> Result<Started> {
    check_server_of(standby, cluster, None, options)?;
    let kind = if options.start_fast { "requested immediate" } else { "next regular" };
    context.info(format!("execute backup start: backup of the standby begins after the {kind} restartpoint completes"));
    let begun = standby.start_backup(options.start_fast).await?;
    let control = current_control(options).await?;
    if control.checkpoint() < begun.lsn {
        let message =
            format!("current checkpoint '{}' is less than backup start '{}'", control.checkpoint(), begun.lsn);
        return Err(Error::new(ErrorKind::DbMismatch, message));
    }
    if !control.is_in_archive_recovery() {
        return Err(Error::new(ErrorKind::DbMismatch, "pg_control does not say that the server is a standby"));
    }
    let segment = begun.lsn.segment(control.timeline(), control.wal_segment_size());
    let databases = standby.databases().await?;
    let tablespaces = standby.tablespaces().await?;
    context.info(format!("backup start archive = {segment}, lsn = {}", begun.lsn));
    if let Some(archive) = archive {
        check_archive(standby, archive, segment, cluster.control.wal_segment_size(), options, context).await?;
    }
    Ok(Started { lsn: begun.lsn, segment, databases, tablespaces })
}

/// An archive that does not work, or that has not got the begin of the backup, is better found now than at the end.
async fn check_archive(
    standby: &dyn Database,
    archive: &Archive,
    start: WalSegmentName,
    size: WalSegmentSize,
    options: &BackupOptions,
    context: &Context,
) -> Result<()> {
    let timeline = start.timeline();
    if timeline != Timeline::FIRST && archive.timeline_history(timeline, context).await?.is_none() {
        context.warn(format!(
            "the archive has no '{}': older backups cannot be recovered into timeline {timeline}",
            timeline.history_file_name()
        ));
    }
    let replayed = standby.replay_lsn().await?;
    if replayed.is_some_and(|replayed| replayed.segment(timeline, size) > start) {
        context.info(format!("check archive for segment {start}"));
        wait_for_segment(archive, start, options.archive_timeout, context).await?;
    } else {
        context.detail(format!("segment {start} is not complete yet: it is looked for at the end"));
    }
    Ok(())
}

/// Gives all files the second in which they were listed. A server writes its files when it likes: the time of a file on
/// the standby may be that of the same file on the primary while their contents differ, and a later backup of the other
/// server, ours or the original's, would take the one for the other. A time later than that of every file makes it compare
/// the contents.
pub(super) fn hide_times(scan: &mut Scan, copy_start_s: i64) {
    for file in &mut scan.files {
        file.modified_s = copy_start_s;
    }
}

/// Checks that what the server stopped is the backup that began, and that the copy of `pg_control` ends it. Gives the
/// WAL that the backup needs.
///
/// # Errors
/// [`ErrorKind::DbMismatch`] naming what does not fit.
pub(super) fn check_stop(
    stopped: &BackupStop,
    started: &Started,
    copied: &ControlFile,
    segment_size: WalSegmentSize,
) -> Result<WalRange> {
    let mismatch = |message: String| Err(Error::new(ErrorKind::DbMismatch, message));
    let timeline = started.segment.timeline();
    let label = &stopped.backup_label;
    if !label.contains(&format!("START WAL LOCATION: {} (file {})", started.lsn, started.segment)) {
        return mismatch(format!("the backup that stopped is not the one that started at {}", started.lsn));
    }
    if !label.lines().any(|line| line == "BACKUP FROM: standby") {
        return mismatch("the server does not call this a backup of a standby".to_owned());
    }
    if !copied.is_in_archive_recovery() {
        return mismatch("pg_control was copied from a server that was no standby any more".to_owned());
    }
    let end = copied.minimum_recovery();
    if let Some(found) = end.timeline.filter(|found| *found != timeline) {
        return mismatch(format!("the timeline changed from {timeline} to {found} during the backup"));
    }
    if end.lsn == Lsn(0) || end.lsn < started.lsn || stopped.lsn < end.lsn {
        return mismatch(format!(
            "minimum recovery point {} of the copied pg_control is not between backup start {} and backup stop {}",
            end.lsn, started.lsn, stopped.lsn
        ));
    }
    Ok(WalRange {
        start_lsn: started.lsn,
        // Not that of the server, which may have gone on meanwhile, even to another timeline.
        stop_lsn: end.lsn,
        start_segment: started.segment,
        segment_size,
        may_end_open: true,
    })
}
