//! The RestoreJobHooks service: a backup becomes the data directory of a new cluster.
//!
//! The recovery itself is CloudNativePG's: it writes the target's settings and starts PostgreSQL. What is left here has no
//! recovery settings at all, so that none can contradict those.

use std::sync::Arc;

use pgbr_config::engine::restore::restore_options;
use pgbr_config::{Command, engine};
use pgbr_repo::command::restore::recovery::RecoveryOptions;
use pgbr_repo::command::restore::restore;
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::format::{ArchiveId, BackupLabel};
use pgbr_repo::postgres::WalFileName;
use pgbr_repo::progress::Context;
use pgbr_repo::repository::backup_choice::{Chosen, choose_backup};
use pgbr_repo::repository::recovery_goal::{RecoveryGoal, RecoveryTarget, RecoveryType};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::cluster::{Cluster, RecoveryTarget as ClusterTarget};
use crate::instance::empty_archive::{self, Claim};
use crate::instance::restored;
use crate::instance::source;
use crate::instance::surroundings::{Surroundings, blocking};
use crate::parameters;
use crate::proto::wal as proto;
use crate::status::Failure;

/// What CloudNativePG appends to the configuration. The command is its own, in PostgreSQL's container; `promote` is needed
/// since the default would wait for ever.
const RESTORE_CONFIG: &str = "recovery_target_action = promote\n\
    restore_command = '/controller/manager wal-restore --log-destination /controller/log/postgres.json %f %p'\n";

/// The service.
#[derive(Debug, Clone)]
pub struct RestoreJob {
    surroundings: Arc<Surroundings>,
    running: Arc<Mutex<()>>,
}

impl RestoreJob {
    /// Nothing is restored yet.
    pub fn new(surroundings: Arc<Surroundings>) -> Self {
        Self { surroundings, running: Arc::default() }
    }

    async fn run(&self, request: proto::RestoreRequest) -> Result<proto::RestoreResponse, Failure> {
        let cluster = self.surroundings.cluster(&request.cluster_definition)?;
        if let Some(primary) = cluster.status.current_primary.as_deref().filter(|name| !name.is_empty()) {
            return Err(Failure::Precondition(format!(
                "the cluster has a primary ({primary}): nothing is restored over it"
            )));
        }
        // One after another, whoever asks: the later one finds what the earlier one left.
        let running = Arc::clone(&self.running).try_lock_owned();
        let running = running.map_err(|_| Failure::Busy("[050]: a restore is running already".to_owned()))?;
        let cancel = self.surroundings.shutdown.child_token();
        // The caller waits as long as it lives; when it is gone, so is the reason to go on.
        let _caller = cancel.clone().drop_guard();
        let (this, working) = (self.clone(), self.surroundings.work());
        let work = tokio::spawn(async move {
            let _held = (running, working);
            this.restore(&cluster, request.check_empty_wal_archive, cancel).await
        });
        work.await
            .map_err(|panic| Failure::Engine(Error::new(ErrorKind::Unknown, format!("a worker failed: {panic}"))))??;
        Ok(proto::RestoreResponse { restore_config: RESTORE_CONFIG.to_owned(), envs: Vec::new() })
    }

