//! [`store_steps`], [`load_steps`]: a transfer whose job gives its thread back after each step.
//!
//! [`store`](super::store) and [`load`](super::load) keep a blocking thread for as long as the transfer lasts, also while
//! the job waits for the network. Where few threads have to do for everything, that network half may itself need one (to
//! resolve a name, to write a local file) and both would wait for ever. Here a step takes what is there, works on it and
//! returns; nothing holds the thread in between. The price is a change of threads for each [`STEP_BYTES`].

use bytes::Bytes;
use futures_util::StreamExt;

use super::load::LOAD_BYTES_MAX;
use super::store::{StoreTarget, Stored};
use super::{Budget, PIECE_BYTES, Reservation};
use crate::error::Error;
use crate::progress::worker_failed;
use crate::storage::{ByteRange, Storage, StoragePath, Uploader};
use crate::workers::spawn_blocking;

/// What a step should work on: two or three milliseconds of a filter chain, beside which a change of threads is nothing.
pub const STEP_BYTES: usize = 1024 * 1024;

/// Runs `step` again and again on a blocking thread and stores what it makes, until it returns its result. What one step
/// makes is held as a whole, so a step takes about [`STEP_BYTES`] of input. Nothing is visible under the path unless both
/// the steps and the upload succeed.
///
/// # Errors
/// The step's own error, else the storage error. Cancellation by dropping the future: no further step begins.
pub async fn store_steps<T, F>(target: StoreTarget, budget: &Budget, step: F) -> Result<Stored<T>, Error>
where
    T: Send + 'static,
    F: FnMut(&mut Vec<Bytes>) -> Result<Option<T>, Error> + Send + 'static,
{
    let reservation = budget.reserve(target.memory_bytes().saturating_add(STEP_BYTES)).await;
    let mut uploader = Uploader::new(target.storage, target.path, target.condition, target.durability);
    let mut step = step;
    let result = loop {
        let made = run_step(&reservation, move || {
            let mut pieces = Vec::new();
            let outcome = step(&mut pieces);
            (step, outcome.map(|result| (pieces, result)))
        });
        let (again, outcome) = made.await?;
        step = again;
        match outcome {
            Ok((pieces, result)) => {
                // Each piece is given back as soon as it is copied.
                for piece in pieces {
                    uploader.write(&piece).await?;
                }
                if let Some(result) = result {
                    break result;
                }
            }
            Err(error) => {
                return match uploader.abort().await {
                    Ok(()) => Err(error),
                    Err(left) => Err(error.hint(format!("an unfinished upload may be left behind: {left}"))),
                };
            }
        }
    };
    let stored = if uploader.written_bytes() == 0 && !target.keep_empty {
        uploader.abort().await?;
        Stored { result, object: None }
    } else {
        Stored { result, object: Some(uploader.finish().await?) }
    };
    drop(reservation);
    Ok(stored)
}

/// A job over the bytes of an object, a step at a time.
pub trait LoadSteps: Send + 'static {
    /// What comes out at the end.
    type Result: Send + 'static;

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Ends the read; the error is the transfer's.
    fn step(&mut self, pieces: Vec<Bytes>) -> Result<(), Error>;

    /// There are no more bytes.
    ///
    /// # Errors
    /// As [`LoadSteps::step`].
    fn finish(self) -> Result<Self::Result, Error>;
}

