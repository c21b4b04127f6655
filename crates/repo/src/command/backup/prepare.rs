//! What a transfer needs, from the rows of the manifest.

use super::blocks::{Blocks, PriorMap};
use super::changes::Action;
use super::file::{BUFFER_BYTES, HELD_BYTES_MAX, Source, SourceRead};
use super::plan::{Job, is_in_blocks};
use super::process::Process;
use super::resume::KeptFile;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::{Digest, Form, PageCheck};
use crate::format::block_map::BlockMapFacts;
use crate::format::manifest::FileRow;
use crate::format::path::{self, BundleId, StoredFile};
use crate::format::{BackupLabel, BackupType, Manifest};
use crate::pgdata::ReadLimit;
use crate::postgres::data_path::{CONTROL_FILE, first_page_number};
use crate::repository::backup_file;
use crate::storage::StoragePath;

/// One transfer, prepared.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) path: StoragePath,
    pub(super) bundle: Option<BundleId>,
    pub(super) sources: Vec<Source>,
    pub(super) size_max_bytes: Option<u64>,
}

/// What one bundle, or a file alone, has for all of its files.
#[derive(Debug, Clone, Copy)]
struct Place {
    form: Form,
    bundle: Option<BundleId>,
}

impl Process<'_> {
    pub(super) fn prepare(&self, manifest: &Manifest, job: Job) -> Result<Prepared> {
        let label = manifest.label();
        let stanza = self.repository.stanza();
        match job {
            Job::Single(position) => {
                let source = self.source(manifest, position, Place { form: Form::Standard, bundle: None })?;
                Ok(Prepared {
                    path: self.path_of(&label, manifest, &source)?,
                    bundle: None,
                    size_max_bytes: stored_max_bytes(std::slice::from_ref(&source)),
                    sources: vec![source],
                })
            }
            Job::Bundle(id, positions) => {
                let form = if manifest.header().bundle_raw { Form::Raw } else { Form::Standard };
                let place = Place { form, bundle: Some(id) };
                let sources = positions.into_iter().map(|position| self.source(manifest, position, place));
                let sources = sources.collect::<Result<Vec<_>>>()?;
                Ok(Prepared {
                    path: path::bundle(stanza, &label, id),
                    bundle: Some(id),
                    size_max_bytes: stored_max_bytes(&sources),
                    sources,
                })
            }
        }
    }

    fn path_of(&self, label: &BackupLabel, manifest: &Manifest, source: &Source) -> Result<StoragePath> {
        let row = manifest.files().get(source.position).ok_or_else(no_such_row)?;
        let stored = match source.blocks {
            Some(_) => StoredFile::BlockIncremental,
            None => StoredFile::Whole(self.options.compress.kind()),
        };
        path::file(self.repository.stanza(), label, row.name(), stored).map_err(|error| {
            Error::new(ErrorKind::Format, format!("'{}' cannot be stored under its name: {error}", row.name()))
                .hint("files whose names are not UTF-8 can be stored in bundles (repo-bundle=y)")
        })
    }

    fn source(&self, manifest: &Manifest, position: usize, place: Place) -> Result<Source> {
        let row = manifest.files().get(position).ok_or_else(no_such_row)?;
        let action = self.actions.get(position).ok_or_else(no_such_row)?;
        let expected = match (row.reference, row.checksum) {
            (Some(_), Some(sha1)) => Some(Digest { size_bytes: row.size_bytes, sha1 }),
            _ => None,
        };
        let name = row.name().as_bytes();
        let layout = &self.cluster.layout;
        let read = if name == CONTROL_FILE.as_bytes() {
            SourceRead::Control
        } else if layout.is_replayed(name) {
            SourceRead::Plain(ReadLimit::ListedSize(row.size_original_bytes))
        } else {
            SourceRead::Plain(ReadLimit::End)
        };
        let page_size = self.cluster.control.page_size();
        let checked = self.cluster.checksum_page && layout.is_page_checksummed(name);
        let segment = first_page_number(name, page_size.bytes())
            .and_then(|first| u32::try_from(first / u64::from(page_size.pages_per_segment())).ok())
            .unwrap_or_default();
        let header_check = self.options.pages.header_check;
        let pages = checked.then_some(PageCheck { page_size, segment, header_check });
        Ok(Source {
            position,
            name: name.to_vec(),
            read,
            pages,
            form: place.form,
            blocks: self.blocks(manifest, position, row, place.bundle)?,
            expected,
            compare_first: *action == Action::Compare && expected.is_some(),
            kept: match self.kept.has(position) {
                true => KeptFile::of(row, manifest.options().delta == Some(true)),
                false => None,
            },
        })
    }

    /// How a file is cut. The row is the prior backup's where that has a map.
    fn blocks(
        &self,
        manifest: &Manifest,
        position: usize,
        row: &FileRow,
        bundle: Option<BundleId>,
    ) -> Result<Option<Blocks>> {
        let Some(options) = self.options.block.as_ref().filter(|_| is_in_blocks(manifest, position)) else {
            return Ok(None);
        };
        let geometry = backup_file::geometry(row)?;
        let own = manifest.references().len().saturating_sub(1);
        let prior = match row.reference.is_some() && row.is_block_incremental() {
            true => Some(PriorMap {
                place: self.repository.block_map_place(manifest, row)?,
                facts: BlockMapFacts { geometry, file_size_bytes: row.size_bytes, reference_count: own },
                stored: bytes::Bytes::new(),
            }),
            false => None,
        };
        Ok(Some(Blocks {
            geometry,
            size_super_bytes: match manifest.backup_type() {
                BackupType::Full => options.size_super_full_bytes,
                _ => options.size_super_bytes,
            },
            reference: u32::try_from(own).map_err(|_| no_such_row())?,
            bundle: bundle.map_or(0, BundleId::number),
            prior,
        }))
    }
}

