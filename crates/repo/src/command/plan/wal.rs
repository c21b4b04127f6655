//! Which segments are archived where.

use std::collections::BTreeMap;

use super::report::{MissingRun, WalPart, WalRun};
use crate::error::Result;
use crate::format::ArchiveId;
use crate::postgres::timeline::Timeline;
use crate::postgres::{PgVersion, SystemId, WalSegmentName, WalSegmentSize};
use crate::progress::Context;
use crate::repository::wal_path::{Position, Span, position};
use crate::repository::{Archive, ArchivedSegment, RepoIndex, Repository};

/// A segment that is archived.
#[derive(Debug, Clone)]
struct Stored {
    repository: RepoIndex,
    segment: ArchivedSegment,
    /// Another object has the same segment with another content: none of them is delivered.
    is_conflict: bool,
}

/// The archived segments of some timelines, of one or more repositories: the first one that has a segment counts.
#[derive(Debug, Default)]
pub(super) struct Listing {
    segments: BTreeMap<WalSegmentName, Stored>,
    archives: Vec<Archive>,
}

impl Listing {
    /// Adds what `repository` has of the cluster from `first` on. A repository that does not know the cluster adds
    /// nothing.
    pub(super) async fn add(
        &mut self,
        repository: &Repository,
        cluster: (PgVersion, SystemId),
        timelines: &[Timeline],
        first: Position,
        context: &Context,
    ) -> Result<()> {
        let info = repository.archive_info(context).await?;
        for id in info.history().archive_ids_of(cluster.0, cluster.1) {
            let archive = repository.archive(&info, id)?;
            for directory in archive.wal_directories().await? {
                context.check_cancelled()?;
                if timelines.contains(&directory.timeline()) && directory.log() >= first.0 {
                    for segment in archive.segments_of(directory).await? {
                        self.add_one(repository.index(), segment);
                    }
                }
            }
            self.archives.push(archive);
        }
        Ok(())
    }

    fn add_one(&mut self, repository: RepoIndex, segment: ArchivedSegment) {
        let name = segment.name.segment;
        match self.segments.get_mut(&name) {
            // The original asks one repository after the other; a second content is refused whoever has it.
            Some(known) => known.is_conflict |= known.segment.name.checksum != segment.name.checksum,
            None => {
                self.segments.insert(name, Stored { repository, segment, is_conflict: false });
            }
        }
    }

    /// The size of segments, read from the first bytes of one; `None` when none is archived.
    pub(super) async fn segment_size(&self, context: &Context) -> Result<Option<WalSegmentSize>> {
        let mut failed = None;
        for stored in self.segments.values().take(3) {
            for archive in self.archives.iter().filter(|archive| archive.repository().index() == stored.repository) {
                match archive.segment_size(&stored.segment.name, context).await {
                    Ok(size) => return Ok(Some(size)),
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(None), Err)
    }

    fn highest(&self, timeline: Timeline) -> Option<WalSegmentName> {
        let (first, last) = (WalSegmentName::new(timeline, 0, 0), WalSegmentName::new(timeline, u32::MAX, u32::MAX));
        self.segments.range(first..=last).next_back().map(|(name, _)| *name)
    }

    fn usable(&self, segment: WalSegmentName) -> Option<&Stored> {
        self.segments.get(&segment).filter(|stored| !stored.is_conflict)
    }

    /// The first segment on the way, without a gap before it, that was archived after a time: it ends after the time.
    pub(super) fn first_archived_after(&self, spans: &[Span], time_s: i64, size: WalSegmentSize) -> Option<Position> {
        for span in spans {
            let mut next = Some(span.first);
            while let Some(segment) = next.filter(|segment| span.last.is_none_or(|last| *segment <= last)) {
                if self.usable(segment)?.segment.modified_s > time_s {
                    return Some(position(segment));
                }
                next = segment.next(size);
            }
        }
        None
    }

    /// What is archived of `spans`, and what is missing.
    pub(super) fn part(&self, id: ArchiveId, spans: &[Span], stop: WalSegmentName, size: WalSegmentSize) -> WalPart {
        let mut part = WalPart::new(id);
        for span in spans {
            let highest = self.highest(span.first.timeline()).filter(|highest| *highest >= span.first);
            let needed = if span.first.timeline() == stop.timeline() { Some(stop) } else { None };
            let Some(last) = span.last.or(highest.max(needed)) else { continue };
            // Behind the last one that is archived everything is missing; there may be any number.
            let listed_last = highest.map_or(span.first, |highest| highest.min(last));
            let mut next = Some(span.first);
            while let Some(segment) = next.filter(|segment| *segment <= listed_last) {
                match self.usable(segment) {
                    Some(stored) => part.take(segment, stored.repository, &stored.segment, size),
                    None => part.lack(segment, segment, size),
                }
                next = segment.next(size);
            }
            if let Some(behind) = next.filter(|behind| *behind <= last && *behind > listed_last) {
                part.lack(behind, last, size);
            }
        }
        part
    }
}

impl WalPart {
    fn take(&mut self, segment: WalSegmentName, repository: RepoIndex, stored: &ArchivedSegment, size: WalSegmentSize) {
        if self.missing.is_empty() {
            self.last = Some(segment);
            self.last_archived_s = Some(stored.modified_s);
        }
        let size_bytes = stored.size_bytes;
        match self.runs.last_mut() {
            Some(run) if run.repository == repository && run.last.next(size) == Some(segment) => {
                run.last = segment;
                run.count = run.count.saturating_add(1);
                run.size_repo_bytes = run.size_repo_bytes.saturating_add(size_bytes);
            }
            _ => self.runs.push(WalRun {
                repository,
                first: segment,
                last: segment,
                count: 1,
                size_repo_bytes: size_bytes,
            }),
        }
    }

    fn lack(&mut self, first: WalSegmentName, last: WalSegmentName, size: WalSegmentSize) {
        match self.missing.last_mut() {
            Some(run) if run.last.next(size) == Some(first) => run.last = last,
            _ => self.missing.push(MissingRun { first, last }),
        }
    }
}
