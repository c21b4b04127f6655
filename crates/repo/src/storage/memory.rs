//! [`MemoryStorage`]: a complete backend in memory, for tests and simulation. It behaves like an object store: no
//! directories, versions, conditional writes, uploads in parts, listings in pages.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream;

use crate::clock::Clock;

use super::{
    ByteRange, Capabilities, Condition, Durability, Entry, EntryKind, ErrorClass, ListOptions, ListPage, ObjectInfo,
    ObjectRead, ObjectVersion, Operation, PageToken, PartTag, Storage, StorageError, StorageFuture, StoragePath,
    UploadId, UploadPart,
};

/// What the store does with conditions (faults.md OS35).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionSupport {
    /// It checks them.
    Checked,
    /// It checks them and is not known to: a store of which nothing was found out yet.
    Unproven,
    /// It writes as if there were none, and says nothing.
    Ignored,
    /// It refuses the request.
    Refused,
}

/// How a [`MemoryStorage`] behaves.
#[derive(Debug, Clone, Copy)]
pub struct MemoryOptions {
    /// What is done with conditions.
    pub conditions: ConditionSupport,
    /// Entries in a page of a listing.
    pub page_entries: usize,
    /// Bytes in a piece of a body.
    pub piece_bytes: usize,
    /// The size of every part of an upload but the last.
    pub part_bytes: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            conditions: ConditionSupport::Checked,
            page_entries: 1_000,
            piece_bytes: 64 * 1024,
            part_bytes: 256 * 1024,
        }
    }
}

/// A backend in memory; what it holds is gone with it.
#[derive(Debug)]
pub struct MemoryStorage {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    options: MemoryOptions,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    /// Versions, part tags and upload ids are numbered, so that a run is repeatable.
    last_number: u64,
}

#[derive(Debug, Clone)]
struct Object {
    body: Bytes,
    modified_s: i64,
    version: ObjectVersion,
}

#[derive(Debug)]
struct Upload {
    path: StoragePath,
    begun_s: i64,
    parts: BTreeMap<u32, (String, Bytes)>,
}

