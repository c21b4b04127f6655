//! The Identity service: asked at the begin of every connection, and so for every WAL file. It does no I/O.

use tonic::{Request, Response, Status};

use crate::ids;
use crate::proto::identity::identity_server::Identity as IdentityService;
use crate::proto::identity::plugin_capability::{self, service};
use crate::proto::identity::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginMetadataRequest, GetPluginMetadataResponse,
    PluginCapability, ProbeRequest, ProbeResponse,
};

/// The version that a Cluster's status shows.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who the plugin is, and what one of its roles serves.
#[derive(Debug, Clone)]
pub struct Identity {
    capabilities: Vec<PluginCapability>,
}

impl Identity {
    /// The identity of a role with these services. Each of them must be served beside it: a caller asks every one that is
    /// named for its capabilities, and gives up on the plugin when one does not answer.
    #[must_use]
    pub fn new(services: &[service::Type]) -> Self {
        let capability = |service: &service::Type| PluginCapability {
            r#type: Some(plugin_capability::Type::Service(plugin_capability::Service { r#type: i32::from(*service) })),
        };
        Self { capabilities: services.iter().map(capability).collect() }
    }
}

/// The answer to `GetPluginMetadata`, the same in every role.
#[must_use]
pub fn metadata() -> GetPluginMetadataResponse {
    GetPluginMetadataResponse {
        name: ids::PLUGIN_NAME.to_owned(),
        version: VERSION.to_owned(),
        display_name: ids::DISPLAY_NAME.to_owned(),
        description: "Backups, WAL archiving and recovery in pgBackRest's repository format".to_owned(),
        license: "Apache-2.0".to_owned(),
        maturity: "alpha".to_owned(),
        ..GetPluginMetadataResponse::default()
    }
}

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn get_plugin_metadata(
        &self,
        _request: Request<GetPluginMetadataRequest>,
    ) -> Result<Response<GetPluginMetadataResponse>, Status> {
        Ok(Response::new(metadata()))
    }

    async fn get_plugin_capabilities(
        &self,
        _request: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities: self.capabilities.clone() }))
    }

    async fn probe(&self, _request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: true }))
    }
}
