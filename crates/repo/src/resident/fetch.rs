//! [`Fetcher`]: segments on their way out of the archive, the asked one and those that follow it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::job::{Jobs, Reason};
use crate::command::archive::ClusterIdentity;
use crate::command::archive::get::{self, Found, GetRequest, Got, Sources};
use crate::command::archive::get_ahead;
use crate::command::archive::spool::FileIdentity;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ArchiveId;
use crate::postgres::{WalFileName, WalSegmentName, WalSegmentSize};
use crate::progress::{Context, blocking};
use crate::repository::{RepoIndex, Repository};

/// How long archive.info is believed.
const FRESH: Duration = Duration::from_secs(60);

/// Segments that are fetched ahead at most, whatever their size.
const AHEAD_MAX: u64 = 64;

/// Settings of the engine's fetching half.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// How many segments are fetched at once (`process-max`).
    pub workers: usize,
    /// Bytes of segments that are fetched ahead (`archive-get-queue-max`).
    pub queue_max_bytes: u64,
    /// Where they wait. The directory is the engine's own: what is in it when the engine starts is removed.
    pub directory: PathBuf,
}

/// Fetches files, and the segments that follow them.
#[derive(Debug)]
pub struct Fetcher {
    repositories: Vec<Repository>,
    options: FetchOptions,
    context: Context,
    jobs: Jobs<Here>,
    sources: Mutex<Option<(Instant, ClusterIdentity, Arc<Sources>)>>,
    /// Whether there is a place for segments that wait.
    has_place: bool,
}

/// A segment that waits for its request.
#[derive(Debug, Clone, Copy)]
struct Here {
    repository: RepoIndex,
    archive_id: ArchiveId,
    identity: FileIdentity,
}

impl Fetcher {
    /// A fetcher from `repositories`; nothing is asked yet. Empties the directory. Blocking.
    pub fn new(repositories: Vec<Repository>, options: FetchOptions, context: Context) -> Arc<Self> {
        let has_place = match empty(&options.directory) {
            Ok(()) => true,
            Err(error) => {
                context.info(format!("nothing is fetched ahead: {}", error.message()));
                false
            }
        };
        let (jobs, sources) = (Jobs::new(), Mutex::new(None));
        Arc::new(Self { repositories, options, context, jobs, sources, has_place })
    }

    /// Fetches a file to `destination`; see [`get`](get::get). What the request has to say goes to `heard`.
    ///
    /// # Errors
    /// As for [`get`](get::get).
    pub async fn get(self: &Arc<Self>, request: GetRequest, destination: &Path, heard: &Context) -> Result<Got> {
        let WalFileName::Segment(segment) = request.name else {
            let sources = self.sources(request.cluster, Some(Instant::now())).await?;
            return get::get_from(&sources, request, destination, heard).await;
        };
        let got = match self.take(segment, destination).await? {
            Some(got) => got,
            None => self.get_now(request, destination, heard).await?,
        };
        if matches!(got, Got::Found { .. }) && self.has_place {
            self.fetch_ahead(segment, request);
        }
        Ok(got)
    }

    /// Asks the repositories. That there is nothing is said only of what they hold now, archive ids included.
    async fn get_now(&self, request: GetRequest, destination: &Path, heard: &Context) -> Result<Got> {
        let asked = Instant::now();
        let sources = self.sources(request.cluster, None).await?;
        match get::get_from(&sources, request, destination, heard).await {
            Ok(got @ Got::Found { .. }) => Ok(got),
            Ok(Got::Missing { .. }) | Err(_) => {
                let sources = self.sources(request.cluster, Some(asked)).await?;
                get::get_from(&sources, request, destination, heard).await
            }
        }
    }

    /// The segment, if it waits here or is on its way, and is the file that was checked.
    async fn take(&self, segment: WalSegmentName, destination: &Path) -> Result<Option<Got>> {
        let name = segment.to_string();
        if !self.jobs.contains(&name) {
            return Ok(None);
        }
        let job = self.jobs.join(&name, Reason::Ahead, || std::future::ready(Err(not_fetched())));
        let outcome = job.outcome().await;
        self.jobs.forget(&name, &job);
        let Ok(here) = outcome else { return Ok(None) };
        let (from, to) = (self.options.directory.join(&name), destination.to_owned());
        let moved = blocking(move || move_checked(&from, &to, &here.identity)).await?;
        Ok(moved.then_some(Got::Found { repository: here.repository, archive_id: here.archive_id }))
    }

