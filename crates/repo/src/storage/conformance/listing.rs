//! Listing directories.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::storage::{Condition, Durability, EntryKind, ListOptions, StorageExt};

use super::{Bench, Check, ensure, ensure_eq, text};

pub(super) const CHECKS: &[Check] = &[
    ("a_directory_lists_its_own_entries", |bench| Box::pin(own_entries(bench))),
    ("a_recursive_listing_has_every_object", |bench| Box::pin(recursive(bench))),
    ("a_prefix_is_literal", |bench| Box::pin(prefix(bench))),
    ("a_missing_directory_has_no_entries", |bench| Box::pin(missing(bench))),
    ("entries_say_what_info_says", |bench| Box::pin(same_as_info(bench))),
    ("a_long_listing_is_whole", |bench| Box::pin(long(bench))),
];

const NAMES: [&str; 6] = ["d/a", "d/a.b", "d/a/x", "d/a/y/z", "d/b", "d2/c"];

/// A file and a directory of one name can be together in an object store only.
fn names(bench: &Bench) -> impl Iterator<Item = &'static str> {
    let directories = bench.storage.capabilities().directories;
    NAMES.into_iter().filter(move |name| !directories || *name != "d/a")
}

async fn fill(bench: &Bench) -> Result<(), String> {
    for name in names(bench) {
        bench.put(name, name.as_bytes()).await?;
    }
    Ok(())
}

async fn own_entries(bench: &Bench) -> Result<(), String> {
    fill(bench).await?;
    let kinds = |directory: &'static str| async move {
        let entries = bench.list(directory, &ListOptions::default()).await?;
        Ok::<BTreeSet<_>, String>(
            entries.into_iter().map(|entry| (entry.name, entry.kind == EntryKind::Directory)).collect(),
        )
    };
    let set = |entries: &[(&str, bool)]| entries.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect();
    ensure_eq("top", &kinds("").await?, &set(&[("d", true), ("d2", true)]))?;
    let mut expected: BTreeSet<_> = set(&[("a.b", false), ("a", true), ("b", false)]);
    if !bench.storage.capabilities().directories {
        expected.insert(("a".to_owned(), false));
    }
    ensure_eq("d", &kinds("d").await?, &expected)?;
    ensure_eq("d/a", &kinds("d/a").await?, &set(&[("x", false), ("y", true)]))
}

async fn recursive(bench: &Bench) -> Result<(), String> {
    fill(bench).await?;
    let all: BTreeSet<_> = bench.names("", true).await?.into_iter().collect();
    ensure_eq("all", &all, &names(bench).map(str::to_owned).collect())?;
    let below: BTreeSet<_> = bench.names("d/a", true).await?.into_iter().collect();
    ensure_eq("d/a", &below, &["x", "y/z"].map(str::to_owned).into_iter().collect())
}

async fn prefix(bench: &Bench) -> Result<(), String> {
    for name in ["d/ab1", "d/ab2/x", "d/ac", "d/a.1", "d/aXb"] {
        bench.put(name, b"").await?;
    }
    let list = async |prefix: &str, recurse| -> Result<Vec<String>, String> {
        let options = ListOptions { recurse, name_prefix: Some(prefix.to_owned()) };
        let mut names: Vec<_> = bench.list("d", &options).await?.into_iter().map(|entry| entry.name).collect();
        names.sort();
        Ok(names)
    };
    ensure_eq("ab", &list("ab", false).await?, &vec!["ab1".to_owned(), "ab2".to_owned()])?;
    ensure_eq("ab, recursive", &list("ab", true).await?, &vec!["ab1".to_owned(), "ab2/x".to_owned()])?;
    ensure_eq("a., not an expression", &list("a.", false).await?, &vec!["a.1".to_owned()])?;
    ensure_eq("nothing", &list("zz", false).await?, &Vec::new())
}

async fn missing(bench: &Bench) -> Result<(), String> {
    bench.put("object", b"").await?;
    for directory in ["no/such", "object", "obj"] {
        // An object in the place of a directory is another answer than an empty one.
        if directory == "object" && bench.storage.capabilities().directories {
            continue;
        }
        for recurse in [false, true] {
            ensure_eq(directory, &bench.names(directory, recurse).await?, &Vec::new())?;
        }
    }
    Ok(())
}

async fn same_as_info(bench: &Bench) -> Result<(), String> {
    bench.put("d/object", &[1; 12_345]).await?;
    let info = bench.storage.info(&bench.path("d/object")).await.map_err(text)?;
    let entries = bench.list("d", &ListOptions::default()).await?;
    let [entry] = entries.as_slice() else { return Err(format!("{} entries", entries.len())) };
    ensure_eq("kind", &entry.kind, &info.kind)?;
    ensure_eq("size", &entry.size_bytes, &info.size_bytes)?;
    ensure_eq("time", &entry.modified_s, &info.modified_s)
}

/// More than the 1,000 keys that S3 puts into a page, or takes in one removal.
const MANY: usize = 1_050;

async fn long(bench: &Bench) -> Result<(), String> {
    let names: BTreeSet<_> = (0..MANY).map(|number| format!("{}/{number:05}", number % 3)).collect();
    let paths: Vec<_> = names.iter().map(|name| bench.path(name)).collect();
    let puts: Vec<_> =
        paths.iter().map(|path| bench.storage.put(path, Bytes::new(), Condition::None, Durability::Deferred)).collect();
    for outcome in stream::iter(puts).buffer_unordered(8).collect::<Vec<_>>().await {
        outcome.map_err(text)?;
    }
    let found: BTreeSet<_> = bench.names("", true).await?.into_iter().collect();
    ensure(found == names, || format!("{} of {MANY} names in a recursive listing", found.len()))?;
    ensure_eq("names in one directory", &bench.names("1", false).await?.len(), &(MANY / 3))?;
    let failed = bench.storage.remove_many(&paths).await.map_err(text)?;
    ensure(failed.is_empty(), || format!("{} not removed", failed.len()))?;
    let left = bench.list("", &ListOptions { recurse: true, name_prefix: None }).await?;
    let objects = left.iter().filter(|entry| entry.kind == EntryKind::Object).count();
    ensure_eq("objects after removal", &objects, &0)?;
    let listed_again = bench.storage.list_all(&bench.path("1"), &ListOptions::default()).await.map_err(text)?;
    ensure_eq("entries after removal", &listed_again.len(), &0)
}
