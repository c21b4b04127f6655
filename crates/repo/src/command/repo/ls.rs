//! `repo-ls`: the entries of a directory, one at a time.

use std::ops::ControlFlow;

use super::path::follow_latest;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Context;
use crate::storage::{Entry, EntryKind, ListOptions, Storage, StorageExt, StoragePath};

/// In which order entries come, by name within each directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Ascending; a directory before what is in it.
    Ascending,
    /// Descending; a directory behind what is in it.
    Descending,
}

/// What to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LsOptions {
    /// What is in directories, too.
    pub recurse: bool,
    /// The order.
    pub order: Order,
}

/// Hands every entry below `path` to `visit`, with names from there. The first is `path` itself, named `.`: a file, or
/// a directory, which need not exist. Memory is that of the directories on the way to an entry.
///
/// # Errors
/// The storage's; [`ErrorKind::Term`] when the command was asked to stop.
pub async fn ls(
    storage: &dyn Storage,
    path: StoragePath,
    options: LsOptions,
    context: &Context,
    visit: &mut dyn FnMut(&Entry) -> ControlFlow<()>,
) -> Result<()> {
    let path = follow_latest(storage, path).await?;
    if path != StoragePath::root()
        && let Some(info) = storage.info_optional(&path).await?
        && info.kind == EntryKind::Object
    {
        let version = info.version.filter(|_| storage.capabilities().kept_versions);
        let (size_bytes, modified_s) = (info.size_bytes, info.modified_s);
        _ = visit(&Entry { name: ".".to_owned(), kind: EntryKind::Object, size_bytes, modified_s, version });
        return Ok(());
    }
    if visit(&Entry::directory(".")).is_break() {
        return Ok(());
    }
    let mut pending = entries(storage, &path, "", options.order).await?;
    while let Some(step) = pending.pop() {
        context.check_cancelled()?;
        let entry = match step {
            Step::Look(entry) if options.recurse && entry.kind == EntryKind::Directory => {
                let below = entries(storage, &path, &entry.name, options.order).await?;
                match options.order {
                    Order::Ascending => {
                        pending.extend(below);
                        entry
                    }
                    Order::Descending => {
                        pending.push(Step::Tell(entry));
                        pending.extend(below);
                        continue;
                    }
                }
            }
            Step::Look(entry) | Step::Tell(entry) => entry,
        };
        if visit(&entry).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// What is still to be done.
enum Step {
    /// To be looked into, and told.
    Look(Entry),
    /// Only to be told.
    Tell(Entry),
}

/// The entries of the directory `below` in `path`; the one that comes first is last.
async fn entries(storage: &dyn Storage, path: &StoragePath, below: &str, order: Order) -> Result<Vec<Step>> {
    let directory = path.join(below).map_err(|error| Error::new(ErrorKind::PathOpen, error.to_string()))?;
    let mut entries = storage.list_all(&directory, &ListOptions::default()).await?;
    entries.sort_unstable_by(|one, other| match order {
        Order::Ascending => other.name.cmp(&one.name),
        Order::Descending => one.name.cmp(&other.name),
    });
    Ok(entries
        .into_iter()
        .map(|mut entry| {
            if !below.is_empty() {
                entry.name = format!("{below}/{}", entry.name);
            }
            Step::Look(entry)
        })
        .collect())
}
