//! Waits for WAL in the repository: a backup counts only with all of it (repository-behaviour.md §4.12).

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, WalFileName, WalSegmentName, WalSegmentSize};
use crate::progress::Context;
use crate::repository::{Archive, wait_for_segment};

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
            false => drop(wait_for_segment(archive, segment, timeout, context).await?),
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
    wait_for_segment(archive, segment, timeout, context).await.map(drop).map_err(|error| match error.kind() {
        ErrorKind::ArchiveTimeout => error
            .hint("an idle primary completes no segment: set archive_timeout there, or run pg_switch_wal() there.")
            .hint("the archive-timeout option says how long this backup waits."),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Timeline;

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
