//! `manifest`: what the manifest of one backup says, as text or JSON (repository-behaviour.md §7.4).

mod delta;
mod json;
mod text;

use std::io::{self, Write};

pub use jiff::tz::TimeZone;

use crate::error::{Error, ErrorKind, Result};
use crate::format::block_map::{BlockMap, BlockMapFacts};
use crate::format::manifest::FileRow;
use crate::format::{BackupLabel, Manifest, Stanza};
use crate::progress::Context;
use crate::repository::{Repository, backup_file, decode_block_map};
use crate::storage::ByteRange;
use crate::transfer;

use delta::BlockTotals;

/// What to show.
#[derive(Debug, Clone)]
pub struct ManifestRequest {
    /// The backup; `None` is the newest.
    pub label: Option<BackupLabel>,
    /// Which files.
    pub files: ShownFiles,
    /// The form.
    pub form: ManifestForm,
    /// The zone of times in text.
    pub time_zone: TimeZone,
}

/// Which files are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShownFiles {
    /// All.
    All,
    /// Those that the backup itself stores.
    Own,
    /// Those that this backup stores.
    StoredIn(BackupLabel),
    /// The one of this name, with where its blocks are.
    Named(String),
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestForm {
    /// For people.
    Text,
    /// One line of JSON without an end of line.
    Json,
}

/// Writes what the manifest of a backup says to `out`.
///
/// # Errors
/// [`ErrorKind::BackupSetInvalid`] when there is no backup, [`ErrorKind::FileMissing`] when no file has the name,
/// [`ErrorKind::FileWrite`] for `out`, and those of reading backup.info, the manifest and a block map. A reader of `out`
/// that has left is no error.
pub async fn manifest(
    repository: &Repository,
    request: &ManifestRequest,
    out: &mut dyn Write,
    context: &Context,
) -> Result<()> {
    let info = repository.backup_info(context).await?;
    let newest = info.backups().last().map(|backup| backup.label);
    let label = request.label.or(newest).ok_or_else(|| {
        Error::new(ErrorKind::BackupSetInvalid, format!("{} has no backup of this stanza", repository.index()))
    })?;
    let passphrase = repository.manifest_passphrase(&info)?;
    let manifest = repository.manifest(&label, passphrase.as_ref(), context).await?;
    let named = match &request.files {
        ShownFiles::Named(name) => Some(named(repository, &manifest, name, context).await?),
        _ => None,
    };
    let shown = Shown { stanza: repository.stanza(), manifest: &manifest, files: &request.files, named };
    let written = match request.form {
        ManifestForm::Text => text::write(&shown, &request.time_zone, out),
        ManifestForm::Json => json::write(&shown, out),
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::FileWrite, format!("unable to write the manifest: {error}")))
        }
        _ => Ok(()),
    }
}

/// What is shown.
struct Shown<'a> {
    stanza: &'a Stanza,
    manifest: &'a Manifest,
    files: &'a ShownFiles,
    named: Option<Named<'a>>,
}

/// One file, with the totals of its block map if it has one.
struct Named<'a> {
    row: &'a FileRow,
    blocks: Option<Vec<BlockTotals>>,
}

impl Shown<'_> {
    fn rows(&self) -> impl Iterator<Item = &FileRow> {
        self.manifest.files().iter().filter(|row| match self.files {
            ShownFiles::All => true,
            ShownFiles::Own => row.reference.is_none(),
            ShownFiles::StoredIn(label) => row.reference.is_some() && self.manifest.stored_in(row) == *label,
            ShownFiles::Named(_) => false,
        })
    }
}

async fn named<'a>(
    repository: &Repository,
    manifest: &'a Manifest,
    name: &str,
    context: &Context,
) -> Result<Named<'a>> {
    let row = manifest.file(name.as_bytes()).ok_or_else(|| {
        let message = format!("unable to find '{}' in the manifest of {}", name.escape_debug(), manifest.label());
        Error::new(ErrorKind::FileMissing, message)
    })?;
    if !row.is_block_incremental() {
        return Ok(Named { row, blocks: None });
    }
    let map = block_map(repository, manifest, row, context).await?;
    Ok(Named { row, blocks: Some(delta::totals(&map)) })
}

async fn block_map(repository: &Repository, manifest: &Manifest, row: &FileRow, context: &Context) -> Result<BlockMap> {
    let facts = BlockMapFacts {
        geometry: backup_file::geometry(row)?,
        file_size_bytes: row.size_bytes,
        reference_count: manifest.references().len(),
    };
    let place = repository.block_map_place(manifest, row)?;
    let range = ByteRange { offset: place.offset, length: Some(place.size_bytes) };
    let storage = repository.storage().as_ref();
    let stored = transfer::load(storage, &place.object, range, None, &context.budget, |source| {
        let mut stored = Vec::new();
        source.all(|piece| {
            stored.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(stored)
    });
    let passphrase = repository.backup_passphrase(manifest)?;
    decode_block_map(place.object.as_str(), &stored.await?, facts, passphrase.as_ref(), &context.codecs)
}
