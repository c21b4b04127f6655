//! What only the manifest of a backup says.

use crate::error::Result;
use crate::format::manifest::{FileRow, Manifest, PageChecksums, Target, TargetKind};
use crate::format::{BackupInfo, BackupLabel, ManifestName, RawText};
use crate::progress::Context;
use crate::repository::Repository;

/// What the manifest of a backup says beyond backup.info.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupDetails {
    /// Databases by name with their oids, without templates.
    pub databases: Vec<(RawText, u32)>,
    /// Links in PGDATA.
    pub links: Vec<LinkDetail>,
    /// Tablespaces.
    pub tablespaces: Vec<TablespaceDetail>,
    /// Files with page checksum errors, below PGDATA.
    pub damaged_files: Vec<RawText>,
}

/// A link in PGDATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkDetail {
    /// Where it is, below PGDATA; of a link to a file only the file's own name.
    pub name: RawText,
    /// Where it leads.
    pub destination: RawText,
}

/// A tablespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceDetail {
    /// Its name.
    pub name: RawText,
    /// Its oid.
    pub oid: u32,
    /// Where it was.
    pub destination: RawText,
}

/// Reads them from the manifest of a backup.
///
/// # Errors
/// What is wrong with the manifest.
pub(super) async fn read(
    repository: &Repository,
    backup_info: &BackupInfo,
    label: BackupLabel,
    context: &Context,
) -> Result<BackupDetails> {
    let passphrase = repository.manifest_passphrase(backup_info)?;
    Ok(BackupDetails::of(&repository.manifest(&label, passphrase.as_ref(), context).await?))
}

impl BackupDetails {
    fn of(manifest: &Manifest) -> Self {
        let databases = manifest.databases().iter().filter(|database| !is_template(&database.name));
        let damaged = |file: &&FileRow| matches!(file.page_checksums, PageChecksums::Errors(_));
        let mut details = Self {
            databases: databases.map(|database| (database.name.clone(), database.oid)).collect(),
            damaged_files: manifest.files().iter().filter(damaged).map(|file| shown(file.name())).collect(),
            ..Self::default()
        };
        for target in manifest.targets() {
            details.add(target);
        }
        details
    }

    fn add(&mut self, target: &Target) {
        match target.kind() {
            TargetKind::PgData { .. } => {}
            TargetKind::DirectoryLink { path } => {
                self.links.push(LinkDetail { name: shown(target.name()), destination: path.clone() });
            }
            TargetKind::FileLink { path, file } => {
                let destination = [path.as_bytes(), b"/", file.as_bytes()].concat().into();
                self.links.push(LinkDetail { name: file.clone(), destination });
            }
            TargetKind::Tablespace { path, oid, tablespace_name } => self.tablespaces.push(TablespaceDetail {
                name: tablespace_name.clone(),
                oid: *oid,
                destination: path.clone(),
            }),
        }
    }
}

/// Databases that every cluster has and nobody uses (`pgDbIsTemplate` in pgBackRest's `src/postgres/interface.c`).
fn is_template(name: &RawText) -> bool {
    matches!(name.as_bytes(), b"template0" | b"template1")
}

/// A name without `pg_data`, as people see it in PGDATA.
fn shown(name: &ManifestName) -> RawText {
    name.below_pg_data().unwrap_or(name.as_bytes()).into()
}
