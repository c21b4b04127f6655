//! The backup that a differential or incremental one is based on (repository-behaviour.md §4.3).

use super::options::BackupOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupEntry, BackupInfo, BackupType};
use crate::progress::Context;

/// Makes sure that a full backup is what is asked for, or becomes it for want of a prior.
///
/// # Errors
/// [`ErrorKind::FeatureNotSupported`] for a differential or incremental backup that has a prior.
pub(super) fn require_full(info: &BackupInfo, options: &BackupOptions, context: &Context) -> Result<()> {
    let kind = options.backup_type;
    if kind == BackupType::Full {
        return Ok(());
    }
    if let Some(prior) = newest(info, kind) {
        let message = format!("{kind} backups are not implemented yet; the prior backup would be {}", prior.label);
        return Err(Error::new(ErrorKind::FeatureNotSupported, message).hint("use --type=full"));
    }
    context.warn(format!("no prior backup exists, {kind} backup has been changed to full"));
    Ok(())
}

/// The newest backup of the current cluster that a backup of this type can be based on.
fn newest(info: &BackupInfo, kind: BackupType) -> Option<&BackupEntry> {
    let current = info.history().current().id;
    let fits = |entry: &&BackupEntry| {
        entry.history_id == current && (kind == BackupType::Incremental || entry.backup_type() == BackupType::Full)
    };
    info.backups().iter().rev().find(fits)
}
