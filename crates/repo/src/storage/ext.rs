//! Conveniences over any [`Storage`]; no backend can override them.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::{
    ByteRange, Condition, Durability, Entry, EntryKind, ErrorClass, ListOptions, ObjectInfo, ObjectRead, Operation,
    Storage, StorageError, StoragePath,
};

/// The most entries that [`StorageExt::list_all`] collects: a repository with more objects in one listing than this is
/// listed page by page. At some 100 bytes each they stay below 500 MB.
pub const LIST_ENTRIES_MAX: usize = 5_000_000;

/// Pages in a row that bring nothing new but promise more; a store that sends more of them is broken.
const EMPTY_PAGES_MAX: u32 = 1_000;

/// Objects removed by one request of [`StorageExt::remove_tree_by_listing`]: S3's limit for `DeleteObjects`.
const REMOVE_BATCH: usize = 1_000;

/// The most that is allocated on the word of the store alone.
const FIRST_ALLOCATION_BYTES: usize = 1024 * 1024;

/// What callers want of a storage beyond its core.
pub trait StorageExt: Storage {
    /// Reads a whole object of at most `limit_bytes` into memory.
    ///
    /// # Errors
    /// As [`Storage::read`]; [`ErrorClass::Permanent`] when the object is larger.
    fn read_all(
        &self,
        path: &StoragePath,
        limit_bytes: usize,
    ) -> impl Future<Output = Result<Bytes, StorageError>> + Send {
        async move { Ok(self.read_all_versioned(path, limit_bytes).await?.0) }
    }

    /// As [`StorageExt::read_all`], with what is known of the object: for writing it back on condition.
    ///
    /// # Errors
    /// As [`StorageExt::read_all`].
    fn read_all_versioned(
        &self,
        path: &StoragePath,
        limit_bytes: usize,
    ) -> impl Future<Output = Result<(Bytes, ObjectInfo), StorageError>> + Send {
        async move { collect(path, self.read(path, ByteRange::ALL, None).await?, limit_bytes).await }
    }

    /// A part of an object, exactly `length_bytes` from `offset` on.
    ///
    /// # Errors
    /// As [`Storage::read`]: for an object that ends before, [`ErrorClass::Permanent`].
    fn read_range(
        &self,
        path: &StoragePath,
        offset: u64,
        length_bytes: usize,
    ) -> impl Future<Output = Result<Bytes, StorageError>> + Send {
        async move {
            let range = ByteRange { offset, length: u64::try_from(length_bytes).ok() };
            let mut body = self.read(path, range, None).await?.body;
            let mut all = BytesMut::new();
            while let Some(piece) = body.next().await {
                all.extend_from_slice(&piece?);
            }
            match all.len() == length_bytes {
                true => Ok(all.freeze()),
                false => {
                    let what = format!("{length_bytes} bytes from {offset} wanted, {} arrived", all.len());
                    Err(StorageError::new(ErrorClass::Transient, Operation::Read, path, what))
                }
            }
        }
    }

    /// As [`StorageExt::read_all`]; `None` only if the store positively says that there is no such object.
    ///
    /// # Errors
    /// As [`StorageExt::read_all`], without [`ErrorClass::Missing`].
    fn read_all_optional(
        &self,
        path: &StoragePath,
        limit_bytes: usize,
    ) -> impl Future<Output = Result<Option<Bytes>, StorageError>> + Send {
        async move { optional(self.read_all(path, limit_bytes).await) }
    }

    /// As [`Storage::info`]; `None` only if the store positively says that there is no such object.
    ///
    /// # Errors
    /// As [`Storage::info`], without [`ErrorClass::Missing`].
    fn info_optional(
        &self,
        path: &StoragePath,
    ) -> impl Future<Output = Result<Option<ObjectInfo>, StorageError>> + Send {
        async move { optional(self.info(path).await) }
    }

