//! The background half of `archive-get` (repository-behaviour.md §3.3): fetches segments into the spool before PostgreSQL
//! asks for them.
//!
//! A timeline is never crossed, and nothing is fetched behind the first segment that is missing.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use futures_util::{StreamExt, stream};

use super::ClusterIdentity;
use super::coming::Coming;
use super::delivery::Delivery;
use super::get::{self, Found, GetRequest, Got, Sources};
use super::source::read_full;
use super::spool::{OK, Spool};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{WalFileName, WalHeader, WalSegmentName, WalSegmentSize};
use crate::progress::{Context, Level, Scope};
use crate::repository::Repository;
use crate::transfer;

/// What is to be removed from the spool, and what to be fetched into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePlan {
    /// Files that are not wanted any more.
    pub remove: Vec<String>,
    /// Segments that are not there yet, in order.
    pub need: Vec<WalSegmentName>,
}

/// The plan for a queue that should hold `queue_max_bytes` of WAL from `first` on, at least two segments, and holds the
/// files `actual`.
pub fn plan_queue(first: WalSegmentName, size: WalSegmentSize, queue_max_bytes: u64, actual: &[String]) -> QueuePlan {
    let total = queue_segments(size, queue_max_bytes);
    let mut ideal = vec![first];
    while (ideal.len() as u64) < total
        && let Some(next) = ideal.last().and_then(|last| last.next(size))
    {
        ideal.push(next);
    }
    let wanted: Vec<String> = ideal.iter().map(ToString::to_string).collect();
    let remove = actual.iter().filter(|name| {
        // A marker beside a segment holds its warnings.
        let beside = name.strip_suffix(OK).is_some_and(|segment| actual.iter().any(|other| other == segment));
        !wanted.contains(name) && !beside
    });
    let need = ideal.iter().zip(&wanted).filter(|(_, name)| !actual.contains(name)).map(|(segment, _)| *segment);
    QueuePlan { remove: remove.cloned().collect(), need: need.collect() }
}

/// How many segments a queue of `queue_max_bytes` holds: with fewer than two nothing would come ahead.
pub(super) fn queue_segments(size: WalSegmentSize, queue_max_bytes: u64) -> u64 {
    (queue_max_bytes / u64::from(size.bytes())).max(2)
}

/// Whether the spool holds more than half of what it should.
pub fn is_half_full(actual: &[String], size: WalSegmentSize, queue_max_bytes: u64) -> bool {
    let segments = actual.iter().filter(|name| WalSegmentName::parse(name).is_ok()).count() as u64;
    segments.saturating_mul(size.bytes().into()) > queue_max_bytes / 2
}

/// Checks that a file of the spool is the segment of its name, of this cluster: it may come from another restore, another
/// cluster, or a machine that lost its power (faults.md GE07). Blocking.
///
/// # Errors
/// [`ErrorKind::FileRead`] or [`ErrorKind::Format`] with what is wrong.
pub fn check_segment(path: &Path, name: WalSegmentName, cluster: ClusterIdentity, size: WalSegmentSize) -> Result<()> {
    let unread = |error: std::io::Error| {
        Error::new(ErrorKind::FileRead, format!("unable to read '{}': {error}", path.display()))
    };
    let mut file = File::open(path).map_err(unread)?;
    let mut head = vec![0; WalHeader::SIZE_BYTES];
    let bytes = read_full(&mut file, &mut head).map_err(unread)?;
    let size_bytes = file.metadata().map_err(unread)?.len();
    let wrong = |what: String| Err(Error::new(ErrorKind::Format, format!("'{}' {what}", path.display())));
    if size_bytes != u64::from(size.bytes()) {
        return wrong(format!("has {size_bytes} bytes but segments of this cluster have {}", size.bytes()));
    }
    match WalHeader::parse(head.get(..bytes).unwrap_or_default()) {
        Err(error) => wrong(error.to_string()),
        Ok(header) if header.system_id != cluster.system_id => {
            wrong(format!("is of system-id {}, expected {}", header.system_id, cluster.system_id))
        }
        Ok(header) if !header.begins(name) => wrong(format!("begins at {}", header.page_address)),
        Ok(header) if header.timeline > name.timeline() => {
            wrong(format!("is of timeline {}", header.timeline.number()))
        }
        Ok(_) => Ok(()),
    }
}

