//! `check`: proves that the servers, the configuration and the repositories belong together, and that WAL arrives
//! (repository-behaviour.md §1.4).

use std::time::Duration;

use jiff::Timestamp;

use crate::db::Database;
use crate::db::check::{ArchiveRules, ExpectedServer, check_server};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{PgVersion, SystemId};
use crate::progress::Context;
use crate::repository::{Archive, Repository, check_agreement, check_cluster, wait_for_segment};

/// What is to be checked.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions<'a> {
    /// What is demanded of archiving on the primary; `None` without `archive-check`.
    pub archive: Option<ArchiveRules<'a>>,
    /// How long each repository may take to have the segment.
    pub archive_timeout: Duration,
    /// Whether backups are to be made from a standby, so that one is expected.
    pub standby_expected: bool,
}

/// A running server and what its data directory says.
#[derive(Debug, Clone, Copy)]
pub struct CheckedServer<'a> {
    /// A session on it.
    pub database: &'a dyn Database,
    /// The configured path of its data directory.
    pub pg_path: &'a str,
    /// Version in its pg_control.
    pub version: PgVersion,
    /// System identifier in its pg_control.
    pub system_id: SystemId,
}

/// A repository and the path that people know it by.
#[derive(Debug)]
pub struct CheckedRepository {
    /// The repository.
    pub repository: Repository,
    /// `repo-path`.
    pub path: String,
}

/// Checks the servers of a stanza against every repository, and has the primary archive one segment.
///
/// # Errors
/// - [`ErrorKind::Config`] when there is no server, or a standby alone,
/// - [`ErrorKind::DbMismatch`], [`ErrorKind::ArchiveDisabled`], [`ErrorKind::FeatureNotSupported`] and
///   [`ErrorKind::ArchiveCommandInvalid`] for a server that is not set up for this,
/// - [`ErrorKind::FileMissing`] without a stanza, [`ErrorKind::FileInvalid`] for the stanza of another cluster,
/// - [`ErrorKind::ArchiveTimeout`] when the segment does not arrive.
pub async fn check(
    primary: Option<CheckedServer<'_>>,
    standby: Option<CheckedServer<'_>>,
    repositories: &[CheckedRepository],
    options: CheckOptions<'_>,
    context: &Context,
) -> Result<()> {
    match (primary, standby) {
        (None, None) => {
            return Err(
                Error::new(ErrorKind::Config, "no database found").hint("check indexed pg-path/pg-host configurations")
            );
        }
        (None, Some(_)) => {
            return Err(Error::new(ErrorKind::Config, "primary database not found")
                .hint("check indexed pg-path/pg-host configurations"));
        }
        (Some(_), Some(standby)) => check_standby(standby, repositories, context).await?,
        (Some(_), None) if options.standby_expected => {
            context.warn("option 'backup-standby' is enabled but standby is not properly configured");
        }
        (Some(_), None) => {}
    }
    match primary {
        Some(primary) => check_primary(primary, repositories, options, context).await,
        None => Ok(()),
    }
}

async fn check_standby(
    standby: CheckedServer<'_>,
    repositories: &[CheckedRepository],
    context: &Context,
) -> Result<()> {
    check_server(standby.database.identity(), standby.expected(), None)?;
    for checked in repositories {
        context.info(format!("check {} (standby)", checked.repository.index()));
        open_archive(standby, &checked.repository, context).await?;
    }
    context.info("switch wal not performed because this is a standby");
    Ok(())
}

async fn check_primary(
    primary: CheckedServer<'_>,
    repositories: &[CheckedRepository],
    options: CheckOptions<'_>,
    context: &Context,
) -> Result<()> {
    check_server(primary.database.identity(), primary.expected(), options.archive)?;
    let mut archives = Vec::new();
    for checked in repositories {
        context.info(format!("check {} configuration (primary)", checked.repository.index()));
        archives.push((checked, open_archive(primary, &checked.repository, context).await?));
    }
    let segment = primary.database.switch_wal().await?;
    for (checked, archive) in archives {
        let index = checked.repository.index();
        context.info(format!("check {index} archive for WAL (primary)"));
        let file = match wait_for_segment(&archive, segment, options.archive_timeout, context).await {
            Err(late) if late.kind() == ErrorKind::ArchiveTimeout => return Err(since_when(&archive, late).await),
            arrived => arrived?,
        };
        let root = checked.path.trim_end_matches('/');
        context.info(format!("WAL segment {segment} successfully archived to '{root}/{}' on {index}", file.path));
    }
    Ok(())
}

/// The error told with the time since when nothing arrives, whatever the server believes (faults.md NP10).
async fn since_when(archive: &Archive, late: Error) -> Error {
    let index = archive.repository().index();
    match archive.newest_segment().await {
        Ok(Some(newest)) => {
            let at_s = newest.modified_s;
            let at = Timestamp::from_second(at_s).map_or_else(|_| at_s.to_string(), |at| at.to_string());
            late.hint(format!("no WAL has come to {index} since {at}, when {} did.", newest.name.segment))
        }
        Ok(None) => late.hint(format!("no WAL of this cluster has ever come to {index}.")),
        // What is said already is true.
        Err(_) => late,
    }
}

/// The archive of the server's cluster, after both info files were found to be of that cluster.
async fn open_archive(server: CheckedServer<'_>, repository: &Repository, context: &Context) -> Result<Archive> {
    let archive = repository.archive_info(context).await?;
    let backup = repository.backup_info(context).await?;
    check_agreement(archive.history().current(), backup.history().current())?;
    check_cluster(archive.history().current(), server.version, server.system_id)?;
    repository.archive(&archive, archive.current_archive_id())
}

impl<'a> CheckedServer<'a> {
    fn expected(&self) -> ExpectedServer<'a> {
        ExpectedServer { version: self.version, data_directory: self.pg_path }
    }
}
