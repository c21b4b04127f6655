//! The one place of this command that removes anything: a dry run ends here, the permit is asked here, and failures are
//! counted here.

use futures_util::stream::{self, StreamExt};

use super::ExpireRequest;
use crate::error::{Error, Result};
use crate::format::{BackupLabel, path};
use crate::progress::Context;
use crate::repository::WritableRepository;
use crate::storage::{StorageError, StoragePath};

/// Directories that are removed at once: each takes a listing and a removal, one after the other.
const TREES_AT_ONCE: usize = 4;

/// Removes, and remembers what could not be removed: the rest goes on (faults.md EX11).
#[derive(Debug)]
pub(super) struct Remover<'a> {
    repository: &'a WritableRepository,
    request: &'a ExpireRequest,
    failed: u64,
    first: Option<Error>,
}

impl<'a> Remover<'a> {
    pub(super) fn new(repository: &'a WritableRepository, request: &'a ExpireRequest) -> Self {
        Self { repository, request, failed: 0, first: None }
    }

    pub(super) fn repository(&self) -> &'a WritableRepository {
        self.repository
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.request.dry_run
    }

    /// Removes objects; says whether all of them are gone.
    ///
    /// # Errors
    /// The permit's.
    pub(super) async fn objects(&mut self, paths: &[StoragePath]) -> Result<bool> {
        if self.is_dry_run() || paths.is_empty() {
            return Ok(true);
        }
        self.request.confirm().await?;
        Ok(match self.repository.storage().remove_many(paths).await {
            Ok(left) => {
                let all_gone = left.is_empty();
                self.count(left);
                all_gone
            }
            Err(error) => {
                self.failed = self.failed.saturating_add(paths.len() as u64 - 1);
                self.count([error]);
                false
            }
        })
    }

    /// Removes the manifest of a backup and its copy: after that it is no backup any more.
    ///
    /// # Errors
    /// The permit's.
    pub(super) async fn manifest(&mut self, label: &BackupLabel) -> Result<bool> {
        let stanza = self.repository.stanza();
        self.objects(&[path::manifest(stanza, label), path::manifest_copy(stanza, label)]).await
    }

    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    /// The permit's.
    pub(super) async fn tree(&mut self, path: &StoragePath) -> Result<()> {
        if !self.is_dry_run() {
            self.request.confirm().await?;
            if let Err(error) = self.repository.storage().remove_tree(path).await {
                self.count([error]);
            }
        }
        Ok(())
    }

    /// Removes directories of which none needs another, some at once.
    ///
    /// # Errors
    /// [`ErrorKind::Term`](crate::error::ErrorKind::Term), the permit's.
    pub(super) async fn trees(&mut self, paths: Vec<StoragePath>, context: &Context) -> Result<()> {
        if self.is_dry_run() {
            return Ok(());
        }
        let (storage, request) = (self.repository.storage(), self.request);
        let mut removals = stream::iter(paths)
            .map(|path| async move {
                request.confirm().await?;
                Ok::<_, Error>(storage.remove_tree(&path).await)
            })
            .buffer_unordered(TREES_AT_ONCE);
        while let Some(removed) = removals.next().await {
            if let Err(error) = removed? {
                self.failed = self.failed.saturating_add(1);
                self.first.get_or_insert(error.into());
            }
            context.check_cancelled()?;
        }
        Ok(())
    }

    /// Remembers something else that keeps an object from being removed.
    pub(super) fn refuse(&mut self, error: Error) {
        self.failed = self.failed.saturating_add(1);
        self.first.get_or_insert(error);
    }

    /// # Errors
    /// The first failure, with the number of all.
    pub(super) fn finish(self) -> Result<()> {
        match self.first {
            None => Ok(()),
            Some(first) if self.failed == 1 => Err(first),
            Some(first) => Err(first.context(format!("{} objects could not be removed, the first", self.failed))),
        }
    }

    fn count(&mut self, errors: impl IntoIterator<Item = StorageError>) {
        for error in errors {
            self.refuse(error.into());
        }
    }
}