/// Copies a segment of the spool to where PostgreSQL wants it, on another file system: whole under its name, or not there.
/// Blocking.
///
/// # Errors
/// [`ErrorKind::FileRead`], or those of writing.
pub fn copy(from: &Path, destination: &Path) -> Result<()> {
    let unread = |error: std::io::Error| {
        Error::new(ErrorKind::FileRead, format!("unable to read '{}': {error}", from.display()))
    };
    let mut file = File::open(from).map_err(unread)?;
    let mut delivery = Delivery::create(destination)?;
    let mut buffer = vec![0; transfer::PIECE_BYTES];
    loop {
        let bytes = read_full(&mut file, &mut buffer).map_err(unread)?;
        delivery.write(buffer.get(..bytes).unwrap_or_default())?;
        if bytes < buffer.len() {
            return delivery.keep();
        }
    }
}

/// Settings of the background half.
#[derive(Debug, Clone, Copy)]
pub struct GetAheadOptions {
    /// The cluster that asks.
    pub cluster: ClusterIdentity,
    /// The size of its segments.
    pub segment_size: WalSegmentSize,
    /// How many segments are fetched at once (`process-max`).
    pub workers: usize,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Every segment is in the spool.
    Done,
    /// One is missing or failed, and those behind it were left: another process is to look at it anew, when it is asked for.
    Ended,
}

/// How far a round came.
enum Fetched {
    /// To its end.
    All,
    /// To this one, which no repository has.
    Missing(WalSegmentName),
    /// To this one.
    Failed(WalSegmentName, Error),
}

/// The background half, with what it knows of the repositories.
#[derive(Debug)]
pub struct GetAhead<'a> {
    spool: &'a Spool,
    options: GetAheadOptions,
    sources: Sources,
    /// What an earlier listing has shown.
    known: BTreeMap<WalSegmentName, Vec<Found>>,
    /// How far it looked.
    known_to: Option<WalSegmentName>,
    rounds: u32,
}

/// How many segments behind the last one a listing looks for: it costs no further request.
const LOOK_BEHIND: usize = 64;

impl<'a> GetAhead<'a> {
    /// Looks into archive.info of every repository.
    ///
    /// # Errors
    /// [`ErrorKind::RepoInvalid`] when none can be used. The caller notes it in the spool.
    pub async fn open(
        repositories: &[Repository],
        spool: &'a Spool,
        options: GetAheadOptions,
        context: &Context,
    ) -> Result<Self> {
        let sources = Sources::open(repositories, options.cluster, context).await?;
        Ok(Self { spool, options, sources, known: BTreeMap::new(), known_to: None, rounds: 0 })
    }

    /// Fetches `segments`, in order, into the spool and says to `coming` which are on their way.
    ///
    /// In the first round it notes in the spool that a segment is missing or failed. In a later one it does not: what it
    /// knows of the archive is older than the request that would rely on it.
    ///
    /// # Errors
    /// What concerns all segments.
    pub async fn round(
        &mut self,
        segments: &[WalSegmentName],
        coming: Option<&Coming>,
        context: &Context,
    ) -> Result<Round> {
        let (Some(first), Some(last)) = (segments.first().copied(), segments.last().copied()) else {
            return Err(Error::new(ErrorKind::ParamInvalid, "at least one wal segment is required"));
        };
        let to = if segments.len() == 1 { String::new() } else { format!("...{last}") };
        context.info(format!("get {} WAL file(s) from archive: {first}{to}", segments.len()));
        let announce = |first| coming.map_or(Ok(()), |coming| coming.announce(first, last));
        announce(Some(first))?;
        let is_first = self.rounds == 0;
        self.rounds = self.rounds.saturating_add(1);
        self.look_for(segments, last).await;
        let this = &*self;
        // What is given up behind the first that is missing has ended before that is said.
        let scope = Scope::new(context);
        match scope.run(this.fetch(segments, last, &announce, scope.context())).await? {
            Fetched::All => Ok(Round::Done),
            Fetched::Missing(segment) if is_first => this.note_missing(segment),
            Fetched::Failed(segment, error) if is_first => {
                this.spool.write_error(Some(&segment.to_string()), error.kind().code(), error.message())?;
                Ok(Round::Ended)
            }
            Fetched::Missing(_) | Fetched::Failed(..) => Ok(Round::Ended),
        }
    }