/// Reads the object at `path` and runs `job` over it, a step at a time on a blocking thread.
///
/// # Errors
/// The error of the read, else the job's.
pub async fn load_steps<J: LoadSteps>(
    storage: &dyn Storage,
    path: &StoragePath,
    budget: &Budget,
    job: J,
) -> Result<J::Result, Error> {
    let reservation = budget.reserve(LOAD_BYTES_MAX.saturating_add(STEP_LOAD_BYTES)).await;
    let mut read = storage.read(path, ByteRange::ALL, None).await?;
    let mut job = job;
    let mut pieces = Vec::new();
    let mut held_bytes = 0;
    while let Some(piece) = read.body.next().await {
        let piece = piece?;
        held_bytes += piece.len();
        pieces.push(piece);
        if held_bytes >= STEP_LOAD_BYTES {
            held_bytes = 0;
            job = run_step(&reservation, step_of(job, std::mem::take(&mut pieces))).await??;
        }
    }
    drop(read.body);
    let result = run_step(&reservation, move || {
        if !pieces.is_empty() {
            job.step(pieces)?;
        }
        job.finish()
    });
    let result = result.await?;
    drop(reservation);
    result
}

/// Stored bytes of one step of a load: compressed, they become several times as many.
const STEP_LOAD_BYTES: usize = 2 * PIECE_BYTES;

fn step_of<J: LoadSteps>(mut job: J, pieces: Vec<Bytes>) -> impl FnOnce() -> Result<J, Error> + Send + 'static {
    move || {
        job.step(pieces)?;
        Ok(job)
    }
}

async fn run_step<T: Send + 'static>(
    reservation: &Reservation,
    step: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    // The thread may outlive the future for a moment, and holds its memory as long as it works.
    let held = reservation.clone();
    let worked = spawn_blocking(move || {
        let _held = held;
        step()
    });
    let worked = worked.await;
    worked.map_err(worker_failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::storage::{Condition, Durability, LocalStorage, StorageExt};

    struct Gather(Vec<u8>);

    impl LoadSteps for Gather {
        type Result = Vec<u8>;

        fn step(&mut self, pieces: Vec<Bytes>) -> Result<(), Error> {
            pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
            Ok(())
        }

        fn finish(self) -> Result<Vec<u8>, Error> {
            Ok(self.0)
        }
    }

    fn target(storage: &Arc<dyn Storage>, name: &str) -> StoreTarget {
        StoreTarget {
            storage: Arc::clone(storage),
            path: StoragePath::parse(name).unwrap(),
            condition: Condition::None,
            durability: Durability::Now,
            keep_empty: true,
            size_max_bytes: None,
        }
    }

    /// A local directory needs a blocking thread for each write and read, and there is one.
    #[test]
    fn one_thread_is_enough_for_steps_and_a_local_store() {
        let directory = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(directory.path().to_owned()));
            let budget = Budget::new(64 * 1024 * 1024);
            let mut left = 20;
            let stored = store_steps(target(&storage, "object"), &budget, move |out| {
                left -= 1;
                out.push(Bytes::from(vec![left; STEP_BYTES]));
                Ok((left == 0).then_some("done"))
            });
            let stored = tokio::time::timeout(Duration::from_secs(60), stored).await.expect("no dead lock").unwrap();
            assert_eq!(stored.result, "done");
            assert_eq!(stored.object.unwrap().size_bytes, 20 * STEP_BYTES as u64);
            let path = StoragePath::parse("object").unwrap();
            let loaded = load_steps(storage.as_ref(), &path, &budget, Gather(Vec::new()));
            let loaded = tokio::time::timeout(Duration::from_secs(60), loaded).await.expect("no dead lock").unwrap();
            assert_eq!(loaded.len(), 20 * STEP_BYTES);
            assert_eq!((loaded.first(), loaded.last()), (Some(&19), Some(&0)));
        });
    }

    #[tokio::test]
    async fn a_step_that_fails_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(directory.path().to_owned()));
        let budget = Budget::new(64 * 1024 * 1024);
        let mut steps = 0;
        let failed = store_steps::<(), _>(target(&storage, "object"), &budget, move |out| {
            steps += 1;
            out.push(Bytes::from(vec![0; 6 * STEP_BYTES]));
            if steps < 3 { Ok(None) } else { Err(Error::new(ErrorKind::FileRead, "changed")) }
        });
        assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::FileRead);
        assert!(!storage.exists(&StoragePath::parse("object").unwrap()).await.unwrap());
    }
}
