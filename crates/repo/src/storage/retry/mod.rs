//! [`RetryStorage`]: the only place that tries a storage request again.
//!
//! - Only [`ErrorClass::Throttled`] and [`ErrorClass::Transient`] are tried again, within one budget of time and tries,
//!   with growing, jittered waits, and not before the store asked to be.
//! - A body that breaks is opened again at the byte already given out, pinned to the version it began with.
//! - A write whose answer was lost is settled by looking at what the store holds, never by assuming.
//! - Every try has a limit of its own: silence for a body, an answer in time for a request. No body has a deadline as
//!   a whole, however long it takes, as long as bytes keep coming.

mod body;
mod effort;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time;

use crate::clock::Random;

use super::{
    ByteRange, Capabilities, Condition, Durability, ErrorClass, ListOptions, ListPage, ObjectInfo, ObjectRead,
    ObjectVersion, Operation, PageToken, PartTag, PosixStorage, Storage, StorageError, StorageExt, StorageFuture,
    StoragePath, UploadId, UploadPart,
};
use effort::Effort;
use settle::SealedPart;

/// How long and how often a request is tried.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries of one request, the first included.
    pub tries_max: u32,
    /// Tries after the first that are made even if the time is over: one try that hung must not use up everything
    /// (`src/common/io/http/request.c` of pgBackRest does two).
    pub retries_min: u32,
    /// Time from the first try after which no further one begins. pgBackRest's io-timeout.
    pub elapsed_max: Duration,
    /// The wait after the first failure; it doubles from there.
    pub wait_start: Duration,
    /// The longest wait, unless the store asks for a longer one.
    pub wait_max: Duration,
    /// Time for the answer of one try, and for the next bytes of a body. A try that sends bytes has more: what they
    /// take at `throughput_min_bytes_s`.
    pub silence_max: Duration,
    /// A body that brings less than this on average, over `throughput_window` of waiting for it, is opened again. Time
    /// in which the reader does not ask for bytes does not count.
    pub throughput_min_bytes_s: u32,
    /// How long a body may be slow.
    pub throughput_window: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries_max: 100,
            retries_min: 2,
            elapsed_max: Duration::from_secs(60),
            wait_start: Duration::from_millis(100),
            wait_max: Duration::from_secs(10),
            silence_max: Duration::from_secs(60),
            throughput_min_bytes_s: 16 * 1024,
            throughput_window: Duration::from_secs(60),
        }
    }
}

/// A storage whose requests are tried again where that can help.
#[derive(Debug, Clone)]
pub struct RetryStorage {
    inner: Arc<dyn Storage>,
    policy: RetryPolicy,
    random: Arc<dyn Random>,
}

impl RetryStorage {
    /// Tries the requests to `inner` as `policy` says; `random` spreads the waits.
    pub fn new(inner: Arc<dyn Storage>, policy: RetryPolicy, random: Arc<dyn Random>) -> Self {
        Self { inner, policy, random }
    }

    fn effort(&self) -> Effort {
        Effort::new(self.policy, Arc::clone(&self.random))
    }

    /// One try, which must come to an end in time.
    async fn timed<T>(
        &self,
        operation: Operation,
        path: &StoragePath,
        sent_bytes: usize,
        request: StorageFuture<'_, T>,
    ) -> Result<T, StorageError> {
        let sending_s = sent_bytes as u64 / u64::from(self.policy.throughput_min_bytes_s.max(1));
        let limit = self.policy.silence_max + Duration::from_secs(sending_s);
        time::timeout(limit, request).await.unwrap_or_else(|_| {
            let what = format!("no answer within {} ms", limit.as_millis());
            Err(StorageError::new(ErrorClass::Transient, operation, path, what))
        })
    }

    /// A request that may simply be sent again.
    async fn repeat<'a, T>(
        &'a self,
        operation: Operation,
        path: &'a StoragePath,
        sent_bytes: usize,
        request: impl Fn() -> StorageFuture<'a, T> + Send,
    ) -> Result<T, StorageError> {
        let mut effort = self.effort();
        loop {
            match self.timed(operation, path, sent_bytes, request()).await {
                Ok(value) => return Ok(value),
                Err(error) => effort.wait(error).await?,
            }
        }
    }

    /// A write on condition can collide with its own first try, whose answer was lost.
    async fn put_once(
        &self,
        path: &StoragePath,
        body: Bytes,
        condition: Condition,
        durability: Durability,
    ) -> Result<ObjectInfo, StorageError> {
        let mut effort = self.effort();
        loop {
            let request = self.inner.put(path, body.clone(), condition.clone(), durability);
            let error = match self.timed(Operation::Write, path, body.len(), request).await {
                Ok(info) => return Ok(info),
                Err(error) => error,
            };
            if error.class() == ErrorClass::Conflict && effort.has_tried() {
                let ours = settle::is_ours(self, path, &[SealedPart::of(&body)]).await?;
                return ours.ok_or_else(|| effort.give_up(error));
            }
            effort.wait(error).await?;
        }
    }

    async fn complete_once(
        &self,
        path: &StoragePath,
        upload: &UploadId,
        parts: &[PartTag],
        condition: Condition,
    ) -> Result<ObjectInfo, StorageError> {
        let (seals, tags) = settle::unseal(path, parts)?;
        let mut effort = self.effort();
        loop {
            let request = self.inner.upload_complete(path, upload, &tags, condition.clone());
            let error = match self.timed(Operation::Write, path, 0, request).await {
                Ok(info) => return Ok(info),
                Err(error) => error,
            };
            // The upload is gone, or its object is there: perhaps by the try whose answer was lost.
            if matches!(error.class(), ErrorClass::Missing | ErrorClass::Conflict) && effort.has_tried() {
                let ours = settle::is_ours(self, path, &seals).await?;
                return ours.ok_or_else(|| effort.give_up(error));
            }
            effort.wait(error).await?;
        }
    }

    /// Tries again only those objects that could not be removed, and only where that can help (faults.md OS18).
    async fn remove_each(&self, paths: &[StoragePath]) -> Result<Vec<StorageError>, StorageError> {
        let root = StoragePath::root();
        let mut effort = self.effort();
        let mut pending = paths.to_vec();
        let mut lasting = Vec::new();
        loop {
            let failed = match self.timed(Operation::Remove, &root, 0, self.inner.remove_many(&pending)).await {
                Ok(failed) => failed,
                Err(error) => {
                    effort.wait(error).await?;
                    continue;
                }
            };
            let (passing, others): (Vec<_>, Vec<_>) = failed.into_iter().partition(effort::may_pass);
            lasting.extend(others);
            pending.retain(|path| passing.iter().any(|error| error.location() == path.as_str()));
            let Some(first) = passing.first().filter(|_| !pending.is_empty()) else {
                lasting.extend(passing);
                return Ok(lasting);
            };
            if effort.wait(first.clone()).await.is_err() {
                lasting.extend(passing.into_iter().map(|error| effort.give_up(error)));
                return Ok(lasting);
            }
        }
    }
}

