//! A body that goes on where it broke.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::{self, Instant};

use crate::storage::{ByteRange, ByteStream, ErrorClass, ObjectInfo, ObjectRead, Operation, StorageError, StoragePath};

use super::RetryStorage;
use super::effort::Effort;

/// Bytes that make a reopened body worth its try: after so many the budget begins anew. Less would let a store that
/// gives one byte a try hold a reader for ever.
const PROGRESS_BYTES: u64 = 64 * 1024;

/// Follows `opened` to its end, opening it again wherever it breaks.
pub(super) fn resuming(
    storage: RetryStorage,
    path: &StoragePath,
    range: ByteRange,
    opened: ObjectRead,
) -> Result<ObjectRead, StorageError> {
    let ObjectRead { info, body } = opened;
    let bytes = range.within(path, info.size_bytes)?;
    let state = Body {
        storage,
        path: path.clone(),
        info: info.clone(),
        body: Some(body),
        offset: bytes.start,
        end: bytes.end,
        effort: None,
        gained_bytes: 0,
        pace: Pace::default(),
        slow: None,
    };
    let pieces = stream::try_unfold(state, |mut state| async move {
        let piece = state.next_piece().await?;
        Ok(piece.map(|piece| (piece, state)))
    });
    Ok(ObjectRead { info, body: Box::pin(pieces) })
}

struct Body {
    storage: RetryStorage,
    path: StoragePath,
    /// The object as it was first opened.
    info: ObjectInfo,
    body: Option<ByteStream>,
    offset: u64,
    end: u64,
    /// What was spent since the body last made progress.
    effort: Option<Effort>,
    gained_bytes: u64,
    pace: Pace,
    /// Why the body is to be given up before the next piece.
    slow: Option<StorageError>,
}

/// Bytes that came, and the time that was spent waiting for them.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Body {
    async fn next_piece(&mut self) -> Result<Option<Bytes>, StorageError> {
        loop {
            if let Some(slow) = self.slow.take() {
                self.body = None;
                self.wait(slow).await?;
            }
            if self.body.is_none() {
                self.reopen().await?;
            }
            let error = match self.poll_piece().await {
                Ok(piece) => return Ok(piece),
                Err(error) => error,
            };
            self.body = None;
            if self.offset >= self.end {
                // Every byte is out; an error behind them says that they may be wrong.
                return Err(error);
            }
            self.wait(error).await?;
        }
    }

    async fn poll_piece(&mut self) -> Result<Option<Bytes>, StorageError> {
        let policy = self.storage.policy;
        let fail = |what: String| StorageError::new(ErrorClass::Transient, Operation::Read, &self.path, what);
        let Some(body) = &mut self.body else { return Err(fail("it is not open".to_owned())) };
        let asked = Instant::now();
        let piece = match time::timeout(policy.silence_max, body.next()).await {
            Err(_) => {
                let silence_ms = policy.silence_max.as_millis();
                return Err(fail(format!("silence for {silence_ms} ms at byte {} of {}", self.offset, self.end)));
            }
            Ok(None) if self.offset >= self.end => return Ok(None),
            Ok(None) => return Err(fail(format!("it ended at byte {} of {}", self.offset, self.end))),
            Ok(Some(piece)) => piece?,
        };
        let offset = self.offset.saturating_add(piece.len() as u64);
        if offset > self.end {
            let what = format!("more bytes than the {} wanted arrived", self.end);
            return Err(StorageError::new(ErrorClass::Permanent, Operation::Read, &self.path, what));
        }
        self.offset = offset;
        self.gained_bytes = self.gained_bytes.saturating_add(piece.len() as u64);
        self.pace.waited += asked.elapsed();
        self.pace.bytes = self.pace.bytes.saturating_add(piece.len() as u64);
        if self.pace.waited >= policy.throughput_window && offset < self.end {
            self.check_pace();
        }
        Ok(Some(piece))
    }

    /// Marks a body that is too slow, to be opened again before the next piece.
    fn check_pace(&mut self) {
        let pace = std::mem::take(&mut self.pace);
        let per_s = u128::from(pace.bytes).saturating_mul(1_000) / pace.waited.as_millis().max(1);
        if per_s < u128::from(self.storage.policy.throughput_min_bytes_s) {
            let what = format!("only {} bytes in {} ms, at byte {}", pace.bytes, pace.waited.as_millis(), self.offset);
            self.slow = Some(StorageError::new(ErrorClass::Transient, Operation::Read, &self.path, what));
        }
    }

    async fn wait(&mut self, error: StorageError) -> Result<(), StorageError> {
        if self.gained_bytes >= PROGRESS_BYTES {
            self.effort = None;
        }
        self.gained_bytes = 0;
        self.effort.get_or_insert_with(|| self.storage.effort()).wait(error).await
    }

    /// Opens the rest of the same version.
    async fn reopen(&mut self) -> Result<(), StorageError> {
        let range = ByteRange { offset: self.offset, length: Some(self.end.saturating_sub(self.offset)) };
        let changed = |what| StorageError::new(ErrorClass::Conflict, Operation::Read, &self.path, what);
        let opened = loop {
            let request = self.storage.inner.read(&self.path, range, self.info.version.as_ref());
            let error = match self.storage.timed(Operation::Read, &self.path, 0, request).await {
                Ok(opened) => break opened,
                Err(error) if error.is_missing() => return Err(changed("it was removed while it was read")),
                Err(error) => error,
            };
            self.effort.get_or_insert_with(|| self.storage.effort()).wait(error).await?;
        };
        let same = opened.info.size_bytes == self.info.size_bytes
            && opened.info.modified_s == self.info.modified_s
            && opened.info.version == self.info.version;
        if !same {
            return Err(changed("it was replaced while it was read"));
        }
        self.pace = Pace::default();
        self.body = Some(opened.body);
        Ok(())
    }
}
