//! `archive-get`: a file of the archive to where PostgreSQL wants it (repository-behaviour.md §3).
//!
//! "Not there" is said only after a complete look in every repository: PostgreSQL takes it for the end of WAL. What is
//! delivered has the checksum of its name, or nothing is delivered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::future;

use super::ClusterIdentity;
use super::candidates::{self, RepositoryError};
use super::delivery::Delivery;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::order::{self, LoadSpec};
use crate::filter::{Chain, Codecs, Digest, FilterError, Form, Passphrase, Sink, SinkClosed};
use crate::format::{ArchiveId, Checksum, CompressType};
use crate::postgres::{TimelineHistory, WalFileName, WalSegmentName, WalSegmentSize};
use crate::progress::Context;
use crate::repository::{Archive, ArchivedFile, RepoIndex, Repository};
use crate::transfer::LoadSteps;

/// What can be delivered that is no segment: a history file grows by a line with each promotion.
const SMALL_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is looked for, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct GetRequest {
    /// The file.
    pub name: WalFileName,
    /// The cluster that asks.
    pub cluster: ClusterIdentity,
    /// The size of its segments; nothing larger is delivered.
    pub segment_size: WalSegmentSize,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// The file is where it was asked for.
    Found {
        /// The repository that had it.
        repository: RepoIndex,
        /// The generation it belongs to.
        archive_id: ArchiveId,
    },
    /// No repository has it: a fact.
    Missing {
        /// Segments behind the missing one that are there: WAL does not end here, it has a hole.
        later: Vec<WalSegmentName>,
    },
}

/// Fetches a file to `destination`.
///
/// # Errors
/// - [`ErrorKind::RepoInvalid`] when a repository could not be asked and no other has the file,
/// - [`ErrorKind::ArchiveDuplicate`] when there are several contents under the name,
/// - [`ErrorKind::FileRead`] when no version could be read whole and undamaged.
///
/// Nothing is left at `destination` then.
pub async fn get(
    repositories: &[Repository],
    request: GetRequest,
    destination: &Path,
    context: &Context,
) -> Result<Got> {
    let sources = Sources::open(repositories, request.cluster, context).await?;
    get_from(&sources, request, destination, context).await
}

/// The archives in which WAL of a cluster may be, for several requests.
#[derive(Debug)]
pub struct Sources {
    archives: Vec<Archive>,
    errors: Vec<RepositoryError>,
}

impl Sources {
    /// Reads archive.info of every repository. What is wrong with some is a warning.
    ///
    /// # Errors
    /// [`ErrorKind::RepoInvalid`] when none can be used.
    pub async fn open(repositories: &[Repository], cluster: ClusterIdentity, context: &Context) -> Result<Self> {
        let (archives, errors) = candidates::get_sources(repositories, cluster, context).await?;
        for error in &errors {
            context.warn(error.listed());
        }
        Ok(Self { archives, errors })
    }