impl MemoryStorage {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>, options: MemoryOptions) -> Self {
        Self { state: Mutex::default(), clock, options }
    }

    /// Every object with its bytes: what a power failure at this moment would leave.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.state().objects.iter().map(|(name, object)| (name.clone(), object.body.clone())).collect()
    }

    /// Another store with the same objects, without the unfinished uploads.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state();
        let state = State { objects: state.objects.clone(), uploads: BTreeMap::new(), last_number: state.last_number };
        Self { state: Mutex::new(state), clock: Arc::clone(&self.clock), options: self.options }
    }

    /// Uploads begun but neither completed nor aborted.
    pub fn unfinished_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one step that does not panic in the middle.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(
        &self,
        path: &StoragePath,
        range: ByteRange,
        pin: Option<&ObjectVersion>,
    ) -> Result<ObjectRead, StorageError> {
        let object = self.state().find(path, Operation::Read)?;
        if pin.is_some_and(|pin| *pin != object.version) {
            return Err(fail(ErrorClass::Conflict, Operation::Read, path, "it was replaced since it was looked at"));
        }
        let range = range.within(path, object.body.len() as u64)?;
        let body = object.body.slice(usize_of(range.start)..usize_of(range.end));
        let piece_bytes = self.options.piece_bytes.max(1);
        let pieces = stream::unfold(body, move |mut rest| async move {
            if rest.is_empty() {
                return None;
            }
            let piece = rest.split_to(rest.len().min(piece_bytes));
            Some((Ok(piece), rest))
        });
        Ok(ObjectRead { info: object.info(), body: Box::pin(pieces) })
    }

    fn store(&self, path: &StoragePath, body: Bytes, condition: &Condition) -> Result<ObjectInfo, StorageError> {
        let mut state = self.state();
        self.check(&state, path, condition)?;
        let version = ObjectVersion(format!("\"{}\"", state.number()));
        let object = Object { body, modified_s: self.clock.now_s(), version };
        let info = object.info();
        state.objects.insert(path.as_str().to_owned(), object);
        Ok(info)
    }

    fn check(&self, state: &State, path: &StoragePath, condition: &Condition) -> Result<(), StorageError> {
        if path.as_str().is_empty() {
            return Err(fail(ErrorClass::Permanent, Operation::Write, path, "an object needs a name"));
        }
        if *condition == Condition::None || self.options.conditions == ConditionSupport::Ignored {
            return Ok(());
        }
        if self.options.conditions == ConditionSupport::Refused {
            return Err(fail(ErrorClass::Permanent, Operation::Write, path, "conditions are not implemented here"));
        }
        let there = state.objects.get(path.as_str());
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Version(version) => there.is_some_and(|object| object.version == *version),
            Condition::Never => false,
        };
        if holds {
            Ok(())
        } else {
            Err(fail(ErrorClass::Conflict, Operation::Write, path, "the condition does not hold"))
        }
    }

    fn add_part(&self, path: &StoragePath, upload: &UploadId, part: UploadPart) -> Result<PartTag, StorageError> {
        let mut state = self.state();
        let tag = format!("part-{}", state.number());
        let upload = state.upload(path, upload)?;
        upload.parts.insert(part.number, (tag.clone(), part.body));
        Ok(PartTag { number: part.number, tag })
    }

    fn complete(
        &self,
        path: &StoragePath,
        upload: &UploadId,
        tags: &[PartTag],
        condition: &Condition,
    ) -> Result<ObjectInfo, StorageError> {
        let body = self.state().upload(path, upload)?.assemble(path, tags, self.options.part_bytes)?;
        let info = self.store(path, body, condition)?;
        self.state().uploads.remove(&upload.0);
        Ok(info)
    }

    fn page(&self, path: &StoragePath, options: &ListOptions, page: Option<&PageToken>) -> ListPage {
        let below = if path.as_str().is_empty() { String::new() } else { format!("{path}/") };
        let prefix = format!("{below}{}", options.name_prefix.as_deref().unwrap_or_default());
        let state = self.state();
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let mut next = None;
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        for (key, object) in state.objects.range::<str, _>(from).take_while(|(key, _)| key.starts_with(&prefix)) {
            let name = key.get(below.len()..).unwrap_or_default();
            let (sort_key, entry) = match name.split_once('/').filter(|_| !options.recurse) {
                Some((directory, _)) => (format!("{directory}/"), Entry::directory(directory)),
                None => (name.to_owned(), object.entry(name)),
            };
            if page.is_some_and(|token| sort_key <= token.0) || entries.contains_key(&sort_key) {
                continue;
            }
            if entries.len() >= self.options.page_entries.max(1) {
                next = entries.last_key_value().map(|(last, _)| PageToken(last.clone()));
                break;
            }
            entries.insert(sort_key, entry);
        }
        ListPage { entries: entries.into_values().collect(), next }
    }
}

