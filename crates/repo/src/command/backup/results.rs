//! What copying gave, in the manifest and in the log.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::file::{Copied, StoredBytes};
use super::options::BackupOptions;
use super::plan::Plan;
use super::process::Done;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{BundlePlace, CopiedFile, FileRow, PageChecksums, PageRange};
use crate::format::path::BundleId;
use crate::format::{Checksum, Manifest};
use crate::pgdata::DisplayPath;
use crate::pgdata::target::path_in_pgdata;
use crate::progress::{Context, Level, Progress, size_text};

/// Collects results.
#[derive(Debug)]
pub(super) struct Results<'a> {
    /// Shared while a copy of it is saved; what is done meanwhile waits in `pending`.
    manifest: &'a mut Arc<Manifest>,
    pending: Vec<Done>,
    context: &'a Context,
    end_at_error: bool,
    /// References are links, which are told when they are made.
    hardlinks: bool,
    progress: Progress,
    vanished: Vec<usize>,
    invalid_files: u64,
}

impl<'a> Results<'a> {
    /// For the files of `plan`. Empty files of a bundled backup are complete as they are.
    pub(super) fn new(
        manifest: &'a mut Arc<Manifest>,
        plan: &Plan,
        options: &BackupOptions,
        context: &'a Context,
    ) -> Self {
        let progress = Progress { done_bytes: 0, total_bytes: plan.total_bytes };
        let results = Self {
            manifest,
            pending: Vec::new(),
            context,
            end_at_error: options.pages.end_at_error,
            hardlinks: options.recorded.hardlink,
            progress,
            vanished: Vec::new(),
            invalid_files: 0,
        };
        let pgdata = options.pg_path.as_os_str().as_bytes();
        for file in plan.empty.iter().filter_map(|position| results.manifest.files().get(*position)) {
            context.detail(format!("store zero-length file {}", shown(pgdata, file)));
        }
        context.reporter.progress(progress);
        results
    }

    /// The manifest.
    pub(super) fn manifest(&self) -> &Manifest {
        self.manifest
    }

    /// Takes the result of a transfer: every file of it is stored now.
    ///
    /// # Errors
    /// [`ErrorKind::Checksum`] for invalid pages when the backup is to end at them.
    pub(super) fn take(&mut self, done: Done) -> Result<()> {
        match Arc::get_mut(self.manifest) {
            Some(_) => self.enter(done),
            None => {
                self.pending.push(done);
                Ok(())
            }
        }
    }

    /// The manifest as it is now, for saving. Until the caller has dropped it and calls [`Results::catch_up`] it does not
    /// change.
    pub(super) fn snapshot(&self) -> Arc<Manifest> {
        Arc::clone(self.manifest)
    }

    /// Enters what was done while the manifest was saved.
    ///
    /// # Errors
    /// As for [`Results::take`].
    pub(super) fn catch_up(&mut self) -> Result<()> {
        std::mem::take(&mut self.pending).into_iter().try_for_each(|done| self.take(done))
    }

    /// How far the copying is.
    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    fn enter(&mut self, mut done: Done) -> Result<()> {
        for (position, copied) in std::mem::take(&mut done.files) {
            self.take_file(position, copied, &done)?;
        }
        self.context.reporter.progress(self.progress);
        Ok(())
    }

    /// Takes vanished files out of the manifest, and tells which files other backups have.
    ///
    /// # Errors
    /// As for [`Results::take`].
    pub(super) fn finish(mut self) -> Result<()> {
        self.enter_rest()?;
        self.vanished.sort_unstable();
        let mut position = 0;
        Arc::make_mut(self.manifest).retain_files(|_| {
            let keep = self.vanished.binary_search(&position).is_err();
            position += 1;
            keep
        });
        let references = self.manifest.files().iter().filter(|file| file.reference.is_some());
        for file in references.filter(|_| !self.hardlinks) {
            self.context.detail(format!("reference {} to {}", file.name(), self.manifest.stored_in(file)));
        }
        if self.invalid_files > 0 {
            self.context.warn(format!("invalid page checksums found in {} file(s)", self.invalid_files));
        }
        Ok(())
    }

    /// Enters what is known, of a backup that does not come to its end.
    ///
    /// # Errors
    /// As for [`Results::take`].
    pub(super) fn give_up(mut self) -> Result<()> {
        self.enter_rest()
    }

    fn enter_rest(&mut self) -> Result<()> {
        std::mem::take(&mut self.pending).into_iter().try_for_each(|done| self.enter(done))
    }

