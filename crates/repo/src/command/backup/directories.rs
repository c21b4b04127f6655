//! What a repository in a directory has beside objects (repository-format.md §1): all directories of a full backup
//! without bundles and the links of its tablespaces, so that a copy of it is a cluster.

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::TargetKind;
use crate::format::{Manifest, path};
use crate::repository::WritableRepository;

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
