//! The Backup service: one backup at a time, found again by the identity of its Backup object, and given up when nobody
//! waits for it any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use pgbr_config::engine::backup::backup_options;
use pgbr_config::engine::database::connect_all;
use pgbr_config::engine::expire::{expire_request, expire_targets};
use pgbr_config::engine::{self, repositories};
use pgbr_config::{Command, opt};
use pgbr_repo::command::backup::{Servers, backup};
use pgbr_repo::command::expire::expire;
use pgbr_repo::command::stanza::create::create;
use pgbr_repo::db::Database;
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::format::{BackupEntry, BackupLabel};
use pgbr_repo::progress::Context;
use pgbr_repo::repository::{Repository, WritableRepository};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use super::stanza_cluster;
use crate::cluster::{Backup as BackupObject, Cluster};
use crate::ids;
use crate::instance::source;
use crate::instance::surroundings::{Place, Surroundings};
use crate::parameters::Source;
use crate::proto::backup as proto;
use crate::settings::{self, BACKUP_NAME, BACKUP_UID, CreateStanza, Settings, create_stanza, settings};
use crate::status::Failure;
use crate::upkeep::exclusion::{Fence, Guard, exclusion, lost as lost_lease};
use crate::upkeep::is_primary;
use crate::upkeep::reading::listed_labels;
use crate::upkeep::retention::has_rules;

/// Results that are kept for a repeated call.
const KEPT_MAX: usize = 16;

/// How long a standby waits for WAL unless somebody says otherwise: the primary ends a segment when its `archive_timeout` has
/// passed, which CloudNativePG sets to five minutes.
const STANDBY_ARCHIVE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long somebody who works in the repository is waited for, beyond the time after which a forsaken Lease is free.
const LEASE_PATIENCE: Duration = Duration::from_secs(120);

/// The service.
#[derive(Debug, Clone)]
pub struct Backup {
    surroundings: Arc<Surroundings>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Run>,
    finished: HashMap<String, proto::BackupResult>,
}

/// What becomes of a backup, and what keeps it going while somebody waits.
type Joined = (watch::Receiver<Option<Outcome>>, Option<Arc<DropGuard>>);

/// A backup that is being made.
#[derive(Debug, Clone)]
struct Run {
    key: String,
    outcome: watch::Receiver<Option<Outcome>>,
    /// Dropped when the last who waits is gone.
    interest: std::sync::Weak<DropGuard>,
}

type Outcome = Result<proto::BackupResult, Failure>;

/// What a call is about.
#[derive(Debug, Clone)]
struct Wanted {
    cluster: Cluster,
    object: BackupObject,
    source: Source,
    parameters: BTreeMap<String, String>,
}

impl Backup {
    /// Nothing runs yet.
    pub fn new(surroundings: Arc<Surroundings>) -> Self {
        Self { surroundings, state: Arc::default() }
    }

    async fn make(&self, request: proto::BackupRequest) -> Outcome {
        let cluster = self.surroundings.cluster(&request.cluster_definition)?;
        let object = BackupObject::parse(&request.backup_definition)
            .map_err(|error| Failure::Invalid(format!("backup_definition: {error}")))?;
        if object.namespace != cluster.namespace {
            return Err(Failure::Invalid(
                "backup_definition: metadata.namespace is not that of the cluster".to_owned(),
            ));
        }
        let source = source::own_source(&cluster)?;
        // Both carry the same; the request is what the protocol names.
        let parameters: BTreeMap<String, String> = match request.parameters.is_empty() {
            true => object.parameters.clone(),
            false => request.parameters.into_iter().collect(),
        };
        let (mut outcome, _interest) = self.join(Wanted { cluster, object, source, parameters })?;
        let done = outcome.wait_for(Option::is_some).await;
        match done {
            Ok(done) => done.clone().unwrap_or_else(|| Err(lost())),
            Err(_) => Err(lost()),
        }
    }

