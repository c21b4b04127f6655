//! The role beside PostgreSQL, in a pod of the cluster and in the job of a recovery.

use tokio_util::sync::CancellationToken;

use crate::log::Log;
use crate::proto::identity::identity_server::IdentityServer;
use crate::run::{Environment, InstanceRole};
use crate::service::identity::Identity;
use crate::transport::limits::Services;
use crate::transport::{TransportError, unix};

/// Serves the pod until the shutdown.
///
/// # Errors
/// When it cannot listen.
pub async fn run(
    _role: InstanceRole,
    environment: Environment,
    log: Log,
    shutdown: CancellationToken,
) -> Result<(), TransportError> {
    let services = Services::new(&log).with(IdentityServer::new(Identity::new(&[])));
    unix::serve(&environment.socket(), services, shutdown).await
}
