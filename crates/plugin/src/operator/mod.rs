//! The role beside the operator: it gives Pods and Jobs their sidecar and clusters their rights.
//!
//! It is on the way of every reconciliation of a Cluster that uses the plugin, failover included. So it answers from the
//! Cluster that it is given and a few reads of Archives, keeps no state, and serves whether it leads or not; only the
//! work in the background ([`refresh`]) is left to one process.

pub mod events;
pub mod forsaken;
pub mod lease;
pub mod objects;
pub mod refresh;

use kube::{Client, Config};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::ids;
use crate::log::Log;
use crate::proto::identity::identity_server::IdentityServer;
use crate::proto::identity::plugin_capability::service::Type;
use crate::proto::operator_lifecycle::operator_lifecycle_server::OperatorLifecycleServer;
use crate::proto::reconciler::reconciler_hooks_server::ReconcilerHooksServer;
use crate::run::{Environment, OperatorOptions};
use crate::service::identity::Identity;
use crate::service::lifecycle::Lifecycle;
use crate::service::reconciler::Reconciler;
use crate::transport::limits::Services;
use crate::transport::{TransportError, tls, unix};
use events::Events;
use objects::Objects;

/// What the role serves. Not `InstanceSidecarInjection`: that would promise a socket in every pod whose Cluster has the
/// plugin enabled, and one without an Archive has none (cnpg-i.md §3.6).
pub const SERVICES: [Type; 2] = [Type::ReconcilerHooks, Type::LifecycleService];

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
pub fn services(client: &Client, image: &str, log: &Log) -> Services {
    let objects = Objects::new(client.clone());
    let events = Events::new(client.clone(), log.clone());
    Services::new(log)
        .with(IdentityServer::new(Identity::new(&SERVICES)))
        .with(ReconcilerHooksServer::new(Reconciler::new(objects.clone(), events, log.clone())))
        .with(OperatorLifecycleServer::new(Lifecycle::new(objects, image.to_owned(), log.clone())))
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
    let services = services(&client, &image, &log);
    log.info("serving the operator", &[("sidecarImage", Value::from(image))]);
    let background = background(&options, &environment, client, namespace, log.clone(), shutdown.clone());
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

/// The work of one of the processes.
fn background(
    options: &OperatorOptions,
    environment: &Environment,
    client: Client,
    namespace: String,
    log: Log,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let me = environment.get("POD_NAME").or_else(|| environment.get("HOSTNAME")).unwrap_or("operator").to_owned();
    let leader_elect = options.leader_elect;
    let objects = Objects::new(client.clone());
    async move {
        let work = |stop: CancellationToken| {
            let (objects, client, log) = (objects.clone(), objects.client().clone(), log.clone());
            async move {
                let letting_go = forsaken::run(client, forsaken::INTERVAL, log.clone(), stop.clone());
                tokio::join!(refresh::run(objects, log, stop), letting_go);
            }
        };
        if !leader_elect {
            return work(shutdown).await;
        }
        lease::while_leading(client, &namespace, &me, log.clone(), shutdown, work).await;
    }
}
