//! The role beside the operator.

use tokio_util::sync::CancellationToken;

use crate::ids;
use crate::log::Log;
use crate::proto::identity::identity_server::IdentityServer;
use crate::run::{Environment, OperatorOptions};
use crate::service::identity::Identity;
use crate::transport::limits::Services;
use crate::transport::{TransportError, tls, unix};

/// Serves the operator until the shutdown.
///
/// # Errors
/// When it cannot listen.
pub async fn run(
    options: OperatorOptions,
    environment: Environment,
    log: Log,
    shutdown: CancellationToken,
) -> Result<(), TransportError> {
    let services = Services::new(&log).with(IdentityServer::new(Identity::new(&[])));
    match (options.plugin_path, options.tls) {
        (Some(folder), _) => unix::serve(&folder.join(ids::PLUGIN_NAME), services, shutdown).await,
        (None, Some(files)) => tls::serve(&options.server_address, files, services, shutdown).await,
        (None, None) => unix::serve(&environment.socket(), services, shutdown).await,
    }
}
