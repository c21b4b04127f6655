//! The link `latest` of a repository in a directory.

use super::WritableRepository;
use crate::format::{BackupLabel, path};
use crate::progress::Context;
use crate::storage::StorageExt;

impl WritableRepository {
    /// Lets `latest` lead to the backup, or removes it where links are not wanted. It is for people only: nothing reads
    /// it, so a failure is a warning.
    pub(crate) async fn link_latest(&self, label: &BackupLabel, symlinks: bool, context: &Context) {
        let storage = self.storage();
        let Some(posix) = storage.posix() else { return };
        let latest = path::latest(self.stanza());
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
}
