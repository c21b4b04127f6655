//! Whether the command may still remove: on a shared store somebody else may have taken its place meanwhile.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use crate::error::Result;

/// Asked before every batch of removals, and before backup.info is written. Objects that are removed cannot be brought back,
/// so a claim that was checked once at the beginning is not enough.
pub trait Permit: Debug + Send + Sync {
    /// Whether this process may still remove.
    ///
    /// # Errors
    /// Why not. Nothing more is removed, and the command ends with it.
    fn confirm(&self) -> BoxFuture<'_, Result<()>>;
}
