//! An opened repository: typed reads and writes of the files in it.
//!
//! A [`Repository`] only reads; what writes takes a [`WritableRepository`], so that a command which only looks cannot
//! change anything.

mod archive;
mod archive_wait;
mod archived_wal;
pub mod backup_choice;
pub mod backup_file;
mod block_map;
mod generation;
mod info_store;
mod info_update;
mod latest;
mod manifest_store;
mod open;
mod recode;
mod reconcile;
pub mod recovery_goal;
mod stored_digest;
mod stored_file;
mod target_time;
pub mod timelines;
mod wal_gaps;
pub(crate) mod wal_path;

pub use archive::{Archive, ArchivedFile, ArchivedSegment};
pub use archive_wait::wait_for_segment;
pub use archived_wal::ArchivedWal;
pub use block_map::{BlockMapPlace, decode_block_map};
pub use generation::{check_agreement, check_cluster};
pub use info_store::INFO_BYTES_MAX;
pub use info_update::Change;
pub use manifest_store::ManifestFile;
pub use open::{RepoIndex, Repository, WritableRepository};
pub use recode::StoredAs;
pub(crate) use reconcile::{Purpose, Reconciled};
pub use stored_file::{decode_all, encode_all};
pub use target_time::parse as parse_time;
pub use wal_gaps::{ArchivedWals, NeededWal, WalGap, WalGaps};
