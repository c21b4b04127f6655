//! What the sidecar of the primary does in the background, so that nobody has to ask for it: the Archive's status,
//! retention, the removal of Backup objects whose backups are gone, and of backups whose objects are deleted, where that is
//! wanted.
//!
//! It begins when the first request has told which Cluster the pod belongs to. WAL, backups and restores never wait for it,
//! and what fails is tried again at the next round.

mod alone;
pub mod backup_objects;
pub mod conditions;
pub mod deletion;
pub mod exclusion;
pub mod facts;
pub mod outlook;
pub mod pending;
pub mod reading;
pub mod report;
pub mod retention;
pub mod seen;
pub mod stanza_status;
pub mod verification;
pub mod verified;

use std::sync::Arc;

use kube::api::{Api, DynamicObject};
use pgbr_config::Command;
use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::format::Stanza;
use tokio::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::instance::source;
use crate::instance::surroundings::{Place, Surroundings, blocking};
use crate::parameters::Source;
use crate::resource::{Truth, Wanted};
use crate::status::Failure;
use backup_objects::{BackupObject, Orphans, orphans};
use deletion::Deletion;
use facts::Facts;
use outlook::{Depth, Memory};
use pending::Pending;
use reading::Reading;
use report::Written;
use retention::Retention;
use seen::{Expected, Sight};
use stanza_status::stanza_status;
use verification::Verification;

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
    memory: Memory,
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
        Self { surroundings, told_backups: 0, memory: Memory::default() }
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
        let is_primary = is_primary(&cluster, &self.surroundings);
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

    async fn work(&mut self, round: &Round) -> Result<(), Failure> {
        let objects = self.objects(round).await;
        let memory = round.is_primary.then_some(&mut self.memory);
        let looked = look_deep(&self.surroundings, round, memory).await;
        let reading = looked.as_ref().map(|(_, reading)| reading);
        self.surroundings.seen.expected(reading.map_or_else(|_| Vec::new(), expected));
        let stanza = match &looked {
            Ok((place, _)) => place.stanza.clone(),
            Err(_) => self.stanza_of(round).await?,
        };
        if let (Some(objects), Ok((_, reading))) = (&objects, &looked) {
            self.follow(round, objects, reading).await;
        }
        self.tell(round, &stanza, reading).await
    }

    /// The finished Backup objects of the cluster, before the repositories are read.
    async fn objects(&self, round: &Round) -> Option<Vec<BackupObject>> {
        if !round.is_primary {
            return None;
        }
        let stanza = self.stanza_of(round).await.ok()?;
        let api = self.backups(round).await.ok()?;
        let listed = backup_objects::list(&api, &round.cluster.name, &round.source.archive, stanza.as_str()).await;
        if let Err(error) = &listed {
            // Without the right to look they stay, as they always did.
            self.surroundings.log.debug("The Backups cannot be listed", &[("error", error.to_string().into())]);
        }
        listed.ok()
    }

    async fn backups(&self, round: &Round) -> Result<Api<DynamicObject>, Failure> {
        Ok(backup_objects::api(self.surroundings.credentials.client().await?, &round.cluster))
    }

    /// Removes the objects whose backups are in no repository.
    async fn follow(&self, round: &Round, objects: &[BackupObject], reading: &Reading) {
        let Some(labels) = reading.complete_labels() else { return };
        let expired = self.surroundings.seen.sight().expired;
        let gone = match orphans(objects, &labels, &expired) {
            Orphans::Some(gone) => gone,
            Orphans::TooMany(gone, all) => {
                let note = format!(
                    "{gone} of {all} Backups are in no repository: none is removed, because so many at once are rather \
                     a mistake; delete those that are not needed any more"
                );
                return self.surroundings.warn(&round.cluster, "BackupsMissing", note).await;
            }
        };
        let Ok(api) = self.backups(round).await else { return };
        for object in gone {
            let fields = [("backup", object.name.as_str().into()), ("label", object.label.as_str().into())];
            match backup_objects::remove(&api, &object).await {
                Ok(()) => self.surroundings.log.info("A Backup that expired was removed", &fields),
                Err(error) => {
                    let [name, label] = fields;
                    let fields = [name, label, ("error", error.to_string().into())];
                    self.surroundings.log.warn("A Backup that expired was not removed", &fields);
                }
            }
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
            true => Some(blocking(move || Pending::of(&wal)).await),
            false => None,
        };
        let facts = Facts {
            stanza: stanza.as_str(),
            cluster: &round.cluster.name,
            cluster_uid: &round.cluster.uid,
            now_s: SystemClock.now_s(),
            reading,
            pending: pending.as_ref().map(Result::as_ref),
            sight: &round.sight,
            upkeep: &about_upkeep(&round.sight),
            verifies: self.surroundings.pod.verify_interval.is_some(),
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

/// What the primary's pod is to do, if this is it.
fn round_of_primary(surroundings: &Surroundings) -> Option<Round> {
    let sight = surroundings.seen.sight();
    let cluster = sight.cluster.clone()?;
    let source = source::own_source(&cluster).ok()?;
    let is_primary = is_primary(&cluster, surroundings);
    is_primary.then_some(Round { sight, cluster, source, is_primary })
}

/// Whether the pod is the cluster's primary, for all that the last request said.
pub fn is_primary(cluster: &Cluster, surroundings: &Surroundings) -> bool {
    cluster.status.current_primary.as_deref() == Some(surroundings.pod.name.as_str())
}

/// What the repositories hold, if the archive is this cluster's: about another's nothing is told, and nothing done.
async fn look(surroundings: &Surroundings, round: &Round) -> Result<(Place, Reading), Failure> {
    look_deep(surroundings, round, None).await
}

/// The same, with the outlook of each repository where there is a memory for it.
async fn look_deep(
    surroundings: &Surroundings,
    round: &Round,
    memory: Option<&mut Memory>,
) -> Result<(Place, Reading), Failure> {
    let place = surroundings.place(&round.source, &round.cluster).await?;
    let settings = surroundings.settings(Command::Info, &place)?;
    let context = surroundings.context(&settings, Command::Info, 1, "info", surroundings.shutdown.child_token());
    let repositories = surroundings.repositories(&settings, &place.stanza)?;
    let control = surroundings.control_file(&settings).await?;
    let depth = memory.map(|memory| Depth::new(memory, surroundings, &place, control.wal_segment_size()));
    let reading = Reading::deep(&repositories, depth, &context).await;
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

/// What metrics tell of the repositories that answered.
fn expected(reading: &Reading) -> Vec<Expected> {
    let answered = reading.repositories.iter().filter_map(|it| Some((it.number, it.outcome.as_ref().ok()?)));
    answered.map(|(number, contents)| contents.outlook.expected(number)).collect()
}

/// Conditions about the work in the background.
fn about_upkeep(sight: &Sight) -> Vec<Wanted> {
    let retention = sight.retention.as_ref().map(|outcome| match outcome {
        Ok(()) => ("RetentionApplied", Truth::True, "Applied", "retention was applied".to_owned()),
        Err(text) => ("RetentionApplied", Truth::False, "Failed", text.clone()),
    });
    let leases = sight.has_leases.map(|has| match has {
        true => ("Exclusive", Truth::True, "Lease", "one pod at a time backs up or expires".to_owned()),
        false => (
            "Exclusive",
            Truth::False,
            "NoRight",
            "the pods may not use Leases: only the primary backs up, and expire runs only after a backup".to_owned(),
        ),
    });
    let wanted = |(kind, truth, reason, message)| Wanted { kind, truth, reason, message };
    [retention, leases].into_iter().flatten().map(wanted).collect()
}

/// Begins the work of a pod in the background.
pub fn start(surroundings: &Arc<Surroundings>) {
    drop(tokio::spawn(Upkeep::new(Arc::clone(surroundings)).run()));
    drop(tokio::spawn(Retention::new(Arc::clone(surroundings)).run()));
    drop(tokio::spawn(Deletion::new(Arc::clone(surroundings)).run()));
    if let Some(interval) = surroundings.pod.verify_interval {
        drop(tokio::spawn(Verification::new(Arc::clone(surroundings), interval).run()));
    }
}
