//! Whose the unfinished directory is. Locks end at the host, and a backup on another one may take this backup for a
//! left-over and remove it, or go on with it under the same name (faults.md BK15). It then replaces the copy of the
//! manifest, which tells.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Passphrase;
use crate::format::{BackupLabel, Manifest, path};
use crate::progress::Context;
use crate::repository::WritableRepository;
use crate::storage::{ObjectInfo, StorageExt, StoragePath};

/// The copy of the manifest as this backup wrote it last.
#[derive(Debug)]
pub(super) struct Ownership<'a> {
    repository: &'a WritableRepository,
    path: StoragePath,
    written: Mutex<ObjectInfo>,
}

impl<'a> Ownership<'a> {
    /// Of the backup `label`, whose copy was written, or found where it goes on, as `found` says.
    pub(super) fn new(repository: &'a WritableRepository, label: &BackupLabel, found: ObjectInfo) -> Self {
        let path = path::manifest_copy(repository.stanza(), label);
        Self { repository, path, written: Mutex::new(found) }
    }

    /// Fails when somebody else has removed or replaced the copy.
    ///
    /// # Errors
    /// [`ErrorKind::FileMissing`], [`ErrorKind::LockAcquire`]; the storage's.
    pub(super) async fn check(&self) -> Result<()> {
        let written = self.written.lock().await;
        self.check_against(&written).await
    }

    /// Writes the copy anew, unless it is not ours any more.
    ///
    /// # Errors
    /// As for [`Ownership::check`].
    pub(super) async fn save(
        &self,
        manifest: &Arc<Manifest>,
        passphrase: Option<&Passphrase>,
        context: &Context,
    ) -> Result<()> {
        let mut written = self.written.lock().await;
        self.check_against(&written).await?;
        *written = self.repository.save_manifest_copy(manifest, passphrase, context).await?;
        Ok(())
    }

    async fn check_against(&self, written: &ObjectInfo) -> Result<()> {
        let hint = "is another backup of this stanza running on another host?";
        let Some(found) = self.repository.storage().info_optional(&self.path).await? else {
            let message = format!("'{}' was removed while the backup ran", self.path);
            return Err(Error::new(ErrorKind::FileMissing, message).hint(hint));
        };
        let is_same = match (&found.version, &written.version) {
            (Some(found), Some(written)) => found == written,
            _ => (found.size_bytes, found.modified_s) == (written.size_bytes, written.modified_s),
        };
        if is_same {
            return Ok(());
        }
        let message =
            format!("'{}' was replaced while the backup ran: another backup has taken this one over", self.path);
        Err(Error::new(ErrorKind::LockAcquire, message).hint(hint))
    }
}
