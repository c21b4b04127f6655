//! An opened repository: typed reads and writes of the files in it.
//!
//! A [`Repository`] only reads; what writes takes a [`WritableRepository`], so that a command which only looks cannot
//! change anything.

mod archive;
pub mod backup_choice;
pub mod backup_file;
mod block_map;
mod info_store;
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

pub use archive::{Archive, ArchivedFile, ArchivedSegment};
pub use block_map::{BLOCK_MAP_BYTES_MAX, BlockMapPlace, block_geometry, block_map_bytes, decode_block_map};
pub use info_store::INFO_BYTES_MAX;
pub use manifest_store::ManifestFile;
pub use open::{RepoIndex, Repository, WritableRepository};
pub use recode::StoredAs;
pub(crate) use reconcile::{Purpose, Reconciled};
pub use stored_file::{decode_all, encode_all};
