//! What an earlier backup left behind when it was killed (repository-behaviour.md §4.8, §4.13).

use super::options::BackupOptions;
use crate::error::Result;
use crate::format::{BackupType, path};
use crate::progress::{Context, Level};
use crate::repository::{Reconciled, WritableRepository};
use crate::storage::StorageExt;

/// Removes the newest directory when its backup was never finished. Older ones are left to `expire`.
///
/// A backup that backup.info listed was finished, whatever the store shows of it now: its directory stays.
///
/// # Errors
/// The storage's; a manifest counts as missing only when the store says so.
pub(super) async fn remove(
    repository: &WritableRepository,
    reconciled: &mut Reconciled,
    options: &BackupOptions,
    context: &Context,
) -> Result<()> {
    let Some(label) = reconciled.directories.last().copied() else { return Ok(()) };
    let (stanza, storage) = (repository.stanza(), repository.storage());
    if reconciled.was_removed(&label) || storage.exists(&path::manifest(stanza, &label)).await? {
        return Ok(());
    }
    let (resumes, reason) = if options.backup_type != BackupType::Full {
        (false, "resume only valid for full backup")
    } else if !storage.exists(&path::manifest_copy(stanza, &label)).await? {
        (options.resume, "partially deleted by prior resume or invalid")
    } else if options.resume {
        (true, "resuming is not implemented yet")
    } else {
        (false, "resume is disabled")
    };
    let level = if resumes { Level::Warn } else { Level::Info };
    context.reporter.message(level, 0, &format!("backup '{label}' cannot be resumed: {reason}"));
    storage.remove_tree(&path::backup(stanza, &label)).await?;
    reconciled.directories.remove(&label);
    reconciled.left_over = Some(label);
    Ok(())
}
