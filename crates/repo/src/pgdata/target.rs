//! [`Target`]: a root of the cluster, and [`DataRoots`]: the open handles of all of them.
//!
//! A name in a manifest belongs to the target with the longest matching name: `pg_data/pg_wal/x` to the link
//! `pg_data/pg_wal` if there is one, else to `pg_data`.

use std::collections::BTreeMap;

use super::directory::Directory;
use super::error::{DisplayPath, PgDataError, PgDataErrorKind};
use super::link::LinkPolicy;
use super::path::{RelativePath, absolute, parent};
use crate::postgres::data_path::PGDATA_NAME;

/// A root of the cluster: the data directory, a tablespace or a link (repository-format.md §4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `pg_data`, `pg_data/<link>` or `pg_tblspc/<oid>`.
    pub name: Vec<u8>,
    /// The path of the data directory or tablespace, or the text of the link; of a link to a file without the file.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: TargetKind,
}

/// What a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetKind {
    /// The data directory itself.
    Data,
    /// A link to a directory.
    DirectoryLink,
    /// A link to the file of this name in the target's path.
    FileLink(Vec<u8>),
    /// A tablespace.
    Tablespace {
        /// Its object id.
        oid: u32,
        /// Its name.
        name: Vec<u8>,
    },
}

impl Target {
    /// The target of the data directory.
    pub fn data(path: &[u8]) -> Self {
        Self { name: PGDATA_NAME.into(), path: path.to_vec(), kind: TargetKind::Data }
    }

    /// Whether it is a link or tablespace.
    pub fn is_link(&self) -> bool {
        self.kind != TargetKind::Data
    }

    /// The absolute directory that the target stands for, given the path of the data directory. The text of a relative
    /// link counts from the directory that holds the link.
    ///
    /// # Errors
    /// [`PgDataErrorKind::LinkDestination`] when the text cannot be resolved.
    pub fn directory(&self, pgdata: &[u8]) -> Result<Vec<u8>, PgDataError> {
        match &self.kind {
            TargetKind::Data => Ok(self.path.clone()),
            _ => absolute(&self.path, parent(&path_in_pgdata(pgdata, &self.name))),
        }
    }
}

/// The path under which the data directory shows what a manifest names: its own directory or that of its link.
pub(crate) fn path_in_pgdata(pgdata: &[u8], name: &[u8]) -> Vec<u8> {
    let below = match name.strip_prefix(PGDATA_NAME.as_bytes()) {
        Some(rest) => rest.strip_prefix(b"/").unwrap_or(rest),
        None => name,
    };
    if below.is_empty() { pgdata.to_vec() } else { [pgdata, b"/", below].concat() }
}

/// Open handles of all targets. Reading and writing the cluster's files goes through it and through nothing else.
#[derive(Debug)]
pub struct DataRoots {
    roots: BTreeMap<Vec<u8>, Root>,
}

#[derive(Debug)]
struct Root {
    directory: Directory,
    file: Option<Vec<u8>>,
}

impl DataRoots {
    /// Opens the directories of `targets`, of which the first of kind [`TargetKind::Data`] gives the base of relative
    /// links.
    ///
    /// # Errors
    /// [`PgDataErrorKind::Format`] without a data directory or with two targets of one name,
    /// [`PgDataErrorKind::LinkDestination`] when `policy` forbids one, [`PgDataErrorKind::PathMissing`] and
    /// [`PgDataErrorKind::PathOpen`] when one cannot be opened.
    pub fn open(targets: &[Target], policy: &LinkPolicy) -> Result<Self, PgDataError> {
        let Some(data) = targets.iter().find(|target| target.kind == TargetKind::Data) else {
            return Err(PgDataError::new(PgDataErrorKind::Format, b"pg_data", "there is no target 'pg_data'"));
        };
        let mut roots = BTreeMap::new();
        for target in targets {
            let path = target.directory(&data.path)?;
            let directory = match target.kind {
                TargetKind::Data => Directory::open(&path)?,
                _ => policy.open(&target.name, &path)?,
            };
            let file = match &target.kind {
                TargetKind::FileLink(file) => Some(file.clone()),
                _ => None,
            };
            if roots.insert(target.name.clone(), Root { directory, file }).is_some() {
                let message = format!("target '{}' is there twice", DisplayPath(&target.name));
                return Err(PgDataError::new(PgDataErrorKind::Format, &target.name, message));
            }
        }
        Ok(Self { roots })
    }

