//! [`FaultStorage`]: a storage that goes wrong as planned, for tests and simulation. The same plan and seed give the
//! same run.
//!
//! Beside its plan it has one crash point: after so many changes of the store every further call fails, as if the
//! process that makes them were gone. Each object of a removal counts as a change of its own, so that a crash can fall
//! between two.

mod body;
mod plan;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time;

use super::{
    ByteRange, Capabilities, Condition, Durability, Entry, EntryKind, ErrorClass, ListOptions, ListPage, ObjectInfo,
    ObjectRead, ObjectVersion, PageToken, PartTag, PosixStorage, Storage, StorageError, StorageExt, StorageFuture,
    StoragePath, UploadId, UploadPart,
};

pub use plan::{Call, Fault, KeyPattern, Phase, Rule, When, rough_weather};
use state::State;

/// A storage that goes wrong as planned.
#[derive(Debug)]
pub struct FaultStorage {
    inner: Arc<dyn Storage>,
    state: Mutex<State>,
}

impl FaultStorage {
    /// `inner`, without any fault yet.
    pub fn new(inner: Arc<dyn Storage>, seed: u64) -> Self {
        Self { inner, state: Mutex::new(State::new(seed)) }
    }

    /// Replaces the plan; the calls that its rules have seen count from here.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        self.state().set_rules(rules);
    }

    /// Adds to the plan.
    pub fn add_rule(&self, rule: Rule) {
        self.state().add_rule(rule);
    }

    /// Ends the plan, and the crash.
    pub fn heal(&self) {
        let mut state = self.state();
        state.set_rules(Vec::new());
        state.crash_after = None;
        state.crashed = false;
    }

    /// Lets so many more changes of the store happen, then nothing any more.
    pub fn crash_after(&self, mutations: u64) {
        let mut state = self.state();
        state.crash_after = Some(state.mutations.saturating_add(mutations));
    }

    /// Whether the crash has come.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Changes of the store so far: the number of crash points of what was done.
    pub fn mutations(&self) -> u64 {
        self.state().mutations
    }

    /// Calls so far, by method.
    pub fn requests(&self) -> BTreeMap<Call, u64> {
        self.state().requests.clone()
    }

    /// Calls of one method so far.
    pub fn requests_of(&self, call: Call) -> u64 {
        self.state().requests.get(&call).copied().unwrap_or(0)
    }

    /// Objects that a power failure may take: written with deferred durability and not flushed.
    pub fn unflushed(&self) -> BTreeSet<String> {
        self.state().unflushed.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call and lets happen what happens before it; the faults are for what comes after.
    async fn begin(&self, call: Call, path: &StoragePath) -> Result<Vec<Fault>, StorageError> {
        let faults = {
            let mut state = self.state();
            if state.crashed {
                return Err(crashed(call, path));
            }
            state.begin(call, path.as_str())
        };
        for fault in &faults {
            match fault {
                Fault::Delay(wait) => time::sleep(*wait).await,
                Fault::Hang => future::pending().await,
                Fault::Swap(body) => {
                    self.inner.put(path, body.clone(), Condition::None, Durability::Now).await?;
                }
                Fault::SlowDown { retry_after } => {
                    let error =
                        StorageError::new(ErrorClass::Throttled, call.operation(), path, "slow down (injected)");
                    return Err(retry_after.map_or(error.clone(), |wait| error.with_retry_after(wait)));
                }
                Fault::Fail(class, Phase::Before) => return Err(injected(*class, call, path)),
                _ => {}
            }
        }
        // Removals count object by object.
        if call.is_mutating() && !matches!(call, Call::RemoveMany | Call::RemoveTree) && !self.state().mutate() {
            return Err(crashed(call, path));
        }
        Ok(faults)
    }

    async fn call<'a, T>(
        &'a self,
        call: Call,
        path: &'a StoragePath,
        request: impl FnOnce(&'a dyn Storage, &[Fault]) -> StorageFuture<'a, T> + Send,
    ) -> Result<T, StorageError> {
        let faults = self.begin(call, path).await?;
        let value = request(&*self.inner, &faults).await?;
        end(call, path, &faults)?;
        Ok(value)
    }

    /// Removes objects one by one while a crash is due or ghosts must be known; else all at once.
    async fn remove_objects(&self, call: Call, paths: &[StoragePath]) -> Result<Vec<StorageError>, StorageError> {
        if self.state().crash_after.is_none() {
            let failed = self.inner.remove_many(paths).await?;
            let mut state = self.state();
            for path in paths.iter().filter(|path| failed.iter().all(|error| error.location() != path.as_str())) {
                state.mutate();
                state.note_removed(path.as_str());
            }
            return Ok(failed);
        }
        let mut failed = Vec::new();
        for path in paths {
            if !self.state().mutate() {
                return Err(crashed(call, path));
            }
            match self.inner.remove(path).await {
                Ok(()) => self.state().note_removed(path.as_str()),
                Err(error) => failed.push(error),
            }
        }
        Ok(failed)
    }

    async fn remove_whole_tree(&self, path: &StoragePath) -> Result<(), StorageError> {
        let faults = self.begin(Call::RemoveTree, path).await?;
        let options = ListOptions { recurse: true, name_prefix: None };
        let entries = self.inner.list_all(path, &options).await?;
        let objects = entries.iter().filter(|entry| entry.kind != EntryKind::Directory);
        let paths: Vec<_> = objects.filter_map(|entry| path.join(&entry.name).ok()).collect();
        if let Some(error) = self.remove_objects(Call::RemoveTree, &paths).await?.into_iter().next() {
            return Err(error);
        }
        if self.capabilities().directories {
            self.inner.remove_tree(path).await?;
        }
        end(Call::RemoveTree, path, &faults)
    }

    /// A page as a lagging store shows it.
    fn distort(
        &self,
        path: &StoragePath,
        options: &ListOptions,
        asked: Option<&PageToken>,
        mut page: ListPage,
        faults: &[Fault],
    ) -> ListPage {
        let state = self.state();
        let full = |name: &str| path.join(name).map_or_else(|_| name.to_owned(), |full| full.as_str().to_owned());
        for fault in faults {
            match fault {
                Fault::Hide(pattern) => page.entries.retain(|entry| !pattern.matches(&full(&entry.name))),
                Fault::HideRecent { calls } => page.entries.retain(|entry| {
                    let name = full(&entry.name);
                    let is_recent = |at: &u64| state.calls.saturating_sub(*at) <= *calls;
                    if entry.kind != EntryKind::Directory {
                        return !state.written.get(&name).is_some_and(is_recent);
                    }
                    // A prefix is hidden while all that is known below it is recent.
                    let below = format!("{name}/");
                    let mut known = state.written.iter().filter(|(key, _)| key.starts_with(&below)).peekable();
                    known.peek().is_none() || !known.all(|(_, at)| is_recent(at))
                }),
                Fault::Ghosts { calls } if page.next.is_none() => {
                    let recent = state.removed.iter().filter(|(_, at)| state.calls.saturating_sub(**at) <= *calls);
                    page.entries.extend(recent.filter_map(|(key, _)| ghost(path, options, key)));
                    page.entries.sort_by(|one, other| one.name.cmp(&other.name));
                    page.entries.dedup_by(|one, other| one.name == other.name);
                }
                Fault::RepeatPage => page.next = Some(asked.cloned().unwrap_or(PageToken(String::new()))),
                _ => {}
            }
        }
        page
    }
}

