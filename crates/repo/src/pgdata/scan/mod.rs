//! Walks the data directory, its tablespaces and links into typed entries: what a backup will hold.
//!
//! The result follows pgBackRest's manifest build (`src/info/manifest/build.c.inc`): same names, same exclusions, same
//! errors. The walk holds a handle on each directory and opens the next one from it without following links, so that a
//! link planted meanwhile is an error and never a way out. What vanishes during the walk is left out; recovery does not
//! need it.

mod walk;

use std::fmt;
use std::sync::Arc;

use super::accounts::Accounts;
use super::error::{DisplayPath, PgDataError};
use super::link::LinkPolicy;
use super::target::Target;
use crate::postgres::DataLayout;

/// What to scan and how.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions<'a> {
    /// Version and catalog of the cluster.
    pub layout: &'a DataLayout,
    /// Whether the server is running and WAL comes from the archive.
    pub online: bool,
    /// Paths relative to the data directory to leave out; with a `/` at the end, the contents of that directory.
    pub exclude: &'a [Vec<u8>],
    /// Object id and name of each tablespace of the running server; `None` when it is not running.
    pub tablespaces: Option<&'a [(u32, String)]>,
    /// Which links are followed.
    pub links: &'a LinkPolicy,
    /// Names of users and groups.
    pub accounts: &'a Accounts,
}

/// The entries of a cluster. All lists are sorted by the bytes of the name, which is unique within its list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// The data directory, tablespaces and links.
    pub targets: Vec<Target>,
    /// Directories.
    pub paths: Vec<ScannedPath>,
    /// Links.
    pub links: Vec<ScannedLink>,
    /// Files.
    pub files: Vec<ScannedFile>,
    /// What was left out and a person should know of, in the order it was met.
    pub notes: Vec<ScanNote>,
}

/// The owner of an entry by name; `None` for an id that has no name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnerNames {
    /// User.
    pub user: Option<Arc<str>>,
    /// Group.
    pub group: Option<Arc<str>>,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedPath {
    /// Name as in a manifest.
    pub name: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: OwnerNames,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedLink {
    /// Name as in a manifest; of a tablespace `pg_data/pg_tblspc/<oid>`.
    pub name: Vec<u8>,
    /// The text of the link.
    pub destination: Vec<u8>,
    /// Owner of the link itself.
    pub owner: OwnerNames,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedFile {
    /// Name as in a manifest.
    pub name: Vec<u8>,
    /// Bytes.
    pub size_bytes: u64,
    /// Last modification, seconds since the Unix epoch.
    pub modified_s: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: OwnerNames,
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanNote {
    /// An entry, because the options say so.
    Excluded {
        /// Its path.
        path: Vec<u8>,
        /// The exclusion.
        exclusion: Vec<u8>,
    },
    /// The contents of a directory, because the options say so.
    ExcludedContents {
        /// Its path.
        path: Vec<u8>,
        /// The exclusion, without the slash at its end.
        exclusion: Vec<u8>,
    },
    /// A socket, FIFO or device.
    SpecialFile {
        /// Its path.
        path: Vec<u8>,
    },
}

impl ScanNote {
    /// Whether it is a warning rather than information.
    pub fn is_warning(&self) -> bool {
        matches!(self, Self::SpecialFile { .. })
    }
}

impl fmt::Display for ScanNote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excluded { path, exclusion } => write!(
                formatter,
                "exclude '{}' from backup using '{}' exclusion",
                DisplayPath(path),
                DisplayPath(exclusion)
            ),
            Self::ExcludedContents { path, exclusion } => write!(
                formatter,
                "exclude contents of '{}' from backup using '{}/' exclusion",
                DisplayPath(path),
                DisplayPath(exclusion)
            ),
            Self::SpecialFile { path } => {
                write!(formatter, "exclude special file '{}' from backup", DisplayPath(path))
            }
        }
    }
}

/// Scans the cluster whose data directory is at the absolute path `pgdata`. Blocking: run it where blocking is allowed.
///
/// # Errors
/// [`PgDataError`] of these kinds (`PgDataErrorKind`): `PathMissing` and `PathOpen` when a directory cannot be opened;
/// `FileOpen` when an entry or a link's destination cannot be looked at; `LinkExpected`, `LinkDestination` for wrong
/// links; `UnknownTablespace`; `ChangedType` when an entry turned into something else meanwhile; `Format` for a name
/// that a manifest cannot hold (one with a newline), or directories nested too deep.
pub fn scan(pgdata: &[u8], options: ScanOptions<'_>) -> Result<Scan, PgDataError> {
    walk::Walk::new(pgdata, options)?.run()
}

#[cfg(test)]
mod tests;
