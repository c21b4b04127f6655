//! [`load`]: the bytes of an object, or of a part of one, go to a synchronous job.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{Budget, PIECE_BYTES, QUEUE_PIECES};
use crate::error::{Error, ErrorKind};
use crate::progress::worker_failed;
use crate::storage::{ByteRange, ErrorClass, ObjectInfo, ObjectVersion, Operation, Storage, StorageError, StoragePath};
use crate::workers::spawn_blocking;

/// What a load holds at most beside the job's own memory: the queue, the piece at each end and the connection's.
pub const LOAD_BYTES_MAX: usize = (QUEUE_PIECES + 4) * PIECE_BYTES;

/// The end of the queue at the job: pieces in the order of the object.
#[derive(Debug)]
pub struct PieceReader {
    object: ObjectInfo,
    path: StoragePath,
    rest: Bytes,
    queue: mpsc::Receiver<Result<Bytes, StorageError>>,
    /// Whether everything was put into the queue. A queue that ends without it is no end of the object.
    is_whole: Arc<AtomicBool>,
}

impl PieceReader {
    /// The object that is read; its size is that of the whole object.
    pub fn object(&self) -> &ObjectInfo {
        &self.object
    }

    /// The next piece, at most `bytes_max` of it; `None` at the end of the range.
    ///
    /// # Errors
    /// The storage error that ended the stream, or that nobody waits for the read any more.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StorageError> {
        while self.rest.is_empty() {
            match self.queue.blocking_recv() {
                None if self.is_whole.load(Ordering::Acquire) => return Ok(None),
                None => {
                    let what = "the read was given up before its end";
                    return Err(StorageError::new(ErrorClass::Permanent, Operation::Read, &self.path, what));
                }
                Some(piece) => self.rest = piece?,
            }
        }
        let length = self.rest.len().min(bytes_max);
        Ok(Some(self.rest.split_to(length)))
    }

    /// Hands exactly `bytes` to `take`, in pieces. The end of the stream before that is an error of kind
    /// [`ErrorKind::FileRead`].
    ///
    /// # Errors
    /// As said, the storage error, or the error of `take`.
    pub fn exact(&mut self, bytes: u64, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut left = bytes;
        while left > 0 {
            let Some(piece) = self.next(usize::try_from(left).unwrap_or(usize::MAX))? else {
                return Err(Error::new(
                    ErrorKind::FileRead,
                    format!("the object ended {left} bytes before the {bytes} that were expected"),
                ));
            };
            left -= piece.len() as u64;
            take(&piece)?;
        }
        Ok(())
    }

    /// Hands everything that is left to `take`, in pieces.
    ///
    /// # Errors
    /// The storage error, or the error of `take`.
    pub fn all(&mut self, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        while let Some(piece) = self.next(usize::MAX)? {
            take(&piece)?;
        }
        Ok(())
    }
}

impl io::Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.next(buffer.len()) {
            Ok(Some(mut piece)) => {
                let length = piece.len();
                piece.copy_to_slice(&mut buffer[..length]);
                Ok(length)
            }
            Ok(None) => Ok(0),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Reads `range` of the object at `path` and runs `job` over it on a blocking thread.
///
/// # Errors
/// The error of opening the object, else the job's. A job that ends early ends the read.
pub async fn load<T, F>(
    storage: &dyn Storage,
    path: &StoragePath,
    range: ByteRange,
    pin: Option<&ObjectVersion>,
    budget: &Budget,
    job: F,
) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce(&mut PieceReader) -> Result<T, Error> + Send + 'static,
{
    let reservation = budget.reserve(LOAD_BYTES_MAX).await;
    let mut read = storage.read(path, range, pin).await?;
    let (sender, queue) = mpsc::channel(QUEUE_PIECES);
    let is_whole = Arc::new(AtomicBool::new(false));
    let (path, ended) = (path.clone(), Arc::clone(&is_whole));
    let mut reader = PieceReader { object: read.info, path, rest: Bytes::new(), queue, is_whole };
    // The thread may outlive this future for a moment, and holds its memory as long as it works.
    let held = reservation.clone();
    let worker = spawn_blocking(move || {
        let _held = held;
        job(&mut reader)
    });
    loop {
        let Some(piece) = read.body.next().await else {
            ended.store(true, Ordering::Release);
            break;
        };
        let failed = piece.is_err();
        // A job that needs no more has dropped its end.
        if sender.send(piece).await.is_err() || failed {
            break;
        }
    }
    drop(sender);
    drop(read.body);
    let worked = worker.await.map_err(worker_failed)?;
    drop(reservation);
    worked
}
