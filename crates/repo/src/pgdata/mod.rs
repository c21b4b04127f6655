//! The cluster directory: scanning, reading and writing PGDATA and its tablespaces. Local files only.
//!
//! All functions block: call them where blocking is allowed. Names are bytes, as the file system has them. Everything
//! below a data directory or tablespace is reached through a handle on it, and no link is followed but those that the
//! list of targets names.

pub mod accounts;
pub mod clean;
pub mod directory;
pub mod error;
pub mod link;
pub mod mapping;
pub mod owner;
pub mod path;
pub mod prepare;
pub mod read;
pub mod scan;
pub mod target;
pub mod write;
mod writeback;

pub use accounts::{Accounts, Ids};
pub use clean::{Expected, ExpectedLink, ExpectedTree, Overwrite, check_not_running, ignored_files, is_data_directory};
pub use directory::{Directory, EntryInfo, EntryKind};
pub use error::{DisplayPath, PgDataError, PgDataErrorKind};
pub use link::{LinkCheck, LinkPolicy};
pub use mapping::{MapOptions, Mapped, map_targets};
pub use owner::{EntryMode, OwnerPlan};
pub use path::RelativePath;
pub use prepare::{PrepareOptions, prepare_destinations};
pub use read::{ControlRead, ControlReadError, ReadLimit, SourceFile, read_control};
pub use scan::{Scan, ScanOptions, scan};
pub use target::{DataRoots, Target, TargetKind};
pub use write::{Existing, ExistingFile, FileAttributes, SyncPolicy, TargetFile, sync_file_systems, write_file};
pub(crate) use writeback::Writeback;
