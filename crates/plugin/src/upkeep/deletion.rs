//! Who deletes a Backup deletes the backup too, where the annotation of its Archive says so.
//!
//! A finished Backup of such an Archive gets a finalizer. When the object is deleted, the backup is expired, as `expire --set`
//! does it, under the Leases of the repositories; when every repository has said that it is gone, the finalizer goes and the
//! object with it. A backup that others stand on is not removed, and its object stays and waits.
//!
//! Nothing is removed because something else was deleted: Backups may be owned by their Cluster, and go with a namespace. So a
//! deletion waits a moment, and then counts only while the Cluster is there and stays. Backups that no sidecar looks after any
//! more are let go by the operator (`operator::forsaken`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use kube::api::{Api, DynamicObject};
use pgbr_config::engine::expire::{expire_request, expire_targets};
use pgbr_config::{Command, engine};
use pgbr_repo::command::expire::ExpiredBackups;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::{BackupEntry, BackupLabel};
use pgbr_repo::progress::{Level, Progress, Reporter};
use tokio::time::{Duration, Instant};

use super::alone::Alone;
use super::backup_objects::{self, BackupObject};
use super::reading::Reading;
use super::{Round, look, round_of_primary};
use crate::cluster::{Presence, presence};
use crate::finalizer;
use crate::ids;
use crate::instance::surroundings::Surroundings;
use crate::operator::objects::{ObjectError, within};
use crate::resource::Archive;
use crate::settings::BACKUP_UID;
use crate::status::Failure;

/// How long a deletion is left alone: what deletes a namespace or a Cluster with its Backups has come to the Cluster by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Removes backups whose Backups are deleted.
#[derive(Debug)]
pub struct Deletion {
    surroundings: Arc<Surroundings>,
    /// When each deletion was first seen, by the object's uid.
    since: HashMap<String, Instant>,
}

/// A Backup of the cluster, as far as its finalizer is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Candidate {
    object: BackupObject,
    /// Its backup is in the Archive and stanza that the cluster uses now, for all that the object says.
    is_here: bool,
    has_finalizer: bool,
}

/// What is to be done about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// It gets the finalizer.
    Hold(BackupObject),
    /// It loses the finalizer, and nothing else happens.
    Release(BackupObject),
    /// Its backup goes before it.
    Remove(BackupObject),
}

impl Candidate {
    fn of(object: &DynamicObject, cluster: &str, archive: &str, stanza: &str) -> Option<Self> {
        let text = |path: &str| object.data.pointer(path).and_then(serde_json::Value::as_str);
        if text("/spec/cluster/name") != Some(cluster) {
            return None;
        }
        let has_finalizer = finalizer::is_in(&object.metadata);
        let here = BackupObject::of(object, cluster, archive, stanza).filter(|here| here.place.is_some());
        let is_here = here.is_some();
        let elsewhere = || BackupObject::named(&object.metadata);
        Some(Self { object: here.unwrap_or_else(elsewhere), is_here, has_finalizer })
    }
}

/// Decides. Newer backups go before those that they stand on.
fn steps(candidates: &[Candidate], enabled: bool) -> Vec<Step> {
    let mut steps: Vec<Step> = candidates
        .iter()
        .filter_map(|candidate| {
            let object = candidate.object.clone();
            let wanted = enabled && candidate.is_here;
            match (wanted, candidate.has_finalizer, object.is_deleting) {
                (true, true, true) => Some(Step::Remove(object)),
                (true, false, false) => Some(Step::Hold(object)),
                (false, true, _) => Some(Step::Release(object)),
                _ => None,
            }
        })
        .collect();
    let label = |step: &Step| match step {
        Step::Hold(object) | Step::Release(object) | Step::Remove(object) => object.label.clone(),
    };
    steps.sort_by_key(|step| std::cmp::Reverse(label(step)));
    steps
}

/// Why a backup is not removed now.
fn refusal(entries: &[BackupEntry], label: &BackupLabel, uid: &str) -> Option<String> {
    let entry = entries.iter().find(|entry| entry.label == *label)?;
    if let Some(made_for) = entry.annotations.value(BACKUP_UID)
        && made_for.as_bytes() != uid.as_bytes()
    {
        return Some("it was made for another Backup object; without its finalizer this one goes alone".to_owned());
    }
    let mut needed = vec![*label];
    // Ascending order puts every backup after what it needs.
    for entry in entries {
        if needed.iter().any(|label| entry.depends_on(label)) {
            needed.push(entry.label);
        }
    }
    let dependents: Vec<String> = needed.iter().skip(1).map(ToString::to_string).collect();
    (!dependents.is_empty()).then(|| format!("{} cannot be restored without it", dependents.join(", ")))
}

impl Deletion {
    /// Nothing is seen yet.
    pub fn new(surroundings: Arc<Surroundings>) -> Self {
        Self { surroundings, since: HashMap::new() }
    }

