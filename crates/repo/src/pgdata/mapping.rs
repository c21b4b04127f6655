//! Where a restore puts the data directory, tablespaces and links (repository-behaviour.md §5.5). Pure.
//!
//! The rules are those of pgBackRest's `src/command/restore/remap.c.inc`.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{DisplayPath, PgDataError, PgDataErrorKind};
use super::path::{last_name, parent};
use super::target::{Target, TargetKind};
use crate::postgres::data_path::PGDATA_NAME;

/// What the options ask for.
#[derive(Debug, Clone, Default)]
pub struct MapOptions {
    /// Absolute path of the data directory.
    pub pgdata: Vec<u8>,
    /// `tablespace-map`: name or object id of a tablespace to its new path.
    pub tablespaces: BTreeMap<String, Vec<u8>>,
    /// `tablespace-map-all`: where the other tablespaces go, each below its name.
    pub all_tablespaces: Option<Vec<u8>>,
    /// `link-map`: path below the data directory to the new destination of its link.
    pub links: BTreeMap<String, Vec<u8>>,
    /// `link-all`: links that are not mapped stay links.
    pub link_all: bool,
}

/// What a path in the manifest is, for links that do not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestEntry {
    /// A file.
    File,
    /// A directory.
    Path,
    /// Not in the manifest, or both.
    Unknown,
}

/// The targets after mapping, and what follows for the rest of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapped {
    /// The targets, sorted by name.
    pub targets: Vec<Target>,
    /// Changes of the manifest's links, in order.
    pub links: Vec<LinkChange>,
    /// What was mapped, for the log.
    pub notes: Vec<MapNote>,
}

/// A change of the manifest's links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// The link leads elsewhere.
    Update {
        /// Name of the link.
        name: Vec<u8>,
        /// Its new text.
        destination: Vec<u8>,
    },
    /// A new link, which gets the owner of `pg_data`.
    Add {
        /// Name of the link.
        name: Vec<u8>,
        /// Its text.
        destination: Vec<u8>,
    },
    /// The link is gone; what it led to is restored in its place.
    Remove {
        /// Name of the link.
        name: Vec<u8>,
    },
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapNote {
    /// Whether it is a warning rather than information.
    pub is_warning: bool,
    /// The line.
    pub text: String,
}

/// Maps the `targets` of a manifest. `entry` says what a name in the manifest is.
///
/// # Errors
/// [`PgDataErrorKind::TablespaceMap`] for a tablespace that does not exist, one with two different paths, or a path that
/// is not absolute; [`PgDataErrorKind::LinkMap`] for a link that cannot be; [`PgDataErrorKind::Format`] when the
/// manifest has no data directory or an entry that is both file and directory.
pub fn map_targets(
    targets: &[Target],
    options: &MapOptions,
    entry: impl Fn(&[u8]) -> ManifestEntry,
) -> Result<Mapped, PgDataError> {
    let mut mapping = Mapping { options, mapped: Mapped { targets: targets.to_vec(), ..Mapped::default() } };
    mapping.data_directory()?;
    mapping.tablespaces()?;
    for (link, destination) in &options.links {
        mapping.link(link, destination, &entry)?;
    }
    if !options.link_all {
        mapping.drop_links();
    }
    mapping.mapped.targets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(mapping.mapped)
}

struct Mapping<'a> {
    options: &'a MapOptions,
    mapped: Mapped,
}