/// The entry that a removed object leaves in a listing.
fn ghost(path: &StoragePath, options: &ListOptions, key: &str) -> Option<Entry> {
    if !path.contains(key) {
        return None;
    }
    let name = key.get(path.as_str().len()..)?.trim_start_matches('/');
    if !name.starts_with(options.name_prefix.as_deref().unwrap_or_default()) {
        return None;
    }
    Some(match name.split_once('/').filter(|_| !options.recurse) {
        Some((directory, _)) => Entry::directory(directory),
        None => Entry { kind: EntryKind::Object, ..Entry::directory(name) },
    })
}

fn end(call: Call, path: &StoragePath, faults: &[Fault]) -> Result<(), StorageError> {
    for fault in faults {
        if let Fault::Fail(class, Phase::After) = fault {
            return Err(injected(*class, call, path));
        }
    }
    Ok(())
}

fn injected(class: ErrorClass, call: Call, path: &StoragePath) -> StorageError {
    StorageError::new(class, call.operation(), path, format!("{class:?} (injected)"))
}

fn crashed(call: Call, path: &StoragePath) -> StorageError {
    StorageError::new(ErrorClass::Permanent, call.operation(), path, "the process is gone (injected crash)")
}

/// What a store that keeps only the beginning of a body is given.
fn truncated(body: Bytes, faults: &[Fault]) -> Bytes {
    let keep = faults.iter().filter_map(|fault| match fault {
        Fault::Truncate { keep_bytes } => Some(*keep_bytes),
        _ => None,
    });
    match keep.min() {
        Some(keep) => body.slice(..keep.min(body.len())),
        None => body,
    }
}

