//! The cluster directory: scanning, reading and writing PGDATA and its tablespaces. Local files only.
//!
//! All functions block: call them where blocking is allowed. Names are bytes, as the file system has them. Everything
//! below a data directory or tablespace is reached through a handle on it, and no link is followed but those that the
//! list of targets names.

pub mod accounts;
pub mod directory;
pub mod error;
pub mod link;
pub mod path;
pub mod scan;
pub mod target;

pub use accounts::{Accounts, Ids};
pub use directory::{Directory, EntryInfo, EntryKind};
pub use error::{DisplayPath, PgDataError, PgDataErrorKind};
pub use link::{LinkCheck, LinkPolicy};
pub use path::RelativePath;
pub use scan::{Scan, ScanOptions, scan};
pub use target::{DataRoots, Target, TargetKind};
