//! WAL into the archive and out of it (repository-behaviour.md §2, §3).

mod candidates;
pub mod coming;
mod conflict;
mod delivery;
pub mod get;
pub mod get_ahead;
pub mod push;
pub mod push_ahead;
mod queue;
mod source;
pub mod spool;
mod targets;
#[cfg(test)]
mod tests;

pub use candidates::PushTargets;
pub use queue::{QueueState, measure_queue, ready_files};
pub use source::WalSource;
pub use targets::Targets;

use crate::postgres::{PgVersion, SystemId};

/// The cluster that pg_control of the data directory describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// PostgreSQL version.
    pub version: PgVersion,
    /// System identifier.
    pub system_id: SystemId,
}

/// What stands above the list of what is wrong with each repository.
const NO_VALID_REPOSITORY: &str = "unable to find a valid repository";
