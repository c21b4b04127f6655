//! Waits for WAL in the repository: a backup counts only with all of it (repository-behaviour.md §4.12).

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Lsn, WalSegmentName, WalSegmentSize};
use crate::progress::Context;
use crate::repository::{Archive, wait_for_segment};

/// Segments of one backup: a petabyte of WAL at the smallest size. More is a server that does not tell the truth.
const SEGMENTS_MAX: u64 = 1 << 30;

/// Where a backup starts and stops in the WAL.
#[derive(Debug, Clone, Copy)]
pub(super) struct WalRange {
    pub(super) start_lsn: Lsn,
    pub(super) stop_lsn: Lsn,
    /// The segment of the start, which tells the timeline.
    pub(super) start_segment: WalSegmentName,
    pub(super) segment_size: WalSegmentSize,
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
    for segment in segments {
        wait_for_segment(archive, segment, timeout, context).await?;
    }
    Ok(())
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