    /// Fetches the segments that follow, in the background: as many as the queue holds, on the same timeline, up to the first
    /// that is not there. What belongs to another place in WAL is removed.
    fn fetch_ahead(self: &Arc<Self>, segment: WalSegmentName, request: GetRequest) {
        let wanted = following(segment, request.segment_size, self.options.queue_max_bytes);
        let gone = self.jobs.retain(|name, _| wanted.iter().any(|segment| segment.to_string() == name));
        for name in gone {
            drop(fs::remove_file(self.options.directory.join(name)));
        }
        let missing: Vec<WalSegmentName> =
            wanted.iter().copied().filter(|segment| !self.jobs.contains(&segment.to_string())).collect();
        let (_, running) = self.jobs.count();
        // The listing of many costs what that of one does.
        if running > 0 || missing.len() * 2 < wanted.len() {
            return;
        }
        let fetcher = Arc::clone(self);
        drop(tokio::spawn(async move {
            // Whoever asks for one of them asks the repositories again and hears what is wrong.
            drop(fetcher.fetch_all(missing, request).await);
        }));
    }

    async fn fetch_all(self: &Arc<Self>, segments: Vec<WalSegmentName>, request: GetRequest) -> Result<()> {
        // A restore removes the whole spool of the stanza.
        let directory = self.options.directory.clone();
        blocking(move || create(&directory)).await?;
        let sources = self.sources(request.cluster, None).await?;
        let found = sources.find_all(&segments).await?;
        let workers = Arc::new(tokio::sync::Semaphore::new(self.options.workers.max(1)));
        for segment in segments {
            let Some(matches) = found.get(&segment).filter(|matches| !matches.is_empty()).cloned() else { break };
            let (fetcher, sources, workers) = (Arc::clone(self), Arc::clone(&sources), Arc::clone(&workers));
            let request = GetRequest { name: WalFileName::Segment(segment), ..request };
            let _job = self.jobs.join(&segment.to_string(), Reason::Ahead, move || async move {
                let _permit = workers.acquire_owned().await.map_err(|_| not_fetched())?;
                fetcher.fetch_one(&sources, &matches, request).await
            });
        }
        Ok(())
    }

    async fn fetch_one(&self, sources: &Sources, matches: &[Found], request: GetRequest) -> Result<Here> {
        self.context.check_cancelled()?;
        let path = self.options.directory.join(request.name.to_string());
        match get::get_found(sources, matches, request, &path, &self.context).await? {
            Got::Found { repository, archive_id } => {
                let identity = blocking(move || FileIdentity::of(&path)).await?;
                Ok(Here { repository, archive_id, identity })
            }
            Got::Missing { .. } => Err(not_fetched()),
        }
    }

    /// The archives of a cluster, as they were a minute ago at most, or not before `not_before`.
    async fn sources(&self, cluster: ClusterIdentity, not_before: Option<Instant>) -> Result<Arc<Sources>> {
        let mut state = self.sources.lock().await;
        if let Some((at, of, sources)) = state.as_ref()
            && *of == cluster
            && at.elapsed() < FRESH
            && not_before.is_none_or(|instant| *at >= instant)
        {
            return Ok(Arc::clone(sources));
        }
        let at = Instant::now();
        let sources = Arc::new(Sources::open(&self.repositories, cluster, &self.context).await?);
        *state = sources.is_complete().then(|| (at, cluster, Arc::clone(&sources)));
        Ok(sources)
    }
}

/// The segments behind `segment` that the queue should hold: at least one.
fn following(segment: WalSegmentName, size: WalSegmentSize, queue_max_bytes: u64) -> Vec<WalSegmentName> {
    let count = (queue_max_bytes / u64::from(size.bytes())).clamp(1, AHEAD_MAX);
    let mut segments = Vec::new();
    let mut last = segment;
    while (segments.len() as u64) < count
        && let Some(next) = last.next(size)
    {
        segments.push(next);
        last = next;
    }
    segments
}

/// Moves the file unless it is another than the one that was checked; copies it where that is another file system.
fn move_checked(from: &Path, destination: &Path, checked: &FileIdentity) -> Result<bool> {
    if FileIdentity::of(from).ok().as_ref() != Some(checked) {
        return Ok(false);
    }
    let failed = |error: &io::Error| {
        let message = format!("unable to move '{}' to '{}': {error}", from.display(), destination.display());
        Error::new(ErrorKind::FileMove, message)
    };
    match fs::rename(from, destination) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            get_ahead::copy(from, destination)?;
            fs::remove_file(from).map_err(|error| failed(&error))?;
            Ok(true)
        }
        Err(error) => Err(failed(&error)),
    }
}

fn empty(directory: &Path) -> Result<()> {
    let failed = |error: &io::Error| {
        Error::new(ErrorKind::PathCreate, format!("unable to create path '{}': {error}", directory.display()))
    };
    create(directory)?;
    for entry in fs::read_dir(directory).map_err(|error| failed(&error))? {
        fs::remove_file(entry.map_err(|error| failed(&error))?.path()).map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn create(directory: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(|error| {
        Error::new(ErrorKind::PathCreate, format!("unable to create path '{}': {error}", directory.display()))
    })
}

fn not_fetched() -> Error {
    Error::new(ErrorKind::FileMissing, "not fetched")
}
