//! What the background half of `archive-get` and the commands that take from its queue tell each other, beside what the
//! original knows of: so that nobody fetches what is about to come, and the background half can stay.
//!
//! ```text
//! <spool-path>/archive/<stanza>/in.ahead/coming   "<first>\n<last>\n", zeros for <first> when nothing is on its way; locked
//!                                                 while the background half that wrote it lives
//!                                       /taken    the last segment that a command took from the queue
//! ```
//!
//! All of it is advice. Without it, or when it cannot be read, a command does what the original's does.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};

use super::spool::Spool;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{WalSegmentName, WalSegmentSize};

/// Two names, each with its line feed.
const CONTENT_BYTES: usize = 50;

/// In the place of a name.
const NOTHING: &str = "000000000000000000000000";

/// A command that looks holds the lock for an instant.
const TRIES: u32 = 5;
const TRY_WAIT: Duration = Duration::from_millis(1);

fn coming_file(spool: &Spool) -> PathBuf {
    spool.ahead().join("coming")
}

fn taken_file(spool: &Spool) -> PathBuf {
    spool.ahead().join("taken")
}

/// What a background half says of itself as long as it lives.
#[derive(Debug)]
pub struct Coming {
    file: File,
    path: PathBuf,
}

impl Coming {
    /// The right to say it; `None` while another background half has it. Blocking.
    ///
    /// # Errors
    /// [`ErrorKind::PathCreate`], [`ErrorKind::FileOpen`].
    pub fn hold(spool: &Spool) -> Result<Option<Self>> {
        spool.create_ahead()?;
        let path = coming_file(spool);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o640).custom_flags(no_follow());
        let file = options.open(&path).map_err(|error| {
            Error::new(ErrorKind::FileOpen, format!("unable to open '{}': {error}", path.display()))
        })?;
        for _ in 0..TRIES {
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Some(Self { file, path }));
            }
            std::thread::sleep(TRY_WAIT);
        }
        Ok(None)
    }

    /// Says which segments are on their way, from `first` to `last`; without a first one that those up to `last` have come.
    ///
    /// # Errors
    /// [`ErrorKind::FileWrite`].
    pub fn announce(&self, first: Option<WalSegmentName>, last: WalSegmentName) -> Result<()> {
        let first = first.map_or_else(|| NOTHING.to_owned(), |first| first.to_string());
        // One write of a length that never changes: who reads meanwhile finds two whole names.
        self.file.write_all_at(format!("{first}\n{last}\n").as_bytes(), 0).map_err(|error| {
            Error::new(ErrorKind::FileWrite, format!("unable to write '{}': {error}", self.path.display()))
        })
    }
}

/// What a living background half has said, and what was taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    first: Option<WalSegmentName>,
    last: WalSegmentName,
    taken: Option<WalSegmentName>,
}

impl Announced {
    /// The advice of a background half that lives. Blocking.
    pub fn of(spool: &Spool) -> Option<Self> {
        let file = open(&coming_file(spool))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        let content = content(&file)?;
        let (first, last) = content.split_once('\n')?;
        Some(Self { first: WalSegmentName::parse(first).ok(), last: parse(last)?, taken: taken(spool) })
    }

    /// Whether the segment is on its way, or is the next after a queue that was emptied in order: the background half then
    /// fetches it, or ends.
    pub fn brings(&self, segment: WalSegmentName, size: WalSegmentSize) -> bool {
        match self.first {
            Some(first) => segment.timeline() == first.timeline() && (first..=self.last).contains(&segment),
            None => self.taken == Some(self.last) && self.last.next(size) == Some(segment),
        }
    }

    /// Whether the background half fills the queue up when this segment was taken from it.
    pub fn follows(&self, segment: WalSegmentName) -> bool {
        segment.timeline() == self.last.timeline() && segment <= self.last
    }
}

/// The segment that a command took last. Blocking.
pub fn taken(spool: &Spool) -> Option<WalSegmentName> {
    parse(&content(&open(&taken_file(spool))?)?)
}

/// Says that a command is about to take the segment from the queue. Blocking.
pub fn take(spool: &Spool, segment: WalSegmentName) {
    let path = taken_file(spool);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o640).custom_flags(no_follow());
    // Unsaid, the background half believes that somebody else has tidied the queue, and ends.
    drop(options.open(path).and_then(|file| file.write_all_at(format!("{segment}\n").as_bytes(), 0)));
}

/// What a background half does when its segments up to `last` are in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The queue is full enough.
    Wait,
    /// Fetches these.
    Fetch(Vec<WalSegmentName>),
    /// Somebody works on other segments.
    Leave,
}

/// What is to be done when the queue, which should hold `queue_max_bytes`, holds the files `actual` and `taken` was taken
/// from it last.
///
/// Only who takes in order is served: what is left has to be the end of what was fetched, and a queue that is empty has to
/// have been emptied by commands of ours. Else somebody has removed files for a queue of his own, which this must not fill.
pub fn plan_next(
    last: WalSegmentName,
    taken: Option<WalSegmentName>,
    size: WalSegmentSize,
    queue_max_bytes: u64,
    actual: &[String],
) -> Next {
    let mut left: Vec<WalSegmentName> = actual.iter().filter_map(|name| WalSegmentName::parse(name).ok()).collect();
    left.sort_unstable();
    let in_order = left.windows(2).all(|pair| matches!(pair, [one, next] if one.next(size) == Some(*next)));
    if !in_order || left.last().copied().or(taken) != Some(last) {
        return Next::Leave;
    }
    let total = super::get_ahead::queue_segments(size, queue_max_bytes);
    let missing = total.saturating_sub(left.len() as u64);
    // A quarter at once: each time costs a look into the directory by who waits for it.
    if missing.saturating_mul(4) < total {
        return Next::Wait;
    }
    let mut need = Vec::new();
    let mut previous = last;
    while (need.len() as u64) < missing
        && let Some(next) = previous.next(size)
    {
        need.push(next);
        previous = next;
    }
    if need.is_empty() { Next::Leave } else { Next::Fetch(need) }
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(no_follow()).open(path).ok()
}

