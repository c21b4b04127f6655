//! The manifest of a new backup: from a scan to the begin of copying.

use super::file_row::FileRow;
use super::owner::OwnerNames;
use super::read::sort_rows;
use super::reference::References;
use super::rows::{LinkRow, ManifestCluster, ManifestHeader, ManifestOptions, PathRow, Target, TargetKind};
use super::{Attributes, Defaults, Manifest};
use crate::format::annotation::Annotations;
use crate::format::cipher_pass::CipherPass;
use crate::format::info::Envelope;
use crate::format::label::{BackupLabel, BackupType};
use crate::format::text::shown;
use crate::postgres::PgVersion;

/// Bits of the mode of `pg_data` that files have by default (`S_IRUSR | S_IWUSR | S_IRGRP`).
const FILE_MODE_MASK: u16 = 0o640;

/// What is known when a backup begins.
#[derive(Debug, Clone)]
pub struct BeginBackup {
    /// Its name.
    pub label: BackupLabel,
    /// Passphrase of its files, in an encrypted repository.
    pub backup_pass: Option<CipherPass>,
    /// When it started, seconds since the Unix epoch.
    pub timestamp_start_s: i64,
    /// PostgreSQL version.
    pub version: PgVersion,
    /// Catalog version of `pg_control`.
    pub catalog_version: u32,
    /// Control version of the table of versions.
    pub control_version: u32,
    /// Small files go into bundles.
    pub bundle: bool,
    /// Files may be stored as blocks.
    pub block_incr: bool,
    /// The options that are known now: compression, delta, page checksums, online.
    pub options: ManifestOptions,
}

/// Rows do not make a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A name stands twice in a section.
    #[error("'{name}' stands twice in section '{section}' of the manifest")]
    Twice {
        /// The section.
        section: &'static str,
        /// The name, shortened for display.
        name: Box<str>,
    },
    /// There is no target or no directory `pg_data`.
    #[error("section '{0}' of the manifest has no 'pg_data'")]
    NoPgData(&'static str),
    /// A full backup with a prior, or another one without or of another set.
    #[error("backup {label} cannot have {} as its prior backup", prior.map_or("none".to_owned(), |prior| prior.to_string()))]
    Prior {
        /// The new backup.
        label: BackupLabel,
        /// The prior.
        prior: Option<BackupLabel>,
    },
}

/// Collects the rows of a new manifest, in any order.
#[derive(Debug)]
pub struct ManifestBuilder {
    begin: BeginBackup,
    prior: Option<BackupLabel>,
    references: References,
    bundle_raw: bool,
    owners: OwnerNames,
    targets: Vec<Target>,
    files: Vec<FileRow>,
    links: Vec<LinkRow>,
    paths: Vec<PathRow>,
}

impl ManifestBuilder {
    /// Begins a manifest, for a differential or incremental backup on top of `prior`.
    ///
    /// From the prior come the list of references, to which the new label is added, the raw form of bundles, and the
    /// compression type, which a whole set shares.
    ///
    /// # Errors
    /// [`BuildError::Prior`] when label and prior do not go together.
    pub fn new(mut begin: BeginBackup, prior: Option<&Manifest>) -> Result<Self, BuildError> {
        let label = begin.label;
        let fits = match prior {
            None => label.backup_type() == BackupType::Full,
            Some(prior) => {
                label.backup_type() != BackupType::Full && prior.label.same_set(&label) && prior.label < label
            }
        };
        let labels = prior.map_or(&[][..], Manifest::references).iter().copied().chain([label]);
        let refused = || BuildError::Prior { label, prior: prior.map(Manifest::label) };
        let references = References::new(labels).filter(|_| fits).ok_or_else(refused)?;
        if let Some(prior) = prior {
            begin.options.compress_type = prior.options.compress_type;
        }
        Ok(Self {
            prior: prior.map(Manifest::label),
            references,
            bundle_raw: prior.map_or(begin.bundle && begin.block_incr, |prior| prior.header.bundle_raw),
            begin,
            owners: OwnerNames::default(),
            targets: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            paths: Vec::new(),
        })
    }

    /// For naming the owners of rows.
    pub fn owners_mut(&mut self) -> &mut OwnerNames {
        &mut self.owners
    }

    /// Adds a root.
    pub fn add_target(&mut self, target: Target) {
        self.targets.push(target);
    }

    /// Adds a directory.
    pub fn add_path(&mut self, path: PathRow) {
        self.paths.push(path);
    }

    /// Adds a symbolic link.
    pub fn add_link(&mut self, link: LinkRow) {
        self.links.push(link);
    }

    /// Adds a file.
    pub fn add_file(&mut self, file: FileRow) {
        self.files.push(file);
    }

