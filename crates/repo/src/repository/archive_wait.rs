//! Waits for WAL to arrive in a repository.

use std::time::Duration;

use super::archive::{Archive, ArchivedFile};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{WalFileName, WalSegmentName};
use crate::progress::{Context, cancelled};

/// The first and the longest pause between two looks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Waits until a segment is archived, and says under which name.
///
/// # Errors
/// [`ErrorKind::ArchiveTimeout`] when it is not in time, [`ErrorKind::ArchiveDuplicate`] when there are two of it,
/// [`ErrorKind::Term`] when the command is to stop, and the storage's.
pub async fn wait_for_segment(
    archive: &Archive,
    segment: WalSegmentName,
    timeout: Duration,
    context: &Context,
) -> Result<ArchivedFile> {
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(cancelled()),
        found = tokio::time::timeout(timeout, arrival(archive, segment)) => found.unwrap_or_else(|_| Err(late(segment, timeout))),
    }
}

async fn arrival(archive: &Archive, segment: WalSegmentName) -> Result<ArchivedFile> {
    let (mut pause, pause_max) = PAUSE;
    loop {
        let mut found = archive.find(WalFileName::Segment(segment)).await?;
        match (found.pop(), found.is_empty()) {
            (None, _) => {}
            (Some(file), true) => return Ok(file),
            (Some(last), false) => {
                found.push(last);
                return Err(duplicates(segment, &found));
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(pause_max);
    }
}

fn duplicates(segment: WalSegmentName, found: &[ArchivedFile]) -> Error {
    let names: Vec<&str> = found.iter().map(|file| file.path.file_name()).collect();
    let message = format!("duplicates found in archive for WAL segment {segment}: {}", names.join(", "));
    Error::new(ErrorKind::ArchiveDuplicate, message).hint("are multiple primaries archiving to this stanza?")
}

fn late(segment: WalSegmentName, timeout: Duration) -> Error {
    let message = format!("WAL segment {segment} was not archived before the {}ms timeout", timeout.as_millis());
    Error::new(ErrorKind::ArchiveTimeout, message)
        .hint("check the archive_command to ensure that all options are correct (especially --stanza).")
        .hint("check the PostgreSQL server log for errors.")
        .hint("run the 'start' command if the stanza was previously stopped.")
}
