//! Links and tablespaces: where they may lead.
//!
//! The checks are those of pgBackRest's `src/info/manifest/link.c.inc`, and stricter where that looks at texts only.

use std::collections::BTreeMap;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::directory::Directory;
use super::error::{DisplayPath, PgDataError, PgDataErrorKind};
use super::path::{RelativePath, below};
use super::target::{Target, TargetKind};

/// Which links are followed, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LinkPolicy {
    /// Any link, to any destination, as pgBackRest does.
    #[default]
    Any,
    /// Only tablespaces and the WAL directory, and only to places at or below these absolute directories. A link in
    /// the data directory is in the hands of whoever is superuser of the database, and must not reach what else this
    /// process can read.
    Only(Vec<Vec<u8>>),
}

impl LinkPolicy {
    /// Opens the directory that the link `name` leads to.
    ///
    /// # Errors
    /// [`PgDataErrorKind::LinkDestination`] when the policy forbids it, else those of [`Directory::open`].
    pub fn open(&self, name: &[u8], path: &[u8]) -> Result<Directory, PgDataError> {
        match self.allowed_root(name, path)? {
            None => Directory::open(path),
            Some((root, rest)) => match Directory::open(root)?.open_below(&rest)? {
                Some(directory) => Ok(directory),
                None => {
                    let message = format!("missing path '{}'", DisplayPath(path));
                    Err(PgDataError::missing(PgDataErrorKind::PathMissing, path, message))
                }
            },
        }
    }

    /// Checks that the link `name` may lead to `path`.
    ///
    /// # Errors
    /// [`PgDataErrorKind::LinkDestination`].
    pub fn check(&self, name: &[u8], path: &[u8]) -> Result<(), PgDataError> {
        self.allowed_root(name, path).map(|_| ())
    }

    /// Opens the entry that the link `name` leads to without following another link at its end; `None` when it does
    /// not exist. The handle serves to ask what it is, not to read it.
    pub(crate) fn open_entry(&self, name: &[u8], path: &[u8]) -> Result<Option<std::os::fd::OwnedFd>, PgDataError> {
        let opened = match self.allowed_root(name, path)? {
            None => rustix::fs::openat(
                rustix::fs::CWD,
                path,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            ),
            Some((root, rest)) => Directory::open(root)?.open_fd(&rest, OFlags::PATH, Mode::empty()),
        };
        match opened {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(PgDataError::system(PgDataErrorKind::FileOpen, "get info for", path, errno)),
        }
    }

    /// The allowed directory that `path` is in, and the way from there; `None` when anything is allowed.
    fn allowed_root(&self, name: &[u8], path: &[u8]) -> Result<Option<(&[u8], RelativePath)>, PgDataError> {
        let Self::Only(roots) = self else { return Ok(None) };
        let is_known = name.starts_with(b"pg_tblspc/")
            || name.starts_with(b"pg_data/pg_tblspc/")
            || matches!(name, b"pg_data/pg_wal" | b"pg_data/pg_xlog" | b"pg_data/pg_tblspc");
        let root = roots.iter().filter(|_| is_known).find_map(|root| Some((root, below(path, root)?)));
        match root {
            Some((root, rest)) => Ok(Some((root, RelativePath::parse(rest)?))),
            None => {
                let message = format!(
                    "link '{}' destination '{}' is not allowed: only tablespaces and the WAL directory may be links, \
                     and only to allowed places",
                    DisplayPath(name),
                    DisplayPath(path)
                );
                Err(PgDataError::new(PgDataErrorKind::LinkDestination, name, message))
            }
        }
    }
}

/// Checks the destinations of links against the data directory and each other.
#[derive(Debug)]
pub struct LinkCheck {
    pgdata: Vec<u8>,
    /// Destination directory, with a slash at its end so that only whole names are compared, to its links.
    seen: BTreeMap<Vec<u8>, Seen>,
}

#[derive(Debug)]
struct Seen {
    name: Vec<u8>,
    /// The files of links to files; `None` for a link to the directory itself.
    files: Option<Vec<Vec<u8>>>,
}

impl LinkCheck {
    /// A check for links in the data directory at this absolute path.
    pub fn new(pgdata: &[u8]) -> Self {
        Self { pgdata: pgdata.to_vec(), seen: BTreeMap::new() }
    }

    /// Checks all `targets`.
    ///
    /// # Errors
    /// As for [`LinkCheck::add`]; [`PgDataErrorKind::Format`] without a data directory.
    pub fn all(targets: &[Target]) -> Result<(), PgDataError> {
        let Some(data) = targets.iter().find(|target| target.kind == TargetKind::Data) else {
            return Err(PgDataError::new(PgDataErrorKind::Format, b"pg_data", "there is no target 'pg_data'"));
        };
        let mut check = Self::new(&data.path);
        targets.iter().filter(|target| target.is_link()).try_for_each(|target| check.add(target))
    }

