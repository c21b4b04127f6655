//! Where everything of a manifest goes: targets, links, owners (repository-behaviour.md §5.5, §5.6).

use std::collections::{BTreeMap, HashMap};

use super::options::RestoreOptions;
use super::recovery::{self, RecoveryType};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{FileRow, Manifest, Owner, TargetKind as RowTargetKind};
use crate::pgdata::mapping::{LinkChange, ManifestEntry};
use crate::pgdata::{
    Accounts, Directory, EntryMode, Expected, ExpectedLink, ExpectedTree, FileAttributes, Ids, LinkCheck, OwnerPlan,
    Target, TargetKind, map_targets,
};
use crate::postgres::DataLayout;
use crate::postgres::data_path::{PGDATA_NAME, file_name};
use crate::progress::Context;

/// The places and owners of a restore.
#[derive(Debug)]
pub(super) struct Layout {
    /// The roots, as they are mapped.
    pub targets: Vec<Target>,
    /// Version and catalog of the cluster.
    pub data: DataLayout,
    links: BTreeMap<Vec<u8>, ExpectedLink>,
    owners: HashMap<(Owner, Owner), Ids>,
    skipped: Vec<Vec<u8>>,
    pgdata: Vec<u8>,
}

/// Maps `manifest` as the options ask, and checks that links do not lead into each other.
///
/// # Errors
/// [`ErrorKind::TablespaceMap`], [`ErrorKind::LinkMap`], [`ErrorKind::LinkDestination`], [`ErrorKind::Format`].
pub(super) fn remap(manifest: &Manifest, options: &RestoreOptions, context: &Context) -> Result<Layout> {
    let rows: Vec<Target> = manifest.targets().iter().map(target_of).collect();
    let mapped = map_targets(&rows, &options.map, |name| match (manifest.file(name), manifest.path(name)) {
        (Some(_), None) => ManifestEntry::File,
        (None, Some(_)) => ManifestEntry::Path,
        _ => ManifestEntry::Unknown,
    })?;
    for note in &mapped.notes {
        if note.is_warning { context.warn(&note.text) } else { context.info(&note.text) }
    }
    LinkCheck::all(&mapped.targets)?;
    let owners = owners(manifest, &options.map.pgdata, context)?;
    let data = DataLayout::new(manifest.cluster().version, manifest.cluster().catalog_version);
    let mut layout = Layout {
        targets: mapped.targets,
        data,
        links: BTreeMap::new(),
        owners,
        skipped: skipped(manifest, options, context),
        pgdata: options.map.pgdata.clone(),
    };
    layout.links = layout.map_links(manifest, &mapped.links)?;
    Ok(layout)
}

impl Layout {
    /// The attributes that a file shall have.
    pub(super) fn attributes(&self, row: &FileRow) -> FileAttributes {
        FileAttributes {
            mode: EntryMode::file(row.mode.into()),
            owner: self.owner(row.user, row.group),
            modified_s: row.timestamp_s,
        }
    }

    /// Whether a file of the manifest is not restored.
    pub(super) fn is_skipped(&self, name: &[u8]) -> bool {
        self.skipped.iter().any(|skipped| skipped == name)
    }

    /// The path of the data directory.
    pub(super) fn pgdata(&self) -> &[u8] {
        &self.pgdata
    }

