//! The walk itself.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{OwnerNames, Scan, ScanNote, ScanOptions, ScannedFile, ScannedLink, ScannedPath};
use crate::pgdata::directory::{Directory, EntryInfo, EntryKind, list_names, read_link, stat_entry};
use crate::pgdata::error::{DisplayPath, PgDataError, PgDataErrorKind};
use crate::pgdata::link::LinkCheck;
use crate::pgdata::path::{absolute, last_name, parent};
use crate::pgdata::target::{Target, TargetKind};
use crate::postgres::data_path::{PGDATA_NAME, RelationFile, TABLESPACE_LINKS, TABLESPACES_NAME, is_temporary_name};

/// Directories below one another: PostgreSQL itself uses five. Each level holds a handle and a stack frame.
const DEPTH_MAX: usize = 128;

/// The walk and what it has found.
pub(super) struct Walk<'a> {
    options: ScanOptions<'a>,
    pgdata: Directory,
    pgdata_info: EntryInfo,
    check: LinkCheck,
    owners: HashMap<(u32, u32), OwnerNames>,
    scan: Scan,
}

/// A directory being walked.
struct Place<'a> {
    /// Its name in the manifest.
    name: &'a [u8],
    /// Its path as seen through the data directory.
    path: &'a [u8],
    depth: usize,
}