    /// Works until the shutdown.
    pub async fn run(mut self) {
        let shutdown = self.surroundings.shutdown.clone();
        loop {
            let interval = self.surroundings.pod.status_interval;
            let pause = if self.since.is_empty() { interval } else { interval.min(PATIENCE) };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let Some(round) = round_of_primary(&self.surroundings) else { continue };
            if let Err(failure) = self.round(&round).await {
                let fields = [("error", failure.text().into())];
                self.surroundings.log.debug("Deleted Backups could not be looked at", &fields);
            }
        }
    }

    async fn round(&mut self, round: &Round) -> Result<(), Failure> {
        let surroundings = Arc::clone(&self.surroundings);
        let client = surroundings.credentials.client().await?;
        let (archive, cluster) = (&round.source.archive, &round.cluster);
        let enabled = is_enabled(client.clone(), &surroundings.pod.namespace, archive)
            .await
            .map_err(|error| unavailable(&error))?;
        let spec = surroundings.credentials.archive(archive).await;
        let stanza = spec.and_then(|spec| {
            let stanza = crate::parameters::stanza(&round.source, &spec, cluster);
            stanza.map_err(|error| Failure::Invalid(error.to_string()))
        });
        let stanza = match (&stanza, enabled) {
            (Ok(stanza), _) => stanza.as_str(),
            // Without its Archive nothing is removed, and no object waits for it.
            (Err(_), false) => "",
            (Err(failure), true) => return Err(failure.clone()),
        };
        let api = backup_objects::api(client, cluster);
        let objects = backup_objects::list_all(&api).await.map_err(|error| unavailable(&error))?;
        let of = |object| Candidate::of(object, &cluster.name, archive, stanza);
        let steps = steps(&objects.iter().filter_map(of).collect::<Vec<_>>(), enabled);
        let deleted = |step: &Step| match step {
            Step::Remove(object) => Some(object.uid.clone()),
            _ => None,
        };
        let deleted: Vec<String> = steps.iter().filter_map(deleted).collect();
        self.since.retain(|uid, _| deleted.contains(uid));
        for step in steps {
            if surroundings.shutdown.is_cancelled() {
                return Ok(());
            }
            self.take(round, &api, step).await;
        }
        Ok(())
    }

    async fn take(&mut self, round: &Round, api: &Api<DynamicObject>, step: Step) {
        let name = |object: &BackupObject| [("backup", object.name.as_str().into())];
        let log = self.surroundings.log.clone();
        match step {
            Step::Hold(object) => {
                if let Err(error) = finalizer::add(api, &object.name).await {
                    let fields = [("backup", object.name.as_str().into()), ("error", error.to_string().into())];
                    log.warn("A Backup could not be given its finalizer: its deletion leaves the backup", &fields);
                }
            }
            Step::Release(object) => {
                log.info("A Backup is let go without its backup", &name(&object));
                self.release(api, &object).await;
            }
            Step::Remove(object) => {
                let since = *self.since.entry(object.uid.clone()).or_insert_with(Instant::now);
                if since.elapsed() < PATIENCE.min(self.surroundings.pod.status_interval) {
                    return;
                }
                match self.remove(round, &object).await {
                    Ok(true) => {
                        log.info("A Backup was deleted with its backup", &name(&object));
                        self.release(api, &object).await;
                        self.since.remove(&object.uid);
                    }
                    Ok(false) => {}
                    Err(failure) => {
                        let note = format!("Backup '{}' ({}) stays: {}", object.name, object.label, failure.text());
                        self.surroundings.warn(&round.cluster, "BackupNotDeleted", note).await;
                    }
                }
            }
        }
    }

    async fn release(&self, api: &Api<DynamicObject>, object: &BackupObject) {
        if let Err(error) = finalizer::remove(api, &object.name).await {
            let fields = [("backup", object.name.as_str().into()), ("error", error.to_string().into())];
            self.surroundings.log.warn("A Backup could not be let go", &fields);
        }
    }

    /// Removes the backup of the object; whether it is in no repository any more. `false` when it is not the time.
    async fn remove(&self, round: &Round, object: &BackupObject) -> Result<bool, Failure> {
        let surroundings = &self.surroundings;
        let label = BackupLabel::parse(&object.label)
            .map_err(|_| Failure::Invalid("status.backupId is not the label of a backup".to_owned()))?;
        if !self.cluster_stays(round).await? {
            return Ok(false);
        }
        let (place, reading) = look(surroundings, round).await?;
        if is_gone(&reading, &object.label)? {
            return Ok(true);
        }
        let settings = surroundings.settings(Command::Backup, &place)?;
        let targets = expire_targets(&settings.options, &place.stanza, &|name| settings.variable(name))?;
        let mut request = expire_request(&settings.options)?;
        request.backups = ExpiredBackups::Set(label);
        let cancel = surroundings.shutdown.child_token();
        let Some(alone) = Alone::begin(surroundings, round, &place, &targets, &cancel).await? else {
            return Ok(false);
        };
        for contents in alone.before.answers() {
            if let Some(why) = refusal(contents.backups(), &label, &object.uid) {
                return Err(Failure::Precondition(why));
            }
        }
        // It may have taken a while to be alone.
        if !self.cluster_stays(round).await? {
            return Ok(false);
        }
        let workers = engine::workers(&settings.options);
        let mut context = surroundings.context(&settings, Command::Expire, workers, "pgbackrest expire", cancel);
        let told = Arc::new(Told { reporter: Arc::clone(&context.reporter), failures: Mutex::default() });
        context.reporter = Arc::<Told>::clone(&told);
        let after = alone.expire(surroundings, round, &targets, &request, &context).await;
        is_gone(&after.map_err(|failure| told.explain(failure))?, &object.label)
    }

