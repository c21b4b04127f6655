//! A store that calls somebody before each operation: to stop there, or to change something behind its back.

use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::fault::Call;
use super::{
    ByteRange, Capabilities, Condition, Durability, ListOptions, ListPage, ObjectInfo, ObjectRead, ObjectVersion,
    PageToken, PartTag, Storage, StorageError, StorageFuture, StoragePath, UploadId, UploadPart,
};

type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;
type Watcher = Box<dyn Fn(Call, &StoragePath) -> Pause + Send + Sync>;

/// The store, and who is called.
pub(crate) struct Watched {
    inner: Arc<dyn Storage>,
    before: Watcher,
}

impl Debug for Watched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Watched").field(&self.inner).finish()
    }
}

impl Watched {
    pub(crate) fn storage<F, P>(inner: Arc<dyn Storage>, before: F) -> Arc<dyn Storage>
    where
        F: Fn(Call, &StoragePath) -> P + Send + Sync + 'static,
        P: Future<Output = ()> + Send + 'static,
    {
        Arc::new(Self { inner, before: Box::new(move |call, path| Box::pin(before(call, path))) })
    }

    fn after<'a, T: 'a>(
        &'a self,
        call: Call,
        path: &'a StoragePath,
        operation: impl FnOnce() -> StorageFuture<'a, T> + Send + 'a,
    ) -> StorageFuture<'a, T> {
        let before = (self.before)(call, path);
        Box::pin(async move {
            before.await;
            operation().await
        })
    }
}

impl Storage for Watched {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn read<'a>(
        &'a self,
        path: &'a StoragePath,
        range: ByteRange,
        pin: Option<&'a ObjectVersion>,
    ) -> StorageFuture<'a, ObjectRead> {
        self.after(Call::Read, path, move || self.inner.read(path, range, pin))
    }

    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo> {
        self.after(Call::Info, path, move || self.inner.info(path))
    }

    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage> {
        self.after(Call::ListPage, path, move || self.inner.list_page(path, options, page))
    }

    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        body: Bytes,
        condition: Condition,
        durability: Durability,
    ) -> StorageFuture<'a, ObjectInfo> {
        self.after(Call::Put, path, move || self.inner.put(path, body, condition, durability))
    }

    fn upload_create<'a>(&'a self, path: &'a StoragePath, durability: Durability) -> StorageFuture<'a, UploadId> {
        self.after(Call::UploadCreate, path, move || self.inner.upload_create(path, durability))
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        part: UploadPart,
    ) -> StorageFuture<'a, PartTag> {
        self.after(Call::UploadPart, path, move || self.inner.upload_part(path, upload, part))
    }

    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        parts: &'a [PartTag],
        condition: Condition,
    ) -> StorageFuture<'a, ObjectInfo> {
        self.after(Call::UploadComplete, path, move || self.inner.upload_complete(path, upload, parts, condition))
    }

    fn upload_abort<'a>(&'a self, path: &'a StoragePath, upload: &'a UploadId) -> StorageFuture<'a, ()> {
        self.after(Call::UploadAbort, path, move || self.inner.upload_abort(path, upload))
    }

    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        self.after(Call::Remove, path, move || self.inner.remove(path))
    }

    fn remove_many<'a>(&'a self, paths: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>> {
        self.inner.remove_many(paths)
    }

    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        self.after(Call::RemoveTree, path, move || self.inner.remove_tree(path))
    }

    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, begun_before_s: i64) -> StorageFuture<'a, u64> {
        self.inner.remove_stale_uploads(path, begun_before_s)
    }
}
