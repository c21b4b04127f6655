//! Going on with a backup that did not finish (repository-behaviour.md §4.8): what it stored is used where the file has not
//! changed since, and everything else is removed from its directory.
//!
//! Nothing is trusted for being there: each file that is kept is read from the repository and compared with its checksum
//! when its turn to be copied comes.

use std::collections::BTreeSet;

use super::file::{Copied, Copier};
use super::leftovers::{discard, tolerated};
use super::options::BackupOptions;
use super::prepare::Prepared;
use super::process::Process;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Digest;
use crate::format::info::BACKREST_VERSION;
use crate::format::manifest::{CopiedFile, FileRow, PageChecksums};
use crate::format::path::{self, BLOCK_INCR_EXTENSION, StoredFile};
use crate::format::{BackupType, Manifest};
use crate::pgdata::DisplayPath;
use crate::postgres::PgVersion;
use crate::postgres::data_path::CONTROL_FILE;
use crate::progress::{Context, blocking};
use crate::repository::WritableRepository;
use crate::storage::{Entry, EntryKind, ErrorClass, ListOptions, StorageExt};

/// The files of a new manifest, by position, that an unfinished backup has stored.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeSet<usize>);

impl Kept {
    /// Whether the file at `position` is stored already, if the repository still has it as it was.
    pub(super) fn has(&self, position: usize) -> bool {
        self.0.contains(&position)
    }
}

/// Why a new full backup cannot go on with the one whose manifest is `left`; `None` when it can.
pub(super) fn obstacle(
    left: &Manifest,
    options: &BackupOptions,
    version: PgVersion,
    encrypted: bool,
) -> Option<String> {
    let (compress, left_compress) = (options.compress.kind(), left.options().compress_type);
    let left_version = left.envelope().version();
    if left_version.as_bytes() != BACKREST_VERSION.as_bytes() {
        return Some(format!(
            "new pgBackRest version '{BACKREST_VERSION}' does not match resumable pgBackRest version '{left_version}'"
        ));
    }
    if left.backup_type() != BackupType::Full {
        return Some(format!("new backup type 'full' does not match resumable backup type '{}'", left.backup_type()));
    }
    if left_compress != compress {
        return Some(format!("new compression '{compress}' does not match resumable compression '{left_compress}'"));
    }
    if left.cluster().version != version {
        return Some(format!("it is of PostgreSQL {}", left.cluster().version));
    }
    if left.backup_pass().is_some() != encrypted {
        return Some("the repository is encrypted and it is not, or the reverse".to_owned());
    }
    None
}

/// Makes `manifest`, which has the name and the passphrase of `left`, go on with that backup: with those of its files that
/// can be used. `form` tells in which form a file is stored in an object of its own; `None` when it is not.
///
/// # Errors
/// The storage's, but for a refusal to remove. Whatever happens, the copy of the manifest stays, so that another backup can resume.
pub(super) async fn take_over(
    repository: &WritableRepository,
    manifest: &mut Manifest,
    left: &Manifest,
    form: impl Fn(&Manifest, usize) -> Option<StoredFile>,
    context: &Context,
) -> Result<Kept> {
    let label = left.label();
    context.warn(format!(
        "resumable backup {label} of same type exists -- invalid files will be removed then the backup will resume"
    ));
    let root = path::backup(repository.stanza(), &label);
    let listed = ListOptions { recurse: true, name_prefix: None };
    let mut entries = repository.storage().list_all(&root, &listed).await?;
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let mut kept = Kept::default();
    for entry in &entries {
        let what = match judge(entry, manifest, left, &form) {
            Verdict::Stay => continue,
            Verdict::Keep(position) => {
                adopt(manifest, left, position);
                kept.0.insert(position);
                continue;
            }
            Verdict::Remove(reason) => reason,
        };
        context.check_cancelled()?;
        let path = root.join(entry.name.trim_end_matches('/')).map_err(|error| {
            Error::new(ErrorKind::Format, format!("'{}' of backup {label} cannot be removed: {error}", entry.name))
        })?;
        context.detail(format!("remove '{path}' from resumed backup ({what})"));
        let removed = match entry.kind {
            EntryKind::Directory => repository.storage().remove_tree(&path).await,
            // What a directory held has gone with it.
            _ => repository.storage().remove(&path).await,
        };
        tolerated(removed, &path, context)?;
    }
    Ok(kept)
}

/// What becomes of an entry of the directory.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stay,
    /// It is the file at this position of the new manifest, unchanged.
    Keep(usize),
    Remove(&'static str),
}

fn judge(
    entry: &Entry,
    manifest: &Manifest,
    left: &Manifest,
    form: &impl Fn(&Manifest, usize) -> Option<StoredFile>,
) -> Verdict {
    match &entry.kind {
        EntryKind::Directory => {
            let name = entry.name.trim_end_matches('/').as_bytes();
            // On the way to a directory of the manifest, which names every directory but that of tablespaces.
            let is_known = manifest.path(name).is_some() || name == b"pg_tblspc";
            if is_known { Verdict::Stay } else { Verdict::Remove("path is not in the new manifest") }
        }
        EntryKind::Link(_) => Verdict::Remove("links are made again"),
        EntryKind::Special => Verdict::Remove("it is no file"),
        EntryKind::Object if entry.name == "backup.manifest.copy" => Verdict::Stay,
        EntryKind::Object => judge_file(entry.name.as_bytes(), manifest, left, form),
    }
}

