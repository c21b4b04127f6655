//! The background half of `archive-get` (repository-behaviour.md §3.3): fetches segments into the spool before PostgreSQL
//! asks for them.
//!
//! A timeline is never crossed, and nothing is fetched behind the first segment that is missing.

use std::fs::File;
use std::path::Path;

use futures_util::{StreamExt, stream};

use super::ClusterIdentity;
use super::delivery::Delivery;
use super::get::{self, Found, GetRequest, Got, Sources};
use super::source::read_full;
use super::spool::{OK, Spool};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{WalFileName, WalHeader, WalSegmentName, WalSegmentSize};
use crate::progress::{Context, Level};
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
    let total = (queue_max_bytes / u64::from(size.bytes())).max(2);
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

/// Fetches `segments` into the spool and notes there what became of each.
///
/// # Errors
/// What concerns all segments. The caller notes it in the spool.
pub async fn fetch(
    repositories: &[Repository],
    spool: &Spool,
    segments: &[WalSegmentName],
    options: &GetAheadOptions,
    context: &Context,
) -> Result<()> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Err(Error::new(ErrorKind::ParamInvalid, "at least one wal segment is required"));
    };
    let to = if segments.len() == 1 { String::new() } else { format!("...{last}") };
    context.info(format!("get {} WAL file(s) from archive: {first}{to}", segments.len()));
    let sources = Sources::open(repositories, options.cluster, context).await?;
    // One listing for all. What it does not show, or could not, is asked for by name.
    let known = sources.find_all(segments).await.unwrap_or_default();
    // Until the first that is missing: what follows may be another cluster's, or come later.
    let mut missing = None;
    let mut running = std::pin::pin!(
        stream::iter(segments)
            .map(|segment| {
                let (sources, known) = (&sources, known.get(segment));
                async move { (*segment, fetch_one(sources, known, spool, *segment, options, context).await) }
            })
            .buffered(options.workers.max(1))
    );
    while let Some((segment, got)) = running.next().await {
        context.check_cancelled()?;
        match got {
            Ok(Got::Found { repository, archive_id }) => {
                let text = format!("found {segment} in the {repository}: {archive_id} archive");
                context.reporter.message(Level::Detail, 1, &text);
            }
            Ok(Got::Missing { .. }) => {
                missing = Some(segment);
                break;
            }
            Err(error) => {
                context.reporter.message(Level::Warn, 1, &error.listed());
                spool.write_error(Some(&segment.to_string()), error.kind().code(), error.message())?;
                // Nothing behind it is of use before this one is.
                break;
            }
        }
    }
    if let Some(segment) = missing {
        context.detail(format!("unable to find {segment} in the archive"));
        // The last act: who waits for it may start the next background process at once.
        spool.write_ok(&segment.to_string(), &[])?;
    }
    Ok(())
}

async fn fetch_one(
    sources: &Sources,
    known: Option<&Vec<Found>>,
    spool: &Spool,
    segment: WalSegmentName,
    options: &GetAheadOptions,
    context: &Context,
) -> Result<Got> {
    let request = GetRequest {
        name: WalFileName::Segment(segment),
        cluster: options.cluster,
        segment_size: options.segment_size,
    };
    let path = spool.path(&segment.to_string());
    match known {
        Some(known) if sources.is_complete() => get::get_found(sources, known, request, &path, context).await,
        _ => get::get_from(sources, request, &path, context).await,
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
