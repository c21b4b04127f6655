//! Makes the destinations ready: checked, cleaned, with directories and links in place.

use std::collections::BTreeMap;

use super::databases::EmptyDatabases;
use super::file::{Restorer, Reuse, free_bytes};
use super::finish::write_marker;
use super::options::RestoreOptions;
use super::plan::{Plan, row_at};
use super::recovery::RecoveryType;
use super::remap::Layout;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BackupLabel;
use crate::format::manifest::{Manifest, TargetKind as RowTargetKind};
use crate::pgdata::clean::check_empty;
use crate::pgdata::prepare::{Cleaned, check_destinations};
use crate::pgdata::{
    DataRoots, Directory, DisplayPath, ExpectedTree, Ids, LinkPolicy, Overwrite, PrepareOptions, RelativePath, Target,
    TargetKind, ignored_files, prepare_destinations,
};
use crate::postgres::data_path::PGDATA_NAME;
use crate::progress::{Context, blocking, size_text};

/// What may be kept of files that are there.
pub(super) fn reuse(options: &RestoreOptions) -> Reuse {
    match (options.delta, options.force) {
        (false, false) => Reuse::Fresh,
        (false, true) => Reuse::Overwrite,
        (true, false) => Reuse::ByChecksum,
        (true, true) => Reuse::ByTime,
    }
}

/// Tells which databases come back empty.
pub(super) fn describe_databases(empty: Option<&EmptyDatabases>, context: &Context) {
    let Some(empty) = empty else { return };
    let list = |ids: &std::collections::BTreeSet<String>| ids.iter().cloned().collect::<Vec<_>>().join(", ");
    context.detail(format!("databases found for selective restore ({})", list(&empty.found)));
    if empty.emptied.is_empty() {
        context.info("nothing to filter - all user databases have been selected");
    } else {
        context.detail(format!("databases excluded (zeroed) from selective restore ({})", list(&empty.emptied)));
    }
}

/// Checks all destinations, then removes `pg_control` and everything that does not belong there, and makes what is
/// missing.
///
/// # Errors
/// Before any change those of the checks; later those of the changes.
pub(super) async fn prepare(
    manifest: Manifest,
    layout: Layout,
    options: &RestoreOptions,
    context: &Context,
) -> Result<(Manifest, Layout, DataRoots)> {
    let (options, clean_context, now_s) = (options.clone(), context.clone(), context.clock.now_s());
    blocking(move || {
        let context = clean_context;
        let overwrite = if options.delta || options.force { Overwrite::Allowed } else { Overwrite::Never };
        if overwrite == Overwrite::Allowed {
            check_foreign_tablespaces(&manifest, &layout)?;
        }
        let preserve = options.recovery.recovery_type == RecoveryType::Preserve;
        let ignored = ignored_files(manifest.cluster().version, preserve);
        let prepare = PrepareOptions {
            layout: &layout.data,
            overwrite,
            ignored: &ignored,
            links: &options.links,
            current: Ids::current(),
        };
        let file = |name: &[u8]| layout.expected_file(&manifest, name);
        let tree = layout.tree(&manifest, &file);
        check_destinations(&layout.targets, prepare)?;
        mark(&layout, &tree, manifest.label(), now_s)?;
        let (roots, cleaned) = prepare_destinations(&layout.targets, &tree, prepare)?;
        describe_cleaning(&cleaned, overwrite, &context);
        Ok((manifest, layout, roots))
    })
    .await
}

/// Leaves the marker of an unfinished restore before anything else is made, so that a restore that is interrupted at any
/// point from now on can be run again with delta.
fn mark(layout: &Layout, tree: &ExpectedTree<'_>, label: BackupLabel, now_s: i64) -> Result<()> {
    let expected = tree
        .paths
        .get(PGDATA_NAME.as_bytes())
        .ok_or_else(|| Error::new(ErrorKind::Format, format!("there is no path '{PGDATA_NAME}' in the manifest")))?;
    Directory::create_all(layout.pgdata(), expected.mode, expected.owner)?;
    let roots = DataRoots::open(&[Target::data(layout.pgdata())], &LinkPolicy::Any)?;
    write_marker(&roots, label, now_s)
}

