//! How much memory a run may use for bytes in flight.

use pgbr_config::Command;

/// Bytes in flight for each worker: an upload holds the part that is filled and the one that is sent (5 MiB each by
/// default) and a short queue beside them.
const WORKER_BYTES: usize = 12 * 1024 * 1024;

/// The same for archiving, where most objects are far smaller than a part, and hold no more than they have: two of the largest
/// go one after the other.
const WAL_WORKER_BYTES: usize = 6 * 1024 * 1024;

/// The budget of a run with this many workers.
pub fn budget_bytes(command: Command, workers: usize) -> usize {
    let worker_bytes = match command {
        Command::ArchiveGet | Command::ArchivePush | Command::Serve => WAL_WORKER_BYTES,
        _ => WORKER_BYTES,
    };
    workers.saturating_add(1).saturating_mul(worker_bytes)
}
