//! The operator's side of the connection: our services on a unix socket, called with the protocol's own messages.

use std::time::Duration;

use pgbr_plugin::log::{Log, Settings};
use pgbr_plugin::operator::services;
use pgbr_plugin::operator::tally::Tally;
use pgbr_plugin::proto::operator_lifecycle::operator_lifecycle_client::OperatorLifecycleClient;
use pgbr_plugin::proto::operator_lifecycle::operator_operation_type::Type;
use pgbr_plugin::proto::operator_lifecycle::{OperatorLifecycleRequest, OperatorOperationType};
use pgbr_plugin::proto::reconciler::reconciler_hooks_client::ReconcilerHooksClient;
use pgbr_plugin::proto::reconciler::reconciler_hooks_result::Behavior;
use pgbr_plugin::proto::reconciler::{ReconcilerHooksRequest, ReconcilerHooksResult};
use pgbr_plugin::service::lifecycle::Injection;
use pgbr_plugin::transport::unix;
use pgbr_testkit::kube_api::KubeApi;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub(crate) const IMAGE: &str = "registry.example/pgbr:1.0";

/// The role, its API server, and a connection.
pub(crate) struct Operator {
    pub(crate) api: KubeApi,
    pub(crate) channel: Channel,
    pub(crate) tally: Tally,
    shutdown: CancellationToken,
    _folder: TempDir,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn client(api: &KubeApi) -> kube::Client {
    kube::Client::try_from(kube::Config::new(api.url().parse().unwrap())).unwrap()
}

pub(crate) fn quiet_log() -> Log {
    Log::write_to(Settings::default(), Box::new(std::io::sink())).unwrap()
}

impl Operator {
    pub(crate) async fn start() -> Self {
        Self::start_with(Injection { image: IMAGE.to_owned(), ..Injection::default() }).await
    }

    pub(crate) async fn start_with(injection: Injection) -> Self {
        let api = KubeApi::start();
        api.define(&pgbr_plugin::resource::definition());
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let shutdown = CancellationToken::new();
        let tally = Tally::default();
        let services = services(&client(&api), &injection, &tally, &quiet_log());
        let (path, stop) = (socket.clone(), shutdown.clone());
        tokio::spawn(async move { unix::serve(&path, services, stop).await.unwrap() });
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = loop {
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        Self { api, channel, tally, shutdown, _folder: folder }
    }

    pub(crate) async fn hook(&self, operation: Type, cluster: &Value, object: &Value) -> Result<Vec<u8>, Status> {
        let request = OperatorLifecycleRequest {
            operation_type: Some(OperatorOperationType { r#type: operation.into() }),
            cluster_definition: cluster.to_string().into_bytes(),
            object_definition: object.to_string().into_bytes(),
        };
        let answer = OperatorLifecycleClient::new(self.channel.clone()).lifecycle_hook(request).await?;
        Ok(answer.into_inner().json_patch)
    }

    pub(crate) async fn pre_bytes(&self, cluster: &[u8], resource: &[u8]) -> Result<ReconcilerHooksResult, Status> {
        let request =
            ReconcilerHooksRequest { cluster_definition: cluster.to_vec(), resource_definition: resource.to_vec() };
        Ok(ReconcilerHooksClient::new(self.channel.clone()).pre(request).await?.into_inner())
    }

    pub(crate) async fn pre(&self, cluster: &Value) -> Result<Behavior, Status> {
        let cluster = cluster.to_string().into_bytes();
        Ok(self.pre_bytes(&cluster, &cluster).await?.behavior())
    }
}