impl Place<'_> {
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [self.path, b"/", name].concat()
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(pgdata: &[u8], options: ScanOptions<'a>) -> Result<Self, PgDataError> {
        if !pgdata.starts_with(b"/") {
            let message = format!("data directory '{}' is not an absolute path", DisplayPath(pgdata));
            return Err(PgDataError::new(PgDataErrorKind::PathOpen, pgdata, message));
        }
        let directory = Directory::open(pgdata)?;
        let pgdata_info = directory.info()?;
        Ok(Self {
            options,
            pgdata_info,
            check: LinkCheck::new(pgdata),
            pgdata: directory,
            owners: HashMap::new(),
            scan: Scan::default(),
        })
    }

    pub(super) fn run(mut self) -> Result<Scan, PgDataError> {
        let pgdata = self.pgdata.path().to_vec();
        let root = self.pgdata.open_fd(&crate::pgdata::path::RelativePath::root(), OFlags::RDONLY, Mode::empty());
        let root = root.map_err(|errno| PgDataError::system(PgDataErrorKind::PathOpen, "open path", &pgdata, errno))?;
        let info = self.pgdata_info;
        self.add_path(PGDATA_NAME.as_bytes(), &pgdata, &info)?;
        self.scan.targets.push(Target::data(&pgdata));
        self.contents(&Place { name: PGDATA_NAME.as_bytes(), path: &pgdata, depth: 0 }, root.as_fd())?;

        self.scan.targets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.scan.paths.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.scan.links.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.scan.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.remove_unlogged();
        Ok(self.scan)
    }

    /// Everything in the directory `place`, open as `directory`.
    fn contents(&mut self, place: &Place<'_>, directory: impl AsFd) -> Result<(), PgDataError> {
        if place.depth >= DEPTH_MAX {
            let message = format!("directories are nested too deep at '{}'", DisplayPath(place.path));
            return Err(PgDataError::new(PgDataErrorKind::Format, place.path, message));
        }
        let names = list_names(&directory)
            .map_err(|errno| PgDataError::system(PgDataErrorKind::PathOpen, "list", place.path, errno))?;
        for name in names {
            match stat_entry(&directory, &name) {
                Ok(info) => self.entry(place, directory.as_fd(), &name, &info)?,
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    let path = place.path_of(&name);
                    return Err(PgDataError::system(PgDataErrorKind::FileOpen, "get info for", &path, errno));
                }
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        place: &Place<'_>,
        directory: impl AsFd,
        name: &[u8],
        info: &EntryInfo,
    ) -> Result<(), PgDataError> {
        if is_temporary_name(name) {
            return Ok(());
        }
        let full_name = [place.name, b"/", name].concat();
        if let Some(exclusion) = self.excluded(&full_name, false) {
            self.scan.notes.push(ScanNote::Excluded { path: place.path_of(name), exclusion });
            return Ok(());
        }
        if place.name == TABLESPACE_LINKS.as_bytes() && matches!(info.kind, EntryKind::Directory | EntryKind::File) {
            let message = format!(
                "'{}' is not a symlink - pg_tblspc should contain only symlinks",
                DisplayPath(&place.path_of(name))
            );
            return Err(PgDataError::new(PgDataErrorKind::LinkExpected, &full_name, message));
        }
        match info.kind {
            EntryKind::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let open = || rustix::fs::openat(directory.as_fd(), name, flags, Mode::empty());
                self.directory(place, name, info, open)
            }
            EntryKind::File => self.file(place, name, info),
            EntryKind::Link => self.link(place, directory, name, info),
            EntryKind::Special => {
                self.scan.notes.push(ScanNote::SpecialFile { path: place.path_of(name) });
                Ok(())
            }
        }
    }

    /// A directory `name` in `place`, which `open` opens when its contents are wanted.
    fn directory(
        &mut self,
        place: &Place<'_>,
        name: &[u8],
        info: &EntryInfo,
        open: impl FnOnce() -> Result<OwnedFd, Errno>,
    ) -> Result<(), PgDataError> {
        let path = place.path_of(name);
        let full_name = [place.name, b"/", name].concat();
        if info.identity == self.pgdata_info.identity {
            let message = format!("'{}' is PGDATA itself", DisplayPath(&path));
            return Err(PgDataError::new(PgDataErrorKind::LinkDestination, &full_name, message));
        }
        self.add_path(&full_name, &path, info)?;
        if let Some(exclusion) = self.excluded(&full_name, true) {
            self.scan.notes.push(ScanNote::ExcludedContents { path, exclusion });
            return Ok(());
        }
        if self.options.layout.excludes_contents(place.name, name, self.options.online) {
            return Ok(());
        }
        let directory = match open() {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
                return Err(PgDataError::system(PgDataErrorKind::ChangedType, "open path", &path, errno));
            }
            Err(errno) => return Err(PgDataError::system(PgDataErrorKind::PathOpen, "open path", &path, errno)),
        };
        self.contents(&Place { name: &full_name, path: &path, depth: place.depth + 1 }, directory)
    }

    fn file(&mut self, place: &Place<'_>, name: &[u8], info: &EntryInfo) -> Result<(), PgDataError> {
        if self.options.layout.excludes_file(place.name, name, self.options.online) {
            return Ok(());
        }
        let full_name = [place.name, b"/", name].concat();
        check_name(&full_name, &place.path_of(name))?;
        let owner = self.owner(info);
        self.scan.files.push(ScannedFile {
            name: full_name,
            size_bytes: info.size_bytes,
            modified_s: info.modified_s,
            mode: info.mode,
            owner,
        });
        Ok(())
    }

    fn link(
        &mut self,
        place: &Place<'_>,
        directory: impl AsFd,
        name: &[u8],
        info: &EntryInfo,
    ) -> Result<(), PgDataError> {
        let path = place.path_of(name);
        let text = match read_link(directory, name) {
            Ok(text) => text,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno @ Errno::INVAL) => {
                return Err(PgDataError::system(
                    PgDataErrorKind::ChangedType,
                    "get destination for link",
                    &path,
                    errno,
                ));
            }
            Err(errno) => {
                return Err(PgDataError::system(PgDataErrorKind::FileRead, "get destination for link", &path, errno));
            }
        };
        let full_name = [place.name, b"/", name].concat();
        check_name(&full_name, &path)?;
        check_name(&text, &path)?;
        let destination = absolute(&text, place.path)?;
        let opened = self.options.links.open_entry(&full_name, &destination)?;
        let opened = match opened {
            Some(fd) => {
                let info = EntryInfo::of(&fd).map_err(|errno| {
                    PgDataError::system(PgDataErrorKind::FileOpen, "get info for", &destination, errno)
                })?;
                Some((fd, info))
            }
            None => None,
        };
        if opened.as_ref().is_some_and(|(_, info)| info.kind == EntryKind::Link) {
            let message =
                format!("link '{}' cannot reference another link '{}'", DisplayPath(&path), DisplayPath(&destination));
            return Err(PgDataError::new(PgDataErrorKind::LinkDestination, &full_name, message));
        }
        let owner = self.owner(info);
        self.scan.links.push(ScannedLink { name: full_name, destination: text.clone(), owner });
        if place.name == TABLESPACE_LINKS.as_bytes() {
            self.tablespace(place, name, &text, &destination, opened)
        } else {
            self.link_destination(place, name, &text, &destination, opened)
        }
    }

    /// What a link other than a tablespace leads to: it takes the name and place of the link.
    fn link_destination(
        &mut self,
        place: &Place<'_>,
        name: &[u8],
        text: &[u8],
        destination: &[u8],
        opened: Option<(OwnedFd, EntryInfo)>,
    ) -> Result<(), PgDataError> {
        let is_directory = opened.as_ref().is_none_or(|(_, info)| info.kind == EntryKind::Directory);
        let (path, kind) = if is_directory {
            (text.to_vec(), TargetKind::DirectoryLink)
        } else {
            (parent(text).to_vec(), TargetKind::FileLink(last_name(text).to_vec()))
        };
        self.add_target(Target { name: [place.name, b"/", name].concat(), path, kind })?;
        let Some((fd, info)) = opened else { return Err(missing_destination(place, name, destination)) };
        match info.kind {
            EntryKind::Directory => self.directory(place, name, &info, || reopen_directory(&fd)),
            EntryKind::File => self.file(place, name, &info),
            EntryKind::Special | EntryKind::Link => {
                self.scan.notes.push(ScanNote::SpecialFile { path: place.path_of(name) });
                Ok(())
            }
        }
    }

    /// A tablespace: only the directory of this version and catalog belongs to the cluster.
    fn tablespace(
        &mut self,
        place: &Place<'_>,
        name: &[u8],
        text: &[u8],
        destination: &[u8],
        opened: Option<(OwnedFd, EntryInfo)>,
    ) -> Result<(), PgDataError> {
        let path = place.path_of(name);
        let (oid, tablespace_name) = self.tablespace_name(name, &path)?;
        let full_name = [TABLESPACES_NAME.as_bytes(), b"/", name].concat();
        self.add_tablespace_paths(place.name, &full_name);
        let kind = TargetKind::Tablespace { oid, name: tablespace_name };
        self.add_target(Target { name: full_name.clone(), path: text.to_vec(), kind })?;

        let Some((fd, info)) = opened else { return Err(missing_destination(place, name, destination)) };
        if info.kind != EntryKind::Directory {
            let message = format!("tablespace link '{}' does not lead to a directory", DisplayPath(&path));
            return Err(PgDataError::new(PgDataErrorKind::Format, &full_name, message));
        }
        let directory_name = self.options.layout.tablespace_directory().as_bytes();
        let below = Place { name: &full_name, path: &path, depth: place.depth + 1 };
        let info = match stat_entry(&fd, directory_name) {
            Ok(info) if info.kind == EntryKind::Directory => info,
            Ok(_) => {
                let path = below.path_of(directory_name);
                let message = format!("'{}' in a tablespace is not a directory", DisplayPath(&path));
                return Err(PgDataError::new(PgDataErrorKind::LinkDestination, &full_name, message));
            }
            Err(Errno::NOENT) => return Err(missing_destination(&below, directory_name, destination)),
            Err(errno) => {
                let path = below.path_of(directory_name);
                return Err(PgDataError::system(PgDataErrorKind::FileOpen, "get info for", &path, errno));
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.directory(&below, directory_name, &info, || rustix::fs::openat(&fd, directory_name, flags, Mode::empty()))
    }

    /// The object id that a link in `pg_tblspc` is named for, and the tablespace's name.
    fn tablespace_name(&self, name: &[u8], path: &[u8]) -> Result<(u32, Vec<u8>), PgDataError> {
        let text = std::str::from_utf8(name).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(oid) = text.and_then(|text| text.parse::<u32>().ok()).filter(|&oid| oid != 0) else {
            let message = format!("tablespace link '{}' is not named for an object id", DisplayPath(path));
            return Err(PgDataError::new(PgDataErrorKind::Format, path, message));
        };
        match self.options.tablespaces {
            None => Ok((oid, [b"ts", name].concat())),
            Some(known) => match known.iter().find(|(known, _)| *known == oid) {
                Some((_, name)) => Ok((oid, name.clone().into_bytes())),
                None => {
                    let message = format!(
                        "tablespace with oid {oid} not found in tablespace map\n\
                         HINT: was a tablespace created or dropped during the backup?"
                    );
                    Err(PgDataError::new(PgDataErrorKind::UnknownTablespace, path, message))
                }
            },
        }
    }

    /// The manifest lists `pg_tblspc` and `pg_tblspc/<oid>` beside the real directories, with the attributes of the data
    /// directory and of its `pg_tblspc`.
    fn add_tablespace_paths(&mut self, links: &[u8], name: &[u8]) {
        let attributes_of = |paths: &[ScannedPath], name: &[u8]| {
            paths.iter().find(|path| path.name == name).map(|path| (path.mode, path.owner.clone()))
        };
        let paths = &mut self.scan.paths;
        if !paths.iter().any(|path| path.name == TABLESPACES_NAME.as_bytes())
            && let Some((mode, owner)) = attributes_of(paths, PGDATA_NAME.as_bytes())
        {
            paths.push(ScannedPath { name: TABLESPACES_NAME.into(), mode, owner });
        }
        if let Some((mode, owner)) = attributes_of(paths, links) {
            paths.push(ScannedPath { name: name.to_vec(), mode, owner });
        }
    }

    fn add_target(&mut self, target: Target) -> Result<(), PgDataError> {
        self.check.add(&target)?;
        self.scan.targets.push(target);
        Ok(())
    }

    fn add_path(&mut self, name: &[u8], path: &[u8], info: &EntryInfo) -> Result<(), PgDataError> {
        check_name(name, path)?;
        let owner = self.owner(info);
        self.scan.paths.push(ScannedPath { name: name.to_vec(), mode: info.mode, owner });
        Ok(())
    }

    fn owner(&mut self, info: &EntryInfo) -> OwnerNames {
        let accounts = self.options.accounts;
        self.owners
            .entry((info.user, info.group))
            .or_insert_with(|| OwnerNames {
                user: accounts.user_name(info.user).cloned(),
                group: accounts.group_name(info.group).cloned(),
            })
            .clone()
    }

    /// The exclusion that leaves out an entry, or with `contents` only what is in it.
    fn excluded(&self, full_name: &[u8], contents: bool) -> Option<Vec<u8>> {
        let below = full_name.strip_prefix(PGDATA_NAME.as_bytes())?.strip_prefix(b"/")?;
        let matches = |exclusion: &&Vec<u8>| match exclusion.strip_suffix(b"/") {
            Some(directory) => contents && directory == below,
            None => !contents && exclusion.as_slice() == below,
        };
        self.options.exclude.iter().find(matches).map(|_| below.to_vec())
    }

    /// Drops all forks of unlogged relations but the one they are reset to.
    fn remove_unlogged(&mut self) {
        let layout = self.options.layout;
        let is_init = |name: &[u8]| name.windows(5).any(|window| window == b"_init");
        let inits: HashSet<Vec<u8>> = self
            .scan
            .files
            .iter()
            .filter(|file| is_init(last_name(&file.name)))
            .map(|file| file.name.clone())
            .collect();
        if inits.is_empty() {
            return;
        }
        self.scan.files.retain(|file| {
            let directory = parent(&file.name);
            let init = RelationFile::parse(last_name(&file.name)).and_then(|relation| relation.init_fork_name());
            match init {
                Some(init) if layout.is_database_directory(directory) => {
                    !inits.contains(&[directory, b"/", &init].concat())
                }
                _ => true,
            }
        });
    }
}

/// A manifest is lines of text: a name with a newline cannot be told from two lines.
fn check_name(name: &[u8], path: &[u8]) -> Result<(), PgDataError> {
    if name.contains(&b'\n') {
        let message =
            format!("'{}' has a newline in its name or destination, which cannot be stored", DisplayPath(path));
        return Err(PgDataError::new(PgDataErrorKind::Format, path, message));
    }
    Ok(())
}

fn missing_destination(place: &Place<'_>, name: &[u8], destination: &[u8]) -> PgDataError {
    let path = place.path_of(name);
    let message = format!(
        "unable to get info for missing path/file '{}' (link destination '{}')",
        DisplayPath(&path),
        DisplayPath(destination)
    );
    PgDataError::new(PgDataErrorKind::FileOpen, &path, message)
}

/// Opens for listing what is open only for looking at.
fn reopen_directory(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
