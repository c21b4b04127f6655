//! The standby that most files are read from while the primary runs the backup (repository-behaviour.md §4.4, §4.10):
//! it must have replayed the begin of the backup, on the timeline of the primary.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use tokio::time::Instant;

use super::archive_check::PAUSE;
use super::cluster::{Cluster, control_at, scan_directory};
use super::options::BackupOptions;
use super::servers::Standby;
use crate::db::check::{ExpectedServer, check_server};
use crate::error::{Error, ErrorKind, Result};
use crate::pgdata::{DataRoots, Scan};
use crate::postgres::{ControlFile, DataLayout, Lsn, Timeline};
use crate::progress::{Context, blocking};

/// Waits until the standby has replayed the begin of the backup and has it on disk.
///
/// # Errors
/// [`ErrorKind::ArchiveTimeout`] naming the awaited position when replay stands still for `archive-timeout`;
/// [`ErrorKind::DbMismatch`] when it is no standby of this primary, or on another timeline.
pub(super) async fn catch_up(
    standby: Standby<'_>,
    cluster: &Cluster,
    lsn: Lsn,
    options: &BackupOptions,
    context: &Context,
) -> Result<()> {
    let before = control_at(standby.pg_path, options.version_force).await?;
    check_identity(standby, cluster, &before)?;
    if before.checkpoint() > lsn {
        // It has WAL that the primary does not: it follows somebody else.
        let message = format!("standby checkpoint '{}' is ahead of target '{lsn}'", before.checkpoint());
        return Err(Error::new(ErrorKind::DbMismatch, message));
    }
    context.info(format!("wait for replay on the standby to reach {lsn}"));
    let timeout = options.archive_timeout;
    wait_for_replay(standby, lsn, timeout).await?;
    checkpoint_at(standby, lsn, timeout).await?;
    check_timeline(standby, cluster.control.timeline(), options).await?;
    context.info(format!("replay on the standby reached {lsn}"));
    Ok(())
}

fn check_identity(standby: Standby<'_>, cluster: &Cluster, control: &ControlFile) -> Result<()> {
    let path = standby.pg_path.to_string_lossy();
    let expected = ExpectedServer { version: control.version(), data_directory: &path };
    check_server(standby.database.identity(), expected, None)?;
    let primary = &cluster.control;
    if (control.version(), control.system_id()) == (primary.version(), primary.system_id()) {
        return Ok(());
    }
    let message = format!(
        "the standby is PostgreSQL {} with system-id {}, the primary {} with system-id {}",
        control.version(),
        control.system_id(),
        primary.version(),
        primary.system_id()
    );
    Err(Error::new(ErrorKind::DbMismatch, message).hint("do all configured pg-path belong to the same cluster?"))
}

/// The time-out begins again whenever replay has moved: a standby that is far behind is slow, not stuck.
async fn wait_for_replay(standby: Standby<'_>, lsn: Lsn, timeout: Duration) -> Result<()> {
    let mut last = None;
    let mut deadline = Instant::now() + timeout;
    let (mut pause, pause_max) = PAUSE;
    loop {
        let Some(replayed) = standby.database.replay_lsn().await? else {
            let message = "unable to query replay lsn on the standby";
            return Err(Error::new(ErrorKind::ArchiveTimeout, message).hint("is this a standby?"));
        };
        if replayed > lsn {
            return Ok(());
        }
        if last != Some(replayed) {
            (last, deadline) = (Some(replayed), Instant::now() + timeout);
        }
        if Instant::now() >= deadline {
            let message = format!("timeout before standby replayed to {lsn} - only reached {replayed}");
            return Err(Error::new(ErrorKind::ArchiveTimeout, message)
                .hint("is replication running and current on the standby?")
                .hint("disable the 'backup-standby' option to backup directly from the primary."));
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(pause_max);
    }
}

/// Asks for checkpoints until one of the standby holds all that came before `lsn`.
///
/// One request is not enough: a standby can only repeat a checkpoint of its primary, and the record of the one that the
/// backup began with comes after `lsn`, the position where that checkpoint began. A standby that has replayed the first
/// and not yet the second would do nothing now, and nothing later either. (The original asks once, and may time out.)
async fn checkpoint_at(standby: Standby<'_>, lsn: Lsn, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let (mut pause, pause_max) = PAUSE;
    loop {
        standby.database.checkpoint().await?;
        let checkpoint = standby.database.control_checkpoint().await?.lsn;
        if checkpoint >= lsn {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let message = format!("timeout before standby checkpoint lsn reached {lsn} - only reached {checkpoint}");
            return Err(Error::new(ErrorKind::ArchiveTimeout, message));
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(pause_max);
    }
}

async fn check_timeline(standby: Standby<'_>, expected: Timeline, options: &BackupOptions) -> Result<()> {
    let found = control_at(standby.pg_path, options.version_force).await?.timeline();
    if found == expected {
        return Ok(());
    }
    let message = format!("standby is on timeline {found} but expected {expected}");
    Err(Error::new(ErrorKind::DbMismatch, message))
}

/// Opens the directories of the standby: its links and tablespaces may lead elsewhere than those of the primary.
///
/// # Errors
/// Those of scanning and opening them.
pub(super) async fn open_roots(
    standby: Standby<'_>,
    cluster: &Cluster,
    tablespaces: Vec<(u32, String)>,
    options: &BackupOptions,
) -> Result<DataRoots> {
    let (layout, path) = (cluster.layout.clone(), standby.pg_path.to_owned());
    let (exclude, links) = (options.exclude.clone(), options.links.clone());
    blocking(move || {
        let found = scan_directory(path.as_os_str().as_bytes(), &layout, Some(&tablespaces), &exclude, &links)?;
        Ok(DataRoots::open(&found.targets, &links)?)
    })
    .await
}

/// Gives files that the primary wrote since the backup began an earlier time. The standby need not have written the same
/// yet, so what is read there may be older than the time says; WAL repairs that in this backup, but a later one would
/// take the file for unchanged.
pub(super) fn hide_late_times(scan: &mut Scan, layout: &DataLayout, timestamp_start_s: i64) {
    for file in &mut scan.files {
        if file.modified_s >= timestamp_start_s && layout.is_replayed(&file.name) {
            file.modified_s = timestamp_start_s.saturating_sub(1);
        }
    }
}
