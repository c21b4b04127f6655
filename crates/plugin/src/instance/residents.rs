//! The resident engines: one that pushes and one for each archive that is read, each for one generation of its settings.
//!
//! A generation is everything that decides what the engine does: options, credentials, the cluster. What is running when an
//! Archive is edited keeps what it began with (faults.md KG22); the next request finds another generation and makes a new
//! engine.

use std::path::PathBuf;
use std::sync::Arc;

use pgbr_config::Command;
use pgbr_config::engine::archive::push_options;
use pgbr_config::{engine, opt};
use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::postgres::ControlFile;
use pgbr_repo::repository::{Repository, WritableRepository};
use pgbr_repo::resident::{FetchOptions, Fetcher, Pusher, PusherOptions};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::surroundings::{Place, Surroundings, blocking};
use crate::settings::Settings;
use crate::status::Failure;

/// Engines that fetch at once: own archive, recovery source, replica source.
const FETCHERS_MAX: usize = 3;

/// The engines of the process.
#[derive(Debug)]
pub struct Residents {
    surroundings: Arc<Surroundings>,
    pushing: Mutex<Option<Arc<Pushing>>>,
    fetching: Mutex<Vec<Arc<Fetching>>>,
    next_directory: std::sync::atomic::AtomicU64,
}

/// An engine that pushes, with what it was made from.
#[derive(Debug)]
pub struct Pushing {
    settings: Settings,
    identity: ClusterIdentity,
    /// The engine.
    pub pusher: Arc<Pusher>,
    /// The same repositories, to look into.
    pub repositories: Vec<Repository>,
    /// The archive is known to be there and to be this cluster's: what is checked before the first file.
    pub ready: Mutex<bool>,
}

/// An engine that fetches, with what it was made from.
#[derive(Debug)]
pub struct Fetching {
    /// The options.
    pub settings: Settings,
    identity: ClusterIdentity,
    /// The engine.
    pub fetcher: Arc<Fetcher>,
    /// The same repositories, for a file that is fetched apart.
    pub repositories: Vec<Repository>,
    cancel: CancellationToken,
    directory: PathBuf,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.cancel.cancel();
        // What is left of it is removed with the next start of the process.
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// The cluster of a control file.
pub fn identity_of(control: &ControlFile) -> ClusterIdentity {
    ClusterIdentity { version: control.version(), system_id: control.system_id() }
}

impl Residents {
    /// No engine is made yet.
    pub fn new(surroundings: Arc<Surroundings>) -> Arc<Self> {
        let (pushing, fetching) = (Mutex::default(), Mutex::default());
        Arc::new(Self { surroundings, pushing, fetching, next_directory: std::sync::atomic::AtomicU64::new(0) })
    }

    /// Removes what an earlier process left in the scratch volume and among WAL. Blocking.
    pub fn tidy(surroundings: &Surroundings) {
        // Each of them is only a copy of what the repository has.
        drop(std::fs::remove_dir_all(surroundings.pod.own_scratch().join("get")));
        let Ok(entries) = std::fs::read_dir(surroundings.pod.wal_directory()) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(super::TEMPORARY) {
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }

    /// The engine that pushes to `place`.
    ///
    /// # Errors
    /// Those of the settings, and of the data directory that cannot be read.
    pub async fn pushing(&self, place: &Place) -> Result<Arc<Pushing>, Failure> {
        let surroundings = &self.surroundings;
        let settings = surroundings.settings(Command::ArchivePush, place)?;
        let identity = identity_of(&surroundings.control_file(&settings).await?);
        let mut current = self.pushing.lock().await;
        if let Some(pushing) = current.as_ref().filter(|it| it.settings == settings && it.identity == identity) {
            return Ok(Arc::clone(pushing));
        }
        self.announce("archive-push", place, &settings);
        let repositories = surroundings.repositories(&settings, &place.stanza)?;
        let workers = engine::workers(&settings.options);
        let cancel = CancellationToken::new();
        let context = surroundings.context(&settings, Command::ArchivePush, workers, "archive-push", cancel);
        let (options, pushed) = (settings.options.clone(), repositories.clone());
        let push = blocking(move || push_options(&options)).await?;
        let writable = pushed.into_iter().map(WritableRepository::new).collect();
        let pusher = Pusher::new(writable, PusherOptions { push, workers }, context);
        let pushing = Arc::new(Pushing { settings, identity, pusher, repositories, ready: Mutex::new(false) });
        *current = Some(Arc::clone(&pushing));
        Ok(pushing)
    }

    /// The engine that fetches from `place` for the cluster of `control`.
    ///
    /// # Errors
    /// Those of the settings.
    pub async fn fetching(
        &self,
        place: &Place,
        settings: Settings,
        control: &ControlFile,
    ) -> Result<Arc<Fetching>, Failure> {
        let surroundings = &self.surroundings;
        let identity = identity_of(control);
        let mut engines = self.fetching.lock().await;
        if let Some(found) = engines.iter().find(|it| it.settings == settings && it.identity == identity) {
            return Ok(Arc::clone(found));
        }
        self.announce("archive-get", place, &settings);
        let repositories = surroundings.repositories(&settings, &place.stanza)?;
        let workers = engine::workers(&settings.options);
        let number = self.next_directory.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = surroundings.pod.own_scratch().join("get").join(number.to_string());
        // As many segments wait as are fetched at once, unless somebody says how many bytes may.
        let segment_bytes = u64::from(control.wal_segment_size().bytes());
        let queue_max_bytes = match settings.options.is_given(opt::ARCHIVE_GET_QUEUE_MAX) {
            true => settings.options.size_bytes(opt::ARCHIVE_GET_QUEUE_MAX).unwrap_or(0),
            false => segment_bytes.saturating_mul(workers as u64),
        };
        let options = FetchOptions { workers, queue_max_bytes, directory: directory.clone() };
        let cancel = CancellationToken::new();
        let context = surroundings.context(&settings, Command::ArchiveGet, workers, "archive-get", cancel.clone());
        let own = repositories.clone();
        let fetcher = blocking(move || Ok(Fetcher::new(own, options, context))).await?;
        let fetching = Arc::new(Fetching { settings, identity, fetcher, repositories, cancel, directory });
        if engines.len() >= FETCHERS_MAX {
            engines.remove(0);
        }
        engines.push(Arc::clone(&fetching));
        Ok(fetching)
    }

    /// Tells which options a command runs with. No secret is among them.
    fn announce(&self, command: &str, place: &Place, settings: &Settings) {
        let log = &self.surroundings.log;
        for warning in &settings.warnings {
            log.warn(warning, &[("archive", place.archive.name.as_str().into())]);
        }
        log.info(
            "Options of a command",
            &[
                ("command", command.into()),
                ("archive", place.archive.name.as_str().into()),
                ("generation", place.archive.generation.into()),
                ("options", settings.shown().into()),
            ],
        );
    }
}
