//! Checking and cleaning the destinations of a restore (repository-behaviour.md §5.4).
//!
//! What happens to an entry is decided by [`decide`], a pure function of the entry and of what a manifest expects;
//! [`plan_clean`] applies it to a directory and changes nothing, [`apply_clean`] does what was planned.

use std::collections::BTreeMap;

use rustix::fs::AtFlags;

use super::accounts::Ids;
use super::directory::{Directory, EntryInfo, EntryKind};
use super::error::{DisplayPath, PgDataError, PgDataErrorKind};
use super::owner::EntryMode;
use super::path::RelativePath;
use crate::postgres::PgVersion;
use crate::postgres::data_path::{PGDATA_NAME, file_name};

/// The copy of the manifest in the data directory that marks an unfinished restore.
pub const BACKUP_MANIFEST: &str = "backup.manifest";
/// Directories below one another that are cleaned; each level holds a handle and a stack frame.
const DEPTH_MAX: usize = 256;

/// What a restore expects: the entries of its manifest with owners turned into ids.
pub struct ExpectedTree<'a> {
    /// The file of a name, if there is one.
    pub file: &'a (dyn Fn(&[u8]) -> Option<Expected> + Sync),
    /// Directories by name.
    pub paths: BTreeMap<Vec<u8>, Expected>,
    /// Links by name; of tablespaces `pg_data/pg_tblspc/<oid>`.
    pub links: BTreeMap<Vec<u8>, ExpectedLink>,
}

/// Mode and owner that an entry shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Permission bits.
    pub mode: EntryMode,
    /// Owner.
    pub owner: Ids,
}

/// A link that shall be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedLink {
    /// Its text.
    pub destination: Vec<u8>,
    /// Owner of the link itself.
    pub owner: Ids,
}

/// Whether a restore may overwrite what is in its destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Destinations must be empty.
    Never,
    /// They are cleaned: delta or force was given, and the data directory is one.
    Allowed,
}

/// One change of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanChange {
    /// Remove a file that is not expected.
    RemoveFile,
    /// Remove a link that is not expected.
    RemoveLink,
    /// Remove a link that leads elsewhere than expected.
    RemoveChangedLink,
    /// Remove a socket, FIFO or device.
    RemoveSpecial,
    /// Remove a directory with everything in it.
    RemovePath,
    /// Give it to its owner.
    SetOwner(Ids),
    /// Set its permission bits.
    SetMode(EntryMode),
}

/// A planned change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanAction {
    /// The entry, below the directory that is cleaned.
    pub path: RelativePath,
    /// What happens to it.
    pub change: CleanChange,
}

impl CleanChange {
    /// The words of the original's log for a change of `path`.
    pub fn describe(self, path: &[u8]) -> String {
        let path = DisplayPath(path);
        match self {
            Self::RemoveFile => format!("remove invalid file '{path}'"),
            Self::RemoveLink => format!("remove invalid link '{path}'"),
            Self::RemoveChangedLink => format!("remove link '{path}' because destination changed"),
            Self::RemoveSpecial => format!("remove special file '{path}'"),
            Self::RemovePath => format!("remove invalid path '{path}'"),
            Self::SetOwner(_) => format!("update ownership for '{path}'"),
            Self::SetMode(mode) => format!("update mode for '{path}' to {:04o}", mode.bits()),
        }
    }
}

/// Refuses to go on while a server runs on the data directory.
///
/// # Errors
/// [`PgDataErrorKind::Running`] when `postmaster.pid` is there.
pub fn check_not_running(pgdata: &Directory) -> Result<(), PgDataError> {
    let pid = RelativePath::parse(file_name::POSTMASTER_PID.as_bytes())?;
    if pgdata.info_of(&pid)?.is_some() {
        let message = format!(
            "unable to restore while PostgreSQL is running\n\
             HINT: presence of 'postmaster.pid' in '{path}' indicates PostgreSQL is running.\n\
             HINT: remove 'postmaster.pid' only if PostgreSQL is not running.",
            path = DisplayPath(pgdata.path())
        );
        return Err(PgDataError::new(PgDataErrorKind::Running, pgdata.path(), message));
    }
    Ok(())
}

