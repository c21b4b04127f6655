//! Selective restore: which databases come back empty (repository-behaviour.md §5.7). Pure.
//!
//! The files of such a database are made with their right length and without content, so that recovery can go over them;
//! afterwards the database can only be dropped.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Manifest, TargetKind};
use crate::postgres::DataLayout;
use crate::postgres::data_path::file_name;

/// Object ids below are PostgreSQL's own (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16384;

/// Databases that every cluster has, whoever made them anew.
const SYSTEM_DATABASES: [&[u8]; 3] = [b"template0", b"template1", b"postgres"];

/// The databases that the user asks for, by name or object id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseChoice {
    /// `db-include`: these and the system's own, no others.
    pub include: Vec<String>,
    /// `db-exclude`: not these.
    pub exclude: Vec<String>,
}

/// The databases that come back empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EmptyDatabases {
    /// All databases that the backup has, as text in the order of text.
    pub found: BTreeSet<String>,
    /// Those that are emptied.
    pub emptied: BTreeSet<String>,
    prefixes: Vec<Vec<u8>>,
}

impl EmptyDatabases {
    /// Whether only the length of a file is restored.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        let is_version = || name.rsplit(|byte| *byte == b'/').next() == Some(file_name::PG_VERSION.as_bytes());
        self.prefixes.iter().any(|prefix| name.starts_with(prefix)) && !is_version()
    }
}

/// The databases of `manifest` that come back empty; `None` when nobody chose any.
///
/// # Errors
/// [`ErrorKind::DbMissing`] for a database that is not in the backup, [`ErrorKind::DbInvalid`] for one that cannot be
/// chosen, [`ErrorKind::Format`] for a backup without databases.
pub(super) fn choose(
    manifest: &Manifest,
    choice: &DatabaseChoice,
    layout: &DataLayout,
) -> Result<Option<EmptyDatabases>> {
    if choice.include.is_empty() && choice.exclude.is_empty() {
        return Ok(None);
    }
    let known = Known::of(manifest, layout);
    if known.all.is_empty() {
        return Err(
            Error::new(ErrorKind::Format, "no databases found for selective restore").hint("is this a valid cluster?")
        );
    }
    let exclude = known.ids(manifest, &choice.exclude, "exclude")?;
    let include = known.ids(manifest, &choice.include, "include")?;
    if include.iter().any(|id| known.system.contains(id)) {
        return Err(Error::new(
            ErrorKind::DbInvalid,
            "system databases (template0, postgres, etc.) are included by default",
        ));
    }
    if let Some(both) = include.iter().find(|id| exclude.contains(*id)) {
        return Err(Error::new(ErrorKind::DbInvalid, format!("database to include '{both}' is in the exclude list")));
    }
    let emptied: BTreeSet<String> = if include.is_empty() {
        exclude
    } else {
        let is_emptied =
            |id: &&String| !include.contains(*id) && (!known.system.contains(*id) || exclude.contains(*id));
        known.all.iter().filter(is_emptied).cloned().collect()
    };
    let prefixes = prefixes(manifest, &emptied, layout);
    Ok(Some(EmptyDatabases { found: known.all, emptied, prefixes }))
}

/// The databases of a backup, by object id as text.
#[derive(Debug, Default)]
struct Known {
    all: BTreeSet<String>,
    system: BTreeSet<String>,
}

impl Known {
    fn of(manifest: &Manifest, layout: &DataLayout) -> Self {
        let mut known = Self::default();
        for database in manifest.databases() {
            if SYSTEM_DATABASES.contains(&database.name.as_bytes()) || database.oid < FIRST_USER_OID {
                known.add(database.oid, true);
            }
        }
        for file in manifest.files() {
            let Some((directory, name)) = split(file.name().as_bytes()) else { continue };
            if name != file_name::PG_VERSION.as_bytes() || !layout.is_database_directory(directory) {
                continue;
            }
            let id = split(directory).and_then(|(_, id)| std::str::from_utf8(id).ok()?.parse::<u32>().ok());
            if let Some(id) = id {
                known.add(id, id < FIRST_USER_OID);
            }
        }
        known
    }