    async fn restore(&self, cluster: &Cluster, check: Option<bool>, cancel: CancellationToken) -> Result<(), Failure> {
        let surroundings = &self.surroundings;
        let source = parameters::recovery_source(cluster).ok_or_else(|| {
            Failure::Precondition(
                "no external cluster that bootstrap.recovery.source names has an Archive of this plugin".to_owned(),
            )
        })?;
        let place = surroundings.place(&source, cluster).await?;
        let settings = surroundings.settings(Command::Restore, &place)?;
        for warning in &settings.warnings {
            surroundings.log.warn(warning, &[("archive", place.archive.name.as_str().into())]);
        }
        surroundings.log.info("Starting pgbackrest restore", &[("options", settings.shown().into())]);
        let workers = engine::workers(&settings.options);
        let context = surroundings.context(&settings, Command::Restore, workers, "pgbackrest restore", cancel);
        if check.unwrap_or_else(|| !source::skips_empty_check(cluster)) {
            self.check_target(cluster, &context).await?;
        }
        let repositories = surroundings.repositories(&settings, &place.stanza)?;
        let target = cluster.bootstrap.recovery.as_ref().and_then(|recovery| recovery.target.as_ref());
        let goal = goal(target)?;
        let chosen = choose_backup(&repositories, &goal, &context).await?;
        require_first_wal(&chosen, &context).await?;
        surroundings.log.info("Restoring backup", &[("label", chosen.label.to_string().into())]);

        let pod = surroundings.pod.clone();
        let (settled, wal_storage) = (pod.clone(), cluster.wal_storage);
        let dirty = blocking(move || restored::prepare(&pod, wal_storage)).await?;
        let mut options = restore_options(&settings.options, String::new())?;
        options.set = Some(chosen.label);
        options.delta |= dirty;
        options.recovery = RecoveryOptions {
            recovery_type: RecoveryType::None,
            target_timeline: goal.target_timeline.clone(),
            ..RecoveryOptions::default()
        };
        options.recovery_by_default = false;
        let entry = chosen.entry()?;
        let online = entry.options.online;
        let one = [chosen.repository.clone()];
        let outcome = restore(&one, &options, &context).await?;
        context.check_cancelled()?;
        blocking(move || restored::settle(&settled, wal_storage, online)).await?;
        surroundings.log.info("Completed pgbackrest restore", &[("label", outcome.label.to_string().into())]);
        Ok(())
    }

    /// The archive that the new cluster is going to write is nobody else's. Told before anything is changed: later it would
    /// only be seen by the first WAL file.
    async fn check_target(&self, cluster: &Cluster, context: &Context) -> Result<(), Failure> {
        let Some(own) = parameters::own(cluster) else { return Ok(()) };
        let place = self.surroundings.place(&own, cluster).await?;
        let settings = self.surroundings.settings(Command::ArchivePush, &place)?;
        let repositories = self.surroundings.repositories(&settings, &place.stanza)?;
        Ok(empty_archive::check(&repositories, &Claim { cluster: None }, context).await?)
    }
}

/// What the recovery is to reach, so that the right backup is taken: one that is named, else the latest that ended before the
/// target, else the latest.
fn goal(target: Option<&ClusterTarget>) -> Result<RecoveryGoal, Failure> {
    let mut goal = RecoveryGoal {
        set: None,
        recovery_type: RecoveryType::Default,
        target_timeline: None,
        reaches_timeline: true,
        time_zone: jiff::tz::TimeZone::UTC,
    };
    let Some(target) = target else { return Ok(goal) };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    goal.set = match given(&target.backup_id) {
        None => None,
        Some(label) => Some(BackupLabel::parse(&label).map_err(|_| {
            Failure::Invalid(format!(
                "[075]: bootstrap.recovery.recoveryTarget.backupID: '{}' is not the label of a backup",
                label.escape_debug()
            ))
        })?),
    };
    goal.target_timeline = given(&target.target_tli);
    goal.recovery_type = match (given(&target.target_time), given(&target.target_lsn)) {
        (Some(time), _) => RecoveryType::Target(RecoveryTarget::Time, time_text(&time)),
        (None, Some(lsn)) => RecoveryType::Target(RecoveryTarget::Lsn, lsn),
        (None, None) => RecoveryType::Default,
    };
    Ok(goal)
}

/// A time as the engine reads it: RFC 3339 becomes PostgreSQL's form, which is left as it is.
fn time_text(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.f+00").to_string(),
        Err(_) => match text.parse::<jiff::civil::DateTime>() {
            Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.f+00").to_string(),
            Err(_) => text.to_owned(),
        },
    }
}