impl Storage for MemoryStorage {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            directories: false,
            conditional_put: self.options.conditions == ConditionSupport::Checked,
            part_size_bytes: |_number, base| base,
            part_base_bytes: self.options.part_bytes,
            kept_versions: false,
        }
    }

    fn read<'a>(
        &'a self,
        path: &'a StoragePath,
        range: ByteRange,
        pin: Option<&'a ObjectVersion>,
    ) -> StorageFuture<'a, ObjectRead> {
        Box::pin(async move { self.open(path, range, pin) })
    }

    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(async move { Ok(self.state().find(path, Operation::Info)?.info()) })
    }

    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage> {
        Box::pin(async move { Ok(self.page(path, options, page.as_ref())) })
    }

    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        body: Bytes,
        condition: Condition,
        _durability: Durability,
    ) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(async move { self.store(path, body, &condition) })
    }

    fn upload_create<'a>(&'a self, path: &'a StoragePath, _durability: Durability) -> StorageFuture<'a, UploadId> {
        Box::pin(async move {
            let mut state = self.state();
            let id = format!("upload-{}", state.number());
            let upload = Upload { path: path.clone(), begun_s: self.clock.now_s(), parts: BTreeMap::new() };
            state.uploads.insert(id.clone(), upload);
            Ok(UploadId(id))
        })
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        part: UploadPart,
    ) -> StorageFuture<'a, PartTag> {
        Box::pin(async move { self.add_part(path, upload, part) })
    }

    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        parts: &'a [PartTag],
        condition: Condition,
    ) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(async move { self.complete(path, upload, parts, &condition) })
    }

    fn upload_abort<'a>(&'a self, _path: &'a StoragePath, upload: &'a UploadId) -> StorageFuture<'a, ()> {
        Box::pin(async move {
            self.state().uploads.remove(&upload.0);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(async move {
            self.state().objects.remove(path.as_str());
            Ok(())
        })
    }

    fn remove_many<'a>(&'a self, paths: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>> {
        Box::pin(async move {
            let mut state = self.state();
            for path in paths {
                state.objects.remove(path.as_str());
            }
            Ok(Vec::new())
        })
    }

    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(async move {
            self.state().objects.retain(|name, _| !path.contains(name));
            Ok(())
        })
    }

    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, begun_before_s: i64) -> StorageFuture<'a, u64> {
        Box::pin(async move {
            let mut state = self.state();
            let before = state.uploads.len();
            state.uploads.retain(|_, upload| upload.begun_s >= begun_before_s || !path.contains(upload.path.as_str()));
            Ok((before - state.uploads.len()) as u64)
        })
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.last_number = self.last_number.wrapping_add(1);
        self.last_number
    }

    fn find(&self, path: &StoragePath, operation: Operation) -> Result<Object, StorageError> {
        let object = self.objects.get(path.as_str());
        object.cloned().ok_or_else(|| fail(ErrorClass::Missing, operation, path, "there is no such object"))
    }

    fn upload(&mut self, path: &StoragePath, upload: &UploadId) -> Result<&mut Upload, StorageError> {
        let known = self.uploads.get_mut(&upload.0).filter(|known| known.path == *path);
        known.ok_or_else(|| fail(ErrorClass::Missing, Operation::Write, path, "there is no such upload"))
    }
}

impl Upload {
    /// The bytes of all parts, which must be those of the receipts, in order, without a gap, and of the sizes agreed.
    fn assemble(&self, path: &StoragePath, tags: &[PartTag], part_bytes: usize) -> Result<Bytes, StorageError> {
        let invalid = |what: &str| fail(ErrorClass::Permanent, Operation::Write, path, what);
        let mut body = Vec::new();
        for (index, tag) in tags.iter().enumerate() {
            let (stored, bytes) = self.parts.get(&tag.number).ok_or_else(|| invalid("a part was never sent"))?;
            if *stored != tag.tag || usize::try_from(tag.number).ok() != index.checked_add(1) {
                return Err(invalid("the parts are not those that were sent, in their order"));
            }
            if index + 1 < tags.len() && bytes.len() != part_bytes {
                return Err(invalid("a part other than the last has another size than agreed"));
            }
            body.extend_from_slice(bytes);
        }
        if tags.is_empty() { Err(invalid("an upload needs at least one part")) } else { Ok(Bytes::from(body)) }
    }
}

impl Object {
    fn info(&self) -> ObjectInfo {
        ObjectInfo {
            kind: EntryKind::Object,
            size_bytes: self.body.len() as u64,
            modified_s: self.modified_s,
            version: Some(self.version.clone()),
        }
    }

    fn entry(&self, name: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            kind: EntryKind::Object,
            size_bytes: self.body.len() as u64,
            modified_s: self.modified_s,
            version: None,
        }
    }
}

fn fail(class: ErrorClass, operation: Operation, path: &StoragePath, what: &str) -> StorageError {
    StorageError::new(class, operation, path, what)
}

/// An offset within a body that is in memory.
fn usize_of(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn the_suite_passes() {
        for conditions in [ConditionSupport::Checked, ConditionSupport::Ignored, ConditionSupport::Refused] {
            let options = MemoryOptions { conditions, page_entries: 3, ..MemoryOptions::default() };
            let storage = Arc::new(MemoryStorage::new(Arc::new(SystemClock), options));
            conformance::run(Arc::clone(&storage) as Arc<dyn Storage>, &StoragePath::root()).await.unwrap();
            assert!(storage.objects().is_empty());
        }
    }
}
