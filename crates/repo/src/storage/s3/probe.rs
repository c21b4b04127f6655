//! Finds out what a store can do, by trying.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::S3Storage;
use crate::storage::{Condition, Durability, ErrorClass, Storage, StorageError, StoragePath};

impl S3Storage {
    /// Whether the store checks conditions of writes: writes `scratch` twice under the condition that it is absent and
    /// removes it. Stores without the feature refuse the condition or, worse, ignore it (faults.md OS35); both are
    /// `false`. [`Storage::capabilities`] says so from then on; before, it says that conditions are not checked.
    ///
    /// # Errors
    /// [`StorageError`] when the store could not be asked.
    pub async fn probe_conditional_put(&self, scratch: &StoragePath) -> Result<bool, StorageError> {
        self.remove(scratch).await?;
        let first = self.put_when_absent(scratch).await;
        let supported = match first {
            Ok(None) => self.put_when_absent(scratch).await.map(|refusal| refusal == Some(ErrorClass::Conflict)),
            other => other.map(|_| false),
        };
        self.remove(scratch).await?;
        let supported = supported?;
        self.conditional_put.store(supported, Ordering::Relaxed);
        Ok(supported)
    }

    /// Takes the answer of an earlier probe of the same store.
    pub fn set_conditional_put(&self, supported: bool) {
        self.conditional_put.store(supported, Ordering::Relaxed);
    }

    /// Writes `scratch` unless the store refuses; then the class of the refusal.
    async fn put_when_absent(&self, scratch: &StoragePath) -> Result<Option<ErrorClass>, StorageError> {
        let body = Bytes::from_static(b"conditional write probe\n");
        match self.put(scratch, body, Condition::Absent, Durability::Now).await {
            Ok(_) => Ok(None),
            Err(error) if matches!(error.class(), ErrorClass::Conflict | ErrorClass::Permanent) => {
                Ok(Some(error.class()))
            }
            Err(error) => Err(error),
        }
    }
}
