//! The stanza itself: making it, adopting another cluster, removing it (repository-behaviour.md §1).

pub mod create;
pub mod delete;
pub mod upgrade;

#[cfg(test)]
mod tests;

use crate::error::{Error, ErrorKind, Result};
use crate::format::db_history::CatalogNumbers;
use crate::postgres::{PgVersion, SystemId};

/// The cluster that a stanza is for, as its pg_control says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StanzaCluster {
    /// PostgreSQL version.
    pub version: PgVersion,
    /// System identifier.
    pub system_id: SystemId,
    /// Catalog version.
    pub catalog_version: u32,
}

impl StanzaCluster {
    /// The numbers that backup.info records. The control version is that of the table of versions, not of the file
    /// (repository-format.md §3.2).
    fn catalog(&self) -> Result<CatalogNumbers> {
        let facts = self.version.facts().ok_or_else(|| {
            Error::new(ErrorKind::VersionNotSupported, format!("PostgreSQL {} is not supported", self.version))
        })?;
        Ok(CatalogNumbers { catalog_version: self.catalog_version, control_version: facts.control_version })
    }
}