    async fn cluster_stays(&self, round: &Round) -> Result<bool, Failure> {
        let (client, cluster) = (self.surroundings.credentials.client().await?, &round.cluster);
        match presence(client, &cluster.api_version, &cluster.namespace, &cluster.name)
            .await
            .map_err(|error| unavailable(&error))?
        {
            // One of the same name that was made since has other data.
            Presence::Stays(now) => Ok(now.uid == cluster.uid && !now.uid.is_empty()),
            Presence::Goes => Ok(false),
        }
    }
}

/// Whether every repository has told its list, and the label is in none.
fn is_gone(reading: &Reading, label: &str) -> Result<bool, Failure> {
    match reading.complete_labels() {
        Some(labels) => Ok(!labels.contains(label)),
        None => Err(Failure::Unavailable("not every repository told what it holds".to_owned())),
    }
}

/// Whether the Archive says that backups go with their objects. One that is not there says nothing.
async fn is_enabled(client: Client, namespace: &str, archive: &str) -> Result<bool, ObjectError> {
    let api: Api<Archive> = Api::namespaced(client, namespace);
    let found = within(format!("get archives '{namespace}/{archive}'"), api.get_opt(archive)).await?;
    let annotations = found.and_then(|archive| archive.metadata.annotations).unwrap_or_default();
    Ok(annotations.get(ids::DELETE_BACKUPS_ANNOTATION).is_some_and(|value| value == "enabled"))
}

fn unavailable(error: &ObjectError) -> Failure {
    Failure::Unavailable(error.to_string())
}

/// Passes on what the engine says, and keeps why it failed: its answer only counts failures.
#[derive(Debug)]
struct Told {
    reporter: Arc<dyn Reporter>,
    failures: Mutex<Vec<String>>,
}

impl Told {
    fn explain(&self, failure: Failure) -> Failure {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.is_empty() { failure } else { Failure::Precondition(failures.join("; ")) }
    }
}

impl Reporter for Told {
    fn message(&self, level: Level, worker: usize, text: &str) {
        self.reporter.message(level, worker, text);
    }

    fn failure(&self, kind: ErrorKind, text: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
        self.reporter.failure(kind, text);
    }

    fn announce(&self, text: &str) {
        self.reporter.announce(text);
    }

    fn progress(&self, progress: Progress) {
        self.reporter.progress(progress);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(label: &str, is_here: bool, has_finalizer: bool, is_deleting: bool) -> Candidate {
        let object = BackupObject { label: label.to_owned(), is_deleting, ..BackupObject::default() };
        Candidate { object, is_here, has_finalizer }
    }

    #[test]
    fn without_the_annotation_nothing_is_held_and_nothing_removed() {
        let all: Vec<Candidate> =
            (0..8).map(|bits| candidate("20260101-000000F", bits & 1 == 1, bits & 2 == 2, bits & 4 == 4)).collect();
        for (at, steps_of) in all.iter().map(|one| (one, steps(std::slice::from_ref(one), false))) {
            match at.has_finalizer {
                true => assert!(matches!(steps_of[..], [Step::Release(_)]), "{at:?}"),
                false => assert!(steps_of.is_empty(), "{at:?}"),
            }
        }
        let enabled = |one: &Candidate| steps(std::slice::from_ref(one), true);
        for one in &all {
            let removes = matches!(enabled(one)[..], [Step::Remove(_)]);
            assert_eq!(removes, one.is_here && one.has_finalizer && one.object.is_deleting, "{one:?}");
            // What is elsewhere, or being deleted already, is never held.
            let holds = matches!(enabled(one)[..], [Step::Hold(_)]);
            assert_eq!(holds, one.is_here && !one.has_finalizer && !one.object.is_deleting, "{one:?}");
        }
    }

    #[test]
    fn newer_backups_go_first() {
        let labels = ["20260101-000000F", "20260101-000000F_20260103-000000I", "20260101-000000F_20260102-000000D"];
        let all = labels.map(|label| candidate(label, true, true, true));
        let order: Vec<String> = steps(&all, true)
            .into_iter()
            .map(|step| match step {
                Step::Remove(object) => object.label,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, [labels[1], labels[2], labels[0]]);
    }
}