/// Fails early when the backup's first WAL is not there: PostgreSQL would find out after hours of copying.
async fn require_first_wal(chosen: &Chosen<'_>, context: &Context) -> Result<(), Failure> {
    let entry = chosen.entry()?;
    let Some(start) = entry.archive_start else { return Ok(()) };
    let Some(generation) = chosen.info.history().generation(entry.history_id) else { return Ok(()) };
    let id: ArchiveId = generation.archive_id();
    let info = chosen.repository.archive_info(context).await?;
    let archive = chosen.repository.archive(&info, id)?;
    if archive.find(WalFileName::Segment(start)).await?.is_empty() && !entry.options.archive_copy {
        let message = format!(
            "backup {} cannot be recovered: its first WAL segment {start} is not in {} of {}",
            chosen.label,
            id,
            chosen.repository.index()
        );
        return Err(Error::new(ErrorKind::BackupSetInvalid, message).into());
    }
    Ok(())
}

#[tonic::async_trait]
impl proto::restore_job_hooks_server::RestoreJobHooks for RestoreJob {
    async fn get_capabilities(
        &self,
        _request: Request<proto::RestoreJobHooksCapabilitiesRequest>,
    ) -> Result<Response<proto::RestoreJobHooksCapabilitiesResult>, Status> {
        use proto::restore_job_hooks_capability::Kind;
        let capability = proto::RestoreJobHooksCapability { kind: Kind::Restore.into() };
        Ok(Response::new(proto::RestoreJobHooksCapabilitiesResult { capabilities: vec![capability] }))
    }

    async fn restore(
        &self,
        request: Request<proto::RestoreRequest>,
    ) -> Result<Response<proto::RestoreResponse>, Status> {
        self.run(request.into_inner()).await.map(Response::new).map_err(|failure| {
            self.surroundings.log.error("Restore failed", &[("error", failure.text().into())]);
            failure.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(change: impl FnOnce(&mut ClusterTarget)) -> RecoveryGoal {
        let mut target = ClusterTarget::default();
        change(&mut target);
        goal(Some(&target)).unwrap()
    }

    #[test]
    fn c24_targets_choose_the_backup() {
        let second = |text: &str| target(|target| target.target_time = Some(text.to_owned())).target_time_s();
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T04:04:05+01:00",
            "2026-01-02T03:04:05.000000Z",
            "2026-01-02 03:04:05",
            "2026-01-02 03:04:05+00",
            "2026-01-02 04:04:05+01",
            "2026-01-02T03:04:05",
        ] {
            assert_eq!(second(text), Some(1_767_323_045), "{text}");
        }
        let lsn = target(|target| target.target_lsn = Some("0/3000000".to_owned()));
        assert_eq!(lsn.target_lsn().unwrap().to_string(), "0/3000000");
        let named = target(|target| {
            target.backup_id = Some("20260101-000000F".to_owned());
            target.target_tli = Some("3".to_owned());
        });
        assert_eq!(named.set.unwrap().to_string(), "20260101-000000F");
        assert_eq!(named.target_timeline.as_deref(), Some("3"));
        let wrong = ClusterTarget { backup_id: Some("../x".to_owned()), ..ClusterTarget::default() };
        assert!(matches!(goal(Some(&wrong)), Err(Failure::Invalid(text)) if text.contains("backupID")));
    }

    #[test]
    fn c20_the_settings_leave_the_target_to_the_caller() {
        assert!(RESTORE_CONFIG.contains("restore_command = '/controller/manager wal-restore "));
        assert!(RESTORE_CONFIG.contains("%f %p'") && !RESTORE_CONFIG.contains("%%"));
        assert!(RESTORE_CONFIG.contains("recovery_target_action = promote"));
        assert_eq!(RESTORE_CONFIG.matches("recovery_target").count(), 1);
    }
}