    fn take_file(&mut self, position: usize, copied: Copied, done: &Done) -> Result<()> {
        let Done { bundle, worker, .. } = *done;
        let Some(file) = self.manifest.files().get(position) else {
            return Err(Error::new(ErrorKind::Assert, "a copied file is not in the manifest"));
        };
        let shown = shown(&done.pgdata, file);
        let original_bytes = file.size_original_bytes;
        self.progress.done_bytes = self.progress.done_bytes.saturating_add(original_bytes);
        let detail = |text: String| self.context.reporter.message(Level::Detail, worker, &text);
        let recorded = match copied {
            Copied::Vanished => {
                detail(format!("skip file removed by database {shown}"));
                self.vanished.push(position);
                return Ok(());
            }
            Copied::Unchanged => {
                let (size_bytes, checksum) = (file.size_bytes, checksum_text(file.size_bytes, file.checksum));
                detail(format!(
                    "match file from prior backup {shown} ({}){checksum}",
                    self.sizes(original_bytes, size_bytes)
                ));
                return Ok(());
            }
            Copied::Resumed => {
                let (size_bytes, checksum) = (file.size_bytes, checksum_text(file.size_bytes, file.checksum));
                let pages = file.page_checksums.clone();
                detail(format!("checksum resumed file {shown} ({}){checksum}", self.sizes(original_bytes, size_bytes)));
                return match pages {
                    PageChecksums::Errors(ranges) => self.report_pages(&shown, size_bytes, &ranges),
                    _ => Ok(()),
                };
            }
            Copied::Emptied => {
                detail(format!("store truncated file {shown} ({})", self.sizes(original_bytes, 0)));
                CopiedFile {
                    size_bytes: 0,
                    checksum: Checksum::EMPTY,
                    size_repo_bytes: 0,
                    checksum_repo: None,
                    bundle: None,
                    map_size_bytes: 0,
                    page_checksums: match file.page_checksums {
                        PageChecksums::NotChecked => PageChecksums::NotChecked,
                        _ => PageChecksums::Valid,
                    },
                }
            }
            Copied::Stored(stored) => {
                let place = bundle.map(|id| format!("bundle {}/{}, ", id.number(), stored.offset_bytes));
                let checksum = checksum_text(stored.size_bytes, Some(stored.checksum));
                detail(format!(
                    "backup file {shown} ({}{}){checksum}",
                    place.unwrap_or_default(),
                    self.sizes(original_bytes, stored.size_bytes)
                ));
                recorded(stored, bundle)
            }
        };
        if let PageChecksums::Errors(ranges) = &recorded.page_checksums {
            self.report_pages(&shown, recorded.size_bytes, ranges)?;
        }
        if let Some(file) = Arc::make_mut(self.manifest).files_mut().get_mut(position) {
            file.record(recorded);
        }
        Ok(())
    }

    fn report_pages(&mut self, shown: &str, size_bytes: u64, ranges: &[PageRange]) -> Result<()> {
        if ranges.is_empty() {
            self.context.warn(format!(
                "page misalignment in file {shown}: file size {size_bytes} is not divisible by the page size"
            ));
            return Ok(());
        }
        let list: Vec<String> = ranges
            .iter()
            .map(|range| match range.first == range.last {
                true => range.first.to_string(),
                false => format!("{}-{}", range.first, range.last),
            })
            .collect();
        let one = matches!(ranges, [range] if range.first == range.last);
        let plural = if one { "" } else { "s" };
        let message =
            format!("invalid page checksum{plural} found in file {shown} at page{plural} {}", list.join(", "));
        if self.end_at_error {
            return Err(Error::new(ErrorKind::Checksum, message));
        }
        self.invalid_files += 1;
        self.context.warn(message);
        Ok(())
    }

    /// `8KB, 12.34%`, and the size at the scan before it when it was another one.
    fn sizes(&self, original_bytes: u64, size_bytes: u64) -> String {
        let change =
            if original_bytes == size_bytes { String::new() } else { format!("{}->", size_text(original_bytes)) };
        let Progress { done_bytes, total_bytes } = self.progress;
        let hundredths = match total_bytes {
            0 => 10_000,
            total => u128::from(done_bytes) * 10_000 / u128::from(total),
        };
        format!("{change}{}, {}.{:02}%", size_text(size_bytes), hundredths / 100, hundredths % 100)
    }
}

/// The file's path in the data directory that it was read from.
fn shown(pgdata: &[u8], file: &FileRow) -> String {
    DisplayPath(&path_in_pgdata(pgdata, file.name().as_bytes())).to_string()
}

fn checksum_text(size_bytes: u64, checksum: Option<Checksum>) -> String {
    checksum.filter(|_| size_bytes > 0).map_or_else(String::new, |checksum| format!(" checksum {checksum}"))
}

fn recorded(stored: StoredBytes, bundle: Option<BundleId>) -> CopiedFile {
    CopiedFile {
        size_bytes: stored.size_bytes,
        checksum: stored.checksum,
        size_repo_bytes: stored.size_repo_bytes,
        checksum_repo: stored.checksum_repo,
        bundle: bundle.map(|id| BundlePlace { id, offset_bytes: stored.offset_bytes }),
        map_size_bytes: stored.map_size_bytes,
        page_checksums: stored.pages,
    }
}
