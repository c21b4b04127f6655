//! All files, by as many workers as there may be.

use std::ops::Range;
use std::sync::Arc;

use super::block::{Rest, is_read_together, restore_blocks, write_rest, write_together};
use super::file::{FileOutcome, Found, Restorer};
use super::plan::{Plan, Source, row_at};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{FileLocation, FileRow};
use crate::format::path;
use crate::progress::{Context, Level, Progress, blocking, size_text};
use crate::repository::backup_file::runs;
use crate::storage::{ByteRange, StoragePath};
use crate::transfer::{self, PieceReader, run_jobs};

/// A file that is done.
type Done = (u32, FileOutcome);

/// Restores all files of `plan`.
///
/// # Errors
/// That of the first file that cannot be restored; the others are not waited for.
pub(super) async fn restore_files(
    restorer: &Arc<Restorer>,
    plan: &Plan,
    workers: usize,
    read_over_bytes: u64,
    context: &Context,
) -> Result<()> {
    let total_bytes = plan.size_bytes;
    let mut done_bytes = 0_u64;
    context.reporter.progress(Progress { done_bytes, total_bytes });
    // By number: a closure over borrowed jobs would make a future that cannot be sent to another thread.
    run_jobs(
        0..plan.jobs.len(),
        workers,
        |_, number| run_job(restorer, plan, number, read_over_bytes, context),
        |place, files| {
            let worker = place % workers.max(1) + 1;
            for (file, outcome) in files {
                let Some(row) = row_at(&restorer.manifest, file) else { continue };
                done_bytes = done_bytes.saturating_add(row.size_bytes);
                let text = describe(restorer, row, outcome, done_bytes, total_bytes);
                context.reporter.message(Level::Detail, worker, &text);
            }
            context.reporter.progress(Progress { done_bytes, total_bytes });
            context.check_cancelled()
        },
    )
    .await
}

async fn run_job(
    restorer: &Arc<Restorer>,
    plan: &Plan,
    number: usize,
    read_over_bytes: u64,
    context: &Context,
) -> Result<Vec<Done>> {
    context.check_cancelled()?;
    let Some(job) = plan.jobs.get(number) else { return Ok(Vec::new()) };
    let files = plan.files(job);
    match job.source {
        Source::Nothing => make_all(restorer, files).await,
        Source::Object | Source::Bundle => fetch_all(restorer, files, read_over_bytes, context).await,
    }
}

async fn make_all(restorer: &Arc<Restorer>, files: &[u32]) -> Result<Vec<Done>> {
    let (restorer, files) = (Arc::clone(restorer), files.to_vec());
    blocking(move || {
        let make = |file: u32| {
            let row = row_at(&restorer.manifest, file).ok_or_else(no_such_file)?;
            restorer.check_cancelled()?;
            Ok((file, restorer.make(row).map_err(|error| restorer.about(row, error))?))
        };
        files.into_iter().map(make).collect()
    })
    .await
}

/// Files of one bundle, or one with an object of its own: what is there is looked at first, so that no more is fetched
/// than is needed.
async fn fetch_all(
    restorer: &Arc<Restorer>,
    files: &[u32],
    read_over_bytes: u64,
    context: &Context,
) -> Result<Vec<Done>> {
    let (mut done, mut together, mut blocks) = (Vec::with_capacity(files.len()), Vec::new(), Vec::new());
    for (file, found) in look_at_all(restorer, files).await? {
        let row = row_at(&restorer.manifest, file).ok_or_else(no_such_file)?;
        match found {
            Found::Right => done.push((file, FileOutcome::Kept)),
            Found::Nothing if !row.is_block_incremental() || is_read_together(row) => together.push(file),
            found => blocks.push((file, found)),
        }
    }
    let rows: Vec<&FileRow> = together.iter().filter_map(|file| row_at(&restorer.manifest, *file)).collect();
    for range in runs(&rows, read_over_bytes) {
        for (file, rest) in fetch_together(restorer, together.get(range).unwrap_or_default(), context).await? {
            let outcome = match rest {
                None => FileOutcome::Copied,
                Some(rest) => {
                    write_rest(restorer, file, rest, context).await.map_err(|error| about(restorer, file, error))?
                }
            };
            done.push((file, outcome));
        }
    }
    for (file, found) in blocks {
        context.check_cancelled()?;
        let restored = restore_blocks(restorer, file, found, context).await;
        done.push((file, restored.map_err(|error| about(restorer, file, error))?));
    }
    Ok(done)
}

fn about(restorer: &Restorer, file: u32, error: Error) -> Error {
    match row_at(&restorer.manifest, file) {
        Some(row) => restorer.about(row, error),
        None => error,
    }
}

async fn look_at_all(restorer: &Arc<Restorer>, files: &[u32]) -> Result<Vec<(u32, Found)>> {
    use super::file::Reuse;
    if matches!(restorer.reuse, Reuse::Fresh | Reuse::Overwrite) {
        return Ok(files.iter().map(|file| (*file, Found::Nothing)).collect());
    }
    let (restorer, files) = (Arc::clone(restorer), files.to_vec());
    blocking(move || {
        let look = |file: u32| {
            let row = row_at(&restorer.manifest, file).ok_or_else(no_such_file)?;
            Ok((file, restorer.look(row).map_err(|error| restorer.about(row, error))?))
        };
        files.into_iter().map(look).collect()
    })
    .await
}