/// What the files of a transfer hold at most beside the bytes on their way: one is copied after the other, but maps are
/// fetched together.
pub(super) fn memory_bytes(sources: &[Source]) -> usize {
    let blocks = || sources.iter().filter_map(|source| Some((source, source.blocks.as_ref()?)));
    let maps: u64 = blocks().filter_map(|(_, blocks)| Some(blocks.prior.as_ref()?.place.size_bytes)).sum();
    let cut = blocks().map(|(source, blocks)| blocks.memory_bytes(listed_bytes(source))).max().unwrap_or_default();
    let is_held = sources.iter().any(|source| source.expected.is_some() && source.blocks.is_none());
    let held = if is_held { HELD_BYTES_MAX } else { 0 };
    usize::try_from(maps.saturating_add(cut)).unwrap_or(usize::MAX).saturating_add(held)
}

/// The size at the scan.
fn listed_bytes(source: &Source) -> u64 {
    match source.read {
        SourceRead::Plain(ReadLimit::ListedSize(size)) => size,
        _ => source.expected.map_or(0, |expected| expected.size_bytes),
    }
}

/// What the object may hold at most; `None` when a file may grow.
fn stored_max_bytes(sources: &[Source]) -> Option<u64> {
    /// What encryption and an encoder add to a file that cannot be compressed, without what grows with it.
    const ADDED_BYTES: u64 = 1024;
    sources.iter().try_fold(0_u64, |sum, source| match source.read {
        SourceRead::Plain(ReadLimit::ListedSize(size)) => Some(sum.saturating_add(size + size / 16 + ADDED_BYTES)),
        SourceRead::Control => Some(sum.saturating_add(BUFFER_BYTES as u64)),
        SourceRead::Plain(ReadLimit::End) => None,
    })
}

fn no_such_row() -> Error {
    Error::new(ErrorKind::Assert, "a planned file is not in the manifest")
}
