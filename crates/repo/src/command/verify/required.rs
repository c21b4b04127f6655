//! The WAL that a backup needs to become consistent. Pure.

use super::wal::{Archives, SegmentState, WholeWal};
use crate::format::{ArchiveInfo, Manifest};
use crate::postgres::WalSegmentName;

/// The most segments that are named one by one: a range beyond that is damage of the manifest.
const SEGMENTS_MAX: u64 = 10_000_000;

/// What a backup needs and does not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lacking {
    /// Segments that are missing or damaged.
    pub lost: Vec<WalSegmentName>,
    /// Segments that could not be read.
    pub unknown: Vec<WalSegmentName>,
}

/// The first and the last segment that a backup needs; `None` for a backup of a stopped cluster and for one that has
/// copied its WAL.
pub(super) fn range_of(manifest: &Manifest) -> Option<(WalSegmentName, WalSegmentName)> {
    let (header, options) = (manifest.header(), manifest.options());
    if options.archive_copy {
        return None;
    }
    Some((header.archive_start?, header.archive_stop?))
}

/// What of the range is lacking, in all archives where WAL of the backup's cluster may be.
pub(super) fn lacking(manifest: &Manifest, info: &ArchiveInfo, archives: &Archives) -> Lacking {
    let mut lacking = Lacking::default();
    let Some((start, stop)) = range_of(manifest) else { return lacking };
    let cluster = manifest.cluster();
    let ids: Vec<_> = match cluster.system_id {
        Some(system_id) => info.history().archive_ids_of(cluster.version, system_id).collect(),
        None => Vec::new(),
    };
    let whole: Vec<&WholeWal> = ids.iter().filter_map(|id| archives.whole.get(id)).collect();
    let size = whole.iter().find_map(|whole| whole.segment_size);
    let range = size.and_then(|size| WalSegmentName::range(start, stop, size, SEGMENTS_MAX).ok());
    let segments: Vec<WalSegmentName> = match range {
        Some(range) => range.collect(),
        // Without a whole segment nobody knows how many there are between the two.
        None if start == stop => vec![start],
        None => vec![start, stop],
    };
    for segment in segments {
        let state = whole.iter().map(|whole| whole.state(segment)).max().unwrap_or(SegmentState::Lost);
        match state {
            SegmentState::Whole => {}
            SegmentState::Unknown => lacking.unknown.push(segment),
            SegmentState::Lost => lacking.lost.push(segment),
        }
    }
    lacking
}
