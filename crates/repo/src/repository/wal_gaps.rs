//! WAL that has to be in an archive and is not, told by listings alone.

use std::collections::BTreeMap;

use super::archived_wal::ArchivedWal;
use super::open::Repository;
use super::timelines::{BackupStart, check_path};
use super::wal_path::{Span, position, spans};
use crate::error::Result;
use crate::format::{ArchiveId, ArchiveInfo, DbGeneration};
use crate::postgres::{Lsn, Timeline, WalSegmentName, WalSegmentSize};
use crate::progress::Context;

/// Directories that are listed again because something in them seems to be missing, at most.
const DOUBTS_MAX: usize = 16;

/// WAL that has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeededWal {
    /// The archive.
    pub archive_id: ArchiveId,
    /// The first segment that a backup needs.
    pub start: WalSegmentName,
    /// Where the backup begins in it, if that is known.
    pub start_lsn: Option<Lsn>,
    /// The last segment that the backup needs.
    pub stop: WalSegmentName,
    /// Whether everything after it is needed too, along the timelines to the newest one that can be reached.
    pub is_open: bool,
}

/// Consecutive segments of one timeline that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalGap {
    /// The first.
    pub first: WalSegmentName,
    /// The last.
    pub last: WalSegmentName,
    /// How many.
    pub count: u64,
}

/// What is missing, in the order of the WAL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalGaps(Vec<WalGap>);

impl WalGaps {
    /// How many segments.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, gap| sum.saturating_add(gap.count))
    }

    /// The gaps.
    pub fn gaps(&self) -> &[WalGap] {
        &self.0
    }

    /// Without the segments that are not before `waiting`: what the server has not archived yet is not lost.
    #[must_use]
    pub fn before(mut self, waiting: WalSegmentName, size: WalSegmentSize) -> Self {
        self.0.retain(|gap| gap.first < waiting);
        for gap in self.0.iter_mut().filter(|gap| gap.last >= waiting && gap.last.timeline() == waiting.timeline()) {
            if let Some(last) = waiting.previous(size) {
                gap.last = last;
                gap.count = count(gap.first, last, size);
            }
        }
        self
    }
}

/// The archives of one repository, remembered between looks.
#[derive(Debug, Clone, Default)]
pub struct ArchivedWals(BTreeMap<ArchiveId, ArchivedWal>);

impl ArchivedWals {
    /// Looks at the current archive and at those that are `needed`. `size` is that of the current cluster's segments.
    ///
    /// # Errors
    /// As [`ArchivedWal::look`].
    pub async fn look(
        &mut self,
        repository: &Repository,
        info: &ArchiveInfo,
        needed: &[NeededWal],
        size: WalSegmentSize,
        context: &Context,
    ) -> Result<()> {
        let current = info.current_archive_id();
        let wanted = |id: ArchiveId| id == current || needed.iter().any(|needed| needed.archive_id == id);
        self.0.retain(|id, _| wanted(*id));
        let ids = info.history().generations().iter().map(DbGeneration::archive_id);
        for id in ids.filter(|id| wanted(*id)) {
            let known = self.0.entry(id).or_insert_with(|| ArchivedWal::new((id == current).then_some(size)));
            known.look(&repository.archive(info, id)?, context).await?;
        }
        Ok(())
    }

    /// The newest segment of an archive, and when it was stored.
    pub fn last(&self, id: ArchiveId) -> Option<(WalSegmentName, i64)> {
        self.0.get(&id).and_then(ArchivedWal::last)
    }

    /// What is missing of what is needed, as of the last look.
    ///
    /// # Errors
    /// Those of reading the size of segments, once for each archive of an older cluster.
    pub async fn gaps(
        &mut self,
        repository: &Repository,
        info: &ArchiveInfo,
        needed: &[NeededWal],
        context: &Context,
    ) -> Result<WalGaps> {
        let mut gaps = WalGaps::default();
        for (id, wal) in &mut self.0 {
            let size = wal.segment_size(&repository.archive(info, *id)?, context).await?;
            let needed: Vec<NeededWal> = needed.iter().filter(|needed| needed.archive_id == *id).copied().collect();
            gaps.0.extend(wal.gaps(&needed, size).0);
        }
        Ok(gaps)
    }

    /// Lists again where something was missing.
    ///
    /// # Errors
    /// Those of listing.
    pub async fn look_again(&mut self, repository: &Repository, info: &ArchiveInfo, gaps: &WalGaps) -> Result<()> {
        let doubts: Vec<WalSegmentName> =
            gaps.gaps().iter().flat_map(|gap| [gap.first, gap.last]).take(DOUBTS_MAX).collect();
        for (id, wal) in &mut self.0 {
            wal.look_again(&repository.archive(info, *id)?, &doubts).await?;
        }
        Ok(())
    }
}

