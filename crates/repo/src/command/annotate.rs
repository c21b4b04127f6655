//! `annotate`: what people note about a backup (repository-behaviour.md §7.4). Only backup.info changes; the manifest
//! keeps what was noted when the backup was made.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupInfo, BackupLabel};
use crate::progress::Context;
use crate::repository::{Change, Purpose, WritableRepository};

/// Sets annotations of a backup in every repository that has it; an empty value removes its key. The original writes
/// what it changed for one repository into the first one; here each gets its own.
///
/// # Errors
/// [`ErrorKind::BackupSetInvalid`] when no repository has the backup, [`ErrorKind::Command`] when something failed in
/// one or more of the repositories; each failure was reported.
pub async fn annotate(
    repositories: &[WritableRepository],
    label: &BackupLabel,
    changes: &[(String, String)],
    context: &Context,
) -> Result<()> {
    let (mut found, mut errors) = (false, 0_usize);
    for repository in repositories {
        match annotate_in(repository, label, changes, context).await {
            Ok(was_found) => found |= was_found,
            Err(error) if error.kind() == ErrorKind::Term => return Err(error),
            Err(error) => {
                errors += 1;
                context.reporter.failure(error.kind(), &format!("{}: {error}", repository.index()));
            }
        }
    }
    if errors > 0 {
        let message = format!("annotate command encountered {errors} error(s), check the log file for details");
        return Err(Error::new(ErrorKind::Command, message));
    }
    if found { Ok(()) } else { Err(Error::new(ErrorKind::BackupSetInvalid, "no backup set to annotate found")) }
}

/// The answer is whether the repository has the backup.
async fn annotate_in(
    repository: &WritableRepository,
    label: &BackupLabel,
    changes: &[(String, String)],
    context: &Context,
) -> Result<bool> {
    let reconciled = repository.reconciled(Purpose::Backup, context).await?;
    if reconciled.info.backup(label).is_none() {
        return Ok(false);
    }
    context.check_cancelled()?;
    context.info(format!("backup set '{label}' to annotate found in {}", repository.index()));
    // As it is now: looking at every backup took its time.
    let change = |info: &mut BackupInfo| {
        reconciled.apply(info);
        let changes = changes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        info.annotate(label, changes).map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))?;
        Ok(Change::Write)
    };
    repository.update_backup_info(context, change).await?;
    Ok(true)
}
