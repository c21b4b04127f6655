//! [`store`]: bytes made by a synchronous job become an object of unknown size.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{Budget, PIECE_BYTES, QUEUE_PIECES};
use crate::error::{Error, ErrorKind};
use crate::filter::SinkClosed;
use crate::progress::cancelled;
use crate::storage::{Condition, Durability, ObjectInfo, Storage, StorageError, StoragePath, Uploader};

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

/// What became of a job.
#[derive(Debug)]
pub struct Stored<T> {
    /// The job's own result.
    pub result: T,
    /// The object, or `None` when the job wrote nothing and `keep_empty` was off.
    pub object: Option<ObjectInfo>,
}

/// Runs `job` on a blocking thread and stores what it writes under `path`. Nothing is visible there unless both the
/// job and the upload succeed. Without `keep_empty`, a job that writes nothing makes no object.
///
/// # Errors
/// The job's error if it failed by itself, else the storage error. Cancellation by dropping the future: the job ends
/// at its next write.
pub async fn store<T, F>(
    storage: &dyn Storage,
    path: &StoragePath,
    durability: Durability,
    keep_empty: bool,
    budget: &Budget,
    job: F,
) -> Result<Stored<T>, Error>
where
    T: Send + 'static,
    F: FnOnce(&mut PieceWriter) -> Result<T, Error> + Send + 'static,
{
    let reservation = budget.reserve(Uploader::memory_bytes_max(storage) + (QUEUE_PIECES + 2) * PIECE_BYTES).await;
    let (sender, receiver) = mpsc::channel(QUEUE_PIECES);
    let worker = tokio::task::spawn_blocking(move || {
        let mut writer = PieceWriter::new(sender);
        let result = job(&mut writer)?;
        writer.flush().map_err(|_| cancelled())?;
        Ok((result, writer.written_bytes))
    });
    let uploader = Uploader::new(storage, path.clone(), durability);
    let uploaded = upload(uploader, receiver).await;
    let worked = worker.await.map_err(|panic| Error::new(ErrorKind::Unknown, format!("a worker failed: {panic}")))?;
    drop(reservation);
    finish(uploaded, worked, keep_empty).await
}

/// Takes pieces until the job is done; the uploader is not finished yet, since the job may have failed.
async fn upload<'a>(
    mut uploader: Uploader<'a>,
    mut receiver: mpsc::Receiver<Bytes>,
) -> Result<Uploader<'a>, StorageError> {
    while let Some(piece) = receiver.recv().await {
        if let Err(error) = uploader.write(piece).await {
            // The job sees a closed queue at its next write.
            drop(receiver);
            uploader.abort().await;
            return Err(error);
        }
    }
    Ok(uploader)
}

async fn finish<T>(
    uploaded: Result<Uploader<'_>, StorageError>,
    worked: Result<(T, u64), Error>,
    keep_empty: bool,
) -> Result<Stored<T>, Error> {
    match (uploaded, worked) {
        (Ok(uploader), Ok((result, 0))) if !keep_empty => {
            uploader.abort().await;
            Ok(Stored { result, object: None })
        }
        (Ok(uploader), Ok((result, _))) => {
            let object = uploader.finish(Condition::None).await?;
            Ok(Stored { result, object: Some(object) })
        }
        (Ok(uploader), Err(error)) => {
            uploader.abort().await;
            Err(error)
        }
        (Err(storage), Err(job)) if job.kind() != ErrorKind::Term => {
            Err(job.hint(format!("the upload failed too: {storage}")))
        }
        (Err(storage), _) => Err(storage.into()),
    }
}
