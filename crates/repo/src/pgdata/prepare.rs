//! Prepares the destinations of a restore: all are checked before any is changed.

use super::accounts::Ids;
use super::clean::{
    CleanAction, Expected, ExpectedTree, Overwrite, apply_clean, check_access, check_empty, plan_clean,
};
use super::directory::Directory;
use super::error::{DisplayPath, PgDataError, PgDataErrorKind};
use super::link::{LinkCheck, LinkPolicy};
use super::path::{RelativePath, parent};
use super::target::{DataRoots, Target, TargetKind};
use crate::postgres::DataLayout;
use crate::postgres::data_path::{CONTROL_FILE, PGDATA_NAME, TABLESPACES_NAME};

/// How destinations are prepared.
#[derive(Debug, Clone, Copy)]
pub struct PrepareOptions<'a> {
    /// Version and catalog of the cluster.
    pub layout: &'a DataLayout,
    /// Whether what is there may be removed.
    pub overwrite: Overwrite,
    /// Files in the root of the data directory that are passed over (`clean::ignored_files`).
    pub ignored: &'a [&'a str],
    /// Where links and tablespaces may lead.
    pub links: &'a LinkPolicy,
    /// The ids of this process.
    pub current: Ids,
}

/// A destination of a restore as it is before anything is changed.
#[derive(Debug)]
pub struct Destination {
    /// The name whose directory is cleaned: that of the target, of a tablespace with the directory of its version.
    pub name: Vec<u8>,
    /// Its absolute path.
    pub path: Vec<u8>,
    /// Whether only one file in it belongs to the cluster.
    pub is_file: bool,
    /// The directory, if it exists.
    pub directory: Option<Directory>,
}

/// Changes that were made to one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// The destination's path.
    pub path: Vec<u8>,
    /// The changes, in order.
    pub actions: Vec<CleanAction>,
}

/// Checks all `targets`, then creates, cleans and links them as `tree` expects, and opens them for writing. Before the
/// first removal `pg_control` goes, so that no server starts on a half-restored directory. Blocking.
///
/// # Errors
/// Before any change: [`PgDataErrorKind::LinkDestination`], [`PgDataErrorKind::PathOpen`],
/// [`PgDataErrorKind::NotEmpty`], [`PgDataErrorKind::FileExists`]. Later those of the changes.
pub fn prepare_destinations(
    targets: &[Target],
    tree: &ExpectedTree<'_>,
    options: PrepareOptions<'_>,
) -> Result<(DataRoots, Vec<Cleaned>), PgDataError> {
    let destinations = check_destinations(targets, options)?;
    for destination in &destinations {
        if destination.directory.is_none() {
            create_destination(destination, tree, options)?;
        }
    }
    let roots = DataRoots::open(targets, options.links)?;
    remove_control(&roots)?;
    let mut cleaned = Vec::new();
    for destination in destinations.iter().filter(|destination| !destination.is_file) {
        if let Some(directory) = &destination.directory {
            let actions = plan_clean(directory, &destination.name, tree, options.ignored)?;
            apply_clean(directory, &actions)?;
            cleaned.push(Cleaned { path: destination.path.clone(), actions });
        }
    }
    create_missing(&roots, tree)?;
    Ok((roots, cleaned))
}

/// Checks all destinations and changes nothing.
///
/// # Errors
/// As for [`prepare_destinations`] before any change.
pub fn check_destinations(targets: &[Target], options: PrepareOptions<'_>) -> Result<Vec<Destination>, PgDataError> {
    LinkCheck::all(targets)?;
    let data = targets.iter().find(|target| target.kind == TargetKind::Data);
    let pgdata = data.map(|data| data.path.as_slice()).unwrap_or_default();
    let mut destinations = Vec::new();
    for target in targets {
        let destination = find_destination(target, pgdata, options)?;
        if let Some(directory) = &destination.directory {
            check_access(&destination.path, &directory.info()?, options.current)?;
            if options.overwrite == Overwrite::Never {
                match &target.kind {
                    TargetKind::FileLink(file) => check_file_absent(directory, file)?,
                    TargetKind::Data => check_empty(directory, options.ignored)?,
                    _ => check_empty(directory, &[])?,
                }
            }
        }
        destinations.push(destination);
    }
    Ok(destinations)
}

