//! The WAL on the way from a backup to the end of a timeline. Pure.

use super::timelines::BackupStart;
use crate::postgres::timeline::{Timeline, TimelineHistory};
use crate::postgres::{WalSegmentName, WalSegmentSize};

/// Where a segment is in the WAL, whatever its timeline: ordered as the WAL is.
pub(crate) type Position = (u32, u32);

/// The position of a segment.
pub(crate) fn position(segment: WalSegmentName) -> Position {
    (segment.log(), segment.segment())
}

/// Consecutive segments of one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first.
    pub first: WalSegmentName,
    /// The last; `None` for as far as the archive goes.
    pub last: Option<WalSegmentName>,
}

/// The segments from the start of a backup on, along the timelines to that of `target` (without one: the backup's own).
///
/// The segment in which a timeline was left is on the next one, which begins with a copy of it.
pub(crate) fn spans(start: BackupStart, target: Option<&TimelineHistory>, size: WalSegmentSize) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut first = start.lsn.segment(start.timeline, size);
    let mut timeline = start.timeline;
    if let Some(target) = target {
        let switches = target.switches();
        let passed: Vec<_> = switches.iter().skip_while(|switch| switch.timeline != start.timeline).collect();
        for (at, switch) in passed.iter().enumerate() {
            let left = switch.switch_lsn.segment(timeline, size);
            if position(left) > position(first)
                && let Some(last) = left.previous(size)
            {
                spans.push(Span { first, last: Some(last) });
            }
            timeline = passed.get(at + 1).map_or(target.timeline(), |next| next.timeline);
            let (log, segment) = position(left).max(position(first));
            first = WalSegmentName::new(timeline, log, segment);
        }
    }
    spans.push(Span { first, last: None });
    spans
}

/// The spans up to the segment at `end`.
pub(crate) fn until(spans: Vec<Span>, end: Position) -> Vec<Span> {
    let begun = spans.into_iter().filter(|span| position(span.first) <= end);
    begun
        .map(|span| {
            let is_within = span.last.is_some_and(|last| position(last) <= end);
            let cut = WalSegmentName::new(span.first.timeline(), end.0, end.1);
            Span { last: if is_within { span.last } else { Some(cut) }, ..span }
        })
        .collect()
}

/// The timelines on the way.
pub(crate) fn timelines(target: Option<&TimelineHistory>, start: Timeline) -> Vec<Timeline> {
    let Some(target) = target else { return vec![start] };
    let passed = target.switches().iter().map(|switch| switch.timeline).skip_while(|timeline| *timeline != start);
    passed.chain([target.timeline()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ArchiveId, HistoryId};
    use crate::postgres::{Lsn, PgVersion};

    const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

    fn name(text: &str) -> WalSegmentName {
        WalSegmentName::parse(text).unwrap()
    }

    fn start(timeline: u32, lsn: u64) -> BackupStart {
        let archive_id = ArchiveId { version: PgVersion::V15, history_id: HistoryId::FIRST };
        BackupStart { archive_id, timeline: Timeline::new(timeline).unwrap(), lsn: Lsn(lsn) }
    }

    fn history(timeline: u32, text: &str) -> TimelineHistory {
        TimelineHistory::parse(Timeline::new(timeline).unwrap(), text.as_bytes()).unwrap()
    }

    #[test]
    fn a_timeline_is_followed_until_it_was_left() {
        let history = history(3, "1\t0/5000028\tone\n2\t0/8000000\ttwo\n");
        assert_eq!(
            spans(start(1, 0x200_0028), Some(&history), SIZE),
            [
                Span { first: name("000000010000000000000002"), last: Some(name("000000010000000000000004")) },
                Span { first: name("000000020000000000000005"), last: Some(name("000000020000000000000007")) },
                Span { first: name("000000030000000000000008"), last: None },
            ]
        );
        assert_eq!(
            spans(start(2, 0x600_0028), Some(&history), SIZE),
            [
                Span { first: name("000000020000000000000006"), last: Some(name("000000020000000000000007")) },
                Span { first: name("000000030000000000000008"), last: None },
            ]
        );
        assert_eq!(timelines(Some(&history), Timeline::new(2).unwrap()).len(), 2);
    }

    #[test]
    fn a_backup_in_the_segment_of_the_switch_begins_on_the_next_timeline() {
        let history = history(2, "1\t0/5001000\tone\n");
        assert_eq!(
            spans(start(1, 0x500_0028), Some(&history), SIZE),
            [Span { first: name("000000020000000000000005"), last: None }]
        );
    }

    #[test]
    fn a_path_ends_where_it_is_cut() {
        let history = history(2, "1\t0/5000028\tone\n");
        let all = spans(start(1, 0x200_0028), Some(&history), SIZE);
        assert_eq!(
            until(all.clone(), (0, 3)),
            [Span { first: all[0].first, last: Some(name("000000010000000000000003")) }]
        );
        assert_eq!(until(all.clone(), (0, 9))[1].last, Some(name("000000020000000000000009")));
        assert_eq!(until(all, (0, 4)).len(), 1);
    }
}