/// A file that was fetched, and for one stored as blocks what is left to do.
type Fetched = (u32, Option<Rest>);

/// Reads files that lie near each other in one request.
async fn fetch_together(restorer: &Arc<Restorer>, files: &[u32], context: &Context) -> Result<Vec<Fetched>> {
    let Some(first) = files.first().and_then(|file| row_at(&restorer.manifest, *file)) else { return Ok(Vec::new()) };
    let Some(last) = files.last().and_then(|file| row_at(&restorer.manifest, *file)) else { return Ok(Vec::new()) };
    let (object, range) = stored_at(restorer, first, last).map_err(|error| restorer.about(first, error))?;
    let (worker, files) = (Arc::clone(restorer), files.to_vec());
    let storage = restorer.repository.storage().as_ref();
    let loaded = transfer::load(storage, &object, range, None, &context.budget, move |source| {
        let mut at = range.offset;
        let mut fetched = Vec::with_capacity(files.len());
        for file in files {
            // The error of a file is told with it; it is a result here, to be distinguished from that of opening.
            match fetch_one(&worker, file, &mut at, source) {
                Ok(rest) => fetched.push((file, rest)),
                Err(error) => return Ok(Err(about(&worker, file, error))),
            }
        }
        Ok(Ok(fetched))
    });
    loaded.await.map_err(|error| restorer.about(first, error))?
}

/// The object that holds files, and the part of it from the first to the last.
fn stored_at(restorer: &Restorer, first: &FileRow, last: &FileRow) -> Result<(StoragePath, ByteRange)> {
    let stanza = restorer.repository.stanza();
    match restorer.manifest.location(first) {
        FileLocation::Bundle { label, place } => {
            let end = last.bundle.and_then(|bundle| bundle.offset_bytes.checked_add(last.size_repo_bytes));
            let length = end
                .and_then(|end| end.checked_sub(place.offset_bytes))
                .ok_or_else(|| Error::new(ErrorKind::Format, "the place in the bundle is out of range"))?;
            let range = ByteRange { offset: place.offset_bytes, length: Some(length) };
            Ok((path::bundle(stanza, &label, place.id), range))
        }
        FileLocation::Object { label, stored } => {
            let object = path::file(stanza, &label, first.name(), stored)
                .map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
            Ok((object, ByteRange::ALL))
        }
        FileLocation::Nowhere => Err(Error::new(ErrorKind::Assert, "the file is not stored")),
    }
}

/// Writes one file from `source`, which is at offset `at` of its bundle. Blocking.
fn fetch_one(restorer: &Restorer, file: u32, at: &mut u64, source: &mut PieceReader) -> Result<Option<Rest>> {
    let row = row_at(&restorer.manifest, file).ok_or_else(no_such_file)?;
    let Some(stored) = stored_range(row) else {
        return restorer.write_whole(row, source, None).map(|()| None);
    };
    source.exact(stored.start.saturating_sub(*at), |_| Ok(()))?;
    *at = stored.end;
    if row.is_block_incremental() {
        return write_together(restorer, file, source).map(Some);
    }
    restorer.write_whole(row, source, Some(stored.end - stored.start)).map(|()| None)
}

fn stored_range(row: &FileRow) -> Option<Range<u64>> {
    let start = row.bundle?.offset_bytes;
    Some(start..start.saturating_add(row.size_repo_bytes))
}

/// The original's line about a file.
fn describe(restorer: &Restorer, row: &FileRow, outcome: FileOutcome, done_bytes: u64, total_bytes: u64) -> String {
    use super::file::Reuse;
    let emptied = restorer.is_emptied(row);
    let mut text = String::from(if emptied { "restore zeroed file " } else { "restore file " });
    text.push_str(&restorer.written_path(row));
    if outcome == FileOutcome::Kept {
        text.push_str(&match (restorer.reuse, row.size_bytes) {
            (Reuse::ByTime, size_bytes) => {
                format!(" - exists and matches size {size_bytes} and modification time {}", row.timestamp_s)
            }
            (_, 0) => " - exists and is zero size".to_owned(),
            _ => " - exists and matches backup".to_owned(),
        });
    }
    text.push_str(" (");
    if let Some(bundle) = row.bundle {
        let reference = row.reference.map(|_| format!("{}/", restorer.manifest.stored_in(row))).unwrap_or_default();
        text.push_str(&format!("bundle {reference}{}/{}, ", bundle.id.number(), bundle.offset_bytes));
    }
    if let FileOutcome::Patched(patched_bytes) = outcome {
        text.push_str("bi ");
        if patched_bytes != row.size_bytes {
            text.push_str(&format!("{}/", size_text(patched_bytes)));
        }
    }
    text.push_str(&format!("{}, {})", size_text(row.size_bytes), percent_text(done_bytes, total_bytes)));
    if let Some(checksum) = row.checksum.filter(|_| row.size_bytes > 0 && !emptied) {
        text.push_str(&format!(" checksum {checksum}"));
    }
    text
}

/// Two decimals, rounded down.
fn percent_text(done: u64, total: u64) -> String {
    let hundredths = (u128::from(done) * 10_000).checked_div(u128::from(total)).unwrap_or(10_000);
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

fn no_such_file() -> Error {
    Error::new(ErrorKind::Assert, "the file is not in the manifest")
}
