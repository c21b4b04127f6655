//! Makes connections: to the configured host and port, whatever address the request carries, within a time limit.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tower_service::Service;

use super::transport::TransportError;

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Where connections go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Replaces the host of the request; also the name that the certificate must have, as in pgBackRest
    /// (`storage/s3/storage.c` gives `repo-storage-host` to its TLS client).
    pub(super) host: Option<String>,
    /// The port to connect to; `None` is the port of the request.
    pub(super) port: Option<u16>,
}

/// TCP, then TLS where the scheme says so, both within one time limit.
#[derive(Clone)]
pub(super) struct Connector {
    inner: HttpsConnector<Dial>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(tls: ClientConfig, target: Target, timeout: Duration) -> Result<Self, String> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_connect_timeout(Some(timeout));
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let builder = match &target.host {
            None => builder,
            Some(host) => {
                let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(name).map_err(|error| format!("host '{host}': {error}"))?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
        };
        Ok(Self { inner: builder.enable_http1().wrap_connector(Dial { tcp, target }), timeout })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let timeout = self.timeout;
        Box::pin(async move {
            tokio::time::timeout(timeout, connecting)
                .await
                .unwrap_or_else(|_| Err(TransportError::timeout("connect", timeout).into()))
        })
    }
}

/// Opens TCP connections to the target instead of the address in the request.
#[derive(Clone)]
struct Dial {
    tcp: TcpConnector,
    target: Target,
}

impl Dial {
    fn address(&self, uri: &Uri) -> Result<Uri, BoxError> {
        let host = match &self.target.host {
            Some(host) => host,
            None => uri.host().ok_or("the request has no host")?,
        };
        let port = match self.target.port.or_else(|| uri.port_u16()) {
            Some(port) => port,
            None if uri.scheme_str() == Some("http") => 80,
            None => 443,
        };
        Ok(Uri::builder().scheme("http").authority(format!("{host}:{port}")).path_and_query("/").build()?)
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self.address(&uri) {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(address) => {
                let connecting = self.tcp.call(address);
                Box::pin(async move { connecting.await.map_err(Into::into) })
            }
        }
    }
}
