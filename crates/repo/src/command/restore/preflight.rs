//! Looks for every object that a restore will read before anything is changed (faults.md RS06, HI08): one listing for
//! each backup that stores files.
//!
//! What only block maps refer to is found when they are read.

use std::collections::{BTreeMap, BTreeSet};

use super::databases::EmptyDatabases;
use super::plan::{Plan, row_at};
use crate::error::{Error, ErrorKind, Result};
use crate::format::BackupLabel;
use crate::format::manifest::{FileLocation, FileRow, Manifest};
use crate::format::path::{self, BundleId, StoredFile};
use crate::repository::Repository;
use crate::storage::{Entry, EntryKind, ListOptions};

/// Objects that are named in the error; more are only counted.
const NAMED_MAX: usize = 20;

/// What is wanted of one backup.
#[derive(Debug, Default)]
struct Wanted {
    /// Bundles with the byte behind the last one that is wanted.
    bundles: BTreeMap<BundleId, u64>,
    /// Files with an object of their own.
    objects: BTreeSet<u32>,
}

/// Checks that the objects behind `plan` are there.
///
/// # Errors
/// [`ErrorKind::FileMissing`] naming each object that is missing and its backup; [`ErrorKind::FileRead`] when a bundle
/// is too short; those of listing.
pub(super) async fn check_objects(
    repository: &Repository,
    manifest: &Manifest,
    plan: &Plan,
    empty: Option<&EmptyDatabases>,
) -> Result<()> {
    let mut wanted: BTreeMap<BackupLabel, Wanted> = BTreeMap::new();
    for place in plan.all_files() {
        if let Some(row) = row_at(manifest, *place) {
            let is_empty = row.size_bytes == 0 || empty.is_some_and(|empty| empty.contains(row.name().as_bytes()));
            if !is_empty {
                want(&mut wanted, manifest, row, *place);
            }
        }
    }
    let (mut missing, mut short) = (Vec::new(), Vec::new());
    for (label, mut wanted) in wanted {
        strike_out(repository, manifest, label, &mut wanted, &mut short).await?;
        missing.extend(wanted.bundles.keys().map(|id| path::bundle(repository.stanza(), &label, *id).to_string()));
        let rows = wanted.objects.iter().filter_map(|place| row_at(manifest, *place));
        missing.extend(rows.map(|row| object_text(repository, manifest, row)));
    }
    let stated = if missing.is_empty() { &short } else { &missing };
    if stated.is_empty() {
        return Ok(());
    }
    let more = stated.len().saturating_sub(NAMED_MAX);
    let named: Vec<&str> = stated.iter().take(NAMED_MAX).map(String::as_str).collect();
    let list = named.join("\n");
    let rest = if more > 0 { format!("\nand {more} more") } else { String::new() };
    let (kind, what) = if missing.is_empty() {
        (ErrorKind::FileRead, "shorter than the manifest says")
    } else {
        (ErrorKind::FileMissing, "missing")
    };
    Err(Error::new(
        kind,
        format!(
            "{}: backup {} cannot be restored, {} of its objects are {what}:\n{list}{rest}",
            repository.index(),
            manifest.label(),
            stated.len()
        ),
    )
    .hint("nothing was changed; restore another backup with --set, or from another repository with --repo."))
}

fn want(wanted: &mut BTreeMap<BackupLabel, Wanted>, manifest: &Manifest, row: &FileRow, place: u32) {
    match manifest.location(row) {
        FileLocation::Nowhere => {}
        FileLocation::Bundle { label, place } => {
            let end = wanted.entry(label).or_default().bundles.entry(place.id).or_default();
            *end = (*end).max(place.offset_bytes.saturating_add(row.size_repo_bytes));
        }
        FileLocation::Object { label, .. } => {
            wanted.entry(label).or_default().objects.insert(place);
        }
    }
}

/// Removes from `wanted` what is there.
async fn strike_out(
    repository: &Repository,
    manifest: &Manifest,
    label: BackupLabel,
    wanted: &mut Wanted,
    short: &mut Vec<String>,
) -> Result<()> {
    let directory = path::backup(repository.stanza(), &label);
    let options = ListOptions { recurse: true, name_prefix: None };
    let mut page = None;
    loop {
        let listed = repository.storage().list_page(&directory, &options, page).await?;
        for entry in listed.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Object | EntryKind::Link(_)))
        {
            if let Some(id) = bundle_of(&entry.name) {
                let wanted_bytes = wanted.bundles.remove(&id);
                if let Some(wanted_bytes) = wanted_bytes.filter(|wanted| *wanted > entry.size_bytes) {
                    let object = path::bundle(repository.stanza(), &label, id);
                    let size_bytes = entry.size_bytes;
                    short.push(format!("'{object}' has {size_bytes} bytes, {wanted_bytes} are expected"));
                }
            } else if let Some(place) = place_of(manifest, label, entry) {
                wanted.objects.remove(&place);
            }
        }
        page = listed.next;
        if page.is_none() || (wanted.bundles.is_empty() && wanted.objects.is_empty()) {
            return Ok(());
        }
    }
}

fn bundle_of(name: &str) -> Option<BundleId> {
    let number = name.strip_prefix(path::BUNDLE_DIRECTORY)?.strip_prefix('/')?;
    let id = BundleId::new(number.parse().ok()?)?;
    (id.number().to_string() == number).then_some(id)
}

/// The file of the manifest that is stored in a listed object of backup `label`.
fn place_of(manifest: &Manifest, label: BackupLabel, entry: &Entry) -> Option<u32> {
    let extension = manifest.options().compress_type.extension();
    let whole =
        entry.name.strip_suffix(extension).map(|name| (name, StoredFile::Whole(manifest.options().compress_type)));
    let blocks = entry.name.strip_suffix(path::BLOCK_INCR_EXTENSION).map(|name| (name, StoredFile::BlockIncremental));
    [whole, blocks].into_iter().flatten().find_map(|(name, stored)| {
        let place = manifest.file_position(name.as_bytes())?;
        let row = manifest.files().get(place)?;
        let is_here = manifest.location(row) == FileLocation::Object { label, stored };
        is_here.then(|| u32::try_from(place).ok()).flatten()
    })
}

fn object_text(repository: &Repository, manifest: &Manifest, row: &FileRow) -> String {
    match manifest.location(row) {
        FileLocation::Object { label, stored } => path::file(repository.stanza(), &label, row.name(), stored)
            .map_or_else(|error| error.to_string(), |path| path.to_string()),
        _ => row.name().to_string(),
    }
}
