//! Facts about PostgreSQL: versions, LSNs, timelines, WAL segments, `pg_control`, pages and paths. Pure; no I/O.
//!
//! All numbers in PostgreSQL's own files are read as little endian, as on every platform that the original supports.

pub mod control_file;
pub mod data_path;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod hex_field;
mod little_endian;
pub mod lsn;
pub mod page;
#[cfg(test)]
mod sample;
pub mod system_id;
pub mod timeline;
pub mod version;
pub mod wal_file_name;
pub mod wal_header;
pub mod wal_segment;

pub use control_file::{ControlFile, MinimumRecovery};
pub use data_path::DataLayout;
pub use lsn::Lsn;
pub use page::{Page, PageSize};
pub use system_id::SystemId;
pub use timeline::{Timeline, TimelineHistory};
pub use version::PgVersion;
pub use wal_file_name::WalFileName;
pub use wal_header::WalHeader;
pub use wal_segment::{WalSegmentName, WalSegmentSize};
