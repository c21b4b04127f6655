//! The end of a backup on the server: its WAL range, and the two files that recovery needs (repository-behaviour.md
//! §4.12).

use std::sync::Arc;

use super::archive_check::WalRange;
use super::cluster::{Cluster, now_s};
use super::file::{Copier, Source, SourceRead, StoredBytes};
use super::restartpoint;
use super::servers::Servers;
use super::start::Started;
use crate::db::BackupStop;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Form;
use crate::format::Manifest;
use crate::format::ManifestName;
use crate::format::manifest::{CopiedFile, FileRow, PageChecksums, ScannedFile};
use crate::format::path::{self, StoredFile};
use crate::pgdata::ReadLimit;
use crate::postgres::data_path::file_name::{BACKUP_LABEL, TABLESPACE_MAP};
use crate::progress::Context;
use crate::repository::WritableRepository;
use crate::storage::{Condition, Durability};
use crate::transfer::{self, StoreTarget};

/// Bits of the mode of `pg_data` that these files have (`S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH`).
const MODE_MASK: u16 = 0o644;

/// A backup that the server has stopped.
#[derive(Debug)]
pub(super) struct Stopped {
    /// When, seconds since the Unix epoch.
    pub(super) timestamp_s: i64,
    /// The WAL that it needs.
    pub(super) wal: WalRange,
}

/// Stops the backup and stores the files that the server returns.
///
/// # Errors
/// [`ErrorKind::DbMismatch`] when the timeline changed meanwhile; the session's; the storage's.
pub(super) async fn stop(
    repository: &WritableRepository,
    servers: Servers<'_>,
    (cluster, started): (&Cluster, &Started),
    copier: &Copier,
    manifest: &mut Manifest,
    context: &Context,
) -> Result<Stopped> {
    let database = servers.leader().ok_or_else(|| Error::new(ErrorKind::Assert, "no server to stop a backup on"))?;
    // The last look before the copy counts: a server that is another one by now cannot tell where recovery has to end.
    servers.ping().await?;
    context.info("execute backup stop and wait for all WAL segments to archive");
    let stopped = database.stop_backup().await?;
    let timestamp_s = now_s(Some(database), context).await?;
    let wal = match servers {
        Servers::Standby(_) => {
            let copied = copier.last_control();
            let copied = copied.ok_or_else(|| Error::new(ErrorKind::FileMissing, "pg_control was not copied"))?;
            restartpoint::check_stop(&stopped, started, &copied, cluster.control.wal_segment_size())?
        }
        _ => check_stop(&stopped, started, cluster)?,
    };
    context.info(format!("backup stop archive = {}, lsn = {}", wal.stop_segment(), wal.stop_lsn));
    let files = [(BACKUP_LABEL, Some(stopped.backup_label)), (TABLESPACE_MAP, stopped.tablespace_map)];
    for (name, content) in files {
        if let Some(content) = content.filter(|content| !content.is_empty()) {
            put(repository, copier, manifest, (name, content), timestamp_s, context).await?;
        }
    }
    Ok(Stopped { timestamp_s, wal })
}

/// Checks that what the primary stopped is the backup that began, and gives the WAL that the backup needs.
fn check_stop(stopped: &BackupStop, started: &Started, cluster: &Cluster) -> Result<WalRange> {
    let start = started.segment;
    if let Some(segment) = stopped.segment.filter(|segment| segment.timeline() != start.timeline()) {
        let message =
            format!("the timeline changed from {} to {} during the backup", start.timeline(), segment.timeline());
        return Err(Error::new(ErrorKind::DbMismatch, message));
    }
    if stopped.lsn < started.lsn || !stopped.backup_label.contains(&started.lsn.to_string()) {
        let message =
            format!("the backup that stopped at {} is not the one that started at {}", stopped.lsn, started.lsn);
        return Err(Error::new(ErrorKind::DbMismatch, message));
    }
    Ok(WalRange {
        start_lsn: started.lsn,
        stop_lsn: stopped.lsn,
        start_segment: start,
        segment_size: cluster.control.wal_segment_size(),
        may_end_open: false,
    })
}

/// Stores a text as a file of the data directory, outside of bundles, and adds it to the manifest.
async fn put(
    repository: &WritableRepository,
    copier: &Copier,
    manifest: &mut Manifest,
    (name, content): (&str, String),
    timestamp_s: i64,
    context: &Context,
) -> Result<()> {
    let assert = |error: String| Error::new(ErrorKind::Assert, format!("'{name}' cannot be stored: {error}"));
    let full_name =
        ManifestName::parse(format!("pg_data/{name}").as_bytes()).map_err(|error| assert(error.to_string()))?;
    let stored = StoredFile::Whole(manifest.options().compress_type);
    let target = StoreTarget {
        storage: Arc::clone(repository.storage()),
        path: path::file(repository.stanza(), &manifest.label(), &full_name, stored)
            .map_err(|error| assert(error.to_string()))?,
        condition: Condition::None,
        durability: Durability::Now,
        keep_empty: true,
        size_max_bytes: None,
    };
    let source = Source {
        position: 0,
        name: full_name.as_bytes().to_vec(),
        read: SourceRead::Plain(ReadLimit::End),
        pages: None,
        form: Form::Standard,
        blocks: None,
        expected: None,
        compare_first: false,
        kept: None,
    };
    let (copier, size_bytes) = (copier.clone(), content.len() as u64);
    let stored = transfer::store(target, &context.budget, move |out| {
        copier.copy_whole(&source, content.as_bytes(), out).map(|(stored, _)| stored)
    });
    let stored = stored.await?.result;
    manifest
        .insert_file(row(manifest, full_name, size_bytes, timestamp_s, &stored)?)
        .map_err(|error| assert(error.to_string()))?;
    context.detail(format!("wrote '{name}' file returned from backup stop function"));
    Ok(())
}

fn row(
    manifest: &Manifest,
    name: ManifestName,
    size_bytes: u64,
    timestamp_s: i64,
    stored: &StoredBytes,
) -> Result<FileRow> {
    let base = manifest.path(b"pg_data").ok_or_else(|| Error::new(ErrorKind::Assert, "there is no path 'pg_data'"))?;
    let mut row = FileRow::scanned(ScannedFile {
        name,
        size_bytes,
        timestamp_s,
        user: base.user,
        group: base.group,
        mode: base.mode & MODE_MASK,
    });
    row.record(CopiedFile {
        size_bytes: stored.size_bytes,
        checksum: stored.checksum,
        size_repo_bytes: stored.size_repo_bytes,
        checksum_repo: stored.checksum_repo,
        bundle: None,
        map_size_bytes: 0,
        page_checksums: PageChecksums::NotChecked,
    });
    Ok(row)
}