    /// Adds a link or tablespace.
    ///
    /// # Errors
    /// [`PgDataErrorKind::LinkDestination`] when its destination is in the data directory or above it, is that of
    /// another link (two links may lead to different files of one directory), or is below or above that of another
    /// link to a directory.
    pub fn add(&mut self, target: &Target) -> Result<(), PgDataError> {
        let path = target.directory(&self.pgdata)?;
        let file = match &target.kind {
            TargetKind::Data => return Ok(()),
            TargetKind::FileLink(file) => Some(file),
            _ => None,
        };
        if below(&path, &self.pgdata).is_some() {
            return Err(refuse(target, &path, "is in PGDATA"));
        }
        if file.is_none() && below(&self.pgdata, &path).is_some() {
            return Err(refuse(target, &path, "contains PGDATA"));
        }
        let key = if path.ends_with(b"/") { path.clone() } else { [&path[..], b"/"].concat() };
        if let Some(seen) = self.seen.get_mut(&key) {
            let (Some(files), Some(file)) = (&mut seen.files, file) else {
                let reason = format!("is the same directory as link '{}'", DisplayPath(&seen.name));
                return Err(refuse(target, &path, &reason));
            };
            if files.contains(file) {
                let reason = format!("is the same file as link '{}'", DisplayPath(&seen.name));
                return Err(refuse(target, &path, &reason));
            }
            files.push(file.clone());
            return Ok(());
        }
        if file.is_none() {
            self.check_nesting(target, &path, &key)?;
        }
        self.seen.insert(key, Seen { name: target.name.clone(), files: file.map(|file| vec![file.clone()]) });
        Ok(())
    }

    /// Links to files may stand anywhere beside links to directories; two of the latter must not contain each other.
    fn check_nesting(&self, target: &Target, path: &[u8], key: &[u8]) -> Result<(), PgDataError> {
        for (other, seen) in self.seen.iter().filter(|(_, seen)| seen.files.is_none()) {
            if key.starts_with(other) {
                let reason = format!("is a subdirectory of link '{}'", DisplayPath(&seen.name));
                return Err(refuse(target, path, &reason));
            }
            if other.starts_with(key) {
                let reason = format!("contains the destination of link '{}'", DisplayPath(&seen.name));
                return Err(refuse(target, path, &reason));
            }
        }
        Ok(())
    }
}

fn refuse(target: &Target, path: &[u8], reason: &str) -> PgDataError {
    let message = format!("link '{}' destination '{}' {reason}", DisplayPath(&target.name), DisplayPath(path));
    PgDataError::new(PgDataErrorKind::LinkDestination, &target.name, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, path: &str) -> Target {
        Target { name: name.into(), path: path.into(), kind: TargetKind::DirectoryLink }
    }

    fn file(name: &str, path: &str, file: &str) -> Target {
        Target { name: name.into(), path: path.into(), kind: TargetKind::FileLink(file.into()) }
    }

    fn check(targets: &[Target]) -> Result<(), String> {
        let mut all = vec![Target::data(b"/pg/data")];
        all.extend_from_slice(targets);
        LinkCheck::all(&all).map_err(|error| {
            assert_eq!(error.kind(), PgDataErrorKind::LinkDestination);
            error.to_string()
        })
    }

    #[test]
    fn bk23_links_must_not_lead_into_pgdata() {
        for path in ["/pg/data", "/pg/data/x", "..", "../data", "base", "/", "/pg"] {
            check(&[link("pg_data/x", path)]).unwrap_err();
        }
        check(&[file("pg_data/x", "", "y")]).unwrap_err();
        check(&[link("pg_data/x", "/pg/data2")]).unwrap();
        check(&[link("pg_data/x", "../data2")]).unwrap();
        check(&[file("pg_data/x", "/pg", "y")]).unwrap();
    }

    #[test]
    fn hi02_destinations_must_not_meet() {
        for (a, b) in [("/a", "/a"), ("/a", "/a/b"), ("/a/b", "/a"), ("../a", "/pg/a/b")] {
            check(&[link("pg_data/x", a), link("pg_data/y", b)]).unwrap_err();
            check(&[link("pg_data/y", b), link("pg_data/x", a)]).unwrap_err();
        }
        check(&[link("pg_data/x", "/a"), link("pg_data/y", "/ab")]).unwrap();
        check(&[link("pg_data/x", "/a"), file("pg_data/y", "/a", "f")]).unwrap_err();
        check(&[file("pg_data/x", "/a", "f"), file("pg_data/y", "/a", "f")]).unwrap_err();
        check(&[file("pg_data/x", "/a", "f"), file("pg_data/y", "/a", "g")]).unwrap();
        check(&[file("pg_data/x", "/a", "f"), file("pg_data/y", "/a", "g"), file("pg_data/z", "/a", "g")]).unwrap_err();
        check(&[file("pg_data/x", "/a", "f"), link("pg_data/y", "/a/b")]).unwrap();
        check(&[link("pg_data/x", "/a/../b")]).unwrap_err();
    }

    #[test]
    fn hi18_sec18_only_known_links_to_allowed_places() {
        let policy = LinkPolicy::Only(vec![b"/var/lib/postgresql/wal".to_vec(), b"/ts".to_vec()]);
        for (name, path) in [
            ("pg_data/pg_wal", "/var/lib/postgresql/wal"),
            ("pg_data/pg_wal", "/var/lib/postgresql/wal/pg_wal"),
            ("pg_tblspc/16400", "/ts/a"),
        ] {
            assert!(policy.allowed_root(name.as_bytes(), path.as_bytes()).unwrap().is_some());
        }
        for (name, path) in [
            ("pg_data/pg_wal", "/var/lib/postgresql/walrus"),
            ("pg_data/pg_wal", "/var/run/secrets"),
            ("pg_data/base/x", "/ts/a"),
            ("pg_tblspc/16400", "/"),
        ] {
            let error = policy.allowed_root(name.as_bytes(), path.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), PgDataErrorKind::LinkDestination);
        }
    }
}