/// Whether a directory shows by its files that it is a data directory, or was about to become one: only then may a
/// restore with delta or force remove anything in it.
///
/// # Errors
/// [`PgDataErrorKind::FileOpen`].
pub fn is_data_directory(pgdata: &Directory) -> Result<bool, PgDataError> {
    for name in [file_name::PG_VERSION, BACKUP_MANIFEST] {
        if pgdata.info_of(&RelativePath::parse(name.as_bytes())?)?.is_some_and(|info| info.kind == EntryKind::File) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The files in the root of the data directory that cleaning passes over: the marker of an unfinished restore, and with
/// `preserve` the recovery settings.
pub fn ignored_files(version: PgVersion, preserve: bool) -> Vec<&'static str> {
    let mut names = vec![BACKUP_MANIFEST];
    match (preserve, version >= PgVersion::V12) {
        (false, _) => {}
        (true, true) => {
            names.extend([file_name::POSTGRESQL_AUTO_CONF, file_name::RECOVERY_SIGNAL, file_name::STANDBY_SIGNAL]);
        }
        (true, false) => names.push(file_name::RECOVERY_CONF),
    }
    names
}

/// Checks that a destination is ours to write.
///
/// # Errors
/// [`PgDataErrorKind::PathOpen`].
pub fn check_access(path: &[u8], info: &EntryInfo, current: Ids) -> Result<(), PgDataError> {
    let reason = if !current.is_root() && info.user != current.user {
        "not owned by current user"
    } else if info.mode & 0o700 != 0o700 {
        "without rwx permissions"
    } else {
        return Ok(());
    };
    let message = format!("unable to restore to path '{}' {reason}", DisplayPath(path));
    Err(PgDataError::new(PgDataErrorKind::PathOpen, path, message))
}

/// Checks that a destination has nothing in it but ignored files.
///
/// # Errors
/// [`PgDataErrorKind::NotEmpty`].
pub fn check_empty(directory: &Directory, ignored: &[&str]) -> Result<(), PgDataError> {
    for name in directory.names()? {
        if is_ignored(directory, &RelativePath::parse(&name)?, ignored)? {
            continue;
        }
        let message = format!(
            "unable to restore to path '{}' because it contains files\n\
             HINT: try using --delta if this is what you intended.",
            DisplayPath(directory.path())
        );
        return Err(PgDataError::new(PgDataErrorKind::NotEmpty, directory.path(), message));
    }
    Ok(())
}

/// What shall happen to the entry that a manifest would call `name`; nothing when it is as expected.
pub fn decide(
    tree: &ExpectedTree<'_>,
    name: &[u8],
    info: &EntryInfo,
    link_text: Option<&[u8]>,
) -> ([Option<CleanChange>; 2], Descend) {
    let remove = |change| ([Some(change), None], Descend::No);
    let link = tree.links.get(name);
    match info.kind {
        EntryKind::File => match (tree.file)(name).filter(|_| link.is_none()) {
            Some(expected) => (adjust(info, expected), Descend::No),
            None => remove(CleanChange::RemoveFile),
        },
        EntryKind::Directory => match tree.paths.get(name).filter(|_| link.is_none()) {
            Some(&expected) => (adjust(info, expected), Descend::Yes),
            None => remove(CleanChange::RemovePath),
        },
        EntryKind::Link => match link {
            None => remove(CleanChange::RemoveLink),
            Some(link) if link_text != Some(&link.destination) => remove(CleanChange::RemoveChangedLink),
            Some(link) => ([adjust_owner(info, link.owner), None], Descend::No),
        },
        EntryKind::Special => remove(CleanChange::RemoveSpecial),
    }
}

/// Whether the contents of an entry are to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// It is a directory that stays.
    Yes,
    /// It is not, or it goes.
    No,
}

/// Plans the cleaning of `directory`, which a manifest calls `name`. Entries come before what is in them.
///
/// # Errors
/// [`PgDataErrorKind::PathOpen`], [`PgDataErrorKind::FileOpen`], [`PgDataErrorKind::FileRead`] when it cannot be looked
/// through; [`PgDataErrorKind::Format`] when it is nested too deep.
pub fn plan_clean(
    directory: &Directory,
    name: &[u8],
    tree: &ExpectedTree<'_>,
    ignored: &[&str],
) -> Result<Vec<CleanAction>, PgDataError> {
    let mut actions = Vec::new();
    if let Some(&expected) = tree.paths.get(name) {
        let changes = adjust(&directory.info()?, expected);
        let action = |change| CleanAction { path: RelativePath::root(), change };
        actions.extend(changes.into_iter().flatten().map(action));
    }
    let ignored = if name == PGDATA_NAME.as_bytes() { ignored } else { &[] };
    plan_contents(directory, name, &RelativePath::root(), tree, ignored, 0, &mut actions)?;
    Ok(actions)
}