    /// Joins the backup of the same object, or begins it.
    fn join(&self, wanted: Wanted) -> Result<Joined, Failure> {
        let key = match wanted.object.uid.is_empty() {
            true => format!("{}/{}", wanted.object.namespace, wanted.object.name),
            false => wanted.object.uid.clone(),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = state.finished.get(&key) {
            let (_, receiver) = watch::channel(Some(Ok(result.clone())));
            return Ok((receiver, None));
        }
        if let Some(run) = &state.running {
            // One that nobody waits for is being given up.
            return match run.interest.upgrade() {
                Some(interest) if run.key == key => Ok((run.outcome.clone(), Some(interest))),
                _ => Err(Failure::Busy(
                    "[050]: another backup is being made by this instance: wait until it has ended".to_owned(),
                )),
            };
        }
        let (sender, outcome) = watch::channel(None);
        if self.surroundings.shutdown.is_cancelled() {
            return Err(Failure::Unavailable("the sidecar is ending: no backup is begun".to_owned()));
        }
        let cancel = self.surroundings.shutdown.child_token();
        let interest = Arc::new(cancel.clone().drop_guard());
        state.running = Some(Run { key: key.clone(), outcome: outcome.clone(), interest: Arc::downgrade(&interest) });
        let (this, working) = (self.clone(), self.surroundings.work());
        drop(tokio::spawn(async move {
            let over = Over { service: this.clone(), working: Some(working) };
            let name = wanted.object.name.clone();
            let made = this.run(&wanted, &key, cancel).await.map_err(|failure| this.why(failure));
            this.tell(&name, &made);
            if let Ok(result) = &made {
                this.keep(key, result.clone());
            }
            // Before the answer: who has it may begin the next one.
            drop(over);
            drop(sender.send(Some(made)));
        }));
        Ok((outcome, Some(interest)))
    }

    /// A backup that was given up because the pod ends says so: its object ends with this text.
    fn why(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Engine(error) if error.kind() == ErrorKind::Term && self.surroundings.shutdown.is_cancelled() => {
                let text =
                    "the pod is ending: the backup was given up, and another full backup goes on with what is stored";
                Failure::Unavailable(format!("[{:03}]: {text}", ErrorKind::Term.code()))
            }
            failure => failure,
        }
    }

