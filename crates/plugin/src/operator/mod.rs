//! The role beside the operator: it gives Pods and Jobs their sidecar and clusters their rights.
//!
//! It is on the way of every reconciliation of a Cluster that uses the plugin, failover included. So it answers from the
//! Cluster that it is given and a few reads of Archives, keeps no state, and serves whether it leads or not; only the
//! work in the background ([`refresh`]) is left to one process.

pub mod events;
pub mod forsaken;
pub mod lease;
pub mod objects;
pub mod probes;
pub mod refresh;
pub mod schedules;
pub mod tally;

use kube::{Client, Config};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::ids;
use crate::log::Log;
use crate::proto::identity::identity_server::IdentityServer;
use crate::proto::identity::plugin_capability::service::Type;
use crate::proto::operator_lifecycle::operator_lifecycle_server::OperatorLifecycleServer;
use crate::proto::reconciler::reconciler_hooks_server::ReconcilerHooksServer;
use crate::run::environment::Environment;
use crate::run::flags::OperatorOptions;
use crate::service::identity::Identity;
use crate::service::lifecycle::{Injection, Lifecycle};
use crate::service::reconciler::Reconciler;
use crate::transport::limits::Services;
use crate::transport::{TransportError, tls, unix};
use events::Events;
use objects::Objects;
use probes::Page;
use tally::Tally;

/// What the role serves.
pub const SERVICES: [Type; 2] = [Type::ReconcilerHooks, Type::LifecycleService];

/// What the role says of itself. The promise of a socket in every pod whose Cluster has the plugin enabled is made only when it is
/// asked for: from then on CloudNativePG (1.27 and newer) lets no instance be reconciled whose pod lacks it, a primary that was
/// started before the plugin was enabled included, and only `isWALArchiver` makes it replace that one in place
/// (`GetInstanceEnabledPluginNames` in `cluster_funcs.go`, `archiverSidecarMissingOnPrimary` in `cluster_upgrade.go`).
fn advertised(injection: &Injection) -> Vec<Type> {
    let promise = injection.always.then_some(Type::InstanceSidecarInjection);
    SERVICES.into_iter().chain(promise).collect()
}

/// Why the role ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// It could not listen.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The way to the API server is not known.
    #[error("no way to the Kubernetes API server: {0}")]
    Cluster(String),
    /// A variable is missing.
    #[error("the variable {0} is not set: it names the image of the sidecar")]
    Variable(&'static str),
}

/// The services of the role.
#[must_use]
pub fn services(client: &Client, injection: &Injection, tally: &Tally, log: &Log) -> Services {
    let objects = Objects::new(client.clone());
    let events = Events::new(client.clone(), log.clone());
    let reconciler = Reconciler::new(objects.clone(), events, injection.clone(), log.clone());
    let tally = tally.clone();
    Services::new(log)
        .observed(move |path, code| tally.answered(path, code))
        .with(IdentityServer::new(Identity::new(&advertised(injection))))
        .with(ReconcilerHooksServer::new(reconciler))
        .with(OperatorLifecycleServer::new(Lifecycle::new(objects, injection.clone(), log.clone())))
}

/// Serves the operator until the shutdown.
///
/// # Errors
/// [`OperatorError`] when it cannot listen, or does not know the API server or the sidecar's image.
pub async fn run(
    options: OperatorOptions,
    environment: Environment,
    log: Log,
    shutdown: CancellationToken,
) -> Result<(), OperatorError> {
    let image = environment.get(ids::SIDECAR_IMAGE_VARIABLE);
    let image = image.ok_or(OperatorError::Variable(ids::SIDECAR_IMAGE_VARIABLE))?.to_owned();
    let config = Config::infer().await.map_err(|error| OperatorError::Cluster(error.to_string()))?;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| OperatorError::Cluster(error.to_string()))?;
    let injection = Injection {
        image: image.clone(),
        always: options.instance_sidecar_injection,
        limits: options.repository_limits.clone(),
    };
    let tally = Tally::default();
    let services = services(&client, &injection, &tally, &log);
    show(&options, &tally, &log, &shutdown).await;
    log.info("serving the operator", &[("sidecarImage", Value::from(image))]);
    let background = background(&options, &environment, client, namespace, tally, log.clone(), shutdown.clone());
    let background = tokio::spawn(background);
    let served = match (options.plugin_path, options.tls) {
        (Some(folder), _) => unix::serve(&folder.join(ids::PLUGIN_NAME), services, shutdown.clone()).await,
        (None, Some(files)) => tls::serve(&options.server_address, files, services, shutdown.clone()).await,
        (None, None) => unix::serve(&environment.socket(), services, shutdown.clone()).await,
    };
    shutdown.cancel();
    // A task that panicked has said so in the log.
    let _ended = background.await;
    Ok(served?)
}

/// Serves health and metrics. Without them the services work all the same, so an address that is taken is told and no more.
async fn show(options: &OperatorOptions, tally: &Tally, log: &Log, shutdown: &CancellationToken) {
    let state = probes::State { tally: tally.clone(), tls: options.tls.clone() };
    let pages = [(&options.health_probe_bind_address, Page::Health), (&options.metrics_bind_address, Page::Metrics)];
    for (address, page) in pages.into_iter().filter(|(address, _)| probes::is_wanted(address)) {
        if page == Page::Metrics && options.metrics_secure {
            log.error("metrics are served over plain HTTP only: set --metrics-secure=false to have them", &[]);
            continue;
        }
        match probes::listen(address).await {
            Ok(listener) => {
                let serving = probes::serve(listener, page, state.clone(), log.clone(), shutdown.clone());
                drop(tokio::spawn(serving));
            }
            Err(error) => log.error("health or metrics are not served", &[("error", error.to_string().into())]),
        }
    }
}

/// The work of one of the processes.
fn background(
    options: &OperatorOptions,
    environment: &Environment,
    client: Client,
    namespace: String,
    tally: Tally,
    log: Log,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let me = environment.get("POD_NAME").or_else(|| environment.get("HOSTNAME")).unwrap_or("operator").to_owned();
    let leader_elect = options.leader_elect;
    let objects = Objects::new(client.clone());
    async move {
        let work = |stop: CancellationToken| {
            let (objects, client) = (objects.clone(), objects.client().clone());
            let (tally, log) = (tally.clone(), log.clone());
            async move {
                let letting_go = forsaken::run(client, forsaken::INTERVAL, tally.clone(), log.clone(), stop.clone());
                let schedules = schedules::run(objects.client().clone(), log.clone(), stop.clone());
                tokio::join!(refresh::run(objects, tally, log, stop), letting_go, schedules);
            }
        };
        if !leader_elect {
            return Box::pin(work(shutdown)).await;
        }
        lease::while_leading(client, &namespace, &me, log.clone(), shutdown, work).await;
    }
}
