//! Joins asynchronous bytes and synchronous filters; the only place that does, within a memory budget.
//!
//! A transfer has two halves with a short bounded queue of pieces between them: the network half runs on the runtime,
//! the half that reads or writes files and runs a filter chain runs on a blocking thread.
//!
//! ```text
//! store   thread: read file -> chain -> PieceWriter  ==queue==>  runtime: Uploader -> storage
//! load    runtime: storage body  ==queue==>  thread: PieceReader -> chain -> write file
//! ```
//!
//! WAL takes the same way in steps ([`store_steps`], [`load_steps`]), which hold no thread while they wait: few threads do for
//! `archive-push`, `archive-get` and the resident engine.
//!
//! What a transfer holds at most is known before it begins and taken from the [`Budget`] in one step, so that transfers
//! wait for memory instead of growing, and cannot wait for each other.

mod budget;
mod load;
mod pool;
mod steps;
mod store;

pub use budget::{Budget, Reservation};
pub use load::{LOAD_BYTES_MAX, PieceReader, load};
pub use pool::run_jobs;
pub use steps::{LoadSteps, STEP_BYTES, load_steps, store_steps};
pub use store::{PieceWriter, StoreTarget, Stored, store, store_within};

/// Bytes of one piece in a queue. Speed does not depend on it between 16 KiB and 16 MiB, so it is chosen for memory.
pub const PIECE_BYTES: usize = 128 * 1024;

/// Pieces that a queue holds beside the one at each end.
const QUEUE_PIECES: usize = 2;
