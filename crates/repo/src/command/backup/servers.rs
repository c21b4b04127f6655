//! Which servers a backup is made from.

use std::path::Path;

use crate::db::Database;
use crate::error::Result;

/// The servers of a backup.
#[derive(Debug, Clone, Copy)]
pub enum Servers<'a> {
    /// None runs: a data directory at rest.
    Offline,
    /// The primary.
    Primary(&'a dyn Database),
    /// The primary begins and ends the backup; what WAL repairs is read from a standby (`backup-standby`).
    PrimaryAndStandby {
        /// The primary.
        primary: &'a dyn Database,
        /// The standby.
        standby: Standby<'a>,
    },
    /// A standby alone, without any contact to its primary. The original cannot do this.
    Standby(&'a dyn Database),
}

/// A standby that files are read from.
#[derive(Debug, Clone, Copy)]
pub struct Standby<'a> {
    /// The session.
    pub database: &'a dyn Database,
    /// Its data directory (`pg-path`), as the server itself names it.
    pub pg_path: &'a Path,
}

impl<'a> Servers<'a> {
    /// The server that begins and ends the backup.
    pub(super) fn leader(self) -> Option<&'a dyn Database> {
        match self {
            Servers::Offline => None,
            Servers::Primary(database)
            | Servers::PrimaryAndStandby { primary: database, .. }
            | Servers::Standby(database) => Some(database),
        }
    }

    /// The standby that files are read from instead of the primary.
    pub(super) fn helper(self) -> Option<Standby<'a>> {
        match self {
            Servers::PrimaryAndStandby { standby, .. } => Some(standby),
            _ => None,
        }
    }

    /// Whether data files come from a standby, as the manifest records it.
    pub(super) fn reads_standby(self) -> bool {
        matches!(self, Servers::PrimaryAndStandby { .. } | Servers::Standby(_))
    }

    /// Asks every server whether it is still what it was when the backup began.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::DbMismatch`] when a standby was promoted, [`crate::error::ErrorKind::Assert`] when the
    /// primary went into recovery, and those of a lost session.
    pub(super) async fn ping(self) -> Result<()> {
        if let Some(leader) = self.leader() {
            leader.ping().await?;
        }
        if let Some(standby) = self.helper() {
            standby.database.ping().await?;
        }
        Ok(())
    }
}
