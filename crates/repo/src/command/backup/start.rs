//! The begin of a backup on the server (repository-behaviour.md §4.4), and what replaces it offline.

use std::os::unix::ffi::OsStrExt;

use super::cluster::{Cluster, current_control};
use super::options::BackupOptions;
use super::servers::Standby;
use super::standby;
use crate::db::check::{ARCHIVE_PROGRAMS, ArchiveRules, ExpectedServer, check_server};
use crate::db::{Database, DatabaseEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::pgdata::{Directory, RelativePath};
use crate::postgres::data_path::file_name;
use crate::postgres::{Lsn, WalSegmentName};
use crate::progress::{Context, blocking};
use crate::repository::{Archive, wait_for_segment};

/// A backup that the server has started.
#[derive(Debug)]
pub(super) struct Started {
    /// Recovery starts here.
    pub(super) lsn: Lsn,
    /// The segment that holds it.
    pub(super) segment: WalSegmentName,
    /// All databases.
    pub(super) databases: Vec<DatabaseEntry>,
    /// Object id and name of all tablespaces.
    pub(super) tablespaces: Vec<(u32, String)>,
}

/// Starts the backup on the primary. With a standby, that has replayed the begin before anything is copied. With an archive, one segment must arrive there before anything is copied: an archive that does
/// not work is better found now than at the end.
///
/// # Errors
/// [`ErrorKind::DbMismatch`] when server, data directory and timeline do not belong together,
/// [`ErrorKind::ArchiveTimeout`], and the errors of [`check_server`] and of the session.
pub(super) async fn start(
    database: &dyn Database,
    standby: Option<Standby<'_>>,
    cluster: &Cluster,
    archive: Option<&Archive>,
    options: &BackupOptions,
    context: &Context,
) -> Result<Started> {
    let rules = options
        .archive_check
        .filter(|_| archive.is_some())
        .map(|check| ArchiveRules { refuse_always: check.refuse_always, programs: &ARCHIVE_PROGRAMS });
    check_server_of(database, cluster, rules, options)?;
    let kind = if options.start_fast { "requested immediate" } else { "next regular" };
    context.info(format!("execute backup start: backup begins after the {kind} checkpoint completes"));
    let checkpoint_timeout = database.identity().checkpoint_timeout;
    if !options.start_fast && options.db_timeout <= checkpoint_timeout {
        context.warn(format!(
            "start-fast is disabled and db-timeout ({}s) is smaller than the PostgreSQL checkpoint_timeout ({}s) - \
             timeout may occur before the backup starts",
            options.db_timeout.as_secs(),
            checkpoint_timeout.as_secs()
        ));
    }
    let before = match archive {
        Some(_) => Some(database.insert_segment().await?),
        None => None,
    };
    let begun = database.start_backup(options.start_fast).await?;
    let Some(segment) = begun.segment else {
        return Err(Error::new(ErrorKind::DbMismatch, "the server does not name the WAL segment: it is a standby"));
    };
    check_view(cluster, begun.lsn, segment, options).await?;
    if before == Some(segment) {
        // Nothing was written since the last switch: without this one there would be no segment to look for.
        database.switch_wal().await?;
    }
    let databases = database.databases().await?;
    let tablespaces = database.tablespaces().await?;
    context.info(format!("backup start archive = {segment}, lsn = {}", begun.lsn));
    if let Some(standby) = standby {
        standby::catch_up(standby, cluster, begun.lsn, options, context).await?;
    }
    if let (Some(archive), Some(before)) = (archive, before) {
        let prior = if before == segment { "" } else { "prior " };
        context.info(format!("check archive for {prior}segment {before}"));
        wait_for_segment(archive, before, options.archive_timeout, context).await?;
    }
    Ok(Started { lsn: begun.lsn, segment, databases, tablespaces })
}

/// Whether the server is that of the data directory, and archives as it must.
///
/// # Errors
/// Those of [`check_server`].
pub(super) fn check_server_of(
    database: &dyn Database,
    cluster: &Cluster,
    rules: Option<ArchiveRules<'_>>,
    options: &BackupOptions,
) -> Result<()> {
    let path = options.pg_path.to_string_lossy();
    let expected = ExpectedServer { version: cluster.control.version(), data_directory: &path };
    Ok(check_server(database.identity(), expected, rules)?)
}

/// What the server says it did must be seen in its data directory, on the timeline that it was on.
async fn check_view(cluster: &Cluster, lsn: Lsn, segment: WalSegmentName, options: &BackupOptions) -> Result<()> {
    let control = current_control(options).await?;
    if control.checkpoint() < lsn {
        let message = format!("current checkpoint '{}' is less than backup start '{lsn}'", control.checkpoint());
        return Err(Error::new(ErrorKind::DbMismatch, message));
    }
    for timeline in [cluster.control.timeline(), control.timeline()] {
        if segment.timeline() != timeline {
            let message = format!("WAL timeline {} does not match pg_control timeline {timeline}", segment.timeline());
            return Err(Error::new(ErrorKind::DbMismatch, message));
        }
    }
    Ok(())
}

/// Looks whether a server runs on the data directory of an offline backup.
///
/// # Errors
/// [`ErrorKind::PgRunning`] unless forced.
pub(super) async fn check_not_running(options: &BackupOptions, context: &Context) -> Result<()> {
    let path = options.pg_path.clone();
    let runs = blocking(move || {
        let name = RelativePath::parse(file_name::POSTMASTER_PID.as_bytes())?;
        Ok(Directory::open(path.as_os_str().as_bytes())?.info_of(&name)?.is_some())
    });
    match (runs.await?, options.force) {
        (false, _) => Ok(()),
        (true, true) => {
            context.warn(
                "--no-online passed and postmaster.pid exists but --force was passed so backup will continue though it \
                 looks like PostgreSQL is running and the backup will probably not be consistent",
            );
            Ok(())
        }
        (true, false) => Err(Error::new(
            ErrorKind::PgRunning,
            "--no-online passed but postmaster.pid exists - looks like PostgreSQL is running. Shut down PostgreSQL and \
             try again, or use --force.",
        )),
    }
}