    /// Whether there is such an object. An answer that is not clear is an error, never "no".
    ///
    /// # Errors
    /// As [`Storage::info`], without [`ErrorClass::Missing`].
    fn exists(&self, path: &StoragePath) -> impl Future<Output = Result<bool, StorageError>> + Send {
        async move { Ok(self.info_optional(path).await?.is_some()) }
    }

    /// Writes a whole object, replacing what is there, durable at once.
    ///
    /// # Errors
    /// As [`Storage::put`].
    fn write_all(
        &self,
        path: &StoragePath,
        body: Bytes,
    ) -> impl Future<Output = Result<ObjectInfo, StorageError>> + Send {
        async move { self.put(path, body, Condition::None, Durability::Now).await }
    }

    /// All pages of a listing, each entry once, in ascending byte order of the names (a directory counts as its name
    /// with a `/` behind it, the order of an object store).
    ///
    /// # Errors
    /// As [`Storage::list_page`]; [`ErrorClass::Permanent`] when the store sends a page token twice, or pages without
    /// end, or more than [`LIST_ENTRIES_MAX`] entries (faults.md OS14).
    fn list_all(
        &self,
        path: &StoragePath,
        options: &ListOptions,
    ) -> impl Future<Output = Result<Vec<Entry>, StorageError>> + Send {
        async move {
            let mut pages = Pages::new(path);
            let mut entries = BTreeMap::new();
            let mut token = None;
            loop {
                let page = self.list_page(path, options, token).await?;
                let before = entries.len();
                for entry in page.entries {
                    entries.insert(sort_key(&entry), entry);
                }
                if entries.len() > LIST_ENTRIES_MAX {
                    return Err(pages.fail(format!("it has more than {LIST_ENTRIES_MAX} entries")));
                }
                let Some(next) = page.next else { return Ok(entries.into_values().collect()) };
                pages.follow(&next.0, entries.len() > before)?;
                token = Some(next);
            }
        }
    }

    /// Removes everything below `path` by listing and removing page by page: [`Storage::remove_tree`] for stores
    /// without directories. Each request stands alone, so that one that fails can be tried again by itself.
    ///
    /// # Errors
    /// The first request that fails, or the first object that could not be removed.
    fn remove_tree_by_listing(&self, path: &StoragePath) -> impl Future<Output = Result<(), StorageError>> + Send {
        async move {
            let options = ListOptions { recurse: true, name_prefix: None };
            let mut pages = Pages::new(path);
            let mut first_error = None;
            let mut token = None;
            loop {
                let page = self.list_page(path, &options, token).await?;
                let found = !page.entries.is_empty();
                let mut paths = Vec::with_capacity(page.entries.len());
                for entry in page.entries {
                    paths.push(path.join(&entry.name).map_err(|error| pages.fail(error.to_string()))?);
                }
                for batch in paths.chunks(REMOVE_BATCH) {
                    let failed = self.remove_many(batch).await?;
                    first_error = first_error.or_else(|| failed.into_iter().next());
                }
                let Some(next) = page.next else { return first_error.map_or(Ok(()), Err) };
                pages.follow(&next.0, found)?;
                token = Some(next);
            }
        }
    }

    /// Whether the store checks [`Condition`]s itself, found by writing `scratch` (which is then removed): a store may
    /// refuse conditions or, worse, ignore them (faults.md OS35).
    ///
    /// # Errors
    /// Anything that leaves the question open.
    fn probe_conditional_put(&self, scratch: &StoragePath) -> impl Future<Output = Result<bool, StorageError>> + Send {
        async move {
            self.remove(scratch).await?;
            let outcome = probe(self, scratch).await;
            self.remove(scratch).await?;
            outcome
        }
    }
}

impl<S: Storage + ?Sized> StorageExt for S {}

