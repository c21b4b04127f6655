//! `stanza-upgrade`: another cluster becomes the current one of the stanza (repository-behaviour.md §1.2).
//!
//! archive.info is written first. A crash before backup.info leaves two files that disagree: WAL of the new cluster is
//! taken, a backup is refused (51), and running it again finishes the upgrade. Backups and WAL of earlier clusters stay
//! as they are, and the directory of the new archive id appears with its first WAL.

use crate::error::{Error, ErrorKind, Result};
use crate::format::db_history::HistoryFull;
use crate::format::{ArchiveInfo, BackupInfo};
use crate::progress::Context;
use crate::repository::{Change, WritableRepository, check_agreement};

use super::StanzaCluster;

/// Upgrades the stanza in each repository, one after the other. An error leaves the repositories before it upgraded;
/// running it again is safe.
///
/// # Errors
/// - [`ErrorKind::FileInvalid`] when the two info files would not agree afterwards: nothing is written then,
/// - [`ErrorKind::FileMissing`] when there is no stanza, and the other errors of reading and writing info files.
pub async fn upgrade(repositories: &[WritableRepository], cluster: StanzaCluster, context: &Context) -> Result<()> {
    for repository in repositories {
        context.info(format!("stanza-upgrade for stanza '{}' on {}", repository.stanza(), repository.index()));
        upgrade_in(repository, cluster, context).await?;
    }
    Ok(())
}

async fn upgrade_in(repository: &WritableRepository, cluster: StanzaCluster, context: &Context) -> Result<()> {
    let mut archive = repository.archive_info(context).await?;
    let mut backup = repository.backup_info(context).await?;
    let archive_change = upgrade_archive(&mut archive, cluster)?;
    let backup_change = upgrade_backup(&mut backup, cluster)?;
    let (archive, backup) = (archive.history().current(), backup.history().current());
    check_agreement(archive, backup)?;
    if archive_change == Change::Write {
        let upgraded = repository.update_archive_info(context, |info| upgrade_archive(info, cluster)).await?;
        check_unmoved(repository, upgraded.history().current().id == archive.id)?;
    }
    if backup_change == Change::Write {
        let upgraded = repository.update_backup_info(context, |info| upgrade_backup(info, cluster)).await?;
        check_unmoved(repository, upgraded.history().current().id == backup.id)?;
    }
    if (archive_change, backup_change) == (Change::Nothing, Change::Nothing) {
        context.info(format!("stanza '{}' on {} is already up to date", repository.stanza(), repository.index()));
    }
    Ok(())
}

fn upgrade_archive(info: &mut ArchiveInfo, cluster: StanzaCluster) -> Result<Change> {
    if info.history().current().is_cluster(cluster.version, cluster.system_id) {
        return Ok(Change::Nothing);
    }
    info.upgrade(cluster.version, cluster.system_id).map_err(full)?;
    Ok(Change::Write)
}

fn upgrade_backup(info: &mut BackupInfo, cluster: StanzaCluster) -> Result<Change> {
    if info.history().current().is_cluster(cluster.version, cluster.system_id) {
        return Ok(Change::Nothing);
    }
    info.upgrade(cluster.version, cluster.system_id, cluster.catalog()?).map_err(full)?;
    Ok(Change::Write)
}

/// Another upgrade at the same time may have taken the id that the other file got.
fn check_unmoved(repository: &WritableRepository, is_unmoved: bool) -> Result<()> {
    if is_unmoved {
        return Ok(());
    }
    let message = format!("the stanza on {} was upgraded by another process at the same time", repository.index());
    Err(Error::new(ErrorKind::FileInvalid, message).hint("run stanza-upgrade again for the cluster that is to stay."))
}

fn full(error: HistoryFull) -> Error {
    Error::new(ErrorKind::FileInvalid, error.to_string())
}
