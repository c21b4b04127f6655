//! What the sidecar of the primary does in the background, so that nobody has to ask for it: the Archive's status.
//!
//! It begins when the first request has told which Cluster the pod belongs to. WAL, backups and restores never wait for it,
//! and what fails is tried again at the next round.

pub mod pending;
pub mod reading;
pub mod report;
pub mod seen;
pub mod stanza_status;

use std::sync::Arc;

use pgbr_config::Command;
use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::format::Stanza;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::instance::source;
use crate::instance::surroundings::{Place, Surroundings, blocking};
use crate::parameters::Source;
use crate::status::Failure;
use pending::Pending;
use reading::Reading;
use report::Written;
use seen::Sight;
use stanza_status::{Facts, stanza_status};

/// The shortest time between two rounds, whatever happens.
const PAUSE: Duration = Duration::from_secs(1);

/// When a round that failed is tried again, if nothing else asks for one.
const RETRY: Duration = Duration::from_secs(30);

/// The work in the background.
#[derive(Debug)]
pub struct Upkeep {
    surroundings: Arc<Surroundings>,
    /// Backups of this process whose end was told.
    told_backups: u64,
}

/// What one round is about.
#[derive(Debug)]
struct Round {
    sight: Sight,
    cluster: Cluster,
    source: Source,
    is_primary: bool,
}

impl Upkeep {
    /// Nothing is done yet.
    pub fn new(surroundings: Arc<Surroundings>) -> Self {
        Self { surroundings, told_backups: 0 }
    }

    /// Works until the shutdown.
    pub async fn run(mut self) {
        let shutdown = self.surroundings.shutdown.clone();
        let interval = self.surroundings.pod.status_interval;
        let mut due = Instant::now() + interval;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.surroundings.seen.changed() => {}
                () = tokio::time::sleep_until(due) => {}
            }
            let done = tokio::select! {
                () = shutdown.cancelled() => return,
                done = self.round() => done,
            };
            due = Instant::now() + if done { interval } else { interval.min(RETRY) };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// One round; whether all of it was done.
    async fn round(&mut self) -> bool {
        let sight = self.surroundings.seen.sight();
        let Some(cluster) = sight.cluster.clone() else { return true };
        let Ok(source) = source::own_source(&cluster) else { return true };
        let is_primary = cluster.status.current_primary.as_deref() == Some(self.surroundings.pod.name.as_str());
        let had_backup = sight.backups_ended > self.told_backups;
        if !is_primary && !had_backup {
            return true;
        }
        let ended = sight.backups_ended;
        let round = Round { sight, cluster, source, is_primary };
        if let Err(failure) = self.work(&round).await {
            let fields = [("archive", round.source.archive.as_str().into()), ("error", failure.text().into())];
            self.surroundings.log.warn("The status of the Archive was not renewed", &fields);
            return false;
        }
        self.told_backups = ended;
        true
    }

    async fn work(&self, round: &Round) -> Result<(), Failure> {
        let looked = self.look(round).await;
        let stanza = match &looked {
            Ok((place, _)) => place.stanza.clone(),
            Err(_) => self.stanza_of(round).await?,
        };
        let reading = looked.as_ref().map(|(_, reading)| reading);
        self.tell(round, &stanza, reading).await
    }

    /// What the repositories hold, if the archive is this cluster's: about another's nothing is told, and nothing done.
    async fn look(&self, round: &Round) -> Result<(Place, Reading), Failure> {
        let surroundings = &self.surroundings;
        let place = surroundings.place(&round.source, &round.cluster).await?;
        let settings = surroundings.settings(Command::Info, &place)?;
        let context = surroundings.context(Command::Info, 1, "info", surroundings.shutdown.child_token());
        let repositories = surroundings.repositories(&settings, &place.stanza)?;
        let control = surroundings.control_file(&settings).await?;
        let reading = Reading::of(&repositories, &context).await;
        match reading.foreign_system(control.system_id()) {
            Some(other) => Err(Failure::Precondition(format!(
                "[028]: stanza '{}' is of the cluster with system identifier {}, not {}",
                place.stanza,
                other.0,
                control.system_id().0
            ))),
            None => Ok((place, reading)),
        }
    }

    /// The stanza where the Archive can be read and its Secrets or repositories cannot.
    async fn stanza_of(&self, round: &Round) -> Result<Stanza, Failure> {
        let spec = self.surroundings.credentials.archive(&round.source.archive).await?;
        let stanza = crate::parameters::stanza(&round.source, &spec, &round.cluster);
        stanza.map_err(|error| Failure::Invalid(error.to_string()))
    }

    /// Writes the entry of the stanza.
    async fn tell(&self, round: &Round, stanza: &Stanza, reading: Result<&Reading, &Failure>) -> Result<(), Failure> {
        let wal = self.surroundings.pod.wal_directory();
        let pending = match round.is_primary {
            true => blocking(move || Pending::of(&wal)).await.ok(),
            false => None,
        };
        let facts = Facts {
            stanza: stanza.as_str(),
            cluster: &round.cluster.name,
            now_s: SystemClock.now_s(),
            reading,
            pending: pending.as_ref(),
            sight: &round.sight,
            upkeep: &[],
        };
        let client = self.surroundings.credentials.client().await?;
        let (namespace, archive) = (&self.surroundings.pod.namespace, &round.source.archive);
        let entry = |present: Option<&_>| stanza_status(present, &facts);
        match report::write(client, namespace, archive, stanza.as_str(), entry).await {
            Ok(Written::Nothing | Written::Entry | Written::Gone) => Ok(()),
            Err(error) => Err(Failure::Unavailable(error.to_string())),
        }
    }
}

/// Begins the work of a pod in the background.
pub fn start(surroundings: &Arc<Surroundings>) -> CancellationToken {
    let upkeep = Upkeep::new(Arc::clone(surroundings));
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    drop(tokio::spawn(async move {
        upkeep.run().await;
        drop(guard);
    }));
    ended
}
