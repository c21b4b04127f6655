//! What a repository in a directory has beside objects (repository-format.md §1): all directories of a full backup
//! without bundles and the links of its tablespaces, so that a copy of it is a cluster; and the link `latest`.

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::TargetKind;
use crate::format::{BackupLabel, Manifest, path};
use crate::progress::Context;
use crate::repository::WritableRepository;
use crate::storage::StorageExt;

/// Makes the directories and links of a backup.
///
/// # Errors
/// The storage's.
pub(super) async fn create(repository: &WritableRepository, manifest: &Manifest, symlinks: bool) -> Result<()> {
    let Some(posix) = repository.storage().posix() else { return Ok(()) };
    let (stanza, label) = (repository.stanza(), manifest.label());
    for row in manifest.paths() {
        let directory = path::directory(stanza, &label, row.name()).map_err(|error| {
            Error::new(ErrorKind::Format, format!("'{}' cannot be a directory: {error}", row.name()))
        })?;
        posix.create_directory(&directory).await?;
    }
    if symlinks {
        for target in manifest.targets() {
            if let TargetKind::Tablespace { oid, .. } = target.kind() {
                let (link, text) = path::tablespace_link(stanza, &label, *oid);
                posix.symlink(&link, &text).await?;
            }
        }
    }
    Ok(())
}

/// Lets `latest` lead to the backup, or removes it where links are not wanted. It is for people only: nothing reads it,
/// so a failure is a warning.
pub(super) async fn link_latest(
    repository: &WritableRepository,
    label: &BackupLabel,
    symlinks: bool,
    context: &Context,
) {
    let storage = repository.storage();
    let Some(posix) = storage.posix() else { return };
    let latest = path::latest(repository.stanza());
    let linked = match symlinks {
        true => posix.symlink(&latest, label.as_str()).await,
        false => match storage.exists(&latest).await {
            Ok(true) => storage.remove(&latest).await,
            other => other.map(drop),
        },
    };
    if let Err(error) = linked {
        context.warn(format!("the link 'latest' could not be updated: {error}"));
    }
}