    /// What the destinations have to look like. `file` says what is expected of a file.
    pub(super) fn tree<'a>(
        &self,
        manifest: &Manifest,
        file: &'a (dyn Fn(&[u8]) -> Option<Expected> + Sync),
    ) -> ExpectedTree<'a> {
        let path = |row: &crate::format::manifest::PathRow| {
            let name = row.name().as_bytes();
            let mode = if name == PGDATA_NAME.as_bytes() { EntryMode::data_directory } else { EntryMode::directory };
            (name.to_vec(), Expected { mode: mode(row.mode.into()), owner: self.owner(row.user, row.group) })
        };
        ExpectedTree { file, paths: manifest.paths().iter().map(path).collect(), links: self.links.clone() }
    }

    /// What is expected of the file `name` of `manifest`.
    pub(super) fn expected_file(&self, manifest: &Manifest, name: &[u8]) -> Option<Expected> {
        let row = manifest.file(name).filter(|_| !self.is_skipped(name))?;
        let FileAttributes { mode, owner, .. } = self.attributes(row);
        Some(Expected { mode, owner })
    }

    fn owner(&self, user: Owner, group: Owner) -> Ids {
        self.owners.get(&(user, group)).copied().unwrap_or_else(Ids::current)
    }

    fn map_links(&self, manifest: &Manifest, changes: &[LinkChange]) -> Result<BTreeMap<Vec<u8>, ExpectedLink>> {
        let mut links: BTreeMap<Vec<u8>, ExpectedLink> = manifest
            .links()
            .iter()
            .map(|row| {
                let destination = row.destination().as_bytes().to_vec();
                let owner = self.owner(row.user, row.group);
                (row.name().as_bytes().to_vec(), ExpectedLink { destination, owner })
            })
            .collect();
        let data_owner = manifest.path(PGDATA_NAME.as_bytes()).map(|row| self.owner(row.user, row.group));
        for change in changes {
            match change {
                LinkChange::Remove { name } => {
                    links.remove(name);
                }
                LinkChange::Update { name, destination } => match links.get_mut(name) {
                    Some(link) => link.destination.clone_from(destination),
                    None => {
                        let shown = String::from_utf8_lossy(name);
                        return Err(Error::new(
                            ErrorKind::Format,
                            format!("target '{shown}' has no link in the manifest"),
                        ));
                    }
                },
                LinkChange::Add { name, destination } => {
                    let owner = data_owner.unwrap_or_else(Ids::current);
                    links.insert(name.clone(), ExpectedLink { destination: destination.clone(), owner });
                }
            }
        }
        Ok(links)
    }
}

fn target_of(row: &crate::format::manifest::Target) -> Target {
    let kind = match row.kind() {
        RowTargetKind::PgData { .. } => TargetKind::Data,
        RowTargetKind::DirectoryLink { .. } => TargetKind::DirectoryLink,
        RowTargetKind::FileLink { file, .. } => TargetKind::FileLink(file.as_bytes().to_vec()),
        RowTargetKind::Tablespace { oid, tablespace_name, .. } => {
            TargetKind::Tablespace { oid: *oid, name: tablespace_name.as_bytes().to_vec() }
        }
    };
    Target { name: row.name().as_bytes().to_vec(), path: row.kind().path().as_bytes().to_vec(), kind }
}

/// The ids for every owner in the manifest, with one warning for each that this machine does not have.
fn owners(manifest: &Manifest, pgdata: &[u8], context: &Context) -> Result<HashMap<(Owner, Owner), Ids>> {
    let accounts = Accounts::system()
        .map_err(|error| Error::new(ErrorKind::FileRead, format!("unable to read the account files: {error}")))?;
    let data_owner = match Directory::open_if_exists(pgdata)? {
        Some(directory) => directory.info().map(|info| Some(Ids { user: info.user, group: info.group }))?,
        None => None,
    };
    let mut plan = OwnerPlan::new(&accounts, Ids::current(), data_owner);
    let mut owners = HashMap::new();
    let files = manifest.files().iter().map(|row| (row.user, row.group));
    let paths = manifest.paths().iter().map(|row| (row.user, row.group));
    let links = manifest.links().iter().map(|row| (row.user, row.group));
    for (user, group) in files.chain(paths).chain(links) {
        owners.entry((user, group)).or_insert_with(|| {
            let name = |owner| manifest.owners().name(owner).and_then(|name| name.to_str());
            plan.ids(name(user), name(group))
        });
    }
    for warning in plan.warnings() {
        context.warn(warning);
    }
    Ok(owners)
}

/// Files of the backup that are not restored: the restore itself makes the links of tablespaces, and recovery settings
/// that are to be preserved are those in the data directory.
fn skipped(manifest: &Manifest, options: &RestoreOptions, context: &Context) -> Vec<Vec<u8>> {
    let mut skipped = Vec::new();
    let mut skip = |name: &str, reason: &str| {
        let full = format!("{PGDATA_NAME}/{name}").into_bytes();
        if manifest.file(&full).is_some() {
            context.detail(format!("skip '{name}' -- {reason}"));
            skipped.push(full);
        }
    };
    skip(file_name::TABLESPACE_MAP, "tablespace links will be created based on mappings");
    let preserves = options.recovery.recovery_type == RecoveryType::Preserve;
    if preserves && recovery::uses_signal_files(manifest.cluster().version) {
        skip(file_name::POSTGRESQL_AUTO_CONF, "recovery type is preserve");
    }
    skipped
}
