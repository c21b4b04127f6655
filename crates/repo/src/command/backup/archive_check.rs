//! Waits for WAL in the repository: a backup counts only with all of it (repository-behaviour.md §4.12).

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, WalFileName, WalSegmentName, WalSegmentSize};
use crate::progress::Context;
use crate::repository::Archive;

/// The first and the longest pause between two looks.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Segments of one backup: a petabyte of WAL at the smallest size. More is a server that does not tell the truth.
pub(super) const SEGMENTS_MAX: u64 = 1 << 30;

/// Where a backup starts and stops in the WAL.
#[derive(Debug, Clone, Copy)]
pub(super) struct WalRange {
    pub(super) start_lsn: Lsn,
    pub(super) stop_lsn: Lsn,
    /// The segment of the start, which tells the timeline.
    pub(super) start_segment: WalSegmentName,
    pub(super) segment_size: WalSegmentSize,
    /// Nobody made the server complete the last segment: the backup is of a standby alone.
    pub(super) may_end_open: bool,
}

impl WalRange {
    /// The segment that holds the last byte that is needed.
    pub(super) fn stop_segment(&self) -> WalSegmentName {
        let timeline = self.start_segment.timeline();
        // At a boundary the next segment may never be written to, and nothing of it is needed.
        let ending = self.stop_lsn.segment_ending(timeline, self.segment_size);
        ending.unwrap_or_else(|| self.stop_lsn.segment(timeline, self.segment_size)).max(self.start_segment)
    }
}

/// Waits until every segment of the range is archived, for each one as long as `timeout`.
///
/// # Errors
/// [`ErrorKind::ArchiveTimeout`] naming the first one that is missing, or as for [`wait_for_segment`].
pub(super) async fn wait_for_range(
    archive: &Archive,
    range: &WalRange,
    timeout: Duration,
    context: &Context,
) -> Result<()> {
    let segments = WalSegmentName::range(range.start_segment, range.stop_segment(), range.segment_size, SEGMENTS_MAX)
        .map_err(|error| Error::new(ErrorKind::DbMismatch, error.to_string()))?;
    let last = range.stop_segment();
    for segment in segments {
        match segment == last && range.may_end_open {
            true => wait_for_open_segment(archive, segment, range.stop_lsn, timeout, context).await?,
            false => wait_for_segment(archive, segment, timeout, context).await?,
        }
    }
    Ok(())
}

/// Waits for a segment that the primary may still be writing to, and says so when it is not there at once.
async fn wait_for_open_segment(
    archive: &Archive,
    segment: WalSegmentName,
    stop_lsn: Lsn,
    timeout: Duration,
    context: &Context,
) -> Result<()> {
    if archive.find(WalFileName::Segment(segment)).await?.is_empty() {
        context.info(format!(
            "wait for the primary to complete and archive WAL segment {segment}, which holds the end of the backup \
             ({stop_lsn}): at the latest when its archive_timeout has passed"
        ));
    }
    wait_for_segment(archive, segment, timeout, context).await.map_err(|error| match error.kind() {
        ErrorKind::ArchiveTimeout => error
            .hint("an idle primary completes no segment: set archive_timeout there, or run pg_switch_wal() there.")
            .hint("the archive-timeout option says how long this backup waits."),
        _ => error,
    })
}

/// Waits until a segment is archived.
///
/// # Errors
/// [`ErrorKind::ArchiveTimeout`] when it is not in time, [`ErrorKind::ArchiveDuplicate`] when there are two of it.
pub(super) async fn wait_for_segment(
    archive: &Archive,
    segment: WalSegmentName,
    timeout: Duration,
    context: &Context,
) -> Result<()> {
    super::unless_cancelled(context, async {
        let deadline = Instant::now() + timeout;
        let (mut pause, pause_max) = PAUSE;
        loop {
            // Settled before the look: a process that slept through the deadline looks once more before it gives up, since
            // the segment may have come meanwhile.
            let left = deadline.saturating_duration_since(Instant::now());
            if is_archived(archive, segment).await? {
                return Ok(());
            }
            if left.is_zero() {
                return Err(not_in_time(segment, timeout));
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = pause.saturating_mul(2).min(pause_max);
        }
    })
    .await
}

async fn is_archived(archive: &Archive, segment: WalSegmentName) -> Result<bool> {
    let found = archive.find(WalFileName::Segment(segment)).await?;
    match &found[..] {
        [] => Ok(false),
        [_] => Ok(true),
        many => {
            let names: Vec<&str> =
                many.iter().map(|file| file.path.as_str().rsplit('/').next().unwrap_or_default()).collect();
            let message = format!("duplicates found in archive for WAL segment {segment}: {}", names.join(", "));
            Err(Error::new(ErrorKind::ArchiveDuplicate, message)
                .hint("are multiple primaries archiving to this stanza?"))
        }
    }
}

fn not_in_time(segment: WalSegmentName, timeout: Duration) -> Error {
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
    use crate::postgres::Timeline;
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
        waiting.await.unwrap().unwrap();
    }

    #[test]
    fn the_range_ends_with_the_segment_of_the_last_byte() {
        let size = WalSegmentSize::DEFAULT;
        let start = Lsn(0x300_0028);
        let range = |stop: u64| WalRange {
            start_lsn: start,
            stop_lsn: Lsn(stop),
            start_segment: start.segment(Timeline::FIRST, size),
            segment_size: size,
            may_end_open: false,
        };
        for (stop, name) in [
            (0x300_0100, "000000010000000000000003"),
            (0x400_0000, "000000010000000000000003"),
            (0x400_0001, "000000010000000000000004"),
            (0x1_0000_0000, "0000000100000000000000FF"),
            (0x1_0000_0028, "000000010000000100000000"),
        ] {
            assert_eq!(range(stop).stop_segment().to_string(), name);
        }
    }
}