    /// Orders the rows and takes the defaults from the directory `pg_data`.
    ///
    /// # Errors
    /// [`BuildError`] when a name stands twice or `pg_data` is missing.
    pub fn finish(mut self) -> Result<Manifest, BuildError> {
        let twice = |section, name: &[u8]| Err(BuildError::Twice { section, name: shown(name) });
        if let Some(name) = sort_rows(&mut self.files, |file| file.name().as_bytes()) {
            return twice("target:file", name);
        }
        if let Some(name) = sort_rows(&mut self.links, |link| link.name().as_bytes()) {
            return twice("target:link", name);
        }
        if let Some(name) = sort_rows(&mut self.paths, |path| path.name().as_bytes()) {
            return twice("target:path", name);
        }
        if let Some(name) = sort_rows(&mut self.targets, |target| target.name().as_bytes()) {
            return twice("backup:target", name);
        }
        if !self.targets.iter().any(|target| matches!(target.kind(), TargetKind::PgData { .. })) {
            return Err(BuildError::NoPgData("backup:target"));
        }
        let base = self.paths.iter().find(|path| path.name().as_bytes() == b"pg_data");
        let defaults = base.map(Defaults::of_pg_data).ok_or(BuildError::NoPgData("target:path"))?;
        let begin = self.begin;
        Ok(Manifest {
            envelope: Envelope::new(begin.backup_pass),
            label: begin.label,
            prior: self.prior,
            references: self.references,
            header: ManifestHeader {
                timestamp_copy_start_s: begin.timestamp_start_s,
                timestamp_start_s: begin.timestamp_start_s,
                bundle: begin.bundle,
                bundle_raw: self.bundle_raw,
                block_incr: begin.block_incr,
                ..ManifestHeader::default()
            },
            cluster: ManifestCluster {
                version: begin.version,
                catalog_version: begin.catalog_version,
                control_version: begin.control_version,
                history_id: None,
                system_id: None,
            },
            options: begin.options,
            annotations: Annotations::default(),
            targets: self.targets,
            databases: Vec::new(),
            files: self.files,
            links: self.links,
            paths: self.paths,
            owners: self.owners,
            defaults,
        })
    }
}

impl Defaults {
    /// The defaults of a new manifest (`manifestSave` of pgBackRest).
    fn of_pg_data(base: &PathRow) -> Self {
        let path = Attributes { user: base.user, group: base.group, mode: base.mode };
        let file = Attributes { mode: base.mode & FILE_MODE_MASK, ..path };
        Self { file, path, link_user: base.user, link_group: base.group }
    }
}

impl Manifest {
    /// Gives the backup another name before anything refers to it: a resumed backup keeps the name it had.
    ///
    /// # Errors
    /// [`BuildError::Prior`] when the type or the set is another, or the name is in the list of references already.
    pub fn rename(&mut self, label: BackupLabel) -> Result<(), BuildError> {
        let fits = match self.prior {
            None => label.backup_type() == BackupType::Full,
            Some(prior) => label.backup_type() == self.backup_type() && prior.same_set(&label) && prior < label,
        };
        let free = label == self.label || self.references.index(&label).is_none();
        if !fits || !free {
            return Err(BuildError::Prior { label, prior: self.prior });
        }
        _ = self.references.rename_last(label);
        self.label = label;
        Ok(())
    }

    /// Replaces the passphrase of the files before any is written: a resumed backup keeps the one it had.
    pub fn set_backup_pass(&mut self, pass: Option<CipherPass>) {
        self.envelope.set_cipher_pass(pass);
    }

    /// Adds a file, such as `pg_data/backup_label`.
    ///
    /// # Errors
    /// [`BuildError::Twice`] when a file has the name.
    pub fn insert_file(&mut self, file: FileRow) -> Result<(), BuildError> {
        match self.files.binary_search_by(|other| other.name().cmp(file.name())) {
            Ok(_) => Err(BuildError::Twice { section: "target:file", name: shown(file.name().as_bytes()) }),
            Err(at) => {
                self.files.insert(at, file);
                Ok(())
            }
        }
    }

    /// Removes the files for which `keep` is false: those that vanished while the backup ran.
    pub fn retain_files(&mut self, keep: impl FnMut(&FileRow) -> bool) {
        self.files.retain(keep);
    }

    /// Makes the file at `position` a reference to the same file in the prior backup: the stored form, sizes and checksums are
    /// the prior's; name, owner, mode and time stay. `false`, and no change, when there is no such file, or the prior
    /// is not this manifest's.
    pub fn reference_prior(&mut self, position: usize, prior: &Manifest, prior_file: &FileRow) -> bool {
        let reference = self.references.index(&prior.stored_in(prior_file));
        let (Some(file), Some(reference)) = (self.files.get_mut(position), reference) else { return false };
        if self.prior != Some(prior.label) {
            return false;
        }
        file.size_bytes = prior_file.size_bytes;
        file.size_repo_bytes = prior_file.size_repo_bytes;
        file.checksum = prior_file.checksum;
        file.checksum_repo = prior_file.checksum_repo;
        file.page_checksums.clone_from(&prior_file.page_checksums);
        file.bundle = prior_file.bundle;
        file.block_incr = prior_file.block_incr;
        file.reference = Some(reference);
        true
    }
}