impl ArchivedWal {
    /// What is missing of what is needed. Pure.
    pub fn gaps(&self, needed: &[NeededWal], size: WalSegmentSize) -> WalGaps {
        let mut gaps: Vec<WalGap> = needed.iter().flat_map(|needed| self.gaps_of(needed, size)).collect();
        gaps.sort_by_key(|gap| (gap.first, gap.last));
        let mut merged: Vec<WalGap> = Vec::with_capacity(gaps.len());
        for gap in gaps {
            match merged.last_mut() {
                Some(before)
                    if gap.first <= before.last || before.last.next(size).is_some_and(|next| gap.first == next) =>
                {
                    before.last = before.last.max(gap.last);
                    before.count = count(before.first, before.last, size);
                }
                _ => merged.push(gap),
            }
        }
        merged.sort_by_key(|gap| (position(gap.first), gap.first));
        WalGaps(merged)
    }

    fn gaps_of(&self, needed: &NeededWal, size: WalSegmentSize) -> Vec<WalGap> {
        let (start, stop) = (needed.start, needed.stop);
        if !needed.is_open {
            return match start.timeline() == stop.timeline() {
                true => self.missing(start, stop, size),
                // Nobody knows where the timelines changed.
                false => [start, stop].iter().flat_map(|name| self.missing(*name, *name, size)).collect(),
            };
        }
        let mut gaps = Vec::new();
        for span in self.way(needed, size) {
            let timeline = span.first.timeline();
            let highest = self.highest(timeline).filter(|highest| *highest >= span.first);
            let own_stop = (timeline == stop.timeline()).then_some(stop);
            // The end of the archive is no gap, but what the backup itself needs has to be there.
            if let Some(last) = span.last.or(highest.max(own_stop)) {
                gaps.extend(self.missing(span.first, last, size));
            }
        }
        gaps
    }

    /// From the start of a backup along the timelines, as recovery to the newest one would go; on its own timeline where
    /// that cannot be reached.
    fn way(&self, needed: &NeededWal, size: WalSegmentSize) -> Vec<Span> {
        let timeline = needed.start.timeline();
        let Some(lsn) = needed.start_lsn.or(needed.start.start_lsn(size)) else { return Vec::new() };
        let start = BackupStart { archive_id: needed.archive_id, timeline, lsn };
        let newer = self.history().filter(|history| history.timeline() > timeline);
        spans(start, newer.filter(|history| check_path(history, start).is_ok()), size)
    }

    fn missing(&self, first: WalSegmentName, last: WalSegmentName, size: WalSegmentSize) -> Vec<WalGap> {
        let timeline = first.timeline();
        let (Some(first_number), Some(last_number)) = (first.number(size), last.number(size)) else {
            // There can be no such segment, and so it is not there.
            return vec![WalGap { first, last: first, count: 1 }];
        };
        let mut gaps = Vec::new();
        let mut next = first_number;
        for number in self.between(first, last).filter_map(|segment| segment.number(size)) {
            gaps.extend(gap(timeline, next, number, size));
            next = number.saturating_add(1);
        }
        gaps.extend(gap(timeline, next, last_number.saturating_add(1), size));
        gaps
    }
}

/// The gap from one number up to, and without, another.
fn gap(timeline: Timeline, from: u64, to: u64, size: WalSegmentSize) -> Option<WalGap> {
    let count = to.checked_sub(from).filter(|count| *count > 0)?;
    let first = WalSegmentName::from_number(timeline, from, size)?;
    Some(WalGap { first, last: WalSegmentName::from_number(timeline, to - 1, size)?, count })
}