fn content(file: &File) -> Option<String> {
    let mut content = String::new();
    file.take(CONTENT_BYTES as u64).read_to_string(&mut content).ok()?;
    Some(content)
}

fn parse(text: &str) -> Option<WalSegmentName> {
    WalSegmentName::parse(text.trim_end()).ok()
}

fn no_follow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::format::Stanza;

    fn segment(text: &str) -> WalSegmentName {
        WalSegmentName::parse(text).unwrap()
    }

    fn number(number: u32) -> WalSegmentName {
        segment(&format!("0000000100000000{number:08X}"))
    }

    fn names(numbers: &[u32]) -> Vec<String> {
        numbers.iter().map(|n| number(*n).to_string()).collect()
    }

    const SIZE_MIB: u32 = 16;

    fn size() -> WalSegmentSize {
        WalSegmentSize::new(SIZE_MIB << 20).unwrap()
    }

    #[test]
    fn advice_lives_as_long_as_who_gives_it() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::get(folder.path(), &Stanza::parse("demo").unwrap());
        assert_eq!(Announced::of(&spool), None);
        let coming = Coming::hold(&spool).unwrap().unwrap();
        assert_eq!(Announced::of(&spool), None, "nothing was said yet");
        assert!(Coming::hold(&spool).unwrap().is_none(), "one says it");
        coming.announce(Some(number(3)), number(6)).unwrap();
        let said = Announced::of(&spool).unwrap();
        let brings: Vec<u32> = (0..9).filter(|n| said.brings(number(*n), size())).collect();
        assert_eq!(brings, [3, 4, 5, 6]);
        assert!(!said.brings(segment("000000020000000000000004"), size()), "another timeline");
        assert!(said.follows(number(1)) && said.follows(number(6)) && !said.follows(number(7)));
        coming.announce(None, number(6)).unwrap();
        let said = Announced::of(&spool).unwrap();
        assert!((0..9).all(|n| !said.brings(number(n), size())));
        for (taken, brings) in [(5, false), (6, true)] {
            take(&spool, number(taken));
            assert_eq!(Announced::of(&spool).unwrap().brings(number(7), size()), brings);
        }
        drop(coming);
        assert_eq!(Announced::of(&spool), None);
        assert!(Coming::hold(&spool).unwrap().is_some());
    }

    #[test]
    fn hi16_sec24_advice_that_is_none_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::get(folder.path(), &Stanza::parse("demo").unwrap());
        let held = Coming::hold(&spool).unwrap().unwrap();
        for bad in ["", "\n", "x\ny\n", "00000001000000000000000Z\n00000001000000000000000Z\n", "\u{0}"] {
            fs::write(coming_file(&spool), bad).unwrap();
            assert_eq!(Announced::of(&spool), None, "{bad:?}");
            fs::write(taken_file(&spool), bad).unwrap();
            assert_eq!(taken(&spool), None, "{bad:?}");
        }
        drop(held);
    }

    #[test]
    fn a_queue_that_is_emptied_in_order_is_filled_up() {
        let plan = |taken: Option<u32>, actual: &[u32]| {
            plan_next(number(9), taken.map(number), size(), 128 << 20, &names(actual))
        };
        let fetch = |from: u32, to: u32| Next::Fetch((from..=to).map(number).collect());
        assert_eq!(plan(None, &[2, 3, 4, 5, 6, 7, 8, 9]), Next::Wait);
        assert_eq!(plan(None, &[3, 4, 5, 6, 7, 8, 9]), Next::Wait);
        assert_eq!(plan(None, &[4, 5, 6, 7, 8, 9]), fetch(10, 11));
        assert_eq!(plan(Some(8), &[9]), fetch(10, 16));
        // Empty: the last one was taken, or somebody has removed all.
        assert_eq!(plan(Some(9), &[]), fetch(10, 17));
        assert_eq!(plan(Some(8), &[]), Next::Leave);
        assert_eq!(plan(None, &[]), Next::Leave);
        // The end is gone, the middle is, or there is one that this did not fetch.
        assert_eq!(plan(Some(4), &[5, 6, 7, 8]), Next::Leave);
        assert_eq!(plan(Some(4), &[5, 7, 8, 9]), Next::Leave);
        assert_eq!(plan(Some(4), &[8, 9, 10]), Next::Leave);
        // What is no segment does not count; however small the queue, it holds two.
        let actual = [names(&[9]), vec!["00000001000000000000000A.ok".to_owned()]].concat();
        assert_eq!(plan_next(number(9), None, size(), 0, &actual), fetch(10, 10));
        // Behind the last segment of all there is none.
        let end = segment("00000001FFFFFFFF000000FF");
        assert_eq!(plan_next(end, Some(end), size(), 0, &[]), Next::Leave);
    }
}