impl Mapping<'_> {
    fn data_directory(&mut self) -> Result<(), PgDataError> {
        let pgdata = &self.options.pgdata;
        let mut data = self.mapped.targets.iter_mut().filter(|target| target.kind == TargetKind::Data);
        let (Some(target), None) = (data.next(), data.next()) else {
            let message = "a manifest must have one target 'pg_data'";
            return Err(PgDataError::new(PgDataErrorKind::Format, PGDATA_NAME.as_bytes(), message));
        };
        if target.path != *pgdata {
            target.path.clone_from(pgdata);
            self.note(false, format!("remap data directory to '{}'", DisplayPath(pgdata)));
        }
        Ok(())
    }

    fn tablespaces(&mut self) -> Result<(), PgDataError> {
        let options = self.options;
        let mut used = BTreeSet::new();
        let mut changes = Vec::new();
        for (index, target) in self.mapped.targets.iter().enumerate() {
            let TargetKind::Tablespace { oid, name } = &target.kind else { continue };
            if let Some(path) = tablespace_path(options, *oid, name, &mut used)? {
                changes.push((index, path));
            }
        }
        if let Some(unknown) = options.tablespaces.keys().find(|key| !used.contains(key.as_str())) {
            let message = format!("unable to remap invalid tablespace '{}'", unknown.escape_debug());
            return Err(PgDataError::new(PgDataErrorKind::TablespaceMap, unknown.as_bytes(), message));
        }
        for (index, path) in changes {
            let Some(target) = self.mapped.targets.get_mut(index) else { continue };
            let text = format!("map tablespace '{}' to '{}'", DisplayPath(&target.name), DisplayPath(&path));
            let name = [PGDATA_NAME.as_bytes(), b"/", &target.name].concat();
            target.path.clone_from(&path);
            self.mapped.links.push(LinkChange::Update { name, destination: path });
            self.note(false, text);
        }
        Ok(())
    }

    fn link(
        &mut self,
        link: &str,
        destination: &[u8],
        entry: impl Fn(&[u8]) -> ManifestEntry,
    ) -> Result<(), PgDataError> {
        let name = [PGDATA_NAME.as_bytes(), b"/", link.as_bytes()].concat();
        let refuse = |text: String| Err(PgDataError::new(PgDataErrorKind::LinkMap, link.as_bytes(), text));
        let shown = link.escape_debug();
        // Tablespaces are targets without `pg_data/`, so that they are looked for separately.
        if self.mapped.targets.iter().any(|target| target.name == link.as_bytes() && target.name != b"pg_data") {
            return refuse(format!(
                "unable to remap tablespace '{shown}'\n\
                 HINT: use 'tablespace-map' option to remap tablespaces."
            ));
        }
        let existing = self.mapped.targets.iter().position(|target| target.name == name);
        let is_file = match existing.and_then(|index| self.mapped.targets.get(index)) {
            Some(target) => matches!(target.kind, TargetKind::FileLink(_)),
            None => match entry(&name) {
                ManifestEntry::File => true,
                ManifestEntry::Path => false,
                ManifestEntry::Unknown => {
                    return refuse(format!(
                        "unable to map link '{shown}'\n\
                         HINT: Does the link reference a valid backup path or file?"
                    ));
                }
            },
        };
        let (path, kind) = if is_file {
            if parent(destination).is_empty() {
                return refuse(format!(
                    "'{}' is not long enough to be the destination for file link '{shown}'",
                    DisplayPath(destination)
                ));
            }
            (parent(destination).to_vec(), TargetKind::FileLink(last_name(destination).to_vec()))
        } else {
            (destination.to_vec(), TargetKind::DirectoryLink)
        };
        let verb = if existing.is_some() { "map link" } else { "link" };
        self.note(false, format!("{verb} '{shown}' to '{}'", DisplayPath(destination)));
        let destination = destination.to_vec();
        match existing.and_then(|index| self.mapped.targets.get_mut(index)) {
            Some(target) => {
                target.path = path;
                target.kind = kind;
                self.mapped.links.push(LinkChange::Update { name, destination });
            }
            None => {
                self.mapped.targets.push(Target { name: name.clone(), path, kind });
                self.mapped.links.push(LinkChange::Add { name, destination });
            }
        }
        Ok(())
    }

    /// Links that nobody asked for become what they led to.
    fn drop_links(&mut self) {
        let options = self.options;
        let prefix = [PGDATA_NAME.as_bytes(), b"/"].concat();
        let keeps = |target: &Target| {
            let is_file = match target.kind {
                TargetKind::DirectoryLink => false,
                TargetKind::FileLink(_) => true,
                TargetKind::Data | TargetKind::Tablespace { .. } => return None,
            };
            let link = target.name.strip_prefix(prefix.as_slice()).unwrap_or(&target.name);
            let is_mapped = options.links.keys().any(|key| key.as_bytes() == link);
            (!is_mapped).then(|| (is_file, DisplayPath(link).to_string()))
        };
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for target in std::mem::take(&mut self.mapped.targets) {
            match keeps(&target) {
                None => kept.push(target),
                Some((is_file, link)) => dropped.push((target.name, is_file, link)),
            }
        }
        self.mapped.targets = kept;
        for (name, is_file, link) in dropped {
            let text = if is_file {
                format!("file link '{link}' will be restored as a file at the same location")
            } else {
                format!("contents of directory link '{link}' will be restored in a directory at the same location")
            };
            self.mapped.links.push(LinkChange::Remove { name });
            self.note(true, text);
        }
    }

    fn note(&mut self, is_warning: bool, text: String) {
        self.mapped.notes.push(MapNote { is_warning, text });
    }
}