fn plan_contents(
    directory: &Directory,
    name: &[u8],
    below: &RelativePath,
    tree: &ExpectedTree<'_>,
    ignored: &[&str],
    depth: usize,
    actions: &mut Vec<CleanAction>,
) -> Result<(), PgDataError> {
    check_depth(depth, directory.path())?;
    for entry in directory.names()? {
        let here = RelativePath::parse(&entry)?;
        let Some(info) = directory.info_of(&here)? else { continue };
        if depth == 0 && is_ignored(directory, &here, ignored)? {
            continue;
        }
        let full_name = [name, b"/", &entry].concat();
        let path = below.join(&entry)?;
        let text = match info.kind {
            EntryKind::Link => Some(directory.link_text(&here)?),
            _ => None,
        };
        let (changes, descend) = decide(tree, &full_name, &info, text.as_deref());
        actions.extend(changes.into_iter().flatten().map(|change| CleanAction { path: path.clone(), change }));
        if descend == Descend::Yes
            && let Some(inner) = directory.open_below(&here)?
        {
            plan_contents(&inner, &full_name, &path, tree, &[], depth + 1, actions)?;
        }
    }
    Ok(())
}

/// Carries out a plan.
///
/// # Errors
/// [`PgDataErrorKind::FileRemove`], [`PgDataErrorKind::PathRemove`], [`PgDataErrorKind::FileOwner`],
/// [`PgDataErrorKind::FileMode`].
pub fn apply_clean(directory: &Directory, actions: &[CleanAction]) -> Result<(), PgDataError> {
    for action in actions {
        match action.change {
            CleanChange::RemoveFile
            | CleanChange::RemoveLink
            | CleanChange::RemoveChangedLink
            | CleanChange::RemoveSpecial => directory.remove_file(&action.path)?,
            CleanChange::RemovePath => directory.remove_tree(&action.path)?,
            CleanChange::SetOwner(owner) => directory.set_owner(&action.path, owner)?,
            CleanChange::SetMode(mode) => directory.set_mode(&action.path, mode)?,
        }
    }
    Ok(())
}

impl Directory {
    /// Removes a directory below with everything in it. Links in it are removed, not followed.
    ///
    /// # Errors
    /// [`PgDataErrorKind::PathRemove`], [`PgDataErrorKind::FileRemove`]; what was removed until then stays removed.
    pub fn remove_tree(&self, path: &RelativePath) -> Result<(), PgDataError> {
        self.remove_tree_at(path, 0)
    }

    fn remove_tree_at(&self, path: &RelativePath, depth: usize) -> Result<(), PgDataError> {
        check_depth(depth, self.path())?;
        if let Some(directory) = self.open_below(path)? {
            for name in directory.names()? {
                let name = RelativePath::parse(&name)?;
                match directory.info_of(&name)? {
                    Some(info) if info.kind == EntryKind::Directory => directory.remove_tree_at(&name, depth + 1)?,
                    Some(_) => directory.remove_file(&name)?,
                    None => {}
                }
            }
        }
        self.at(path, |parent, name| rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)).map_err(|errno| {
            PgDataError::system(PgDataErrorKind::PathRemove, "remove path", &self.path_of(path), errno)
        })
    }
}

fn check_depth(depth: usize, path: &[u8]) -> Result<(), PgDataError> {
    if depth >= DEPTH_MAX {
        let message = format!("directories are nested too deep at '{}'", DisplayPath(path));
        return Err(PgDataError::new(PgDataErrorKind::Format, path, message));
    }
    Ok(())
}

fn is_ignored(directory: &Directory, path: &RelativePath, ignored: &[&str]) -> Result<bool, PgDataError> {
    if !ignored.iter().any(|name| name.as_bytes() == path.as_bytes()) {
        return Ok(false);
    }
    Ok(directory.info_of(path)?.is_some_and(|info| info.kind == EntryKind::File))
}

fn adjust(info: &EntryInfo, expected: Expected) -> [Option<CleanChange>; 2] {
    let mode = (info.mode != expected.mode.bits()).then_some(CleanChange::SetMode(expected.mode));
    [adjust_owner(info, expected.owner), mode]
}

