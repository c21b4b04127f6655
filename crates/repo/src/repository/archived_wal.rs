//! Which segments an archive holds, remembered between the looks of a process that stays. Only listings are read, and the
//! history file of a new timeline.

use std::collections::BTreeMap;

use super::archive::Archive;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Timeline, TimelineHistory, WalSegmentName, WalSegmentSize};
use crate::progress::Context;

/// The numbers of a directory's segments, in ascending runs of consecutive ones, first and last: an archive without gaps
/// takes some bytes for each 4 GiB of WAL, however small its segments are.
#[derive(Debug, Clone, Default)]
struct Runs(Vec<(u32, u32)>);

impl Runs {
    /// Adds a number that is higher than all before.
    fn push(&mut self, number: u32) {
        match self.0.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => self.0.push((number, number)),
        }
    }

    /// Their segments, in the directory of `first`.
    fn segments(&self, first: WalSegmentName) -> impl DoubleEndedIterator<Item = WalSegmentName> {
        let numbers = self.0.iter().flat_map(|(first, last)| *first..=*last);
        numbers.map(move |number| WalSegmentName::new(first.timeline(), first.log(), number))
    }
}

/// The segments of one archive, as of the last look.
///
/// A look lists the newest directory (4 GiB of WAL), those that are new, and one of the others in turn: it costs the same
/// however much WAL there is, and what somebody has removed is found out with time.
#[derive(Debug, Clone, Default)]
pub struct ArchivedWal {
    /// By the name that a directory's first segment would have: its segments that would be delivered, in ascending order.
    directories: BTreeMap<WalSegmentName, Runs>,
    /// The newest segment, and when it was stored.
    last: Option<(WalSegmentName, i64)>,
    /// The history of the newest timeline that has one.
    history: Option<TimelineHistory>,
    /// The directory whose turn it was at the last look.
    turn: Option<WalSegmentName>,
    size: Option<WalSegmentSize>,
}

impl ArchivedWal {
    /// Nothing is known yet; the size of segments may be.
    pub fn new(size: Option<WalSegmentSize>) -> Self {
        Self { size, ..Self::default() }
    }

    /// Looks at the archive. What was learned before a failure stays known.
    ///
    /// # Errors
    /// Those of listing, and of reading a history file.
    pub async fn look(&mut self, archive: &Archive, context: &Context) -> Result<()> {
        let overview = archive.overview().await?;
        self.directories.retain(|known, _| overview.directories.binary_search(known).is_ok());
        let turn = self.turn.take();
        let after = self.directories.keys().find(|known| turn.is_none_or(|turn| **known > turn));
        let turn = after.or(self.directories.keys().next()).copied();
        self.last = None;
        for directory in overview.directories.into_iter().rev() {
            context.check_cancelled()?;
            let is_known = self.directories.contains_key(&directory);
            // A directory may be there without segments.
            if !is_known || self.last.is_none() || turn == Some(directory) {
                let last = self.list(archive, directory).await?;
                self.last = self.last.or(last);
            }
        }
        self.turn = turn;
        self.follow(archive, overview.latest, context).await
    }

    /// Lists the directories of these segments again.
    ///
    /// # Errors
    /// Those of listing.
    pub async fn look_again(&mut self, archive: &Archive, segments: &[WalSegmentName]) -> Result<()> {
        let mut directories: Vec<WalSegmentName> = segments.iter().map(|name| directory_of(*name)).collect();
        directories.dedup();
        for directory in directories {
            self.list(archive, directory).await?;
        }
        Ok(())
    }

    async fn list(&mut self, archive: &Archive, directory: WalSegmentName) -> Result<Option<(WalSegmentName, i64)>> {
        let listed = archive.segments_of(directory).await?;
        let mut versions = BTreeMap::new();
        for segment in &listed {
            let name = segment.name;
            let is_single = versions.entry(name.segment).or_insert((name.checksum, true));
            is_single.1 &= is_single.0 == name.checksum;
        }
        let last = listed.iter().max_by_key(|segment| segment.name.segment);
        // Of two contents under one name none is delivered.
        let mut whole = Runs::default();
        for (name, _) in versions.into_iter().filter(|(_, (_, is_single))| *is_single) {
            whole.push(name.segment());
        }
        self.directories.insert(directory, whole);
        Ok(last.map(|last| (last.name.segment, last.modified_s)))
    }

    async fn follow(&mut self, archive: &Archive, latest: Option<Timeline>, context: &Context) -> Result<()> {
        if self.history.as_ref().map(TimelineHistory::timeline) == latest {
            return Ok(());
        }
        self.history = None;
        let Some(latest) = latest else { return Ok(()) };
        let Some(content) = archive.timeline_history(latest, context).await? else { return Ok(()) };
        let history = TimelineHistory::parse(latest, &content).map_err(|error| {
            let text = format!("invalid history of timeline {latest} in archive {}: {error}", archive.id());
            Error::new(ErrorKind::Format, text)
        });
        self.history = Some(history?);
        Ok(())
    }

    /// The newest segment, and when it was stored, in seconds since the Unix epoch.
    pub fn last(&self) -> Option<(WalSegmentName, i64)> {
        self.last
    }

    /// The size of segments: what is known, or what the header of one says.
    ///
    /// # Errors
    /// Those of reading it.
    pub(super) async fn segment_size(&mut self, archive: &Archive, context: &Context) -> Result<WalSegmentSize> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        let Some(first) = self.directories.iter().find_map(|(at, runs)| runs.segments(*at).next()) else {
            return Ok(WalSegmentSize::DEFAULT);
        };
        let found = archive.find_segments(&[first]).await?;
        let Some(name) = found.iter().find_map(|file| file.segment) else { return Ok(WalSegmentSize::DEFAULT) };
        let size = archive.segment_size(&name, context).await?;
        self.size = Some(size);
        Ok(size)
    }

    /// The history of the newest timeline that has one.
    pub(super) fn history(&self) -> Option<&TimelineHistory> {
        self.history.as_ref()
    }

    /// The segments from one to another of the same timeline, both included, in ascending order.
    pub(super) fn between(&self, first: WalSegmentName, last: WalSegmentName) -> impl Iterator<Item = WalSegmentName> {
        let directories = (first <= last).then(|| self.directories.range(directory_of(first)..=directory_of(last)));
        let segments = directories.into_iter().flatten().flat_map(|(at, runs)| runs.segments(*at));
        segments.filter(move |segment| first <= *segment && *segment <= last)
    }

    /// The newest segment of a timeline.
    pub(super) fn highest(&self, timeline: Timeline) -> Option<WalSegmentName> {
        let (first, last) = (WalSegmentName::new(timeline, 0, 0), WalSegmentName::new(timeline, u32::MAX, 0));
        self.directories.range(first..=last).rev().find_map(|(at, runs)| runs.segments(*at).next_back())
    }

    #[cfg(test)]
    pub(super) fn of(segments: &[WalSegmentName], history: Option<TimelineHistory>) -> Self {
        let mut wal = Self { history, size: Some(WalSegmentSize::DEFAULT), ..Self::default() };
        for segment in segments {
            wal.directories.entry(directory_of(*segment)).or_default().push(segment.segment());
        }
        wal
    }
}

fn directory_of(segment: WalSegmentName) -> WalSegmentName {
    WalSegmentName::new(segment.timeline(), segment.log(), 0)
}
