//! What the services share: the pod, the API server's objects, the log, and how to make a context for the engine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pgbr_config::Command;
use pgbr_config::engine::{self, repositories};
use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::error::Error;
use pgbr_repo::filter::Codecs;
use pgbr_repo::format::Stanza;
use pgbr_repo::postgres::ControlFile;
use pgbr_repo::progress::Context;
use pgbr_repo::repository::Repository;
use pgbr_repo::transfer::Budget;
use tokio_util::sync::CancellationToken;

use super::pod::Pod;
use crate::cluster::Cluster;
use crate::credentials::{Credentials, Loaded};
use crate::log::Log;
use crate::operator::events::Events;
use crate::parameters::{self, Source};
use crate::settings::{Request, Settings, settings};
use crate::status::Failure;
use crate::upkeep::seen::Seen;

/// Bytes in flight for each worker of a backup or restore, and for each segment on its way (the command line's figures).
const WORKER_BYTES: usize = 12 * 1024 * 1024;
const WAL_WORKER_BYTES: usize = 6 * 1024 * 1024;

/// Shared by all services of the process.
#[derive(Debug)]
pub struct Surroundings {
    /// The pod.
    pub pod: Pod,
    /// Archives and Secrets.
    pub credentials: Credentials,
    /// The log.
    pub log: Log,
    /// The process is to end: nothing long is begun, and what can be given up is.
    pub shutdown: CancellationToken,
    /// What requests told and how they ended.
    pub seen: Seen,
    /// Held by whoever backs up or expires in this process.
    pub exclusion: Arc<tokio::sync::Mutex<()>>,
    events: tokio::sync::OnceCell<Events>,
    /// Requests that change something and are being worked on.
    working: AtomicU64,
}

/// An archive that a request is about.
#[derive(Debug, Clone)]
pub struct Place {
    /// The Archive.
    pub archive: Loaded,
    /// The stanza in it.
    pub stanza: Stanza,
}

impl Surroundings {
    /// The surroundings in a pod.
    pub fn new(pod: Pod, log: Log, shutdown: CancellationToken) -> Arc<Self> {
        let credentials = Credentials::new(pod.namespace.clone(), pod.secrets.clone());
        Arc::new(Self {
            pod,
            credentials,
            log,
            shutdown,
            seen: Seen::default(),
            exclusion: Arc::default(),
            events: tokio::sync::OnceCell::new(),
            working: AtomicU64::new(0),
        })
    }

    /// The Cluster of a request. It is the one of this pod's namespace: nothing is ever read from another.
    ///
    /// # Errors
    /// [`Failure::Invalid`] naming the field.
    pub fn cluster(&self, definition: &[u8]) -> Result<Cluster, Failure> {
        let cluster = Cluster::parse(definition).map_err(|error| Failure::Invalid(error.to_string()))?;
        if cluster.namespace != self.pod.namespace {
            return Err(Failure::Invalid(format!(
                "metadata.namespace: the cluster is of namespace '{}', the pod of '{}'",
                cluster.namespace, self.pod.namespace
            )));
        }
        self.seen.cluster(&cluster);
        Ok(cluster)
    }

    /// Reads the Archive of a source and settles the stanza.
    ///
    /// # Errors
    /// As [`Credentials::load`]; [`Failure::Invalid`] for a stanza that cannot be one.
    pub async fn place(&self, source: &Source, cluster: &Cluster) -> Result<Place, Failure> {
        let archive = self.credentials.load(&source.archive).await?;
        let stanza =
            parameters::stanza(source, &archive.spec, cluster).map_err(|error| Failure::Invalid(error.to_string()))?;
        Ok(Place { archive, stanza })
    }

    /// The options of a command without Backup parameters.
    ///
    /// # Errors
    /// As [`settings`].
    pub fn settings(&self, command: Command, place: &Place) -> Result<Settings, Failure> {
        settings(&Request {
            command,
            archive: &place.archive.spec,
            secrets: &place.archive.secrets,
            stanza: &place.stanza,
            pod: &self.pod,
            parameters: &std::collections::BTreeMap::new(),
            annotations: &[],
        })
    }

    /// The repositories that the options choose.
    ///
    /// # Errors
    /// As [`repositories::open_all`].
    pub fn repositories(&self, settings: &Settings, stanza: &Stanza) -> Result<Vec<Repository>, Error> {
        repositories::open_all(&settings.options, stanza, &|name| settings.variable(name))
    }

    /// pg_control of the pod's data directory.
    ///
    /// # Errors
    /// As [`engine::control_file`].
    pub async fn control_file(&self, settings: &Settings) -> Result<ControlFile, Failure> {
        let (options, pgdata) = (settings.options.clone(), self.pod.pgdata.clone());
        Ok(blocking(move || engine::control_file(&options, &pgdata)).await?)
    }

    /// A context for the engine. `logger` stands in every line of its log, and the Archive says which lines it may write.
    pub fn context(
        &self,
        settings: &Settings,
        command: Command,
        workers: usize,
        logger: &str,
        cancel: CancellationToken,
    ) -> Context {
        let worker_bytes = match command {
            Command::ArchiveGet | Command::ArchivePush => WAL_WORKER_BYTES,
            _ => WORKER_BYTES,
        };
        Context {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            budget: Budget::new(workers.saturating_add(1).saturating_mul(worker_bytes)),
            codecs: Codecs::new(workers),
            cancel,
            reporter: self.log.reporter_at(logger, settings.engine_level().0),
        }
    }

    /// A warning for the Cluster's owner: an event, and a line in the log. Where there can be no event the line is enough.
    pub async fn warn(&self, cluster: &Cluster, reason: &str, note: String) {
        match self.events().await {
            Ok(events) => events.warn(cluster, reason, note).await,
            Err(_) => self.log.warn(&note, &[("cluster", cluster.name.as_str().into())]),
        }
    }

    /// The same for what is as it should be.
    pub async fn note(&self, cluster: &Cluster, reason: &str, note: String) {
        match self.events().await {
            Ok(events) => events.note(cluster, reason, note).await,
            Err(_) => self.log.info(&note, &[("cluster", cluster.name.as_str().into())]),
        }
    }

    async fn events(&self) -> Result<&Events, Failure> {
        let made = self.events.get_or_try_init(|| async {
            Ok::<_, Failure>(Events::new(self.credentials.client().await?, self.log.clone()))
        });
        made.await
    }

    /// Notes that these backups have expired: their objects may go.
    pub fn note_expired(&self, labels: BTreeSet<String>) {
        if labels.is_empty() {
            return;
        }
        self.log.info("Backups expired", &[("labels", labels.iter().cloned().collect::<Vec<_>>().into())]);
        self.seen.expired(labels);
    }

    /// Notes that a request is being worked on, until the note is dropped.
    pub fn work(self: &Arc<Self>) -> Working {
        self.working.fetch_add(1, Ordering::SeqCst);
        Working(Arc::clone(self))
    }

    /// How many requests are being worked on.
    pub fn working(&self) -> u64 {
        self.working.load(Ordering::SeqCst)
    }
}

/// A request that is being worked on.
#[derive(Debug)]
pub struct Working(Arc<Surroundings>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs what blocks on a thread for it.
///
/// # Errors
/// Those of the work; [`pgbr_repo::error::ErrorKind::Unknown`] when it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|panic| Error::new(pgbr_repo::error::ErrorKind::Unknown, format!("a worker failed: {panic}")))?
}