fn adjust_owner(info: &EntryInfo, owner: Ids) -> Option<CleanChange> {
    (Ids { user: info.user, group: info.group } != owner).then_some(CleanChange::SetOwner(owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Ids = Ids { user: 26, group: 26 };

    fn expected(mode: u32) -> Expected {
        Expected { mode: EntryMode::directory(mode), owner: OURS }
    }

    fn info(kind: EntryKind) -> EntryInfo {
        EntryInfo { kind, size_bytes: 0, modified_s: 0, mode: 0o700, user: 26, group: 26, identity: (0, 0), names: 1 }
    }

    #[test]
    fn rs09_what_is_not_expected_goes() {
        let file = |name: &[u8]| {
            matches!(name, b"pg_data/file" | b"pg_data/linked")
                .then(|| Expected { mode: EntryMode::file(0o600), owner: OURS })
        };
        let link = |destination: &str| ExpectedLink { destination: destination.into(), owner: OURS };
        let tree = ExpectedTree {
            file: &file,
            paths: BTreeMap::from([
                (b"pg_data/path".to_vec(), expected(0o700)),
                (b"pg_data/way".to_vec(), expected(0o700)),
            ]),
            links: BTreeMap::from([
                (b"pg_data/way".to_vec(), link("/wal")),
                (b"pg_data/linked".to_vec(), link("/etc/x")),
            ]),
        };
        let decide = |name: &str, kind, text: Option<&str>| {
            let (changes, descend) =
                decide(&tree, format!("pg_data/{name}").as_bytes(), &info(kind), text.map(str::as_bytes));
            (changes[0], changes[1], descend)
        };
        let gone = |change| (Some(change), None, Descend::No);
        use EntryKind::{Directory, File, Link, Special};
        // An expected file has mode 0600 here, so that its mode is corrected and nothing else.
        let mode = Some(CleanChange::SetMode(EntryMode::file(0o600)));
        assert_eq!(decide("file", File, None), (None, mode, Descend::No));
        assert_eq!(decide("other", File, None), gone(CleanChange::RemoveFile));
        assert_eq!(decide("path", File, None), gone(CleanChange::RemoveFile));
        assert_eq!(decide("linked", File, None), gone(CleanChange::RemoveFile), "a link takes its place");
        assert_eq!(decide("path", Directory, None), (None, None, Descend::Yes));
        assert_eq!(decide("way", Directory, None), gone(CleanChange::RemovePath), "a link takes its place");
        assert_eq!(decide("file", Directory, None), gone(CleanChange::RemovePath));
        assert_eq!(decide("way", Link, Some("/wal")), (None, None, Descend::No));
        assert_eq!(decide("way", Link, Some("/wal2")), gone(CleanChange::RemoveChangedLink));
        assert_eq!(decide("path", Link, Some("/wal")), gone(CleanChange::RemoveLink));
        assert_eq!(decide("file", Special, None), gone(CleanChange::RemoveSpecial));
    }

    #[test]
    fn owners_and_modes_are_corrected() {
        let tree = ExpectedTree {
            file: &|_| None,
            paths: BTreeMap::from([(b"p".to_vec(), expected(0o750))]),
            links: BTreeMap::new(),
        };
        let foreign = EntryInfo { user: 0, ..info(EntryKind::Directory) };
        let (changes, _) = decide(&tree, b"p", &foreign, None);
        assert_eq!(
            changes,
            [Some(CleanChange::SetOwner(OURS)), Some(CleanChange::SetMode(EntryMode::directory(0o750)))]
        );
    }

    #[test]
    fn destinations_must_be_ours() {
        let place = info(EntryKind::Directory);
        check_access(b"/x", &place, OURS).unwrap();
        check_access(b"/x", &place, Ids { user: 0, group: 0 }).unwrap();
        for (place, current) in [
            (place, Ids { user: 27, group: 26 }),
            (EntryInfo { mode: 0o500, ..place }, OURS),
            (EntryInfo { mode: 0o077, ..place }, OURS),
        ] {
            assert_eq!(check_access(b"/x", &place, current).unwrap_err().kind(), PgDataErrorKind::PathOpen);
        }
    }

    #[test]
    fn preserved_files_by_version() {
        assert_eq!(ignored_files(PgVersion::V15, false), ["backup.manifest"]);
        assert_eq!(ignored_files(PgVersion::V11, true), ["backup.manifest", "recovery.conf"]);
        assert_eq!(
            ignored_files(PgVersion::V12, true),
            ["backup.manifest", "postgresql.auto.conf", "recovery.signal", "standby.signal"]
        );
    }
}