/// Two writes on condition: the first must pass, the second must not.
async fn probe<S: Storage + ?Sized>(storage: &S, scratch: &StoragePath) -> Result<bool, StorageError> {
    let put = |body, condition| storage.put(scratch, Bytes::from_static(body), condition, Durability::Now);
    match put(b"probe 1", Condition::Absent).await {
        // 501 or 400 for the header: refused, honestly.
        Err(error) if error.class() == ErrorClass::Permanent => return Ok(false),
        outcome => outcome?,
    };
    let held = |outcome: Result<ObjectInfo, StorageError>| match outcome {
        Ok(_) => Ok(false),
        Err(error) if error.class() == ErrorClass::Conflict => Ok(true),
        Err(error) if error.class() == ErrorClass::Permanent => Ok(false),
        Err(error) => Err(error),
    };
    if !held(put(b"probe 2", Condition::Absent).await)? {
        return Ok(false);
    }
    let Some(version) = storage.info(scratch).await?.version else { return Ok(false) };
    match put(b"probe 3", Condition::Version(version.clone())).await {
        Err(error) if error.class() == ErrorClass::Permanent => return Ok(false),
        outcome => outcome?,
    };
    held(put(b"probe 4", Condition::Version(version)).await)
}

fn optional<T>(outcome: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

fn sort_key(entry: &Entry) -> String {
    match entry.kind {
        EntryKind::Directory => format!("{}/", entry.name),
        _ => entry.name.clone(),
    }
}

/// The whole body of an opened object, not larger than `limit_bytes`.
async fn collect(
    path: &StoragePath,
    opened: ObjectRead,
    limit_bytes: usize,
) -> Result<(Bytes, ObjectInfo), StorageError> {
    let ObjectRead { info, mut body } = opened;
    let fail = |class, what| StorageError::new(class, Operation::Read, path, what);
    let too_large = |size: u64| {
        fail(ErrorClass::Permanent, format!("it has {size} bytes, more than the {limit_bytes} allowed here"))
    };
    let size_bytes = usize::try_from(info.size_bytes).unwrap_or(usize::MAX);
    if size_bytes > limit_bytes {
        return Err(too_large(info.size_bytes));
    }
    let mut first = None;
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        let before = all.len().saturating_add(first.as_ref().map_or(0, Bytes::len));
        if before.saturating_add(piece.len()) > size_bytes {
            return Err(fail(ErrorClass::Transient, format!("more than its {size_bytes} bytes arrived")));
        }
        // An object that arrives in one piece is not copied.
        if first.is_none() && all.is_empty() && piece.len() == size_bytes {
            first = Some(piece);
            continue;
        }
        if all.is_empty() {
            all.reserve(size_bytes.min(FIRST_ALLOCATION_BYTES));
        }
        all.extend_from_slice(&piece);
    }
    let all = first.filter(|_| all.is_empty()).unwrap_or_else(|| Bytes::from(all));
    if all.len() != size_bytes {
        return Err(fail(ErrorClass::Transient, format!("{} of {size_bytes} bytes arrived", all.len())));
    }
    Ok((all, info))
}

/// Watches that the pages of one listing come to an end.
struct Pages<'a> {
    path: &'a StoragePath,
    seen: HashSet<String>,
    empty: u32,
}

impl<'a> Pages<'a> {
    fn new(path: &'a StoragePath) -> Self {
        Self { path, seen: HashSet::new(), empty: 0 }
    }

    /// Accepts the token of the next page, unless the listing runs in a circle or brings nothing for too long.
    fn follow(&mut self, token: &str, found: bool) -> Result<(), StorageError> {
        self.empty = if found { 0 } else { self.empty + 1 };
        if self.empty > EMPTY_PAGES_MAX {
            return Err(self.fail(format!("{EMPTY_PAGES_MAX} pages in a row had nothing new")));
        }
        if !self.seen.insert(token.to_owned()) {
            return Err(self.fail("the store sent the same page token twice".to_owned()));
        }
        Ok(())
    }

    fn fail(&self, what: String) -> StorageError {
        StorageError::new(ErrorClass::Permanent, Operation::List, self.path, what)
    }
}