fn count(first: WalSegmentName, last: WalSegmentName, size: WalSegmentSize) -> u64 {
    let distance = last.number(size).zip(first.number(size)).and_then(|(last, first)| last.checked_sub(first));
    distance.unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::HistoryId;
    use crate::postgres::{PgVersion, TimelineHistory};

    const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

    fn names(timeline: u32, segments: impl IntoIterator<Item = u32>) -> Vec<WalSegmentName> {
        let timeline = Timeline::new(timeline).unwrap();
        segments.into_iter().map(|number| WalSegmentName::new(timeline, number / 256, number % 256)).collect()
    }

    fn needed(timeline: u32, start: u32, stop: u32, is_open: bool) -> NeededWal {
        let archive_id = ArchiveId { version: PgVersion::V16, history_id: HistoryId::FIRST };
        let name = |number| names(timeline, [number])[0];
        NeededWal { archive_id, start: name(start), start_lsn: None, stop: name(stop), is_open }
    }

    /// What is missing, as (timeline, first, last), and how many.
    fn gaps(wal: &ArchivedWal, needed: &[NeededWal]) -> (Vec<(u32, u32, u32)>, u64) {
        let gaps = wal.gaps(needed, SIZE);
        let number = |name: WalSegmentName| name.log() * 256 + name.segment();
        let told = gaps.gaps().iter().map(|gap| (gap.first.timeline().number(), number(gap.first), number(gap.last)));
        (told.collect(), gaps.count())
    }

    #[test]
    fn kg25_what_backups_and_recovery_need_and_the_archive_lacks_is_told() {
        // Segments 2 to 9 and 12 to 600, across three directories.
        let wal = ArchivedWal::of(&names(1, (2..10).chain(12..601)), None);
        assert_eq!(gaps(&wal, &[needed(1, 2, 3, true)]), (vec![(1, 10, 11)], 2));
        assert_eq!(gaps(&wal, &[needed(1, 12, 13, true)]), (vec![], 0), "the end of the archive is no gap");
        assert_eq!(gaps(&wal, &[needed(1, 3, 5, false), needed(1, 20, 21, true)]), (vec![], 0), "nobody needs 10");
        assert_eq!(gaps(&wal, &[needed(1, 8, 12, false)]), (vec![(1, 10, 11)], 2));
        // What is needed twice is missing once; the backup's own end has to be there.
        let twice = [needed(1, 2, 3, true), needed(1, 11, 12, false), needed(1, 599, 603, true)];
        assert_eq!(gaps(&wal, &twice), (vec![(1, 10, 11), (1, 601, 603)], 5));
        // Nothing at all is there, of however large a range.
        let all = (vec![(1, 2, 40_000)], 39_999);
        assert_eq!(gaps(&ArchivedWal::default(), &[needed(1, 2, 40_000, false)]), all);
        let impossible = NeededWal { start: WalSegmentName::new(Timeline::FIRST, 0, 256), ..needed(1, 2, 3, false) };
        assert_eq!(gaps(&wal, &[impossible]).1, 1);
    }

    #[test]
    fn kg25_a_gap_is_looked_for_along_the_timelines() {
        // Timeline 1 was left in segment 5, timeline 2 in segment 9.
        let text = "1\t0/5000028\tone\n2\t0/9000000\ttwo\n";
        let history = TimelineHistory::parse(Timeline::new(3).unwrap(), text.as_bytes()).unwrap();
        let of = |one: &[u32], two: &[u32], three: &[u32]| {
            let all = [names(1, one.to_vec()), names(2, two.to_vec()), names(3, three.to_vec())];
            ArchivedWal::of(&all.concat(), Some(history.clone()))
        };
        let open = [needed(1, 2, 3, true)];
        let whole = of(&[2, 3, 4, 8], &[5, 6, 7, 8], &[9, 10]);
        assert_eq!(gaps(&whole, &open), (vec![], 0), "the rest of a timeline that was left is not needed");
        let holed = of(&[2, 3], &[5, 6, 8], &[9, 10]);
        assert_eq!(gaps(&holed, &open), (vec![(1, 4, 4), (2, 7, 7)], 2));
        let promoted = of(&[2, 3, 4], &[5, 6, 7, 8], &[]);
        assert_eq!(gaps(&promoted, &open), (vec![], 0), "nothing is archived of the newest one yet");
        // A backup from which the newest timeline cannot be reached needs its own.
        let aside = of(&[2, 3, 4, 5, 6, 8], &[5, 6, 7, 8], &[9]);
        assert_eq!(gaps(&aside, &[needed(1, 6, 6, true)]), (vec![(1, 7, 7)], 1));
    }

    #[test]
    fn what_still_waits_is_no_gap() {
        let wal = ArchivedWal::of(&names(1, [2, 4, 9]), None);
        let gaps = wal.gaps(&[needed(1, 2, 2, true)], SIZE);
        assert_eq!(gaps.count(), 5);
        let name = |number| names(1, [number])[0];
        for (waiting, count) in [(3, 0), (4, 1), (5, 1), (7, 3), (9, 5), (12, 5)] {
            assert_eq!(gaps.clone().before(name(waiting), SIZE).count(), count, "{waiting}");
        }
        assert_eq!(gaps.clone().before(names(2, [1])[0], SIZE).count(), 5, "what an older timeline lacks is lost");
    }
}
