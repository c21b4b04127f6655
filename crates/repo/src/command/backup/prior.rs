//! The backup that a differential or incremental one is based on, and what it decides for all that follow it
//! (repository-behaviour.md §4.3; pgBackRest `src/command/backup/incr.c.inc`).

use super::cluster::Cluster;
use super::options::BackupOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Compression;
use crate::format::{BackupEntry, BackupInfo, BackupType, CompressType, Manifest};
use crate::progress::Context;
use crate::repository::Repository;

/// Finds and reads the prior backup; `None` for a full backup. Sets in `options` and `cluster` what cannot differ
/// within a set, and the type when a full backup has to be made for want of a prior.
///
/// # Errors
/// Those of reading a manifest: a prior that cannot be read is no reason to make a full backup unasked.
pub(super) async fn settle(
    repository: &Repository,
    info: &BackupInfo,
    options: &mut BackupOptions,
    cluster: &mut Cluster,
    context: &Context,
) -> Result<Option<Manifest>> {
    let kind = options.backup_type;
    if kind == BackupType::Full {
        return Ok(None);
    }
    let Some(entry) = newest(info, kind) else {
        context.warn(format!("no prior backup exists, {kind} backup has been changed to full"));
        options.backup_type = BackupType::Full;
        return Ok(None);
    };
    let label = entry.label;
    let passphrase = repository.manifest_passphrase(info)?;
    let prior = repository.manifest(&label, passphrase.as_ref(), context).await?;
    if prior.label() != label || !prior.is_complete() {
        let message = format!("the manifest of backup {label} is that of backup {} or not complete", prior.label());
        return Err(Error::new(ErrorKind::Format, message).hint("a full backup does not need it"));
    }
    context.info(format!("last backup label = {label}, version = {}", prior.envelope().version()));
    inherit_compression(&prior, options, context)?;
    inherit_page_check(&prior, options, cluster, context);
    Ok(Some(prior))
}

/// The newest backup of the current cluster that a backup of this type can be based on.
fn newest(info: &BackupInfo, kind: BackupType) -> Option<&BackupEntry> {
    let current = info.history().current().id;
    let fits = |entry: &&BackupEntry| {
        entry.history_id == current && (kind == BackupType::Incremental || entry.backup_type() == BackupType::Full)
    };
    info.backups().iter().rev().find(fits)
}

/// A set has one type of compression: names of referenced files are composed with it.
fn inherit_compression(prior: &Manifest, options: &mut BackupOptions, context: &Context) -> Result<()> {
    let (asked, kind) = (options.compress.kind(), prior.options().compress_type);
    if asked == kind {
        return Ok(());
    }
    context.warn(format!(
        "{} backup cannot alter compress-type option to '{}', reset to value in {}",
        options.backup_type,
        asked.name(),
        prior.label()
    ));
    // A level that is not recorded was written by a version that had only the default of gz.
    let level = prior.options().compress_level.unwrap_or_else(|| kind.level_default());
    options.compress = match kind {
        CompressType::None => Compression::NONE,
        _ => Compression::new(kind, level).map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?,
    };
    Ok(())
}

/// Files that are only referenced would be listed as checked or not checked, whatever the option is now.
fn inherit_page_check(prior: &Manifest, options: &BackupOptions, cluster: &mut Cluster, context: &Context) {
    // A version that did not know the option did not check; the next full backup will.
    let checked = prior.options().checksum_page;
    if let Some(checked) = checked.filter(|checked| *checked != cluster.checksum_page) {
        context.warn(format!(
            "{} backup cannot alter 'checksum-page' option to '{}', reset to '{checked}' from {}",
            options.backup_type,
            cluster.checksum_page,
            prior.label()
        ));
    }
    cluster.checksum_page = checked.unwrap_or(false);
}
