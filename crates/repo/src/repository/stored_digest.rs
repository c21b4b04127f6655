//! Size and checksum of an object as it is stored.

use super::open::Repository;
use crate::error::Result;
use crate::filter::{Digest, Hasher};
use crate::progress::Context;
use crate::storage::{ByteRange, StoragePath};
use crate::transfer;

impl Repository {
    /// Reads an object from its start to its end, and gives what it is.
    ///
    /// # Errors
    /// The storage's, [`crate::error::ErrorKind::FileMissing`] included.
    pub async fn stored_digest(&self, path: &StoragePath, context: &Context) -> Result<Digest> {
        transfer::load(self.storage().as_ref(), path, ByteRange::ALL, None, &context.budget, |stored| {
            let mut hasher = Hasher::default();
            stored.all(|piece| {
                hasher.observe(piece);
                Ok(())
            })?;
            Ok(hasher.digest())
        })
        .await
    }
}
