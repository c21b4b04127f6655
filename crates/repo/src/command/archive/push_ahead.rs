//! The background half of `archive-push` (repository-behaviour.md §2.5): pushes what PostgreSQL has marked as ready and
//! notes in the spool what became of each file.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::push::{self, PushOptions};
use super::queue::{QueueState, ready_files};
use super::spool::{FileIdentity, OK, Spool};
use super::{PushTargets, WalSource};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Context, Level, size_text};
use crate::repository::WritableRepository;

/// After this long each change of a file has a time stamp of its own.
pub(crate) const SETTLING: Duration = Duration::from_millis(60);

/// Settings of the background half.
#[derive(Debug, Clone)]
pub struct PushAheadOptions {
    /// Of each push.
    pub push: PushOptions,
    /// The directory of the WAL.
    pub wal_directory: PathBuf,
    /// How many files are pushed at once (`process-max`).
    pub workers: usize,
    /// `archive-push-queue-max`.
    pub queue_max_bytes: Option<u64>,
    /// `archive-push-batch-size`.
    pub batch_max_bytes: u64,
    /// What stands for the repositories in a [proof](Spool::write_proof).
    pub proof: String,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// There was nothing to do.
    Idle,
    /// Every file has its marker.
    Done,
    /// A file failed and those behind it were left: the queue is to be looked at anew by a new process.
    Failed,
}

/// The files that are ready and have no marker yet, in the order in which they are pushed. Blocking.
///
/// # Errors
/// [`ErrorKind::PathOpen`] when a directory cannot be listed.
pub fn waiting(spool: &Spool, wal_directory: &Path) -> Result<Vec<String>> {
    let pushed: BTreeSet<String> = spool.list()?.into_iter().collect();
    let ready = ready_files(wal_directory)?;
    Ok(ready.into_iter().filter(|name| !pushed.contains(&format!("{name}{OK}"))).collect())
}

/// Removes the markers of files that PostgreSQL has taken note of, and everything that is no marker of success; then as
/// [`waiting`]. The archive lock has to be held. Blocking.
fn tidy(spool: &Spool, ready: &[String]) -> Result<Vec<String>> {
    let ready: BTreeSet<&str> = ready.iter().map(String::as_str).collect();
    let mut pushed = BTreeSet::new();
    for name in spool.list()? {
        match name.strip_suffix(OK).filter(|file| ready.contains(file)) {
            Some(file) => drop(pushed.insert(file.to_owned())),
            None => spool.remove(&name)?,
        }
    }
    spool.keep_proofs(|name| pushed.contains(name))?;
    Ok(ready.into_iter().filter(|name| !pushed.contains(*name)).map(str::to_owned).collect())
}

/// One round: everything that is ready now, up to the size of a batch.
///
/// # Errors
/// What concerns all files. The caller notes it in the spool.
pub async fn round(
    repositories: &[WritableRepository],
    spool: &Spool,
    options: &PushAheadOptions,
    context: &Context,
) -> Result<Round> {
    let ready = ready_files(&options.wal_directory)?;
    let mut files = tidy(spool, &ready)?;
    let Some(first) = files.first().cloned() else { return Ok(Round::Idle) };
    let full = match options.queue_max_bytes {
        Some(limit_bytes) => QueueState::of(&options.wal_directory, &ready)?.waiting_bytes > limit_bytes,
        None => false,
    };
    if !full {
        files.truncate(batch_files(&options.wal_directory, &first, options.batch_max_bytes)?);
    }
    let last = files.last().filter(|last| **last != first).map_or_else(String::new, |last| format!("...{last}"));
    context.info(format!("push {} WAL file(s) to archive: {first}{last}", files.len()));
    if full {
        return drop_all(&files, spool, options.queue_max_bytes.unwrap_or(0), context);
    }
    let targets = PushTargets::load(repositories, options.push.cluster, context).await?;
    push_all(&files, &targets, spool, options, context).await
}

fn batch_files(wal_directory: &Path, first: &str, batch_max_bytes: u64) -> Result<usize> {
    let path = wal_directory.join(first);
    let size_bytes = fs::metadata(&path)
        .map_err(|error| {
            Error::new(ErrorKind::FileInfo, format!("unable to get info for '{}': {error}", path.display()))
        })?
        .len();
    let Some(files) = batch_max_bytes.checked_div(size_bytes) else {
        return Err(Error::new(ErrorKind::Format, format!("size of WAL segment '{first}' is 0")));
    };
    Ok(usize::try_from(files).unwrap_or(usize::MAX).max(1))
}

/// Gives WAL up because it would fill the disk, where that was asked for.
fn drop_all(files: &[String], spool: &Spool, limit_bytes: u64, context: &Context) -> Result<Round> {
    for name in files {
        let warning = dropped(name, limit_bytes);
        spool.write_ok(name, std::slice::from_ref(&warning))?;
        context.warn(warning);
    }
    Ok(Round::Done)
}

/// The warning about a file that was not archived.
pub fn dropped(name: &str, limit_bytes: u64) -> String {
    format!("dropped WAL file '{name}' because archive queue exceeded {}", size_text(limit_bytes))
}

async fn push_all(
    files: &[String],
    targets: &PushTargets,
    spool: &Spool,
    options: &PushAheadOptions,
    context: &Context,
) -> Result<Round> {
    let failed = Cell::new(false);
    // After a failure no further file is begun; those on their way come to their end.
    let jobs = stream::iter(files).take_while(|_| std::future::ready(!failed.get() && !context.cancel.is_cancelled()));
    let mut running = std::pin::pin!(
        jobs.map(|name| async move { (name, push_one(name, targets, options, context).await) })
            .buffer_unordered(options.workers.max(1))
    );
    while let Some((name, pushed)) = running.next().await {
        match pushed {
            Ok((identity, warnings)) => {
                for warning in &warnings {
                    context.reporter.message(Level::Warn, 1, warning);
                }
                // Without a proof the command looks into the repository before it believes the marker.
                if let Some(identity) = identity {
                    spool.write_proof(name, &options.proof, &identity)?;
                }
                spool.write_ok(name, &warnings)?;
                let text = format!("pushed WAL file '{name}' to the archive");
                context.reporter.message(Level::Detail, 1, &text);
            }
            Err(error) => {
                failed.set(true);
                spool.write_error(Some(name), error.kind().code(), error.message())?;
                let text =
                    format!("could not push WAL file '{name}' to the archive (will be retried): {}", error.listed());
                context.reporter.message(Level::Warn, 1, &text);
            }
        }
    }
    context.check_cancelled()?;
    Ok(if failed.get() { Round::Failed } else { Round::Done })
}

async fn push_one(
    name: &str,
    targets: &PushTargets,
    options: &PushAheadOptions,
    context: &Context,
) -> Result<(Option<FileIdentity>, Vec<String>)> {
    let path = options.wal_directory.join(name);
    // Before it is read: a change since then shows.
    let identity = FileIdentity::of(&path)?;
    let source = WalSource::new(&path)?;
    let pushed = push::push_to(targets, &source, &options.push, context).await?;
    let settled = || identity.is_settled(i128::from(context.clock.now_ms()) * 1_000_000);
    if !settled() {
        // PostgreSQL has written to it a moment ago: a further change might not show yet.
        tokio::time::sleep(SETTLING).await;
    }
    let unchanged = settled() && FileIdentity::of(&path).is_ok_and(|now| now == identity);
    Ok((unchanged.then_some(identity), pushed.warnings))
}