    /// The directory that holds what a manifest names, and the way from there.
    ///
    /// # Errors
    /// [`PgDataErrorKind::Format`] when the name belongs to no target or cannot be a path below one.
    pub fn locate(&self, name: &[u8]) -> Result<(&Directory, RelativePath), PgDataError> {
        let mut prefix = name;
        loop {
            if let Some(root) = self.roots.get(prefix) {
                let rest = name.get(prefix.len()..).unwrap_or_default();
                return match &root.file {
                    Some(file) if rest.is_empty() => Ok((&root.directory, RelativePath::parse(file)?)),
                    Some(_) => Err(Self::unknown(name, "it is below a link to a file")),
                    None => Ok((&root.directory, RelativePath::parse(rest.strip_prefix(b"/").unwrap_or(rest))?)),
                };
            }
            prefix = match parent(prefix) {
                b"" | b"/" => return Err(Self::unknown(name, "it is in no target")),
                shorter => shorter,
            };
        }
    }

    /// The directory of a target.
    pub fn directory(&self, target_name: &[u8]) -> Option<&Directory> {
        self.roots.get(target_name).map(|root| &root.directory)
    }

    /// All directories, by target name.
    pub fn directories(&self) -> impl Iterator<Item = (&[u8], &Directory)> {
        self.roots.iter().map(|(name, root)| (name.as_slice(), &root.directory))
    }

    fn unknown(name: &[u8], reason: &str) -> PgDataError {
        let message = format!("'{}' cannot be located: {reason}", DisplayPath(name));
        PgDataError::new(PgDataErrorKind::Format, name, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn names_belong_to_the_longest_target() {
        let temporary = tempfile::tempdir().unwrap();
        for name in ["pg", "wal", "etc", "ts"] {
            std::fs::create_dir(temporary.path().join(name)).unwrap();
        }
        let base = temporary.path().as_os_str().as_bytes();
        let path = |name: &str| [base, b"/", name.as_bytes()].concat();
        let targets = [
            Target::data(&path("pg")),
            Target { name: b"pg_data/pg_wal".to_vec(), path: b"../wal".to_vec(), kind: TargetKind::DirectoryLink },
            Target {
                name: b"pg_data/conf/hba".to_vec(),
                path: b"../../etc".to_vec(),
                kind: TargetKind::FileLink(b"hba.conf".to_vec()),
            },
            Target {
                name: b"pg_tblspc/7".to_vec(),
                path: path("ts"),
                kind: TargetKind::Tablespace { oid: 7, name: b"t".to_vec() },
            },
        ];
        let roots = DataRoots::open(&targets, &LinkPolicy::Any).unwrap();
        for (name, directory, below) in [
            ("pg_data", "pg", ""),
            ("pg_data/base/1", "pg", "base/1"),
            ("pg_data/pg_wall", "pg", "pg_wall"),
            ("pg_data/pg_wal", "wal", ""),
            ("pg_data/pg_wal/x/y", "wal", "x/y"),
            ("pg_data/conf/hba", "etc", "hba.conf"),
            ("pg_tblspc/7/PG_15_202209061/5", "ts", "PG_15_202209061/5"),
        ] {
            let (found, way) = roots.locate(name.as_bytes()).unwrap();
            assert_eq!(found.path(), path(directory), "{name}");
            assert_eq!(way.as_bytes(), below.as_bytes(), "{name}");
        }
        for bad in ["", "pg_tblspc/8/x", "pg_data/conf/hba/x", "pg_data/../x", "/pg_data", "other", "pg_data//x"] {
            assert_eq!(roots.locate(bad.as_bytes()).unwrap_err().kind(), PgDataErrorKind::Format, "{bad}");
        }
    }
}
