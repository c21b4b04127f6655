//! [`LimitStorage`]: bounds the requests in flight. A body that is being read counts until it ends or is dropped.
//!
//! Whoever writes while reading holds two places: a limit below twice the number of such workers can stop them all.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    ByteRange, ByteStream, Capabilities, Condition, Durability, ErrorClass, ListOptions, ListPage, ObjectInfo,
    ObjectRead, ObjectVersion, Operation, PageToken, PartTag, PosixStorage, Storage, StorageError, StorageFuture,
    StoragePath, UploadId, UploadPart,
};

/// A storage with at most so many requests in flight.
#[derive(Debug)]
pub struct LimitStorage {
    inner: Arc<dyn Storage>,
    places: Arc<Semaphore>,
}

impl LimitStorage {
    /// At most `requests_max` requests to `inner` at once; at least one.
    pub fn new(inner: Arc<dyn Storage>, requests_max: usize) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(requests_max.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    async fn place(&self, operation: Operation, path: &StoragePath) -> Result<OwnedSemaphorePermit, StorageError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|_| StorageError::new(ErrorClass::Permanent, operation, path, "no request is taken any more"))
    }

    /// Waits for a place, then for the request.
    fn placed<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        path: &'a StoragePath,
        request: StorageFuture<'a, T>,
    ) -> StorageFuture<'a, T> {
        Box::pin(async move {
            let _place = self.place(operation, path).await?;
            request.await
        })
    }
}

impl Storage for LimitStorage {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn read<'a>(
        &'a self,
        path: &'a StoragePath,
        range: ByteRange,
        pin: Option<&'a ObjectVersion>,
    ) -> StorageFuture<'a, ObjectRead> {
        Box::pin(async move {
            let place = self.place(Operation::Read, path).await?;
            let opened = self.inner.read(path, range, pin).await?;
            Ok(ObjectRead { info: opened.info, body: Box::pin(PlacedBody { body: opened.body, place: Some(place) }) })
        })
    }

    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo> {
        self.placed(Operation::Info, path, self.inner.info(path))
    }

    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage> {
        self.placed(Operation::List, path, self.inner.list_page(path, options, page))
    }

    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        body: Bytes,
        condition: Condition,
        durability: Durability,
    ) -> StorageFuture<'a, ObjectInfo> {
        self.placed(Operation::Write, path, self.inner.put(path, body, condition, durability))
    }

    fn upload_create<'a>(&'a self, path: &'a StoragePath, durability: Durability) -> StorageFuture<'a, UploadId> {
        self.placed(Operation::Write, path, self.inner.upload_create(path, durability))
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        part: UploadPart,
    ) -> StorageFuture<'a, PartTag> {
        self.placed(Operation::Write, path, self.inner.upload_part(path, upload, part))
    }

    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        parts: &'a [PartTag],
        condition: Condition,
    ) -> StorageFuture<'a, ObjectInfo> {
        self.placed(Operation::Write, path, self.inner.upload_complete(path, upload, parts, condition))
    }

    fn upload_abort<'a>(&'a self, path: &'a StoragePath, upload: &'a UploadId) -> StorageFuture<'a, ()> {
        self.placed(Operation::Write, path, self.inner.upload_abort(path, upload))
    }

    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        self.placed(Operation::Remove, path, self.inner.remove(path))
    }

    fn remove_many<'a>(&'a self, paths: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>> {
        Box::pin(async move {
            let _place = self.place(Operation::Remove, &StoragePath::root()).await?;
            self.inner.remove_many(paths).await
        })
    }

    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        self.placed(Operation::Remove, path, self.inner.remove_tree(path))
    }

    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, begun_before_s: i64) -> StorageFuture<'a, u64> {
        self.placed(Operation::Remove, path, self.inner.remove_stale_uploads(path, begun_before_s))
    }

    fn flush(&self) -> StorageFuture<'_, ()> {
        Box::pin(async move {
            let _place = self.place(Operation::Write, &StoragePath::root()).await?;
            self.inner.flush().await
        })
    }

    fn posix(&self) -> Option<&dyn PosixStorage> {
        // Links and directories are made on this machine: no request that a store would count.
        self.inner.posix()
    }
}

/// A body with its place.
struct PlacedBody {
    body: ByteStream,
    place: Option<OwnedSemaphorePermit>,
}

impl Stream for PlacedBody {
    type Item = Result<Bytes, StorageError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.body.as_mut().poll_next(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.place = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::super::{MemoryOptions, MemoryStorage, StorageExt};
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn a_body_holds_its_place_until_it_ends_or_is_dropped() {
        let memory = MemoryStorage::new(Arc::new(SystemClock), MemoryOptions::default());
        let storage = LimitStorage::new(Arc::new(memory), 1);
        let path = StoragePath::parse("a").unwrap();
        storage.write_all(&path, Bytes::from_static(b"bytes")).await.unwrap();

        let opened = storage.read(&path, ByteRange::ALL, None).await.unwrap();
        let second = timeout(Duration::from_secs(60), storage.info(&path)).await;
        assert!(second.is_err(), "a second request passed while a body was open");
        drop(opened);
        storage.info(&path).await.unwrap();

        assert_eq!(storage.read_all(&path, 10).await.unwrap(), "bytes");
        storage.info(&path).await.unwrap();
        assert!(storage.read(&StoragePath::parse("b").unwrap(), ByteRange::ALL, None).await.is_err());
        storage.info(&path).await.unwrap();
    }
}
