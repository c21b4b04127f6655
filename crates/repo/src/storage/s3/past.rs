//! [`PastS3Storage`]: a bucket as it was at a time (`repo-target-time`), for stores that keep versions.
//!
//! An object is looked up in a listing of versions and read by the id of the one that was there. One listing tells of many
//! objects: that of a directory goes on by a page with each object that it has not told of yet, so that a directory costs
//! about as many requests as it has pages, as long as there is room to remember them, and one object never more than two.
//! That something was not there is said only after the store was asked for this very object. Nothing can be written.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::S3Storage;
use super::list::{Asked, Object, Page};
use super::read::Wanted;
use super::versions::{Place, StoredVersion};
use crate::storage::{
    ByteRange, Capabilities, Condition, Durability, EntryKind, ErrorClass, ListOptions, ListPage, ObjectInfo,
    ObjectRead, ObjectVersion, Operation, PageToken, PartTag, Storage, StorageError, StorageFuture, StoragePath,
    UploadId, UploadPart,
};

/// How many objects of listings are remembered, some 250 bytes each.
const LISTED_MAX: usize = 65_536;

/// How many of those that were looked up by themselves are remembered: the pieces of a bundle, and tries after a failure,
/// ask again for the same one.
const LOOKED_UP_MAX: usize = 4096;

/// Changes asked for at once when one object is looked up. Files have one or two, info files some dozens.
const LOOKUP_KEYS_MAX: i32 = 100;

/// The [`Storage`] over a bucket at a time. The version of an object is the id that the store keeps it under.
#[derive(Debug)]
pub struct PastS3Storage {
    store: S3Storage,
    at_s: i64,
    known: Mutex<Known>,
    /// How far the listings of directories came, by prefix. Whoever wants the next page waits for the one before it.
    listings: tokio::sync::Mutex<HashMap<String, Listing>>,
}

/// Versions by key. What was there at a time stays what was there.
#[derive(Debug, Default)]
struct Known {
    listed: HashMap<String, StoredVersion>,
    looked_up: HashMap<String, StoredVersion>,
}

/// The listing of a directory, one page after the other.
#[derive(Debug)]
enum Listing {
    /// It goes on here; with `None` it has not begun.
    At(Option<Place>),
    /// Nothing more comes of it.
    Ended,
}

impl Known {
    fn get(&self, key: &str) -> Option<StoredVersion> {
        self.listed.get(key).or_else(|| self.looked_up.get(key)).cloned()
    }

    fn is_full(&self) -> bool {
        self.listed.len() >= LISTED_MAX
    }

    fn list(&mut self, key: String, version: StoredVersion) {
        if self.is_full() {
            self.look_up(key, version);
        } else {
            self.listed.insert(key, version);
        }
    }

    fn look_up(&mut self, key: String, version: StoredVersion) {
        if self.looked_up.len() >= LOOKED_UP_MAX {
            self.looked_up.clear();
        }
        self.looked_up.insert(key, version);
    }
}

impl PastS3Storage {
    /// `store` as it was at `at_s`, in seconds since the Unix epoch by the store's clock.
    pub fn new(store: S3Storage, at_s: i64) -> Self {
        Self { store, at_s, known: Mutex::default(), listings: tokio::sync::Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_all(&self, objects: &[Object]) {
        let mut known = self.known();
        for object in objects {
            if let Some(version) = &object.version {
                known.list(object.key.clone(), version.clone());
            }
        }
    }

    /// The version of an object that was there.
    async fn version(&self, operation: Operation, path: &StoragePath) -> Result<StoredVersion, StorageError> {
        let key = self.store.key(path);
        let known = self.known().get(&key);
        match known {
            Some(version) => Ok(version),
            None => match self.list_on(path, &key).await? {
                Some(version) => Ok(version),
                None => self.look_up(operation, path, key).await,
            },
        }
    }

    /// One more page of the object's directory, unless it was listed meanwhile; the version, if it is known then. `None`
    /// says nothing.
    async fn list_on(&self, path: &StoragePath, key: &str) -> Result<Option<StoredVersion>, StorageError> {
        let prefix = key.rsplit_once('/').map_or("", |(directory, _)| directory);
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let mut listings = self.listings.lock().await;
        let (known, is_full) = {
            let known = self.known();
            (known.get(key), known.is_full())
        };
        if known.is_some() || is_full {
            return Ok(known);
        }
        let listing = listings.entry(prefix.clone()).or_insert(Listing::At(None));
        let Listing::At(place) = listing else { return Ok(None) };
        let page = self.store.list_past(path, &prefix, false, None, place.as_ref(), self.at_s).await?;
        *listing = page.next.map_or(Listing::Ended, |next| Listing::At(Some(next)));
        self.remember_all(&page.objects);
        Ok(self.known().get(key))
    }

    /// Asks for this very object.
    async fn look_up(
        &self,
        operation: Operation,
        path: &StoragePath,
        key: String,
    ) -> Result<StoredVersion, StorageError> {
        let mut place: Option<Place> = None;
        loop {
            let limit = Some(LOOKUP_KEYS_MAX);
            let page = self.store.list_past(path, &key, false, limit, place.as_ref(), self.at_s).await?;
            let object = page.objects.into_iter().find(|object| object.key == key);
            if let Some(version) = object.and_then(|object| object.version) {
                self.known().look_up(key, version.clone());
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
        self.remember_all(&page.objects);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn version(id: usize) -> StoredVersion {
        StoredVersion { id: id.to_string(), tag: None, size_bytes: 1, modified_s: 1 }
    }

    #[test]
    fn np07_what_is_remembered_is_bounded_and_the_last_object_is_always_known() {
        let mut known = Known::default();
        for number in 0..LISTED_MAX + 3 * LOOKED_UP_MAX {
            known.list(format!("key {number}"), version(number));
            assert_eq!(known.get(&format!("key {number}")), Some(version(number)));
            assert!(known.listed.len() <= LISTED_MAX && known.looked_up.len() <= LOOKED_UP_MAX);
        }
        assert!(known.is_full());
        assert_eq!(known.get("key 0"), Some(version(0)));
    }
}