/// The new path of a tablespace: by its own entry in the map, by name or id, else below the path for all.
fn tablespace_path(
    options: &MapOptions,
    oid: u32,
    name: &[u8],
    used: &mut BTreeSet<String>,
) -> Result<Option<Vec<u8>>, PgDataError> {
    let refuse = |text: String| Err(PgDataError::new(PgDataErrorKind::TablespaceMap, name, text));
    let by_name = std::str::from_utf8(name).ok().and_then(|name| options.tablespaces.get_key_value(name));
    let by_oid = options.tablespaces.get_key_value(&oid.to_string());
    used.extend([by_name, by_oid].into_iter().flatten().map(|(key, _)| key.clone()));
    let path = match (by_name, by_oid) {
        (Some((_, by_name)), Some((_, by_oid))) if by_name != by_oid => {
            return refuse(format!(
                "tablespace remapped by name '{}' and id {oid} with different paths",
                DisplayPath(name)
            ));
        }
        (Some((_, path)), _) | (None, Some((_, path))) => path.clone(),
        (None, None) => match &options.all_tablespaces {
            // The name comes from the manifest and becomes one directory below the given path.
            Some(_) if name.contains(&b'/') || matches!(name, b"" | b"." | b"..") => {
                return refuse(format!("tablespace name '{}' cannot be a directory", DisplayPath(name)));
            }
            Some(all) => [all, &b"/"[..], name].concat(),
            None => return Ok(None),
        },
    };
    if !path.starts_with(b"/") {
        return refuse(format!("path '{}' for tablespace '{}' is not absolute", DisplayPath(&path), DisplayPath(name)));
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, path: &str, kind: TargetKind) -> Target {
        Target { name: name.into(), path: path.into(), kind }
    }

    fn tablespace(oid: u32, name: &str, path: &str) -> Target {
        target(&format!("pg_tblspc/{oid}"), path, TargetKind::Tablespace { oid, name: name.into() })
    }

    fn manifest() -> Vec<Target> {
        vec![
            Target::data(b"/pg"),
            target("pg_data/pg_wal", "/wal", TargetKind::DirectoryLink),
            target("pg_data/postgresql.conf", "../etc", TargetKind::FileLink(b"pg.conf".to_vec())),
            tablespace(7, "fast", "/ts/fast"),
            tablespace(8, "slow", "/ts/slow"),
        ]
    }

    fn options(tablespaces: &[(&str, &str)], links: &[(&str, &str)]) -> MapOptions {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect()
        };
        MapOptions {
            pgdata: b"/pg".to_vec(),
            tablespaces: map(tablespaces),
            all_tablespaces: None,
            links: map(links),
            link_all: true,
        }
    }

    fn map(options: &MapOptions) -> Result<Mapped, PgDataError> {
        map_targets(&manifest(), options, |name| match name {
            b"pg_data/pg_hba.conf" => ManifestEntry::File,
            b"pg_data/log" => ManifestEntry::Path,
            _ => ManifestEntry::Unknown,
        })
    }

    fn path_of(mapped: &Mapped, name: &str) -> Option<(String, TargetKind)> {
        let target = mapped.targets.iter().find(|target| target.name == name.as_bytes())?;
        Some((String::from_utf8(target.path.clone()).unwrap(), target.kind.clone()))
    }

    #[test]
    fn nothing_asked_changes_nothing() {
        let mapped = map(&options(&[], &[])).unwrap();
        assert_eq!(mapped, Mapped { targets: manifest(), ..Mapped::default() });
    }

    #[test]
    fn the_data_directory_moves() {
        let mapped = map(&MapOptions { pgdata: b"/new".to_vec(), ..options(&[], &[]) }).unwrap();
        assert_eq!(path_of(&mapped, "pg_data").unwrap().0, "/new");
        assert_eq!(mapped.notes[0].text, "remap data directory to '/new'");
    }

    #[test]
    fn tablespaces_move_by_name_by_id_and_all_together() {
        let mut asked = options(&[("fast", "/a")], &[]);
        asked.all_tablespaces = Some(b"/all".to_vec());
        let mapped = map(&asked).unwrap();
        assert_eq!(path_of(&mapped, "pg_tblspc/7").unwrap().0, "/a");
        assert_eq!(path_of(&mapped, "pg_tblspc/8").unwrap().0, "/all/slow");
        assert_eq!(
            mapped.links[0],
            LinkChange::Update { name: b"pg_data/pg_tblspc/7".to_vec(), destination: b"/a".to_vec() }
        );
        let mapped = map(&options(&[("8", "/b")], &[])).unwrap();
        assert_eq!(path_of(&mapped, "pg_tblspc/8").unwrap().0, "/b");
        assert_eq!(path_of(&mapped, "pg_tblspc/7").unwrap().0, "/ts/fast");
        map(&options(&[("7", "/a"), ("fast", "/a")], &[])).unwrap();
    }

    #[test]
    fn rs10_tablespace_maps_that_cannot_be() {
        for wrong in [&[("none", "/a")][..], &[("7", "/a"), ("fast", "/b")], &[("fast", "relative")], &[("fast", "")]] {
            let error = map(&options(wrong, &[])).unwrap_err();
            assert_eq!(error.kind(), PgDataErrorKind::TablespaceMap, "{wrong:?}");
        }
        for name in ["..", ".", "", "a/b"] {
            let asked = MapOptions { all_tablespaces: Some(b"/all".to_vec()), ..options(&[], &[]) };
            let targets = [Target::data(b"/pg"), tablespace(9, name, "/x")];
            let error = map_targets(&targets, &asked, |_| ManifestEntry::Unknown).unwrap_err();
            assert_eq!(error.kind(), PgDataErrorKind::TablespaceMap, "{name:?}");
        }
    }

    #[test]
    fn links_move_and_are_made() {
        let asked = options(
            &[],
            &[("pg_wal", "/w2"), ("postgresql.conf", "/e/p.conf"), ("pg_hba.conf", "/e/h"), ("log", "/l")],
        );
        let mapped = map(&asked).unwrap();
        assert_eq!(path_of(&mapped, "pg_data/pg_wal"), Some(("/w2".into(), TargetKind::DirectoryLink)));
        assert_eq!(
            path_of(&mapped, "pg_data/postgresql.conf"),
            Some(("/e".into(), TargetKind::FileLink(b"p.conf".to_vec())))
        );
        assert_eq!(path_of(&mapped, "pg_data/pg_hba.conf"), Some(("/e".into(), TargetKind::FileLink(b"h".to_vec()))));
        assert_eq!(path_of(&mapped, "pg_data/log"), Some(("/l".into(), TargetKind::DirectoryLink)));
        assert!(mapped.links.contains(&LinkChange::Add { name: b"pg_data/log".to_vec(), destination: b"/l".to_vec() }));
        assert!(mapped.targets.is_sorted_by(|a, b| a.name < b.name));
        let notes: Vec<&str> = mapped.notes.iter().map(|note| note.text.as_str()).collect();
        assert!(notes.contains(&"link 'log' to '/l'") && notes.contains(&"map link 'pg_wal' to '/w2'"), "{notes:?}");
    }

    #[test]
    fn rs10_link_maps_that_cannot_be() {
        for (link, destination) in
            [("none", "/a"), ("pg_tblspc/7", "/a"), ("pg_hba.conf", "file"), ("postgresql.conf", "..")]
        {
            let error = map(&options(&[], &[(link, destination)])).unwrap_err();
            assert_eq!(error.kind(), PgDataErrorKind::LinkMap, "{link}");
        }
    }

    #[test]
    fn links_that_nobody_asked_for_become_their_contents() {
        let asked = MapOptions { link_all: false, ..options(&[], &[("pg_wal", "/w2")]) };
        let mapped = map(&asked).unwrap();
        assert_eq!(path_of(&mapped, "pg_data/postgresql.conf"), None);
        assert!(path_of(&mapped, "pg_data/pg_wal").is_some());
        assert!(path_of(&mapped, "pg_tblspc/7").is_some());
        assert!(mapped.links.contains(&LinkChange::Remove { name: b"pg_data/postgresql.conf".to_vec() }));
        assert!(
            mapped.notes.iter().any(|note| note.is_warning && note.text.starts_with("file link 'postgresql.conf'"))
        );
    }
}