    /// Every version of each of these segments, in the order in which they are tried. For a fetch ahead of a request: a
    /// repository that cannot be asked is passed over, so what is not in the answer may still exist.
    ///
    /// # Errors
    /// The first repository's, when none could be asked.
    pub async fn find_all(&self, segments: &[WalSegmentName]) -> Result<BTreeMap<WalSegmentName, Vec<Found>>> {
        let looked = future::join_all(self.archives.iter().map(|archive| archive.find_segments(segments))).await;
        let mut all: BTreeMap<WalSegmentName, Vec<Found>> = BTreeMap::new();
        let mut answers = 0;
        let mut failed = None;
        for (archive, found) in looked.into_iter().enumerate() {
            match found {
                Ok(files) => {
                    answers += 1;
                    for file in files {
                        if let Some(object) = file.segment {
                            all.entry(object.segment).or_default().push(Found { archive, file });
                        }
                    }
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if answers == 0 => Err(error),
            _ => Ok(all),
        }
    }

    /// Every repository can be asked.
    pub fn is_complete(&self) -> bool {
        self.errors.is_empty()
    }
}

/// A file in one of the archives of [`Sources`].
#[derive(Debug, Clone)]
pub struct Found {
    archive: usize,
    file: ArchivedFile,
}

/// [`get`] of what [`Sources::find_all`] found.
///
/// # Errors
/// As for [`get`].
pub async fn get_found(
    sources: &Sources,
    found: &[Found],
    request: GetRequest,
    destination: &Path,
    context: &Context,
) -> Result<Got> {
    let matches: Vec<(&Archive, ArchivedFile)> =
        found.iter().filter_map(|found| Some((sources.archives.get(found.archive)?, found.file.clone()))).collect();
    refuse_duplicates(request.name, &matches)?;
    deliver_first(&matches, request, destination, context).await
}

/// [`get`] from archives that were opened before.
///
/// # Errors
/// As for [`get`].
pub async fn get_from(sources: &Sources, request: GetRequest, destination: &Path, context: &Context) -> Result<Got> {
    let looks = sources.archives.iter().map(|archive| archive.find(request.name));
    let looked = future::join_all(looks).await;
    let mut errors: Vec<String> = sources.errors.iter().map(RepositoryError::listed).collect();
    let mut matches = Vec::new();
    for (archive, found) in sources.archives.iter().zip(looked) {
        match found {
            Ok(found) => matches.extend(found.into_iter().map(|file| (archive, file))),
            Err(error) => {
                let error = RepositoryError { index: archive.repository().index(), error }.listed();
                context.warn(&error);
                errors.push(error);
            }
        }
    }
    if matches.is_empty() {
        // A repository that could not be asked may have it.
        if !errors.is_empty() {
            return Err(candidates::none_valid(&errors));
        }
        return Ok(Got::Missing { later: later_segments(&sources.archives, request, context).await? });
    }
    refuse_duplicates(request.name, &matches)?;
    deliver_first(&matches, request, destination, context).await
}

/// Several contents under one name: no choice is made (faults.md GE05).
fn refuse_duplicates(name: WalFileName, matches: &[(&Archive, ArchivedFile)]) -> Result<()> {
    let mut checksums: Vec<Checksum> =
        matches.iter().filter_map(|(_, file)| file.segment).map(|object| object.checksum).collect();
    checksums.sort_unstable();
    checksums.dedup();
    if checksums.len() < 2 {
        return Ok(());
    }
    let mut message = format!("duplicates found for WAL segment {name}:");
    let mut last = None;
    for (archive, file) in matches {
        let index = archive.repository().index();
        let separator = if last == Some(index) { ",".to_owned() } else { format!("\n{index}:") };
        message.push_str(&format!("{separator} {}/{}", archive.id(), file.path.file_name()));
        last = Some(index);
    }
    Err(Error::new(ErrorKind::ArchiveDuplicate, message).hint("are multiple primaries archiving to this stanza?"))
}

async fn deliver_first(
    matches: &[(&Archive, ArchivedFile)],
    request: GetRequest,
    destination: &Path,
    context: &Context,
) -> Result<Got> {
    let mut errors = Vec::new();
    for (archive, file) in matches {
        let repository = archive.repository().index();
        match deliver(archive, file, request, destination, context).await {
            Ok(()) => return Ok(Got::Found { repository, archive_id: archive.id() }),
            Err(error) if is_local(error.kind()) => return Err(error),
            Err(error) => {
                let error = RepositoryError { index: repository, error };
                context.warn(error.listed());
                errors.push(error);
            }
        }
    }
    let message = format!("unable to get {}:\n{}", request.name, candidates::listed(&errors));
    Err(Error::new(ErrorKind::FileRead, message))
}

/// Errors of the destination, which another repository does not mend.
fn is_local(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::FileWrite | ErrorKind::FileOpen | ErrorKind::FileSync | ErrorKind::FileMove | ErrorKind::PathSync
    )
}

async fn deliver(
    archive: &Archive,
    file: &ArchivedFile,
    request: GetRequest,
    destination: &Path,
    context: &Context,
) -> Result<()> {
    let plan = Decode {
        path: file.path.to_string(),
        compress: file.compress(),
        passphrase: archive.passphrase().cloned(),
        checksum: file.segment.map(|object| object.checksum),
        is_segment: matches!(request.name, WalFileName::Segment(_)),
        size_max_bytes: if request.name.holds_wal() {
            request.segment_size.bytes().into()
        } else {
            SMALL_FILE_BYTES_MAX
        },
        codecs: context.codecs.clone(),
    };
    let delivering = Delivering { decode: plan, destination: destination.to_owned(), running: None };
    archive.load_steps(file, context, delivering).await
}

/// How the stored bytes become the file.
struct Decode {
    path: String,
    compress: CompressType,
    passphrase: Option<Passphrase>,
    /// What the content must have; `None` where the name does not say.
    checksum: Option<Checksum>,
    /// It has the largest size and no other.
    is_segment: bool,
    size_max_bytes: u64,
    codecs: Codecs,
}

/// The stored bytes on their way into the file.
struct Delivering {
    decode: Decode,
    destination: PathBuf,
    /// Begun with the first bytes, on a thread that may block.
    running: Option<(Chain, Delivery)>,
}

impl Delivering {
    fn start(&mut self) -> Result<(Chain, Delivery)> {
        if let Some(running) = self.running.take() {
            return Ok(running);
        }
        let spec = LoadSpec {
            compress: self.decode.compress,
            cipher: self.decode.passphrase.as_ref(),
            form: Form::Standard,
            plain_size_max_bytes: Some(self.decode.size_max_bytes),
        };
        let chain = order::load(&spec, &self.decode.codecs).map_err(|error| self.decode.damaged(&error))?;
        Ok((chain, Delivery::create(&self.destination)?))
    }
}

impl LoadSteps for Delivering {
    type Result = ();