fn find_destination(target: &Target, pgdata: &[u8], options: PrepareOptions<'_>) -> Result<Destination, PgDataError> {
    let root = target.directory(pgdata)?;
    if !root.starts_with(b"/") {
        let message = format!("'{}' is not an absolute path", DisplayPath(&root));
        return Err(PgDataError::new(PgDataErrorKind::PathOpen, &root, message));
    }
    let opened = match target.kind {
        TargetKind::Data => Directory::open(&root),
        _ => options.links.open(&target.name, &root),
    };
    let directory = match opened {
        Ok(directory) => Some(directory),
        Err(error) if error.kind() == PgDataErrorKind::PathMissing => None,
        Err(error) => return Err(error),
    };
    let is_file = matches!(target.kind, TargetKind::FileLink(_));
    if !matches!(target.kind, TargetKind::Tablespace { .. }) {
        return Ok(Destination { name: target.name.clone(), path: root, is_file, directory });
    }
    let version = RelativePath::parse(options.layout.tablespace_directory().as_bytes())?;
    let directory = match directory {
        Some(directory) => directory.open_below(&version)?,
        None => None,
    };
    Ok(Destination {
        name: [&target.name, &b"/"[..], version.as_bytes()].concat(),
        path: [&root, &b"/"[..], version.as_bytes()].concat(),
        is_file,
        directory,
    })
}

fn check_file_absent(directory: &Directory, file: &[u8]) -> Result<(), PgDataError> {
    let below = RelativePath::parse(file)?;
    if directory.info_of(&below)?.is_some() {
        let path = directory.path_of(&below);
        let message = format!(
            "unable to restore file '{}' because it already exists\n\
             HINT: try using --delta if this is what you intended.",
            DisplayPath(&path)
        );
        return Err(PgDataError::new(PgDataErrorKind::FileExists, &path, message));
    }
    Ok(())
}

/// A destination that does not exist gets the attributes of its own path in the manifest, for lack of that those of the
/// target, and the directory of a linked file those of the data directory.
fn create_destination(
    destination: &Destination,
    tree: &ExpectedTree<'_>,
    options: PrepareOptions<'_>,
) -> Result<(), PgDataError> {
    let names = [destination.name.as_slice(), parent(&destination.name), PGDATA_NAME.as_bytes()];
    let expected = names.into_iter().find_map(|name| tree.paths.get(name)).copied();
    let Some(Expected { mode, owner }) = expected else {
        let message = format!("there is no path '{PGDATA_NAME}' in the manifest");
        return Err(PgDataError::new(PgDataErrorKind::Format, PGDATA_NAME.as_bytes(), message));
    };
    if destination.name != PGDATA_NAME.as_bytes() {
        options.links.check(&destination.name, &destination.path)?;
    }
    Directory::create_all(&destination.path, mode, owner).map(|_| ())
}

/// Removes `pg_control` for good, so that it does not come back after a crash of the machine.
fn remove_control(roots: &DataRoots) -> Result<(), PgDataError> {
    let (directory, control) = roots.locate(CONTROL_FILE.as_bytes())?;
    let Some((global, _)) = control.split() else { return Ok(()) };
    // Anything but a plain file in a plain directory is not what a server would read, and is cleaned away later.
    let is_global = directory.open_below(&global);
    if matches!(is_global, Ok(Some(_))) && directory.info_of(&control)?.is_some() {
        match directory.remove_file(&control) {
            Err(error) if error.errno() != Some(rustix::io::Errno::ISDIR) => return Err(error),
            _ => directory.sync(&global)?,
        }
    }
    Ok(())
}

/// Creates the directories and links that are missing. Links come last: nothing is ever reached through them.
fn create_missing(roots: &DataRoots, tree: &ExpectedTree<'_>) -> Result<(), PgDataError> {
    for (name, expected) in &tree.paths {
        let is_tablespace = name.starts_with(TABLESPACES_NAME.as_bytes());
        let link_name = if is_tablespace { [PGDATA_NAME.as_bytes(), b"/", name].concat() } else { name.clone() };
        if name == TABLESPACES_NAME.as_bytes() || tree.links.contains_key(&link_name) {
            continue;
        }
        let (directory, below) = roots.locate(name)?;
        if !below.is_root() {
            directory.create_directory(&below, expected.mode, expected.owner)?;
        }
    }
    for (name, link) in &tree.links {
        let (directory, below) = roots.locate(parent(name))?;
        let below = below.join(super::path::last_name(name))?;
        if directory.info_of(&below)?.is_none() {
            directory.create_link(&below, &link.destination, link.owner)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "prepare_test.rs"]
mod tests;
