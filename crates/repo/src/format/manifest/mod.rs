//! backup.manifest: the complete list of what one backup holds.
//!
//! ```text
//! [backup]                 labels, times, WAL range, form of storage
//! [backup:db]              the cluster
//! [backup:option]          how the backup was made
//! [backup:target]          the roots: PGDATA, tablespaces, links
//! [cipher]                 passphrase of the backup's files, in an encrypted repository
//! [db]                     databases
//! [metadata]               annotations
//! [target:file]            files, one line each
//! [target:file:default]    what the lines do not state
//! [target:link]            symbolic links, and their defaults
//! [target:path]            directories, and their defaults
//! ```
//!
//! The defaults stand after the rows that they complete, so rows are completed when the file has been read. The same
//! file is written while a backup runs, with less in it: `None` in [`ManifestCluster::history_id`] tells.
//!
//! - [`ManifestReader`] takes the bytes in pieces; [`Manifest::write`] gives them in pieces
//! - [`ManifestBuilder`] makes the manifest of a new backup; [`Manifest::complete`] ends it
//! - rows are in ascending order of their names, and found by binary search

mod build;
mod complete;
mod file_row;
mod owner;
mod read;
mod read_file;
mod read_rows;
mod reference;
mod rows;
mod write;

#[cfg(test)]
mod tests;

use super::annotation::Annotations;
use super::cipher_pass::CipherPass;
use super::info::Envelope;
use super::label::{BackupLabel, BackupType};
use super::path::StoredFile;
use reference::References;

pub use build::{BeginBackup, BuildError, ManifestBuilder};
pub use complete::{Completion, IncompleteManifest};
pub use file_row::{
    BLOCK_CHECKSUM_SIZE_MAX, BLOCK_CHECKSUM_SIZE_MIN, BLOCK_SIZE_UNIT, BlockIncr, BundlePlace, CopiedFile, FileRow,
    PageChecksums, PageRange, ReferenceIndex, ScannedFile,
};
pub use owner::{Owner, OwnerNames};
pub use read::{ManifestReader, parse_file_row};
pub use rows::{
    Database, LinkRow, ManifestCluster, ManifestHeader, ManifestOptions, PathRow, Target, TargetError, TargetKind,
};

/// A backup's manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    envelope: Envelope,
    label: BackupLabel,
    prior: Option<BackupLabel>,
    references: References,
    header: ManifestHeader,
    cluster: ManifestCluster,
    options: ManifestOptions,
    annotations: Annotations,
    targets: Vec<Target>,
    databases: Vec<Database>,
    files: Vec<FileRow>,
    links: Vec<LinkRow>,
    paths: Vec<PathRow>,
    owners: OwnerNames,
    defaults: Defaults,
}

/// What rows need not state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Defaults {
    file: Attributes,
    path: Attributes,
    link_user: Owner,
    link_group: Owner,
}

/// Owner, group and permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attributes {
    user: Owner,
    group: Owner,
    mode: u16,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLocation {
    /// Nowhere: an empty file of a bundled backup.
    Nowhere,
    /// In a bundle of the backup `label`, from its offset on for `size_repo_bytes`.
    Bundle {
        /// The backup that stores it.
        label: BackupLabel,
        /// The bundle and the offset.
        place: BundlePlace,
    },
    /// In an object of its own in the backup `label`.
    Object {
        /// The backup that stores it.
        label: BackupLabel,
        /// In which form.
        stored: StoredFile,
    },
}

impl Manifest {
    /// Version, passphrase and what is unknown.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Passphrase of the backup's files; `None` when they are not encrypted.
    pub fn backup_pass(&self) -> Option<&CipherPass> {
        self.envelope.cipher_pass()
    }

    /// The name of the backup.
    pub fn label(&self) -> BackupLabel {
        self.label
    }

    /// Full, differential or incremental.
    pub fn backup_type(&self) -> BackupType {
        self.label.backup_type()
    }

    /// The backup that this one is based on; `None` exactly for a full backup.
    pub fn prior(&self) -> Option<BackupLabel> {
        self.prior
    }

    /// The backups that may store files of this one, this one last. Block maps number them in this order.
    pub fn references(&self) -> &[BackupLabel] {
        self.references.labels()
    }

    /// Times, WAL range and form of storage.
    pub fn header(&self) -> &ManifestHeader {
        &self.header
    }

    /// For changing times, WAL range and form of storage.
    pub fn header_mut(&mut self) -> &mut ManifestHeader {
        &mut self.header
    }

    /// The cluster.
    pub fn cluster(&self) -> &ManifestCluster {
        &self.cluster
    }

    /// How the backup was made.
    pub fn options(&self) -> &ManifestOptions {
        &self.options
    }

    /// For changing how the backup is made.
    pub fn options_mut(&mut self) -> &mut ManifestOptions {
        &mut self.options
    }

    /// What was noted when the backup was made.
    pub fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    /// The roots.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The databases; none for an offline backup and while it runs.
    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    /// All files in ascending order of their names.
    pub fn files(&self) -> &[FileRow] {
        &self.files
    }

    /// For changing rows, one or many. Names stay.
    pub fn files_mut(&mut self) -> &mut [FileRow] {
        &mut self.files
    }

    /// The place of a file in [`Manifest::files`].
    pub fn file_position(&self, name: &[u8]) -> Option<usize> {
        self.files.binary_search_by(|file| file.name().as_bytes().cmp(name)).ok()
    }

    /// The file with this name.
    pub fn file(&self, name: &[u8]) -> Option<&FileRow> {
        self.files.get(self.file_position(name)?)
    }

    /// The symbolic links in ascending order of their names.
    pub fn links(&self) -> &[LinkRow] {
        &self.links
    }

    /// The link with this name.
    pub fn link(&self, name: &[u8]) -> Option<&LinkRow> {
        self.links.get(self.links.binary_search_by(|link| link.name().as_bytes().cmp(name)).ok()?)
    }

    /// The directories in ascending order of their names.
    pub fn paths(&self) -> &[PathRow] {
        &self.paths
    }

    /// The directory with this name.
    pub fn path(&self, name: &[u8]) -> Option<&PathRow> {
        self.paths.get(self.paths.binary_search_by(|path| path.name().as_bytes().cmp(name)).ok()?)
    }

    /// The names behind the owners of rows.
    pub fn owners(&self) -> &OwnerNames {
        &self.owners
    }

    /// For naming owners of new rows.
    pub fn owners_mut(&mut self) -> &mut OwnerNames {
        &mut self.owners
    }

    /// The backup that stores a file of this manifest: this one or a reference.
    pub fn stored_in(&self, file: &FileRow) -> BackupLabel {
        let reference = file.reference.and_then(|index| self.references.label(index));
        reference.copied().unwrap_or(self.label)
    }

    /// Where the bytes of a file of this manifest are.
    pub fn location(&self, file: &FileRow) -> FileLocation {
        let label = self.stored_in(file);
        if let Some(place) = file.bundle {
            return FileLocation::Bundle { label, place };
        }
        if file.is_block_incremental() {
            return FileLocation::Object { label, stored: StoredFile::BlockIncremental };
        }
        if file.size_bytes == 0 && self.header.bundle {
            return FileLocation::Nowhere;
        }
        FileLocation::Object { label, stored: StoredFile::Whole(self.options.compress_type) }
    }

    /// Whether the stored bytes of a file are in raw form (repository-format.md §5.5).
    pub fn is_raw(&self, file: &FileRow) -> bool {
        file.is_block_incremental() || (file.bundle.is_some() && self.header.bundle_raw)
    }
}
