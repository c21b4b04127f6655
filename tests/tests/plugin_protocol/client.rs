//! Plain gRPC clients: over the socket, and over TLS as the operator dials.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use pgbr_plugin::proto::identity::identity_client::IdentityClient;
use pgbr_plugin::proto::identity::{GetPluginMetadataRequest, ProbeRequest};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

use crate::certificates::{Pair, SERVER_NAME};

/// Dials a socket.
pub(crate) async fn unix(socket: &Path) -> Channel {
    try_unix(socket).await.expect("a connection")
}

pub(crate) async fn try_unix(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    Endpoint::try_from(format!("unix://{}", socket.display())).expect("a URI").connect().await
}

/// How the operator dials: it trusts the server's certificate alone and shows its own.
pub(crate) fn tls_config(
    server: &CertificateDer<'static>,
    client: Option<&Pair>,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(server.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots);
    let mut config = match client {
        Some(pair) => builder.with_client_auth_cert(vec![pair.der.clone()], pair.key.clone_key()).expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// A connection as the operator's, with this certificate.
pub(crate) async fn tls(address: SocketAddr, server: &Pair, client: &Pair) -> Result<Channel, String> {
    dial(address, tls_config(&server.der, Some(client), &rustls::version::TLS13, &["h2"])).await
}

pub(crate) async fn dial(address: SocketAddr, config: ClientConfig) -> Result<Channel, String> {
    let connector = Dial { address, config: Arc::new(config) };
    let endpoint = Endpoint::from_static("http://pgbackrest");
    endpoint.connect_with_connector(connector).await.map_err(|error| format!("{error:?}"))
}

/// Whether somebody who dials so is served.
pub(crate) async fn served(channel: Result<Channel, String>) -> Result<(), String> {
    name(channel?).await.map(|_| ())
}

/// Sends a request that no client of the messages would make.
pub(crate) async fn send(
    channel: &Channel,
    path: &str,
    body: Body,
) -> Result<http::Response<Body>, tonic::transport::Error> {
    let mut channel = channel.clone();
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request");
    std::future::poll_fn(|context| channel.poll_ready(context)).await?;
    channel.call(request).await
}

/// The plugin's name, after the first calls of every connection.
pub(crate) async fn name(channel: Channel) -> Result<String, String> {
    let mut client = IdentityClient::new(channel);
    let metadata =
        client.get_plugin_metadata(GetPluginMetadataRequest {}).await.map_err(|status| format!("{status:?}"))?;
    client.probe(ProbeRequest {}).await.map_err(|status| format!("{status:?}"))?;
    Ok(metadata.into_inner().name)
}

#[derive(Clone)]
struct Dial {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { address, config } = self.clone();
        Box::pin(async move {
            let name = ServerName::try_from(SERVER_NAME).expect("a name");
            let stream = TcpStream::connect(address).await?;
            Ok(TokioIo::new(TlsConnector::from(config).connect(name, stream).await?))
        })
    }
}