    /// Fetches until the first segment that is missing or cannot be had: what follows a missing one may be another
    /// cluster's, or come later; what follows another is of no use before it.
    async fn fetch(
        &self,
        segments: &[WalSegmentName],
        last: WalSegmentName,
        announce: &(dyn Fn(Option<WalSegmentName>) -> Result<()> + Sync),
        context: &Context,
    ) -> Result<Fetched> {
        let mut running = std::pin::pin!(
            stream::iter(segments)
                .map(|segment| async move { (*segment, self.fetch_one(*segment, context).await) })
                .buffered(self.options.workers.max(1))
        );
        while let Some((segment, got)) = running.next().await {
            context.check_cancelled()?;
            match got {
                Ok(Got::Found { repository, archive_id }) => {
                    let text = format!("found {segment} in the {repository}: {archive_id} archive");
                    context.reporter.message(Level::Detail, 1, &text);
                    announce(segment.next(self.options.segment_size).filter(|next| *next <= last))?;
                }
                Ok(Got::Missing { .. }) => {
                    context.detail(format!("unable to find {segment} in the archive"));
                    return Ok(Fetched::Missing(segment));
                }
                Err(error) => {
                    context.reporter.message(Level::Warn, 1, &error.listed());
                    return Ok(Fetched::Failed(segment, error));
                }
            }
        }
        Ok(Fetched::All)
    }

    /// The last act of a round: who waits for it may start the next background process at once.
    fn note_missing(&self, segment: WalSegmentName) -> Result<Round> {
        self.spool.write_ok(&segment.to_string(), &[])?;
        Ok(Round::Ended)
    }

    /// One listing for these and for what later rounds want. What it does not show, or could not, is asked for by name.
    async fn look_for(&mut self, segments: &[WalSegmentName], last: WalSegmentName) {
        if self.known_to.is_some_and(|to| last <= to) {
            return;
        }
        let mut wanted = segments.to_vec();
        let behind = std::iter::successors(last.next(self.options.segment_size), |last| {
            // Within the directory of the last one: another would be another listing.
            last.next(self.options.segment_size)
        });
        wanted.extend(behind.take_while(|next| next.first16() == last.first16()).take(LOOK_BEHIND));
        let looked = self.sources.find_all(&wanted).await;
        self.known_to = looked.is_ok().then_some(wanted.last().copied()).flatten();
        self.known = looked.unwrap_or_default();
    }

    async fn fetch_one(&self, segment: WalSegmentName, context: &Context) -> Result<Got> {
        let request = GetRequest {
            name: WalFileName::Segment(segment),
            cluster: self.options.cluster,
            segment_size: self.options.segment_size,
        };
        let path = self.spool.path(&segment.to_string());
        match self.known.get(&segment) {
            Some(known) if self.sources.is_complete() => {
                get::get_found(&self.sources, known, request, &path, context).await
            }
            _ => get::get_from(&self.sources, request, &path, context).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(text: &str) -> WalSegmentName {
        WalSegmentName::parse(text).unwrap()
    }

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn ge10_the_queue_goes_on_over_a_boundary_with_the_size_of_the_cluster() {
        let size = WalSegmentSize::new(64 * 1024 * 1024).unwrap();
        let plan = plan_queue(segment("00000001000000010000003E"), size, 256 << 20, &[]);
        let need: Vec<String> = plan.need.iter().map(ToString::to_string).collect();
        assert_eq!(
            need,
            [
                "00000001000000010000003E",
                "00000001000000010000003F",
                "000000010000000200000000",
                "000000010000000200000001"
            ]
        );
    }

    #[test]
    fn what_is_there_is_kept_and_the_rest_removed() {
        let size = WalSegmentSize::new(16 << 20).unwrap();
        let actual = names(&[
            "000000010000000000000003",
            "000000010000000000000005",
            "000000010000000000000005.ok",
            "000000010000000000000006.ok",
            "000000020000000000000004",
            "000000010000000000000004.pgbackrest.tmp",
        ]);
        let plan = plan_queue(segment("000000010000000000000004"), size, 48 << 20, &actual);
        assert_eq!(plan.need, [segment("000000010000000000000004"), segment("000000010000000000000006")]);
        let removed = [
            "000000010000000000000003",
            "000000010000000000000006.ok",
            "000000020000000000000004",
            "000000010000000000000004.pgbackrest.tmp",
        ];
        assert_eq!(plan.remove, removed);
        assert!(!is_half_full(&actual, size, 128 << 20));
        assert!(is_half_full(&actual, size, 64 << 20));
        // However small the queue is to be, it has the next two.
        assert_eq!(plan_queue(segment("000000010000000000000004"), size, 0, &[]).need.len(), 2);
    }
}
