//! What only the manifest of a backup says.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BackupInfo, BackupLabel, RawText};
use crate::progress::Context;
use crate::repository::Repository;

/// What the manifest of a backup says beyond backup.info.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupDetails {
    /// Databases by name with their oids, without templates.
    pub databases: Vec<(RawText, u32)>,
    /// Links in PGDATA.
    pub links: Vec<LinkDetail>,
    /// Tablespaces.
    pub tablespaces: Vec<TablespaceDetail>,
    /// Files with page checksum errors, below PGDATA.
    pub damaged_files: Vec<RawText>,
}

/// A link in PGDATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkDetail {
    /// Where it is, below PGDATA; of a link to a file only the file's own name.
    pub name: RawText,
    /// Where it leads.
    pub destination: RawText,
}

/// A tablespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceDetail {
    /// Its name.
    pub name: RawText,
    /// Its oid.
    pub oid: u32,
    /// Where it was.
    pub destination: RawText,
}

/// Reads them.
pub(super) async fn read(
    _repository: &Repository,
    _backup_info: &BackupInfo,
    label: BackupLabel,
    _context: &Context,
) -> Result<BackupDetails> {
    Err(Error::new(ErrorKind::FeatureNotSupported, format!("the manifest of {label} cannot be read yet")))
}