impl Storage for FaultStorage {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn read<'a>(
        &'a self,
        path: &'a StoragePath,
        range: ByteRange,
        pin: Option<&'a ObjectVersion>,
    ) -> StorageFuture<'a, ObjectRead> {
        Box::pin(async move {
            let faults = self.begin(Call::Read, path).await?;
            let ObjectRead { info, body } = self.inner.read(path, range, pin).await?;
            end(Call::Read, path, &faults)?;
            let within = range.within(path, info.size_bytes)?;
            let length = within.end - within.start;
            let body = body::spoil(body, path, length, &faults, |bound| self.state().roll_below(bound));
            Ok(ObjectRead { info, body })
        })
    }

    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(self.call(Call::Info, path, |inner, _| inner.info(path)))
    }

    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage> {
        Box::pin(async move {
            let faults = self.begin(Call::ListPage, path).await?;
            let found = self.inner.list_page(path, options, page.clone()).await?;
            end(Call::ListPage, path, &faults)?;
            Ok(self.distort(path, options, page.as_ref(), found, &faults))
        })
    }

    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        body: Bytes,
        condition: Condition,
        durability: Durability,
    ) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(async move {
            let faults = self.begin(Call::Put, path).await?;
            let info = self.inner.put(path, truncated(body, &faults), condition, durability).await?;
            self.state().note_written(path.as_str(), durability == Durability::Deferred);
            end(Call::Put, path, &faults)?;
            Ok(info)
        })
    }

    fn upload_create<'a>(&'a self, path: &'a StoragePath, durability: Durability) -> StorageFuture<'a, UploadId> {
        Box::pin(async move {
            let create = |inner: &'a dyn Storage, _: &[Fault]| inner.upload_create(path, durability);
            let upload = self.call(Call::UploadCreate, path, create).await?;
            if durability == Durability::Deferred {
                self.state().uploads_deferred.insert(upload.0.clone());
            }
            Ok(upload)
        })
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        mut part: UploadPart,
    ) -> StorageFuture<'a, PartTag> {
        Box::pin(self.call(Call::UploadPart, path, move |inner, faults| {
            part.body = truncated(part.body, faults);
            inner.upload_part(path, upload, part)
        }))
    }

    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        parts: &'a [PartTag],
        condition: Condition,
    ) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(async move {
            let faults = self.begin(Call::UploadComplete, path).await?;
            let info = self.inner.upload_complete(path, upload, parts, condition).await?;
            {
                let mut state = self.state();
                let deferred = state.uploads_deferred.remove(&upload.0);
                state.note_written(path.as_str(), deferred);
            }
            end(Call::UploadComplete, path, &faults)?;
            Ok(info)
        })
    }

    fn upload_abort<'a>(&'a self, path: &'a StoragePath, upload: &'a UploadId) -> StorageFuture<'a, ()> {
        Box::pin(self.call(Call::UploadAbort, path, |inner, _| inner.upload_abort(path, upload)))
    }

    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(async move {
            let faults = self.begin(Call::Remove, path).await?;
            self.inner.remove(path).await?;
            self.state().note_removed(path.as_str());
            end(Call::Remove, path, &faults)
        })
    }

    fn remove_many<'a>(&'a self, paths: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>> {
        Box::pin(async move {
            let root = StoragePath::root();
            let faults = self.begin(Call::RemoveMany, &root).await?;
            // A plan can fail single objects of the request by a rule for `remove` on their path.
            let mut failed = Vec::new();
            let mut others = Vec::with_capacity(paths.len());
            for path in paths {
                let own = self.state().begin(Call::Remove, path.as_str());
                match own.into_iter().find_map(|fault| match fault {
                    Fault::Fail(class, Phase::Before) => Some(class),
                    _ => None,
                }) {
                    Some(class) => failed.push(injected(class, Call::Remove, path)),
                    None => others.push(path.clone()),
                }
            }
            failed.extend(self.remove_objects(Call::RemoveMany, &others).await?);
            end(Call::RemoveMany, &root, &faults)?;
            Ok(failed)
        })
    }

    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.remove_whole_tree(path))
    }

    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, begun_before_s: i64) -> StorageFuture<'a, u64> {
        Box::pin(
            self.call(Call::RemoveStaleUploads, path, move |inner, _| inner.remove_stale_uploads(path, begun_before_s)),
        )
    }

    fn flush(&self) -> StorageFuture<'_, ()> {
        Box::pin(async move {
            let root = StoragePath::root();
            let faults = self.begin(Call::Flush, &root).await?;
            self.inner.flush().await?;
            self.state().unflushed.clear();
            end(Call::Flush, &root, &faults)
        })
    }

    fn posix(&self) -> Option<&dyn PosixStorage> {
        self.inner.posix().map(|_| self as &dyn PosixStorage)
    }
}

impl FaultStorage {
    async fn posix_call<'a>(
        &'a self,
        path: &'a StoragePath,
        request: impl FnOnce(&'a dyn PosixStorage) -> StorageFuture<'a, ()> + Send,
    ) -> Result<(), StorageError> {
        let faults = self.begin(Call::Posix, path).await?;
        let absent = || StorageError::new(ErrorClass::Permanent, Call::Posix.operation(), path, "it is no directory");
        request(self.inner.posix().ok_or_else(absent)?).await?;
        end(Call::Posix, path, &faults)
    }
}

impl PosixStorage for FaultStorage {
    fn create_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.posix_call(path, |posix| posix.create_directory(path)))
    }

    fn symlink<'a>(&'a self, path: &'a StoragePath, target: &'a str) -> StorageFuture<'a, ()> {
        Box::pin(self.posix_call(path, |posix| posix.symlink(path, target)))
    }

    fn hard_link<'a>(&'a self, existing: &'a StoragePath, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.posix_call(path, |posix| posix.hard_link(existing, path)))
    }

    fn sync_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.posix_call(path, |posix| posix.sync_directory(path)))
    }
}

#[cfg(test)]
mod tests;
