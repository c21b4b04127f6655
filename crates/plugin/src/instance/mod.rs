//! The sidecar of a pod, in every phase of a cluster's life: WAL, backups, restores, metrics.
//!
//! The process in the pod of a recovery's Job serves the same services: which of them is asked depends on the phase alone.

pub mod empty_archive;
pub mod marker;
pub mod mounts;
pub mod pod;
pub mod residents;
pub mod restored;
pub mod scratch;
pub mod source;
pub mod stanza_upgrade;
pub mod surroundings;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::pod::Pod;
use self::residents::Residents;
use self::surroundings::{Surroundings, blocking};
use crate::limit::Limit;
use crate::log::Log;
use crate::proto::backup::backup_server::BackupServer;
use crate::proto::identity::identity_server::IdentityServer;
use crate::proto::identity::plugin_capability::service::Type;
use crate::proto::metrics::metrics_server::MetricsServer;
use crate::proto::wal::restore_job_hooks_server::RestoreJobHooksServer;
use crate::proto::wal::wal_server::WalServer;
use crate::run::environment::{Environment, InstanceRole};
use crate::service::backup::Backup;
use crate::service::identity::Identity;
use crate::service::metrics::Metrics;
use crate::service::restore_job::RestoreJob;
use crate::service::wal::Wal;
use crate::transport::limits::Services;
use crate::transport::{TransportError, unix};
use crate::upkeep;

/// The beginning of the names of files that are not what they will be yet, beside their places.
pub const TEMPORARY: &str = ".pgbackrest-plugin-";

/// What a sidecar serves.
const SERVICES: [Type; 4] = [Type::WalService, Type::BackupService, Type::RestoreJob, Type::Metrics];

/// How long the process stays after the server of the pod is gone and nobody asks: the instance manager may still be on its
/// way with the last WAL file.
const QUIET: Duration = Duration::from_secs(2);

/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// Why a sidecar ended.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// A variable is missing or wrong.
    #[error("{0}")]
    Environment(String),
    /// It could not listen.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Serves the pod until the shutdown, and then for as long as its server lives.
///
/// # Errors
/// When a variable is missing, or it cannot listen.
pub async fn run(
    role: InstanceRole,
    environment: Environment,
    limit: Option<Limit>,
    log: Log,
    shutdown: CancellationToken,
) -> Result<(), InstanceError> {
    let variables = environment.all().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let pod = Pod { limit, ..Pod::of(variables).map_err(InstanceError::Environment)? };
    let surroundings = Surroundings::new(pod, log.clone(), shutdown.clone());
    mounts::tell_missing(&surroundings).await;
    scratch::make_private(&surroundings).await;
    let tidied = Arc::clone(&surroundings);
    // What is left over costs space alone.
    drop(
        blocking(move || {
            Residents::tidy(&tidied);
            Ok(())
        })
        .await,
    );
    let residents = Residents::new(Arc::clone(&surroundings));
    let services = Services::new(&log)
        .with(IdentityServer::new(Identity::new(&SERVICES)))
        .with(WalServer::new(Wal::new(Arc::clone(&surroundings), residents)))
        .with(BackupServer::new(Backup::new(Arc::clone(&surroundings))))
        .with(RestoreJobHooksServer::new(RestoreJob::new(Arc::clone(&surroundings))))
        .with(MetricsServer::new(Metrics::new(Arc::clone(&surroundings))));
    if role == InstanceRole::Instance {
        upkeep::start(&surroundings);
    }
    let end = CancellationToken::new();
    let ending = end.clone();
    drop(tokio::spawn(async move {
        shutdown.cancelled().await;
        wait_for_the_end(role, &surroundings).await;
        ending.cancel();
    }));
    Ok(unix::serve(&environment.socket(), services, end).await?)
}

/// After the signal: as long as the server of the pod lives, its WAL is archived (cloudnative-pg#10341); then nobody has to
/// wait for the process (plugin-barman-cloud#1039).
async fn wait_for_the_end(role: InstanceRole, surroundings: &Arc<Surroundings>) {
    surroundings.log.info("The sidecar ends when the server of the pod has ended", &[]);
    let mut quiet = Duration::ZERO;
    let enough = match role {
        InstanceRole::Instance => QUIET,
        // Nothing is archived in the pod of a Job.
        InstanceRole::Restore => Duration::ZERO,
    };
    loop {
        let pod = surroundings.pod.clone();
        let lives = tokio::task::spawn_blocking(move || pod.server_lives()).await.unwrap_or(false);
        let busy = lives || surroundings.working() > 0;
        if !busy && quiet >= enough {
            return;
        }
        quiet = if busy { Duration::ZERO } else { quiet + LOOK };
        tokio::time::sleep(LOOK).await;
    }
}
