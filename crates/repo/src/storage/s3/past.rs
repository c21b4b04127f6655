//! [`PastS3Storage`]: a bucket as it was at a time (`repo-target-time`), for stores that keep versions.
//!
//! An object is looked up in the listing of its versions and read by the id of the one that was there. Nothing can be
//! written.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::S3Storage;
use super::list::{Asked, Page};
use super::read::Wanted;
use super::versions::{Place, StoredVersion};
use crate::storage::{
    ByteRange, Capabilities, Condition, Durability, EntryKind, ErrorClass, ListOptions, ListPage, ObjectInfo,
    ObjectRead, ObjectVersion, Operation, PageToken, PartTag, Storage, StorageError, StorageFuture, StoragePath,
    UploadId, UploadPart,
};

/// How many objects are remembered: the pieces of a bundle, and tries after a failure, ask again for the same one.
const REMEMBERED_MAX: usize = 4096;

/// Changes asked for at once when one object is looked up. Files have one or two, info files some dozens.
const LOOKUP_KEYS_MAX: i32 = 100;

/// The [`Storage`] over a bucket at a time. The version of an object is the id that the store keeps it under.
#[derive(Debug)]
pub struct PastS3Storage {
    store: S3Storage,
    at_s: i64,
    /// Versions by key. What was there at a time stays what was there.
    found: Mutex<HashMap<String, StoredVersion>>,
}

impl PastS3Storage {
    /// `store` as it was at `at_s`, in seconds since the Unix epoch by the store's clock.
    pub fn new(store: S3Storage, at_s: i64) -> Self {
        Self { store, at_s, found: Mutex::default() }
    }

    fn remember(&self, key: &str, version: &StoredVersion) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= REMEMBERED_MAX {
            found.clear();
        }
        found.insert(key.to_owned(), version.clone());
    }

    /// The version of an object that was there.
    async fn version(&self, operation: Operation, path: &StoragePath) -> Result<StoredVersion, StorageError> {
        let key = self.store.key(path);
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(version) = known {
            return Ok(version);
        }
        let mut place: Option<Place> = None;
        loop {
            let limit = Some(LOOKUP_KEYS_MAX);
            let page = self.store.list_past(path, &key, false, limit, place.as_ref(), self.at_s).await?;
            let object = page.objects.into_iter().find(|object| object.key == key);
            if let Some(version) = object.and_then(|object| object.version) {
                self.remember(&key, &version);
                return Ok(version);
            }
            // The key itself comes before all that begin with it: one that is decided about later ends the search.
            match page.next {
                Some(next) if page.decided.is_none() => place = Some(next),
                _ => {
                    let detail = "there was no such object at the time that was asked for";
                    return Err(StorageError::new(ErrorClass::Missing, operation, path, detail));
                }
            }
        }
    }

    async fn read_version(
        &self,
        path: &StoragePath,
        range: ByteRange,
        pin: Option<&ObjectVersion>,
    ) -> Result<ObjectRead, StorageError> {
        let version = self.version(Operation::Read, path).await?;
        if pin.is_some_and(|pin| pin.0 != version.id) {
            let detail = "another version of the object was read before";
            return Err(StorageError::new(ErrorClass::Conflict, Operation::Read, path, detail));
        }
        self.store.read_object(path, range, Wanted::Stored(&version)).await
    }

    async fn version_info(&self, path: &StoragePath) -> Result<ObjectInfo, StorageError> {
        Ok(self.version(Operation::Info, path).await?.info())
    }

    async fn list_then(
        &self,
        path: &StoragePath,
        options: &ListOptions,
        token: Option<PageToken>,
    ) -> Result<ListPage, StorageError> {
        let asked = Asked::new(self.store.directory_prefix(path), path, options)?;
        let place = token.as_ref().map(Place::parse);
        let prefix = asked.prefix();
        let page = self.store.list_past(path, &prefix, options.recurse, None, place.as_ref(), self.at_s).await?;
        for object in &page.objects {
            if let Some(version) = &object.version {
                self.remember(&object.key, version);
            }
        }
        let next = page.next.as_ref().map(Place::token);
        let entries = asked.entries(&Page { objects: page.objects, prefixes: page.prefixes, next: None });
        let entries = entries.map_err(|malformed| self.store.refuse(&malformed).into_error(Operation::List, path))?;
        Ok(ListPage { entries, next })
    }
}

impl StoredVersion {
    pub(super) fn info(&self) -> ObjectInfo {
        ObjectInfo {
            kind: EntryKind::Object,
            size_bytes: self.size_bytes,
            modified_s: self.modified_s,
            version: Some(ObjectVersion(self.id.clone())),
        }
    }
}

fn refuse<'a, T: Send + 'a>(operation: Operation, path: &StoragePath) -> StorageFuture<'a, T> {
    let detail = "the repository is read as it was at a time: nothing can be changed there";
    Box::pin(std::future::ready(Err(StorageError::new(ErrorClass::Permanent, operation, path, detail))))
}

impl Storage for PastS3Storage {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kept_versions: true, ..self.store.capabilities() }
    }

    fn read<'a>(
        &'a self,
        path: &'a StoragePath,
        range: ByteRange,
        pin: Option<&'a ObjectVersion>,
    ) -> StorageFuture<'a, ObjectRead> {
        Box::pin(self.read_version(path, range, pin))
    }

    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(self.version_info(path))
    }

    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage> {
        Box::pin(self.list_then(path, options, page))
    }

    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        _: Bytes,
        _: Condition,
        _: Durability,
    ) -> StorageFuture<'a, ObjectInfo> {
        refuse(Operation::Write, path)
    }

    fn upload_create<'a>(&'a self, path: &'a StoragePath, _: Durability) -> StorageFuture<'a, UploadId> {
        refuse(Operation::Write, path)
    }

    fn upload_part<'a>(&'a self, path: &'a StoragePath, _: &'a UploadId, _: UploadPart) -> StorageFuture<'a, PartTag> {
        refuse(Operation::Write, path)
    }

    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        _: &'a UploadId,
        _: &'a [PartTag],
        _: Condition,
    ) -> StorageFuture<'a, ObjectInfo> {
        refuse(Operation::Write, path)
    }

    fn upload_abort<'a>(&'a self, path: &'a StoragePath, _: &'a UploadId) -> StorageFuture<'a, ()> {
        refuse(Operation::Write, path)
    }

    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        refuse(Operation::Remove, path)
    }

    fn remove_many<'a>(&'a self, _: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>> {
        refuse(Operation::Remove, &StoragePath::root())
    }

    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        refuse(Operation::Remove, path)
    }

    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, _: i64) -> StorageFuture<'a, u64> {
        refuse(Operation::Remove, path)
    }
}
