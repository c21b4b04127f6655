//! [`Uploader`]: writes an object whose size is not known, in bounded memory.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{self, JoinHandle};

use super::{
    Condition, Durability, ErrorClass, ObjectInfo, Operation, PartTag, Storage, StorageError, StoragePath, UploadId,
    UploadPart,
};
use crate::workers::same_workers;

/// The first allocation of the buffer: most objects of a small cluster are smaller than a part.
const BUFFER_START_BYTES: usize = 64 * 1024;

/// Writes one object piece by piece. Up to the first part's size it is one `put`, above it an upload in parts.
///
/// Memory: the part that is being filled, and at most one that is being sent.
///
/// Nothing is visible under the name before [`Uploader::finish`] succeeds. After an error the upload is already given
/// up; [`Uploader::abort`] gives it up on purpose. An uploader that is merely dropped gives up in the background where
/// a runtime is there; what that cannot reach is found by [`Storage::remove_stale_uploads`].
#[derive(Debug)]
pub struct Uploader {
    storage: Arc<dyn Storage>,
    path: StoragePath,
    condition: Condition,
    durability: Durability,
    buffer: Vec<u8>,
    written_bytes: u64,
    parts: Option<Parts>,
}

/// The upload, once the object turned out to be larger than one part.
#[derive(Debug)]
struct Parts {
    upload: UploadId,
    tags: Vec<PartTag>,
    sent_bytes: u64,
    next_number: u32,
    in_flight: Option<JoinHandle<Result<PartTag, StorageError>>>,
}

impl Uploader {
    /// An uploader to `path`. `condition` is checked when the object becomes visible.
    pub fn new(storage: Arc<dyn Storage>, path: StoragePath, condition: Condition, durability: Durability) -> Self {
        Self { storage, path, condition, durability, buffer: Vec::new(), written_bytes: 0, parts: None }
    }