impl Storage for RetryStorage {
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
            let opened = self.repeat(Operation::Read, path, 0, || self.inner.read(path, range, pin)).await?;
            body::resuming(self.clone(), path, range, opened)
        })
    }

    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(self.repeat(Operation::Info, path, 0, || self.inner.info(path)))
    }

    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage> {
        Box::pin(self.repeat(Operation::List, path, 0, move || self.inner.list_page(path, options, page.clone())))
    }

    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        body: Bytes,
        condition: Condition,
        durability: Durability,
    ) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(self.put_once(path, body, condition, durability))
    }

    fn upload_create<'a>(&'a self, path: &'a StoragePath, durability: Durability) -> StorageFuture<'a, UploadId> {
        // An upload whose id was lost stays behind for remove_stale_uploads.
        Box::pin(self.repeat(Operation::Write, path, 0, move || self.inner.upload_create(path, durability)))
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        part: UploadPart,
    ) -> StorageFuture<'a, PartTag> {
        Box::pin(async move {
            let request = || self.inner.upload_part(path, upload, part.clone());
            let tag = self.repeat(Operation::Write, path, part.body.len(), request).await?;
            Ok(SealedPart::of(&part.body).seal(&tag))
        })
    }

    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        parts: &'a [PartTag],
        condition: Condition,
    ) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(self.complete_once(path, upload, parts, condition))
    }

    fn upload_abort<'a>(&'a self, path: &'a StoragePath, upload: &'a UploadId) -> StorageFuture<'a, ()> {
        Box::pin(self.repeat(Operation::Write, path, 0, || self.inner.upload_abort(path, upload)))
    }

    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.repeat(Operation::Remove, path, 0, || self.inner.remove(path)))
    }

    fn remove_many<'a>(&'a self, paths: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>> {
        Box::pin(self.remove_each(paths))
    }

    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        if !self.capabilities().directories {
            // Many requests to the store: each is tried by itself.
            return Box::pin(self.remove_tree_by_listing(path));
        }
        Box::pin(async move {
            // No limit to a try: a large tree takes its time on a disk that works all along.
            let mut effort = self.effort();
            loop {
                match self.inner.remove_tree(path).await {
                    Ok(()) => return Ok(()),
                    Err(error) => effort.wait(error).await?,
                }
            }
        })
    }

    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, begun_before_s: i64) -> StorageFuture<'a, u64> {
        Box::pin(async move {
            let mut effort = self.effort();
            loop {
                match self.inner.remove_stale_uploads(path, begun_before_s).await {
                    Ok(count) => return Ok(count),
                    Err(error) => effort.wait(error).await?,
                }
            }
        })
    }

    fn flush(&self) -> StorageFuture<'_, ()> {
        // A second flush could succeed although the first one lost bytes.
        self.inner.flush()
    }

    fn posix(&self) -> Option<&dyn PosixStorage> {
        self.inner.posix().map(|_| self as &dyn PosixStorage)
    }
}

impl RetryStorage {
    async fn repeat_posix<'a>(
        &'a self,
        path: &'a StoragePath,
        request: impl Fn(&'a dyn PosixStorage) -> StorageFuture<'a, ()> + Send + Sync,
    ) -> Result<(), StorageError> {
        let absent = || StorageError::new(ErrorClass::Permanent, Operation::Link, path, "the store is not a directory");
        let posix = self.inner.posix().ok_or_else(absent)?;
        self.repeat(Operation::Link, path, 0, || request(posix)).await
    }
}

impl PosixStorage for RetryStorage {
    fn create_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.repeat_posix(path, |posix| posix.create_directory(path)))
    }

    fn symlink<'a>(&'a self, path: &'a StoragePath, target: &'a str) -> StorageFuture<'a, ()> {
        Box::pin(self.repeat_posix(path, |posix| posix.symlink(path, target)))
    }

    fn hard_link<'a>(&'a self, existing: &'a StoragePath, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.repeat_posix(path, |posix| posix.hard_link(existing, path)))
    }

    fn sync_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        // As for flush: never twice. The error of a failed sync is permanent.
        Box::pin(self.repeat_posix(path, |posix| posix.sync_directory(path)))
    }
}

#[cfg(test)]
mod tests;
