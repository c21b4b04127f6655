//! How much memory a run may use for bytes in flight.

/// Bytes in flight for each worker: an upload holds the part that is filled and the one that is sent (5 MiB each by
/// default) and a short queue beside them.
const WORKER_BYTES: usize = 12 * 1024 * 1024;

/// The budget of a run with this many workers.
pub fn budget_bytes(workers: usize) -> usize {
    workers.saturating_add(1).saturating_mul(WORKER_BYTES)
}