fn describe_cleaning(cleaned: &[Cleaned], overwrite: Overwrite, context: &Context) {
    for destination in cleaned {
        let path = DisplayPath(&destination.path);
        if overwrite == Overwrite::Allowed {
            context.info(format!("remove invalid files/links/paths from '{path}'"));
        }
        for action in &destination.actions {
            let full = if action.path.is_root() {
                destination.path.clone()
            } else {
                [&destination.path, &b"/"[..], action.path.as_bytes()].concat()
            };
            context.detail(action.change.describe(&full));
        }
    }
}

/// A restore beside the original cluster must not overwrite that cluster's tablespaces (faults.md NP09): a tablespace
/// that stays where it was, while the data directory does not, is only taken over when it is empty or when the data
/// directory already has its link.
fn check_foreign_tablespaces(manifest: &Manifest, layout: &Layout) -> Result<()> {
    let row_of = |name: &[u8]| manifest.targets().iter().find(|row| row.name().as_bytes() == name);
    let moved = manifest
        .targets()
        .iter()
        .any(|row| matches!(row.kind(), RowTargetKind::PgData { path } if path.as_bytes() != layout.pgdata()));
    if !moved {
        return Ok(());
    }
    let pgdata = Directory::open_if_exists(layout.pgdata())?;
    for target in &layout.targets {
        let TargetKind::Tablespace { oid, .. } = target.kind else { continue };
        let stays = row_of(&target.name).is_some_and(|row| row.kind().path().as_bytes() == target.path);
        if !stays || has_link(pgdata.as_ref(), oid, &target.path)? {
            continue;
        }
        let path = [&target.path, &b"/"[..], layout.data.tablespace_directory().as_bytes()].concat();
        if let Some(directory) = Directory::open_if_exists(&path)? {
            check_empty(&directory, &[]).map_err(|error| {
                Error::from(error)
                    .hint("it may belong to the cluster that was backed up: use --tablespace-map for another place.")
            })?;
        }
    }
    Ok(())
}

fn has_link(pgdata: Option<&Directory>, oid: u32, path: &[u8]) -> Result<bool> {
    let Some(pgdata) = pgdata else { return Ok(false) };
    let link = RelativePath::parse(format!("pg_tblspc/{oid}").as_bytes())?;
    match pgdata.info_of(&link) {
        Ok(Some(info)) if info.kind == crate::pgdata::EntryKind::Link => Ok(pgdata.link_text(&link)? == path),
        _ => Ok(false),
    }
}

/// Warns when a file system has less room than is going to be written (faults.md RS01). Files that are there already
/// may be kept or overwritten in place, so this is an estimate.
pub(super) fn check_room(restorer: &Restorer, plan: &Plan, context: &Context) {
    if restorer.reuse != Reuse::Fresh {
        return;
    }
    let mut needed: BTreeMap<u64, (u64, Option<u64>, String)> = BTreeMap::new();
    for row in plan.all_files().iter().filter_map(|place| row_at(&restorer.manifest, *place)) {
        if restorer.is_emptied(row) {
            continue;
        }
        let Ok((directory, _)) = restorer.roots.locate(row.name().as_bytes()) else { continue };
        let Ok(info) = directory.info() else { continue };
        let entry = needed
            .entry(info.identity.0)
            .or_insert_with(|| (0, free_bytes(directory), DisplayPath(directory.path()).to_string()));
        entry.0 = entry.0.saturating_add(row.size_bytes);
    }
    for (needed_bytes, free, path) in needed.into_values() {
        if let Some(free_bytes) = free.filter(|free| *free < needed_bytes) {
            context.warn(format!(
                "the restore needs {} ({needed_bytes} bytes) on the file system of '{path}', where {} ({free_bytes} \
                 bytes) are free",
                size_text(needed_bytes),
                size_text(free_bytes)
            ));
        }
    }
}