    fn step(&mut self, pieces: Vec<Bytes>) -> Result<()> {
        let (mut chain, mut delivery) = self.start()?;
        for piece in pieces {
            self.decode.through(&mut delivery, |sink| chain.write(&piece, sink))?;
        }
        self.running = Some((chain, delivery));
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let (mut chain, mut delivery) = self.start()?;
        let report = self.decode.through(&mut delivery, |sink| chain.finish(sink))?;
        self.decode.check(report.plain)?;
        delivery.keep()
    }
}

impl Decode {
    fn damaged(&self, error: &FilterError) -> Error {
        Error::new(ErrorKind::FileRead, format!("'{}' is damaged: {error}", self.path))
    }

    /// Runs the chain into the file; an error of the file is told from one of the bytes.
    fn through<T>(
        &self,
        delivery: &mut Delivery,
        run: impl FnOnce(&mut Sink<'_>) -> Result<T, FilterError>,
    ) -> Result<T> {
        let mut write_error = None;
        let mut sink = |bytes: &[u8]| {
            delivery.write(bytes).map_err(|error| {
                write_error = Some(error);
                SinkClosed
            })
        };
        let ran = run(&mut sink);
        match write_error {
            Some(error) => Err(error),
            None => ran.map_err(|error| self.damaged(&error)),
        }
    }

    fn check(&self, plain: Digest) -> Result<()> {
        if self.is_segment && plain.size_bytes != self.size_max_bytes {
            return Err(Error::new(
                ErrorKind::FileRead,
                format!(
                    "'{}' has {} bytes but segments of this cluster have {}",
                    self.path, plain.size_bytes, self.size_max_bytes
                ),
            ));
        }
        match self.checksum {
            Some(expected) if plain.sha1 != expected => Err(Error::new(
                ErrorKind::Checksum,
                format!("'{}' is damaged: its content has the checksum {}", self.path, plain.sha1),
            )),
            _ => Ok(()),
        }
    }
}

/// Segments behind the missing one on the same timeline. A segment from before the timeline began is never on it, so
/// for that there is no hole.
async fn later_segments(archives: &[Archive], request: GetRequest, context: &Context) -> Result<Vec<WalSegmentName>> {
    let WalFileName::Segment(segment) = request.name else { return Ok(Vec::new()) };
    for archive in archives {
        let later = segments_behind(archive, segment, request.segment_size).await?;
        if later.is_empty() {
            continue;
        }
        if let Some(history) = archive.timeline_history(segment.timeline(), context).await? {
            let Ok(history) = TimelineHistory::parse(segment.timeline(), &history) else { return Ok(Vec::new()) };
            let begin = history.switches().last().map(|switch| switch.switch_lsn);
            let begin = begin.map(|lsn| lsn.segment(segment.timeline(), request.segment_size));
            if begin.is_some_and(|begin| segment < begin) {
                return Ok(Vec::new());
            }
        }
        return Ok(later);
    }
    Ok(Vec::new())
}

/// What the archive has behind a segment in its directory, and when that is nothing, in the directory after it.
async fn segments_behind(
    archive: &Archive,
    segment: WalSegmentName,
    size: WalSegmentSize,
) -> Result<Vec<WalSegmentName>> {
    let mut later = archive.segments_after(segment).await?;
    if !later.is_empty() {
        return Ok(later);
    }
    let first_of_next = WalSegmentName::new(segment.timeline(), segment.log().saturating_add(1), 0);
    if segment.log() == u32::MAX || !first_of_next.fits(size) {
        return Ok(later);
    }
    if !archive.find(WalFileName::Segment(first_of_next)).await?.is_empty() {
        later.push(first_of_next);
    }
    later.extend(archive.segments_after(first_of_next).await?);
    Ok(later)
}