    fn keep(&self, key: String, result: proto::BackupResult) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.finished.len() >= KEPT_MAX {
            state.finished.clear();
        }
        state.finished.insert(key, result);
    }

    fn tell(&self, name: &str, made: &Outcome) {
        let log = &self.surroundings.log;
        let failure = made.as_ref().err().map(Failure::text);
        self.surroundings.seen.backup_ended(failure.as_deref());
        match made {
            Ok(result) => {
                log.info("Backup completed", &[("backup", name.into()), ("label", result.backup_id.as_str().into())]);
            }
            Err(failure) => {
                log.error("Backup failed", &[("backup", name.into()), ("error", failure.text().into())]);
            }
        }
    }

    async fn run(&self, wanted: &Wanted, key: &str, cancel: CancellationToken) -> Outcome {
        use pgbr_repo::clock::{Clock, SystemClock};
        let surroundings = &self.surroundings;
        surroundings.log.info("Starting backup", &[("backup", wanted.object.name.as_str().into())]);
        let place = surroundings.place(&wanted.source, &wanted.cluster).await?;
        let now_s = SystemClock.now_s();
        let name = backup_name(now_s)?;
        let annotations = [(BACKUP_NAME, name.clone()), (BACKUP_UID, key.to_owned())];
        let options = settings(&settings::Request {
            command: Command::Backup,
            archive: &place.archive.spec,
            secrets: &place.archive.secrets,
            stanza: &place.stanza,
            pod: &surroundings.pod,
            parameters: &wanted.parameters,
            annotations: &annotations,
        })?;
        for warning in &options.warnings {
            surroundings.log.warn(warning, &[("archive", place.archive.name.as_str().into())]);
        }
        surroundings.log.info("Starting pgbackrest backup", &[("options", options.shown().into())]);
        let workers = engine::workers(&options.options);
        let context = surroundings.context(&options, Command::Backup, workers, "pgbackrest backup", cancel.clone());
        let index = options
            .options
            .repo_default()
            .ok_or_else(|| Failure::Precondition("no repository is configured".to_owned()))?;
        let repository = repositories::open(&options.options, index, &place.stanza, &|name| options.variable(name))?;
        let guard = Arc::new(self.exclude(wanted, &options, &place, index, &cancel).await?);
        self.create_stanza(&place, &repository, &context).await?;
        if let Some(entry) = made_before(&repository, key, &context).await? {
            return Ok(result(&entry, &name_of(&entry).unwrap_or(name), wanted, &place, index.number()));
        }
        let copied = self.copy(&options, &repository, index, &context).await;
        let label = if guard.is_lost() { return Err(lost_lease()) } else { copied? };
        let entry = entry_of(&repository, label, &context).await?;
        if options.options.boolean(opt::EXPIRE_AUTO) {
            self.expire(wanted, &options, &place, &guard, &context).await;
        }
        surroundings.log.info("Completed pgbackrest backup", &[("label", label.to_string().into())]);
        Ok(result(&entry, &name, wanted, &place, index.number()))
    }

    /// Keeps other pods out of the repositories that the backup, and expire after it, work on.
    async fn exclude(
        &self,
        wanted: &Wanted,
        settings: &Settings,
        place: &Place,
        index: pgbr_config::RepoIndex,
        cancel: &CancellationToken,
    ) -> Result<Guard, Failure> {
        let mut numbers = BTreeSet::from([u32::from(index.number())]);
        if settings.options.boolean(opt::EXPIRE_AUTO) {
            numbers.extend(repositories::chosen(&settings.options).into_iter().map(|index| u32::from(index.number())));
        }
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let patience = self.surroundings.pod.lease_hold + LEASE_PATIENCE;
        let guard = exclusion(&self.surroundings, place, &numbers, patience, cancel).await?;
        if !guard.is_protected() && !is_primary(&wanted.cluster, &self.surroundings) {
            return Err(Failure::Precondition(
                "the pods may not use Leases (is the cluster's Role not renewed yet?): without them only the primary is \
                 backed up"
                    .to_owned(),
            ));
        }
        Ok(guard)
    }

    /// The stanza is made from the data directory alone, so that a standby can do it too.
    async fn create_stanza(&self, place: &Place, repository: &Repository, context: &Context) -> Result<(), Failure> {
        if create_stanza(&place.archive.spec) == CreateStanza::Disabled {
            return Ok(());
        }
        let settings = self.surroundings.settings(Command::StanzaCreate, place)?;
        let control = self.surroundings.control_file(&settings).await?;
        let repositories = [WritableRepository::new(repository.clone())];
        Ok(create(&repositories, stanza_cluster(&control), context).await?)
    }

    /// Makes the backup from the server of the pod, whichever it is.
    async fn copy(
        &self,
        settings: &Settings,
        repository: &Repository,
        index: pgbr_config::RepoIndex,
        context: &Context,
    ) -> Result<BackupLabel, Failure> {
        let options = &settings.options;
        let mut connected = connect_all(options, context).await?;
        let Some(server) = connected.pop() else {
            return Err(Error::new(ErrorKind::DbConnect, "unable to connect to the server of the pod").into());
        };
        let database: &dyn Database = &server.session;
        let standby = database.identity().in_recovery;
        let mut how = backup_options(options, index, engine::require_pg_path(options)?)?;
        if standby && !options.is_given(opt::ARCHIVE_TIMEOUT) {
            how.archive_timeout = STANDBY_ARCHIVE_TIMEOUT;
        }
        let servers = if standby { Servers::Standby(database) } else { Servers::Primary(database) };
        Ok(backup(&WritableRepository::new(repository.clone()), servers, &how, context).await?.label)
    }

    /// What retention says. The backup is complete: that something could not be removed is told and tried after the next
    /// one. Objects of backups that went follow at once.
    async fn expire(&self, wanted: &Wanted, settings: &Settings, place: &Place, guard: &Arc<Guard>, context: &Context) {
        let surroundings = &self.surroundings;
        let work = async {
            let mut request = expire_request(&settings.options)?;
            request.permit = Some(Fence::new(Arc::clone(guard)));
            let variable = |name: &str| settings.variable(name);
            let targets = expire_targets(&settings.options, &place.stanza, &variable)?;
            let labels = || listed_labels(targets.iter().map(|(repository, _)| &**repository), context);
            let before = labels().await;
            let expired = expire(&targets, &request, context).await;
            if let (Some(before), Some(after)) = (before, labels().await) {
                surroundings.note_expired(before.difference(&after).cloned().collect());
            }
            expired?;
            Ok(targets.iter().any(|(_, rules)| has_rules(&rules.retention)))
        };
        let outcome: Result<bool, Failure> = work.await;
        if let Ok(true) = outcome {
            surroundings.seen.retention(None);
        }
        if let Err(failure) = outcome {
            let text = failure.text();
            surroundings.seen.retention(Some(&text));
            let note = format!("retention could not be applied after the backup: {text}");
            surroundings.warn(&wanted.cluster, "RetentionFailed", note).await;
        }
    }
}