    fn add(&mut self, id: u32, is_system: bool) {
        if is_system {
            self.system.insert(id.to_string());
        }
        self.all.insert(id.to_string());
    }

    fn ids(&self, manifest: &Manifest, wanted: &[String], verb: &str) -> Result<BTreeSet<String>> {
        let id_of = |wanted: &String| {
            if self.all.contains(wanted) {
                return Ok(wanted.clone());
            }
            let named = manifest.databases().iter().find(|database| database.name.as_bytes() == wanted.as_bytes());
            named.map(|database| database.oid.to_string()).filter(|id| self.all.contains(id)).ok_or_else(|| {
                Error::new(ErrorKind::DbMissing, format!("database to {verb} '{wanted}' does not exist"))
            })
        };
        wanted.iter().map(id_of).collect()
    }
}

/// What the names of files of these databases begin with, in the data directory and in every tablespace.
fn prefixes(manifest: &Manifest, emptied: &BTreeSet<String>, layout: &DataLayout) -> Vec<Vec<u8>> {
    let version = layout.tablespace_directory();
    let tablespaces: Vec<&[u8]> = manifest
        .targets()
        .iter()
        .filter(|target| matches!(target.kind(), TargetKind::Tablespace { .. }))
        .map(|target| target.name().as_bytes())
        .collect();
    let mut prefixes = Vec::new();
    for id in emptied {
        prefixes.push(format!("pg_data/base/{id}/").into_bytes());
        for tablespace in &tablespaces {
            prefixes.push([*tablespace, format!("/{version}/{id}/").as_bytes()].concat());
        }
    }
    prefixes
}

fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = name.iter().rposition(|byte| *byte == b'/')?;
    Some((name.get(..slash)?, name.get(slash + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::restore::plan::tests::manifest;

    fn chosen(include: &[&str], exclude: &[&str]) -> Result<Option<EmptyDatabases>> {
        let manifest = manifest("2.60-pg15-gz-tablespace/20261122-061827F.manifest");
        let layout = DataLayout::new(manifest.cluster().version, manifest.cluster().catalog_version);
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        choose(&manifest, &DatabaseChoice { include: owned(include), exclude: owned(exclude) }, &layout)
    }

    #[test]
    fn system_databases_are_emptied_only_when_named() {
        assert_eq!(chosen(&[], &[]).unwrap(), None);
        let emptied = |include: &[&str], exclude: &[&str]| -> Vec<String> {
            chosen(include, exclude).unwrap().unwrap().emptied.into_iter().collect()
        };
        assert_eq!(emptied(&[], &["template1"]), ["1"]);
        assert_eq!(emptied(&[], &["1", "5"]), ["1", "5"]);
        for (include, exclude, kind) in [
            (&["postgres"][..], &[][..], ErrorKind::DbInvalid),
            (&["1"], &[], ErrorKind::DbInvalid),
            (&["none"], &[], ErrorKind::DbMissing),
            (&[], &["none"], ErrorKind::DbMissing),
            (&[], &["77777"], ErrorKind::DbMissing),
        ] {
            assert_eq!(chosen(include, exclude).unwrap_err().kind(), kind, "{include:?} {exclude:?}");
        }
    }

    #[test]
    fn files_of_an_emptied_database_are_found_everywhere() {
        let empty = chosen(&[], &["5"]).unwrap().unwrap();
        for (name, expected) in [
            ("pg_data/base/5/1255", true),
            ("pg_data/base/5/PG_VERSION", false),
            ("pg_data/base/51/1255", false),
            ("pg_data/base/5", false),
            ("pg_tblspc/16384/PG_15_202209061/5/16385", true),
            ("pg_tblspc/16384/PG_15_202209061/5/PG_VERSION", false),
            ("pg_tblspc/1/PG_15_202209061/5/16385", false),
            ("pg_data/global/1262", false),
        ] {
            assert_eq!(empty.contains(name.as_bytes()), expected, "{name}");
        }
    }
}
