//! `stanza-delete`: a stanza with all its backups and WAL is removed from one repository (repository-behaviour.md §1.3).
//!
//! The info files go first, archive.info before backup.info, each before its copy. From then on nothing takes what is
//! left for a stanza, and running it again removes the rest, by this program or by the original.

use crate::error::Result;
use crate::format::path;
use crate::progress::Context;
use crate::repository::WritableRepository;
use crate::storage::{ListOptions, StorageExt, StoragePath};

/// What there is to remove.
#[derive(Debug)]
pub struct StanzaContent<'a> {
    repository: &'a WritableRepository,
    is_there: bool,
    has_archive: bool,
    has_backup: bool,
}

/// Looks what there is of the stanza.
///
/// # Errors
/// The storage's; a listing that fails is no empty stanza.
pub async fn look(repository: &WritableRepository) -> Result<StanzaContent<'_>> {
    let stanza = repository.stanza();
    let has_archive = has_entries(repository, &path::archive_stanza(stanza)).await?;
    let has_backup = has_entries(repository, &path::backup_stanza(stanza)).await?;
    let is_there = has_archive || has_backup || may_have_directories(repository).await?;
    Ok(StanzaContent { repository, is_there, has_archive, has_backup })
}

impl StanzaContent<'_> {
    /// Whether nothing of the stanza is there, but for empty directories.
    pub fn is_empty(&self) -> bool {
        !(self.has_archive || self.has_backup)
    }

    /// Whether there may be something to remove, if only empty directories. Where there are no directories that cannot be
    /// told, and it is taken for so.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Removes it. The caller has made sure that no command of this stanza runs or begins, on any host.
    ///
    /// # Errors
    /// The storage's, and [`crate::error::ErrorKind::Term`] when the command is to stop; running it again removes the
    /// rest.
    pub async fn remove(self, context: &Context) -> Result<()> {
        let (stanza, storage) = (self.repository.stanza(), self.repository.storage());
        for (is_there, info) in
            [(self.has_archive, path::archive_info(stanza)), (self.has_backup, path::backup_info(stanza))]
        {
            if is_there {
                context.check_cancelled()?;
                storage.remove(&info).await?;
                storage.remove(&path::copy_of(&info)).await?;
            }
        }
        for directory in [path::archive_stanza(stanza), path::backup_stanza(stanza)] {
            context.check_cancelled()?;
            storage.remove_tree(&directory).await?;
        }
        Ok(())
    }
}

async fn may_have_directories(repository: &WritableRepository) -> Result<bool> {
    let (stanza, storage) = (repository.stanza(), repository.storage());
    Ok(!storage.capabilities().directories
        || storage.exists(&path::archive_stanza(stanza)).await?
        || storage.exists(&path::backup_stanza(stanza)).await?)
}

async fn has_entries(repository: &WritableRepository, directory: &StoragePath) -> Result<bool> {
    Ok(!repository.storage().list_all(directory, &ListOptions::default()).await?.is_empty())
}
