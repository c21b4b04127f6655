//! What every [`Storage`] must do, as named checks that run against any of them: a directory, memory, a wrapper, or a
//! real object store with its own ideas.

mod listing;
mod objects;
mod removal;
mod uploads;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Future;

use super::{Entry, ErrorClass, ListOptions, Storage, StorageError, StorageExt, StoragePath};

/// More than any check reads.
const LIMIT_BYTES: usize = 256 * 1024 * 1024;

/// A name below one that is an object. Where there are directories nothing can be known of it: the object stands in the
/// place of one.
const BELOW_AN_OBJECT: &str = "object/below";

type CheckFuture<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
type Check = (&'static str, fn(&Bench) -> CheckFuture<'_>);

/// Checks that did not pass.
#[derive(Debug, Clone)]
pub struct Failures(Vec<(&'static str, String)>);

impl fmt::Display for Failures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} storage checks failed", self.0.len())?;
        for (name, what) in &self.0 {
            write!(formatter, "\n    {name}: {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failures {}

/// Runs every check below `root`, which is removed before and after.
///
/// # Errors
/// The checks that did not pass, each with what was wrong.
pub async fn run(storage: Arc<dyn Storage>, root: &StoragePath) -> Result<(), Failures> {
    let groups = [objects::CHECKS, listing::CHECKS, removal::CHECKS, uploads::CHECKS];
    let mut failures = Vec::new();
    for (name, check) in groups.into_iter().flatten() {
        let bench = Bench { storage: Arc::clone(&storage), root: root.clone(), check: name };
        if let Err(what) = bench.clean().await {
            failures.push((*name, format!("clean up before: {what}")));
            continue;
        }
        if let Err(what) = check(&bench).await {
            failures.push((*name, what));
        }
        if let Err(what) = bench.clean().await {
            failures.push((*name, format!("clean up after: {what}")));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failures(failures)) }
}

/// What one check works with: a storage, and a directory of its own.
struct Bench {
    storage: Arc<dyn Storage>,
    root: StoragePath,
    check: &'static str,
}

impl Bench {
    fn directory(&self) -> StoragePath {
        self.root.join(self.check).expect("the names of checks are names")
    }

    fn path(&self, name: &str) -> StoragePath {
        self.directory().join(name).expect("the paths of checks are paths")
    }

    /// Whether the store can say that nothing has this name.
    fn is_a_place(&self, name: &str) -> bool {
        name != BELOW_AN_OBJECT || !self.storage.capabilities().directories
    }

    async fn clean(&self) -> Result<(), String> {
        self.storage.remove_tree(&self.directory()).await.map_err(text)
    }

    async fn put(&self, name: &str, body: &[u8]) -> Result<(), String> {
        let info = self.storage.write_all(&self.path(name), Bytes::copy_from_slice(body)).await.map_err(text)?;
        ensure_eq("size that put reports", &info.size_bytes, &(body.len() as u64))
    }

    async fn content(&self, name: &str) -> Result<Bytes, String> {
        self.storage.read_all(&self.path(name), LIMIT_BYTES).await.map_err(text)
    }

    async fn ensure_content(&self, name: &str, expected: &[u8]) -> Result<(), String> {
        let found = self.content(name).await?;
        ensure(found == expected, || format!("'{name}' has other bytes: {} for {}", found.len(), expected.len()))
    }

    async fn ensure_absent(&self, name: &str) -> Result<(), String> {
        expect_class("info", self.storage.info(&self.path(name)).await, ErrorClass::Missing)?;
        let listed = self.names("", false).await?;
        ensure(!listed.contains(&name.to_owned()), || format!("'{name}' is listed"))
    }

    async fn list(&self, directory: &str, options: &ListOptions) -> Result<Vec<Entry>, String> {
        let path = if directory.is_empty() { self.directory() } else { self.path(directory) };
        self.storage.list_all(&path, options).await.map_err(text)
    }

    async fn names(&self, directory: &str, recurse: bool) -> Result<Vec<String>, String> {
        let entries = self.list(directory, &ListOptions { recurse, name_prefix: None }).await?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn text(error: StorageError) -> String {
    error.to_string()
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn ensure_eq<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    ensure(found == expected, || format!("{what}: {found:?}, expected {expected:?}"))
}

fn expect_class<T>(what: &str, outcome: Result<T, StorageError>, class: ErrorClass) -> Result<(), String> {
    match outcome {
        Ok(_) => Err(format!("{what}: succeeded, expected {class:?}")),
        Err(error) if error.class() == class => Ok(()),
        Err(error) => Err(format!("{what}: {:?}, expected {class:?}: {error}", error.class())),
    }
}

/// Bytes that differ everywhere, so that a piece in the wrong place is seen.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        bytes.extend_from_slice(word.get(..word.len().min(length - bytes.len())).unwrap_or_default());
    }
    bytes
}
