//! [`store`]: bytes made by a synchronous job become an object of unknown size.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::budget::Reservation;
use super::{Budget, PIECE_BYTES, QUEUE_PIECES};
use crate::error::{Error, ErrorKind};
use crate::filter::SinkClosed;
use crate::progress::{cancelled, worker_failed};
use crate::storage::{Condition, Durability, ObjectInfo, Storage, StorageError, StoragePath, Uploader};
use crate::workers::spawn_blocking;

/// The end of the queue at the job: collects what it writes into pieces.
#[derive(Debug)]
pub struct PieceWriter {
    piece: BytesMut,
    written_bytes: u64,
    queue: mpsc::Sender<Bytes>,
}

impl PieceWriter {
    fn new(queue: mpsc::Sender<Bytes>) -> Self {
        Self { piece: BytesMut::new(), written_bytes: 0, queue }
    }

    /// Adds bytes to the object; waits while the store is slower than the job.
    ///
    /// # Errors
    /// [`SinkClosed`] when the upload failed or was cancelled: the job has to end.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), SinkClosed> {
        self.written_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.piece.capacity() == 0 {
                self.piece.reserve(PIECE_BYTES.min(bytes.len().max(16 * 1024)));
            }
            let room = PIECE_BYTES - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Bytes written so far: the offset in the object at which the next write begins.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    fn flush(&mut self) -> Result<(), SinkClosed> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece).freeze();
        self.queue.blocking_send(piece).map_err(|_| SinkClosed)
    }
}

/// The object that a job is to write.
#[derive(Debug, Clone)]
pub struct StoreTarget {
    /// Where it lives.
    pub storage: Arc<dyn Storage>,
    /// Its path.
    pub path: StoragePath,
    /// What must hold for it to become visible.
    pub condition: Condition,
    /// When it has to survive a power failure.
    pub durability: Durability,
    /// Whether a job that writes nothing makes an empty object, or none.
    pub keep_empty: bool,
    /// The most bytes that the job will write, where that is known: less memory is reserved for a small object.
    pub size_max_bytes: Option<u64>,
}

impl StoreTarget {
    /// Waits until there is memory for the upload, and for `job_bytes` that the job itself holds.
    pub async fn reserve(&self, job_bytes: usize, budget: &Budget) -> Reservation {
        budget.reserve(self.memory_bytes().saturating_add(job_bytes)).await
    }

    /// What the upload may hold at once: the part that is filled, the one that is sent, and the queue.
    pub(super) fn memory_bytes(&self) -> usize {
        let capabilities = self.storage.capabilities();
        let part_bytes = (capabilities.part_size_bytes)(1, capabilities.part_base_bytes);
        let upload_bytes = match self.size_max_bytes.map(usize::try_from) {
            Some(Ok(size_bytes)) if size_bytes <= part_bytes => size_bytes,
            _ => part_bytes.saturating_mul(2),
        };
        upload_bytes.saturating_add((QUEUE_PIECES + 2) * PIECE_BYTES)
    }
}

/// What became of a job.
#[derive(Debug)]
pub struct Stored<T> {
    /// The job's own result.
    pub result: T,
    /// The object, or `None` when the job wrote nothing and an empty object was not wanted.
    pub object: Option<ObjectInfo>,
}

/// Runs `job` on a blocking thread and stores what it writes. Nothing is visible under the path unless both the job
/// and the upload succeed.
///
/// # Errors
/// The job's error if it failed by itself, else the storage error. Cancellation by dropping the future: the job ends
/// at its next write.
pub async fn store<T, F>(target: StoreTarget, budget: &Budget, job: F) -> Result<Stored<T>, Error>
where
    T: Send + 'static,
    F: FnOnce(&mut PieceWriter) -> Result<T, Error> + Send + 'static,
{
    let reservation = target.reserve(0, budget).await;
    store_within(target, reservation, job).await
}

/// [`store`] within memory that is reserved already.
///
/// # Errors
/// As for [`store`].
pub async fn store_within<T, F>(target: StoreTarget, reservation: Reservation, job: F) -> Result<Stored<T>, Error>
where
    T: Send + 'static,
    F: FnOnce(&mut PieceWriter) -> Result<T, Error> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE_PIECES);
    // The thread may outlive this future for a moment, and holds its memory as long as it works.
    let held = reservation.clone();
    let worker = spawn_blocking(move || {
        let _held = held;
        let mut writer = PieceWriter::new(sender);
        let result = job(&mut writer)?;
        writer.flush().map_err(|_| cancelled())?;
        Ok((result, writer.written_bytes))
    });
    let uploader = Uploader::new(target.storage, target.path, target.condition, target.durability);
    let uploaded = upload(uploader, receiver).await;
    let worked = worker.await.map_err(worker_failed)?;
    let stored = finish(uploaded, worked, target.keep_empty).await;
    drop(reservation);
    stored
}

/// Takes pieces until the job is done; the uploader is not finished yet, since the job may have failed.
async fn upload(mut uploader: Uploader, mut receiver: mpsc::Receiver<Bytes>) -> Result<Uploader, StorageError> {
    while let Some(piece) = receiver.recv().await {
        // On an error the queue closes, which the job sees at its next write.
        uploader.write(&piece).await?;
    }
    Ok(uploader)
}

async fn finish<T>(
    uploaded: Result<Uploader, StorageError>,
    worked: Result<(T, u64), Error>,
    keep_empty: bool,
) -> Result<Stored<T>, Error> {
    match (uploaded, worked) {
        (Ok(uploader), Ok((result, 0))) if !keep_empty => {
            uploader.abort().await?;
            Ok(Stored { result, object: None })
        }
        (Ok(uploader), Ok((result, _))) => Ok(Stored { result, object: Some(uploader.finish().await?) }),
        (Ok(uploader), Err(error)) => match uploader.abort().await {
            Ok(()) => Err(error),
            Err(left) => Err(error.hint(format!("an unfinished upload may be left behind: {left}"))),
        },
        // A job that merely saw its queue close is not the cause.
        (Err(storage), Err(job)) if job.kind() != ErrorKind::Term => {
            Err(job.hint(format!("the upload failed too: {storage}")))
        }
        (Err(storage), _) => Err(storage.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::storage::{MemoryOptions, MemoryStorage, StorageExt};

    #[tokio::test]
    async fn re08_a_panic_in_a_job_is_an_error_and_leaves_nothing() {
        let options = MemoryOptions { part_bytes: 1000, ..MemoryOptions::default() };
        let memory = Arc::new(MemoryStorage::new(Arc::new(SystemClock), options));
        let path = StoragePath::parse("object").unwrap();
        for written_bytes in [0, 500, 500_000] {
            let target = StoreTarget {
                storage: Arc::clone(&memory) as Arc<dyn Storage>,
                path: path.clone(),
                condition: Condition::None,
                durability: Durability::Now,
                keep_empty: true,
                size_max_bytes: None,
            };
            let budget = Budget::new(1 << 24);
            let stored = store(target, &budget, move |out| -> Result<(), Error> {
                out.write(&vec![1; written_bytes]).map_err(|_| cancelled())?;
                panic!("a mistake of ours");
            });
            let error = stored.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
            assert!(!memory.exists(&path).await.unwrap(), "a part of the object is visible");
            // What was reserved is free again.
            tokio::time::timeout(std::time::Duration::from_secs(5), budget.reserve(1 << 24)).await.unwrap();
        }
        // The uploads are given up in the background.
        for _ in 0..100 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            if memory.unfinished_uploads() == 0 {
                return;
            }
        }
        panic!("{} uploads are left", memory.unfinished_uploads());
    }
}