    /// Bytes taken so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Adds bytes; waits while a full part cannot be sent because the one before it is still on its way.
    ///
    /// # Errors
    /// As the operations of [`Storage`]; the upload is then given up and the uploader of no more use.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let part_bytes = self.part_bytes();
            if self.buffer.len() >= part_bytes {
                let outcome = self.send_part().await;
                self.give_up_on_error(outcome).await?;
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(part_bytes - self.buffer.len()));
            self.grow(now.len(), part_bytes);
            self.buffer.extend_from_slice(now);
            self.written_bytes = self.written_bytes.saturating_add(now.len() as u64);
            bytes = later;
        }
        Ok(())
    }

    /// Sends what is left and makes the object visible.
    ///
    /// # Errors
    /// As the operations of [`Storage`]; nothing is then visible, or what was there before.
    pub async fn finish(mut self) -> Result<ObjectInfo, StorageError> {
        let outcome = self.complete().await;
        self.give_up_on_error(outcome).await
    }

    /// Gives up: removes what was sent.
    ///
    /// # Errors
    /// As [`Storage::upload_abort`].
    pub async fn abort(mut self) -> Result<(), StorageError> {
        self.give_up().await
    }

    async fn complete(&mut self) -> Result<ObjectInfo, StorageError> {
        if self.parts.is_none() {
            let body = Bytes::from(mem::take(&mut self.buffer));
            return self.storage.put(&self.path, body, self.condition.clone(), self.durability).await;
        }
        if !self.buffer.is_empty() {
            self.send_part().await?;
        }
        self.wait_for_part().await?;
        let Some(parts) = &self.parts else { return Err(self.fail("its upload was given up before")) };
        let completed =
            self.storage.upload_complete(&self.path, &parts.upload, &parts.tags, self.condition.clone()).await;
        let info = completed.map_err(|error| match error.class() {
            // No object is missing: the store lost the upload, and writing starts over with another one.
            ErrorClass::Missing => error.with_class(ErrorClass::Transient),
            _ => error,
        })?;
        self.parts = None;
        Ok(info)
    }

    /// Hands the full buffer to a task, after the part before it is stored.
    async fn send_part(&mut self) -> Result<(), StorageError> {
        if self.parts.is_none() {
            let upload = self.storage.upload_create(&self.path, self.durability).await?;
            self.parts = Some(Parts { upload, tags: Vec::new(), sent_bytes: 0, next_number: 1, in_flight: None });
        }
        self.wait_for_part().await?;
        let body = Bytes::from(mem::take(&mut self.buffer));
        let Some(parts) = &mut self.parts else { return Err(self.fail("its upload was given up before")) };
        let part = UploadPart { number: parts.next_number, offset: parts.sent_bytes, body };
        parts.sent_bytes = parts.sent_bytes.saturating_add(part.body.len() as u64);
        parts.next_number = parts.next_number.saturating_add(1);
        let (storage, path, upload) = (Arc::clone(&self.storage), self.path.clone(), parts.upload.clone());
        let sending = async move { storage.upload_part(&path, &upload, part).await };
        parts.in_flight = Some(task::spawn(same_workers(sending)));
        Ok(())
    }

    /// Waits for the part on its way. A caller that is cancelled here keeps it in flight.
    async fn wait_for_part(&mut self) -> Result<(), StorageError> {
        let Some(parts) = &mut self.parts else { return Ok(()) };
        let Some(in_flight) = &mut parts.in_flight else { return Ok(()) };
        let outcome = in_flight.await;
        parts.in_flight = None;
        match outcome {
            Ok(tag) => parts.tags.push(tag?),
            Err(_) => return Err(self.fail("the task that sent a part did not come to an end")),
        }
        Ok(())
    }

    async fn give_up_on_error<T>(&mut self, outcome: Result<T, StorageError>) -> Result<T, StorageError> {
        if outcome.is_err() {
            // The first error is the one to report; what stays behind is found by remove_stale_uploads.
            let _unreported = self.give_up().await;
        }
        outcome
    }

    async fn give_up(&mut self) -> Result<(), StorageError> {
        self.buffer = Vec::new();
        let Some(parts) = &mut self.parts else { return Ok(()) };
        if let Some(in_flight) = &mut parts.in_flight {
            in_flight.abort();
            let _cancelled = in_flight.await;
            parts.in_flight = None;
        }
        let outcome = self.storage.upload_abort(&self.path, &parts.upload).await;
        self.parts = None;
        outcome
    }

    /// The size of the part that is being filled.
    fn part_bytes(&self) -> usize {
        let capabilities = self.storage.capabilities();
        let number = self.parts.as_ref().map_or(1, |parts| parts.next_number);
        (capabilities.part_size_bytes)(number, capabilities.part_base_bytes).max(1)
    }

    /// Doubles the buffer as needed, but never beyond a part.
    fn grow(&mut self, more: usize, part_bytes: usize) {
        let needed = self.buffer.len() + more;
        if needed > self.buffer.capacity() {
            let target = needed.max(self.buffer.capacity().saturating_mul(2)).max(BUFFER_START_BYTES).min(part_bytes);
            self.buffer.reserve_exact(target.max(needed) - self.buffer.len());
        }
    }

    fn fail(&self, what: &str) -> StorageError {
        StorageError::new(ErrorClass::Permanent, Operation::Write, &self.path, what)
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        if let Some(in_flight) = &parts.in_flight {
            in_flight.abort();
        }
        // A cancelled backup drops many uploads at once; what this cannot reach is left to remove_stale_uploads.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (storage, path) = (Arc::clone(&self.storage), mem::take(&mut self.path));
            let _detached = runtime.spawn(same_workers(async move {
                if let Some(in_flight) = parts.in_flight {
                    let _cancelled = in_flight.await;
                }
                let _unreported = storage.upload_abort(&path, &parts.upload).await;
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::super::fault::{Call, Fault, FaultStorage, Phase, Rule, When};
    use super::super::{MemoryOptions, MemoryStorage, StorageExt};
    use super::*;
    use crate::clock::SystemClock;

    const PART_BYTES: usize = 100_000;

    fn uploader() -> (Arc<MemoryStorage>, Arc<FaultStorage>, Uploader) {
        let options = MemoryOptions { part_bytes: PART_BYTES, ..MemoryOptions::default() };
        let memory = Arc::new(MemoryStorage::new(Arc::new(SystemClock), options));
        let fault = Arc::new(FaultStorage::new(Arc::clone(&memory) as Arc<dyn Storage>, 1));
        let path = StoragePath::parse("object").unwrap();
        let storage = Arc::clone(&fault) as Arc<dyn Storage>;
        (memory, fault, Uploader::new(storage, path, Condition::None, Durability::Now))
    }

    #[tokio::test(start_paused = true)]
    async fn np07_at_most_one_part_is_filled_and_one_in_flight() {
        let (_memory, fault, mut uploader) = uploader();
        fault.add_rule(Rule::new(Call::UploadPart, When::Always, Fault::Hang));
        let body = vec![1; 10 * PART_BYTES];
        assert!(timeout(Duration::from_secs(1_000), uploader.write(&body)).await.is_err());
        assert_eq!(uploader.written_bytes(), 2 * PART_BYTES as u64);
        assert_eq!(uploader.buffer.capacity(), PART_BYTES);
        assert_eq!(fault.requests_of(Call::UploadPart), 1);
    }

    #[tokio::test]
    async fn a_small_object_is_one_put_and_a_small_buffer() {
        let (memory, fault, mut uploader) = uploader();
        uploader.write(b"bytes").await.unwrap();
        assert_eq!(uploader.buffer.capacity(), BUFFER_START_BYTES);
        uploader.finish().await.unwrap();
        assert_eq!(memory.objects()["object"], "bytes");
        assert_eq!(fault.requests().into_iter().collect::<Vec<_>>(), [(Call::Put, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn os29_an_error_and_a_drop_give_the_upload_up() {
        let (memory, fault, mut failing) = uploader();
        fault.add_rule(Rule::new(Call::UploadPart, When::Nth(2), Fault::Fail(ErrorClass::Denied, Phase::Before)));
        let error = failing.write(&vec![1; 10 * PART_BYTES]).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied);
        assert_eq!(memory.unfinished_uploads(), 0);

        let (memory, _fault, mut dropped) = uploader();
        dropped.write(&vec![1; 3 * PART_BYTES]).await.unwrap();
        assert_eq!(memory.unfinished_uploads(), 1);
        drop(dropped);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(memory.unfinished_uploads(), 0);
        assert!(!memory.exists(&StoragePath::parse("object").unwrap()).await.unwrap());
    }
}
