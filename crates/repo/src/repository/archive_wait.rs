//! Waits for WAL to arrive in a repository.

use std::time::Duration;

use tokio::time::Instant;

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
        found = arrival(archive, segment, timeout) => found,
    }
}

async fn arrival(archive: &Archive, segment: WalSegmentName, timeout: Duration) -> Result<ArchivedFile> {
    let deadline = Instant::now() + timeout;
    let (mut pause, pause_max) = PAUSE;
    loop {
        // Settled before the look: a process that slept through the deadline looks once more before it gives up, since the
        // segment may have come meanwhile.
        let left = deadline.saturating_duration_since(Instant::now());
        let mut found = archive.find(WalFileName::Segment(segment)).await?;
        match (found.pop(), found.is_empty()) {
            (None, _) => {}
            (Some(file), true) => return Ok(file),
            (Some(last), false) => {
                found.push(last);
                return Err(duplicates(segment, &found));
            }
        }
        if left.is_zero() {
            return Err(late(segment, timeout));
        }
        tokio::time::sleep(pause.min(left)).await;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{SystemClock, SystemRandom};
    use crate::filter::Codecs;
    use crate::format::{ArchiveId, Stanza};
    use crate::progress::Silent;
    use crate::repository::{RepoIndex, Repository};
    use crate::storage::{MemoryOptions, MemoryStorage, Storage, StorageExt, StoragePath};
    use crate::transfer::Budget;

    fn context() -> Context {
        Context {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            budget: Budget::new(1 << 20),
            codecs: Codecs::new(1),
            cancel: tokio_util::sync::CancellationToken::new(),
            reporter: Arc::new(Silent),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn re05_tc03_a_process_that_slept_through_the_deadline_looks_once_more() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(Arc::new(SystemClock), MemoryOptions::default()));
        let (index, stanza) = (RepoIndex::new(1).unwrap(), Stanza::parse("demo").unwrap());
        let repository = Repository::new(index, stanza, Arc::clone(&storage), None);
        let archive = Archive::new(repository, ArchiveId::parse("15-1").unwrap(), None);
        let segment = WalSegmentName::parse("00000001000000000000000A").unwrap();
        let limit = Duration::from_secs(30);

        let begin = Instant::now();
        let error = wait_for_segment(&archive, segment, limit, &context()).await.unwrap_err();
        assert_eq!((error.kind(), begin.elapsed().as_secs()), (ErrorKind::ArchiveTimeout, 30));

        let waiting = tokio::spawn(async move { wait_for_segment(&archive, segment, limit, &context()).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let object = format!("archive/demo/15-1/0000000100000000/{segment}-{:040x}", 7);
        storage.write_all(&StoragePath::parse(&object).unwrap(), bytes::Bytes::from_static(b"wal")).await.unwrap();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(waiting.await.unwrap().unwrap().path.as_str().starts_with("archive/demo/15-1/"));
    }
}