/// Ends a run even when it panicked.
struct Over {
    service: Backup,
    working: Option<crate::instance::surroundings::Working>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.service.state.lock().unwrap_or_else(PoisonError::into_inner).running = None;
        self.working = None;
    }
}

fn lost() -> Failure {
    Failure::Engine(Error::new(ErrorKind::Unknown, "the backup ended unexpectedly"))
}

/// `backup-YYYYMMDDhhmmss`, as the name is known to users (plugin-surface.md K11).
fn backup_name(now_s: i64) -> Result<String, Failure> {
    let now = Timestamp::from_second(now_s)
        .map_err(|_| Failure::Engine(Error::new(ErrorKind::Clock, "the time of the pod cannot be right")))?;
    Ok(format!("backup-{}", now.strftime("%Y%m%d%H%M%S")))
}

fn name_of(entry: &BackupEntry) -> Option<String> {
    entry.annotations.value(BACKUP_NAME).map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned())
}

/// What an earlier call for the same object made, if its answer was lost.
async fn made_before(repository: &Repository, key: &str, context: &Context) -> Result<Option<BackupEntry>, Failure> {
    match repository.backup_info(context).await {
        Ok(info) => {
            let is_it = |entry: &&BackupEntry| {
                entry.annotations.value(BACKUP_UID).is_some_and(|uid| uid.as_bytes() == key.as_bytes())
            };
            Ok(info.backups().iter().find(is_it).cloned())
        }
        Err(error) if error.kind() == ErrorKind::FileMissing => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn entry_of(repository: &Repository, label: BackupLabel, context: &Context) -> Result<BackupEntry, Failure> {
    let info = repository.backup_info(context).await?;
    info.backup(&label).cloned().ok_or_else(|| {
        let message = format!("backup {label} was made, but is not listed any more");
        Error::new(ErrorKind::BackupSetInvalid, message).into()
    })
}

fn result(entry: &BackupEntry, name: &str, wanted: &Wanted, place: &Place, repository: u16) -> proto::BackupResult {
    let text = |value: Option<String>| value.unwrap_or_default();
    let timeline = entry.archive_stop.map(|segment| segment.timeline().to_string());
    let metadata = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("name", ids::PLUGIN_NAME.to_owned()),
        ("displayName", ids::DISPLAY_NAME.to_owned()),
        ("pluginName", ids::PLUGIN_NAME.to_owned()),
        ("clusterUID", wanted.cluster.uid.clone()),
        ("timeline", text(timeline)),
        ("stanza", place.stanza.to_string()),
        ("repository", repository.to_string()),
        ("archive", place.archive.name.clone()),
        ("archiveGeneration", place.archive.generation.to_string()),
    ];
    proto::BackupResult {
        backup_id: entry.label.to_string(),
        backup_name: name.to_owned(),
        started_at: entry.timestamp_start_s,
        stopped_at: entry.timestamp_stop_s,
        begin_wal: text(entry.archive_start.map(|segment| segment.to_string())),
        end_wal: text(entry.archive_stop.map(|segment| segment.to_string())),
        begin_lsn: text(entry.lsn_start.as_ref().map(|lsn| lsn.as_str().to_owned())),
        end_lsn: text(entry.lsn_stop.as_ref().map(|lsn| lsn.as_str().to_owned())),
        // Both are in the repository, and small they are not always.
        backup_label_file: Vec::new(),
        tablespace_map_file: Vec::new(),
        instance_id: String::new(),
        online: entry.options.online,
        metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}

#[tonic::async_trait]
impl proto::backup_server::Backup for Backup {
    async fn get_capabilities(
        &self,
        _request: Request<proto::BackupCapabilitiesRequest>,
    ) -> Result<Response<proto::BackupCapabilitiesResult>, Status> {
        use proto::backup_capability::{Rpc, Type, rpc};
        let kind = rpc::Type::Backup.into();
        let capability = proto::BackupCapability { r#type: Some(Type::Rpc(Rpc { r#type: kind })) };
        Ok(Response::new(proto::BackupCapabilitiesResult { capabilities: vec![capability] }))
    }

    async fn backup(&self, request: Request<proto::BackupRequest>) -> Result<Response<proto::BackupResult>, Status> {
        Ok(Response::new(self.make(request.into_inner()).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_named_by_its_second() {
        assert_eq!(backup_name(1_700_000_000).unwrap(), "backup-20231114221320");
        assert!(backup_name(i64::MAX).is_err());
    }
}
