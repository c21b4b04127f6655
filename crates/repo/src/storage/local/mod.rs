//! [`LocalStorage`]: a repository in a directory.
//!
//! - An object is written under a temporary name beside its own, synced, renamed, and the directory synced; so a name
//!   holds a whole object or what it held before (`src/storage/posix/write.c` of pgBackRest).
//! - Files have mode 0640 and directories 0750 whatever the umask says (repository-format.md §1).
//! - Every path is resolved name by name through directory handles that do not follow symbolic links: nothing below
//!   the root leads out of it, and one in the way is an error. The root itself may be a link; whoever spread a
//!   repository over several file systems by links below it mounts them there instead.
//! - File operations run on the runtime's blocking threads, in pieces of [`PIECE_BYTES`].

mod directory;
mod errno;
mod list;
mod read;
mod remove;
mod step;
mod temporary;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{
    ByteRange, Capabilities, Condition, Durability, ErrorClass, ListOptions, ListPage, ObjectInfo, ObjectRead,
    ObjectVersion, Operation, PageToken, PartTag, PosixStorage, Storage, StorageError, StorageFuture, StoragePath,
    UploadId, UploadPart,
};
use crate::workers::{Worker, spawn_blocking};
use directory::DirectoryId;
use step::Steps;

/// Bytes moved by one blocking task: a task of its own for each few KiB would cost more than the copy.
const PIECE_BYTES: usize = 256 * 1024;

/// The part size that keeps an upload's buffer small; a file system gains nothing from larger parts.
const PART_BYTES: usize = 1024 * 1024;

/// A repository in a directory.
#[derive(Debug, Clone)]
pub struct LocalStorage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Makes temporary names differ within the process.
    temporary_counter: AtomicU32,
    /// Directories whose own entry is known to be durable.
    durable_directories: Mutex<HashSet<DirectoryId>>,
    /// A handle in each file system (by device) with deferred writes, opened before the first of them: `syncfs`
    /// reports the write errors that came after its handle was opened.
    deferred: Mutex<BTreeMap<u64, Arc<OwnedFd>>>,
    steps: Steps,
}

impl LocalStorage {
    /// The repository in directory `root`, which is created by the first write if need be. Touches nothing yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let inner = Inner {
            root: root.into(),
            temporary_counter: AtomicU32::new(0),
            durable_directories: Mutex::default(),
            deferred: Mutex::default(),
            steps: Steps::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Runs `work` on a blocking thread. A dropped future does not stop work that has begun; whoever began it waits.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: Operation,
        path: &StoragePath,
        work: impl FnOnce(&Inner, &StoragePath) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (inner, owned_path) = (Arc::clone(&self.inner), path.clone());
        finished(operation, path, spawn_blocking(move || work(&inner, &owned_path))).await
    }
}

/// Waits for a blocking task.
async fn finished<T>(
    operation: Operation,
    path: &StoragePath,
    worker: Worker<Result<T, StorageError>>,
) -> Result<T, StorageError> {
    worker.await.unwrap_or_else(|error| {
        let what = format!("the file operation did not come to an end: {error}");
        Err(StorageError::new(ErrorClass::Permanent, operation, path, what))
    })
}

impl Storage for LocalStorage {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            directories: true,
            conditional_put: true,
            part_size_bytes: |_number, base| base,
            part_base_bytes: PART_BYTES,
            kept_versions: false,
        }
    }

    fn read<'a>(
        &'a self,
        path: &'a StoragePath,
        range: ByteRange,
        pin: Option<&'a ObjectVersion>,
    ) -> StorageFuture<'a, ObjectRead> {
        Box::pin(async move {
            let pin = pin.cloned();
            let opened = self.blocking(Operation::Read, path, move |inner, path| inner.open(path, range, pin.as_ref()));
            Ok(opened.await?.into_object_read())
        })
    }

    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(self.blocking(Operation::Info, path, Inner::info))
    }

    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage> {
        let options = options.clone();
        Box::pin(self.blocking(Operation::List, path, move |inner, path| inner.list(path, &options, page.as_ref())))
    }

    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        body: Bytes,
        condition: Condition,
        durability: Durability,
    ) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(
            self.blocking(Operation::Write, path, move |inner, path| inner.put(path, &body, &condition, durability)),
        )
    }

    fn upload_create<'a>(&'a self, path: &'a StoragePath, durability: Durability) -> StorageFuture<'a, UploadId> {
        Box::pin(self.blocking(Operation::Write, path, move |inner, path| inner.upload_create(path, durability)))
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        part: UploadPart,
    ) -> StorageFuture<'a, PartTag> {
        let upload = upload.clone();
        Box::pin(self.blocking(Operation::Write, path, move |inner, path| inner.upload_part(path, &upload, &part)))
    }

    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        parts: &'a [PartTag],
        condition: Condition,
    ) -> StorageFuture<'a, ObjectInfo> {
        let (upload, parts) = (upload.clone(), parts.to_vec());
        Box::pin(self.blocking(Operation::Write, path, move |inner, path| {
            inner.upload_complete(path, &upload, &parts, &condition)
        }))
    }

    fn upload_abort<'a>(&'a self, path: &'a StoragePath, upload: &'a UploadId) -> StorageFuture<'a, ()> {
        let upload = upload.clone();
        Box::pin(self.blocking(Operation::Write, path, move |inner, path| inner.upload_abort(path, &upload)))
    }

    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.blocking(Operation::Remove, path, Inner::remove))
    }

    fn remove_many<'a>(&'a self, paths: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>> {
        let paths = paths.to_vec();
        Box::pin(async move {
            let root = StoragePath::root();
            self.blocking(Operation::Remove, &root, move |inner, _| Ok(inner.remove_many(&paths))).await
        })
    }

    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.blocking(Operation::Remove, path, Inner::remove_tree))
    }

    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, begun_before_s: i64) -> StorageFuture<'a, u64> {
        Box::pin(
            self.blocking(Operation::Remove, path, move |inner, path| inner.remove_stale_uploads(path, begun_before_s)),
        )
    }

    fn flush(&self) -> StorageFuture<'_, ()> {
        Box::pin(async move { self.blocking(Operation::Write, &StoragePath::root(), Inner::flush).await })
    }

    fn posix(&self) -> Option<&dyn PosixStorage> {
        Some(self)
    }
}

impl PosixStorage for LocalStorage {
    fn create_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.blocking(Operation::Link, path, Inner::create_directory))
    }

    fn symlink<'a>(&'a self, path: &'a StoragePath, target: &'a str) -> StorageFuture<'a, ()> {
        let target = target.to_owned();
        Box::pin(self.blocking(Operation::Link, path, move |inner, path| inner.symlink(path, &target)))
    }

    fn hard_link<'a>(&'a self, existing: &'a StoragePath, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        let existing = existing.clone();
        Box::pin(self.blocking(Operation::Link, path, move |inner, path| inner.hard_link(&existing, path)))
    }

    fn sync_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.blocking(Operation::Link, path, Inner::sync_directory))
    }
}

#[cfg(test)]
mod tests;