fn judge_file(
    stored_name: &[u8],
    manifest: &Manifest,
    left: &Manifest,
    form: &impl Fn(&Manifest, usize) -> Option<StoredFile>,
) -> Verdict {
    let compress = manifest.options().compress_type;
    let position = [StoredFile::Whole(compress), StoredFile::BlockIncremental].into_iter().find_map(|stored| {
        let name = stored_name.strip_suffix(extension(stored).as_bytes())?;
        manifest.file_position(name).filter(|position| form(manifest, *position) == Some(stored))
    });
    let Some((position, file)) = position.and_then(|position| Some((position, manifest.files().get(position)?))) else {
        return Verdict::Remove("it is not stored thus by the new backup");
    };
    match left.file(file.name().as_bytes()) {
        None => Verdict::Remove("missing in resumed manifest"),
        Some(left_file) => match difference(file, left_file, manifest.options().delta == Some(true)) {
            None => Verdict::Keep(position),
            Some(reason) => Verdict::Remove(reason),
        },
    }
}

/// Why what the unfinished backup stored of a file cannot be used; `None` when it can.
fn difference(file: &FileRow, left: &FileRow, delta: bool) -> Option<&'static str> {
    if file.name().as_bytes() == CONTROL_FILE.as_bytes() {
        return Some("it is copied last, always");
    }
    if left.checksum.is_none() || left.bundle.is_some() || left.reference.is_some() {
        return Some("no checksum in resumed manifest");
    }
    if file.size_original_bytes != left.size_bytes {
        return Some("mismatched size");
    }
    if !delta && file.timestamp_s != left.timestamp_s {
        return Some("mismatched timestamp");
    }
    if file.size_original_bytes == 0 {
        return Some("zero size");
    }
    if file.page_checksums != PageChecksums::NotChecked && left.page_checksums == PageChecksums::NotChecked {
        return Some("its pages were not checked");
    }
    None
}

/// Enters what the unfinished backup knows of a file that it stored.
fn adopt(manifest: &mut Manifest, left: &Manifest, position: usize) {
    let Some(file) = manifest.files_mut().get_mut(position) else { return };
    let Some(left) = left.file(file.name().as_bytes()) else { return };
    let Some(checksum) = left.checksum else { return };
    file.block_incr = left.block_incr;
    file.record(CopiedFile {
        size_bytes: left.size_bytes,
        checksum,
        size_repo_bytes: left.size_repo_bytes,
        checksum_repo: left.checksum_repo,
        bundle: None,
        map_size_bytes: left.block_incr.map_or(0, |blocks| blocks.map_size_bytes),
        page_checksums: left.page_checksums.clone(),
    });
}

fn extension(stored: StoredFile) -> &'static str {
    match stored {
        StoredFile::Whole(compress) => compress.extension(),
        StoredFile::BlockIncremental => BLOCK_INCR_EXTENSION,
    }
}

impl Process<'_> {
    /// Whether the repository still has what an unfinished backup stored of the one file of a transfer. `None` when it is
    /// to be copied, again or for the first time.
    ///
    /// # Errors
    /// The storage's, and those of the file when its content has to be compared first.
    pub(super) async fn resume(&self, prepared: &Prepared, copier: &Copier) -> Result<Option<Copied>> {
        let [source] = &prepared.sources[..] else { return Ok(None) };
        let Some(stored) = source.kept else { return Ok(None) };
        if let Some(plain) = stored.compared {
            let (copier, source) = (copier.clone(), source.clone());
            match blocking(move || copier.digest_of(&source)).await? {
                None => {
                    discard(self.repository, &prepared.path, self.context).await?;
                    return Ok(Some(Copied::Vanished));
                }
                Some(found) if found != plain => return Ok(None),
                Some(_) => {}
            }
        }
        let found = match self.repository.stored_digest(&prepared.path, self.context).await {
            Ok(found) => found,
            Err(error) if error.storage_class() == Some(ErrorClass::Missing) => return Ok(None),
            Err(error) => return Err(error),
        };
        if found == stored.stored {
            return Ok(Some(Copied::Resumed));
        }
        self.context.warn(format!(
            "resumed backup file {} did not have expected checksum {}. The file was recopied and backup will continue but this \
             may be an issue unless the resumed backup path in the repository is known to be corrupted.\n\
             NOTE: this does not indicate a problem with the PostgreSQL page checksums.",
            DisplayPath(&source.name),
            stored.stored.sha1
        ));
        Ok(None)
    }
}

/// What an unfinished backup has stored of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptFile {
    /// The bytes as stored.
    stored: Digest,
    /// The plain bytes, where the file is to be compared with them: times are not trusted.
    compared: Option<Digest>,
}

impl KeptFile {
    /// Of this row, which was [adopted](take_over).
    pub(super) fn of(row: &FileRow, delta: bool) -> Option<Self> {
        let sha1 = row.checksum?;
        Some(Self {
            stored: Digest { size_bytes: row.size_repo_bytes, sha1: row.checksum_repo.unwrap_or(sha1) },
            compared: delta.then_some(Digest { size_bytes: row.size_bytes, sha1 }),
        })
    }
}
