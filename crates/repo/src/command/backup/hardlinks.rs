//! `repo-hardlink`: files that earlier backups store get a name in this one too, where the repository is a directory, so
//! that the directory of the backup is a whole cluster (repository-behaviour.md §4.10).

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::FileLocation;
use crate::format::{Manifest, path};
use crate::progress::Context;
use crate::repository::WritableRepository;

/// Links every file of `manifest` that another backup stores.
///
/// # Errors
/// The storage's: without one of the links the directory would not be what it is wanted for.
pub(super) async fn create(repository: &WritableRepository, manifest: &Manifest, context: &Context) -> Result<()> {
    let Some(posix) = repository.storage().posix() else { return Ok(()) };
    let (stanza, own) = (repository.stanza(), manifest.label());
    for file in manifest.files().iter().filter(|file| file.reference.is_some()) {
        let FileLocation::Object { label, stored } = manifest.location(file) else { continue };
        let located = |label| {
            path::file(stanza, label, file.name(), stored).map_err(|error| {
                Error::new(ErrorKind::Format, format!("'{}' cannot be linked under its name: {error}", file.name()))
            })
        };
        context.check_cancelled()?;
        context.detail(format!("hardlink {} to {label}", file.name()));
        posix.hard_link(&located(&label)?, &located(&own)?).await?;
    }
    Ok(())
}
