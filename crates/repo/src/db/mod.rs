//! The running server over SQL.
//!
//! [`Database`] is what the commands need of it; [`Session`] is the real one, over a unix socket. A backup holds its
//! session from start to stop: PostgreSQL ends the backup when the session ends, so a lost session is a lost backup.
//! The statements are those of pgBackRest's `src/db/db.c`, for servers from version 9.6.

pub mod check;
mod client;
mod error;
mod sql;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::postgres::{Lsn, PgVersion, Timeline, WalSegmentName};

pub use client::{ConnectOptions, SOCKET_DIRECTORIES, Session};
pub use error::{DbError, DbErrorKind};

/// The result of a database operation, boxed so that the trait can be used as `dyn Database`.
pub type DbFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, DbError>> + Send + 'a>>;

/// One session on one server. Operations run one after another; each ends within the session's time-out.
pub trait Database: Debug + Send + Sync {
    /// What the server said about itself when the session began.
    fn identity(&self) -> &ServerIdentity;

    /// All databases.
    fn databases(&self) -> DbFuture<'_, Vec<DatabaseEntry>>;

    /// Object id and name of all tablespaces.
    fn tablespaces(&self) -> DbFuture<'_, Vec<(u32, String)>>;

    /// The segment that the server writes to now. Only on a primary.
    fn insert_segment(&self) -> DbFuture<'_, WalSegmentName>;

    /// Starts a backup, with `fast` after an immediate checkpoint. It lasts until [`Database::stop_backup`] or the end of
    /// the session.
    fn start_backup(&self, fast: bool) -> DbFuture<'_, BackupStart>;

    /// Stops the backup, without waiting for the archive.
    fn stop_backup(&self) -> DbFuture<'_, BackupStop>;

    /// Makes sure that there is something to archive and switches to a new segment; returns the one that was completed.
    /// Only on a primary.
    fn switch_wal(&self) -> DbFuture<'_, WalSegmentName>;

    /// Milliseconds since the Unix epoch by the server's clock.
    fn time_ms(&self) -> DbFuture<'_, i64>;

    /// Asks whether the server is still what it was: in recovery, or not.
    ///
    /// # Errors
    /// [`DbErrorKind::Mismatch`] when a standby was promoted; [`DbErrorKind::Recovery`] when a primary went into
    /// recovery.
    fn ping(&self) -> DbFuture<'_, ()>;

    /// Performs a checkpoint, on a standby a restartpoint.
    fn checkpoint(&self) -> DbFuture<'_, ()>;

    /// How far a standby has replayed; `None` when the server is no standby.
    fn replay_lsn(&self) -> DbFuture<'_, Option<Lsn>>;

    /// The last checkpoint that the control file records.
    fn control_checkpoint(&self) -> DbFuture<'_, ControlCheckpoint>;
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Major version.
    pub version: PgVersion,
    /// `data_directory`.
    pub data_directory: String,
    /// `archive_mode`: `off`, `on` or `always`.
    pub archive_mode: String,
    /// `archive_command`; `(disabled)` when archiving is off.
    pub archive_command: String,
    /// `checkpoint_timeout`: how long a backup may wait for its checkpoint when it is not asked for a fast one.
    pub checkpoint_timeout: Duration,
    /// Whether the server is a standby.
    pub in_recovery: bool,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseEntry {
    /// Object id.
    pub oid: u32,
    /// Name.
    pub name: String,
    /// What a manifest calls `db-last-system-id`: the object id of `template0`.
    pub last_system_oid: u32,
}

/// A backup has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStart {
    /// Recovery starts here.
    pub lsn: Lsn,
    /// The segment that holds it; a standby does not say.
    pub segment: Option<WalSegmentName>,
}

/// A backup has stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStop {
    /// Recovery must reach this to be consistent.
    pub lsn: Lsn,
    /// The segment that holds it; a standby does not say.
    pub segment: Option<WalSegmentName>,
    /// The text of `backup_label`.
    pub backup_label: String,
    /// The text of `tablespace_map`; `None` when there are no tablespaces.
    pub tablespace_map: Option<String>,
}

/// The last checkpoint in the control file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlCheckpoint {
    /// Where the checkpoint record is.
    pub lsn: Lsn,
    /// Where replay from it begins.
    pub redo_lsn: Lsn,
    /// Its timeline.
    pub timeline: Timeline,
}
