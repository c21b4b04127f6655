//! What copying gave, in the manifest and in the log.

use std::os::unix::ffi::OsStrExt;

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
    manifest: &'a mut Manifest,
    context: &'a Context,
    end_at_error: bool,
    progress: Progress,
    vanished: Vec<usize>,
    invalid_files: u64,
}

impl<'a> Results<'a> {
    /// For the files of `plan`. Empty files of a bundled backup are complete as they are.
    pub(super) fn new(manifest: &'a mut Manifest, plan: &Plan, options: &BackupOptions, context: &'a Context) -> Self {
        let progress = Progress { done_bytes: 0, total_bytes: plan.total_bytes };
        let results = Self {
            manifest,
            context,
            end_at_error: options.pages.end_at_error,
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
    pub(super) fn take(&mut self, mut done: Done) -> Result<()> {
        for (position, copied) in std::mem::take(&mut done.files) {
            self.take_file(position, copied, &done)?;
        }
        self.context.reporter.progress(self.progress);
        Ok(())
    }

    /// Takes vanished files out of the manifest.
    pub(super) fn finish(mut self) {
        self.vanished.sort_unstable();
        let mut position = 0;
        self.manifest.retain_files(|_| {
            let keep = self.vanished.binary_search(&position).is_err();
            position += 1;
            keep
        });
        if self.invalid_files > 0 {
            self.context.warn(format!("invalid page checksums found in {} file(s)", self.invalid_files));
        }
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
            Copied::Emptied => {
                detail(format!("store truncated file {shown} ({})", self.sizes(original_bytes, 0)));
                CopiedFile {
                    size_bytes: 0,
                    checksum: Checksum::EMPTY,
                    size_repo_bytes: 0,
                    checksum_repo: None,
                    bundle: None,
                    map_size_bytes: 0,
                    page_checksums: file.page_checksums.clone(),
                }
            }
            Copied::Stored(stored) => {
                let place = bundle.map(|id| format!("bundle {}/{}, ", id.number(), stored.offset_bytes));
                let checksum = match stored.size_bytes {
                    0 => String::new(),
                    _ => format!(" checksum {}", stored.checksum),
                };
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
        if let Some(file) = self.manifest.files_mut().get_mut(position) {
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

fn recorded(stored: StoredBytes, bundle: Option<BundleId>) -> CopiedFile {
    CopiedFile {
        size_bytes: stored.size_bytes,
        checksum: stored.checksum,
        size_repo_bytes: stored.size_repo_bytes,
        checksum_repo: stored.checksum_repo,
        bundle: bundle.map(|id| BundlePlace { id, offset_bytes: stored.offset_bytes }),
        map_size_bytes: 0,
        page_checksums: stored.pages,
    }
}
