//! [`Relay`]: carries what aws-config asks over our own connections, and remembers why a service refused.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::Region;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::{HeaderValue, Uri, header};

use super::refused;
use crate::storage::s3::S3Endpoint;
use crate::storage::s3::answer::ERROR_SIZE_BYTES_MAX;
use crate::storage::s3::body::collect;
use crate::storage::s3::credentials::{CredentialSource, CredentialsUnavailable, SigningTime};
use crate::storage::s3::redact::Redactions;
use crate::storage::s3::transport::Transport;

/// One conversation with one service.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    transport: Transport,
    redactions: Redactions,
    /// The service, for errors.
    who: &'static str,
    /// Where every request goes, whatever host it names.
    to: Option<S3Endpoint>,
    /// Why the last request failed. What aws-config makes of it does not say whether trying again can help.
    refusal: Arc<Mutex<Option<CredentialsUnavailable>>>,
}

impl Relay {
    pub(super) fn new(source: &CredentialSource, who: &'static str, to: Option<S3Endpoint>) -> Self {
        let (transport, redactions) = (source.transport.clone(), source.redactions.clone());
        Self { transport, redactions, who, to, refusal: Arc::default() }
    }

    /// What aws-config needs to know. Nothing is left for it to find out.
    pub(super) fn provider_config(&self, source: &CredentialSource) -> ProviderConfig {
        ProviderConfig::empty()
            .with_http_client(self.clone())
            .with_time_source(SigningTime(Arc::clone(&source.clock)))
            .with_sleep_impl(TokioSleep::new())
            // Trying again belongs to storage::retry, and time to the connections, which know of progress.
            .with_retry_config(RetryConfig::disabled())
            .with_timeout_config(TimeoutConfig::disabled())
            .with_region(Some(Region::new(source.region.clone())))
    }

    /// The reason for `error`.
    pub(super) fn failure(&self, source: &CredentialSource, error: &(dyn Error + 'static)) -> CredentialsUnavailable {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        refusal.unwrap_or_else(|| source.failure(error))
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let mut request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        if let Some(to) = &self.to {
            let uri: Uri =
                format!("{to}/").parse().map_err(|error: http::uri::InvalidUri| ConnectorError::user(error.into()))?;
            if request.headers().contains_key(header::HOST)
                && let Some(host) = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
            {
                request.headers_mut().insert(header::HOST, host);
            }
            *request.uri_mut() = uri;
        }
        let (head, body) = self.transport.send(request).await?.into_parts();
        let collected = collect(body, ERROR_SIZE_BYTES_MAX, self.transport.idle_timeout()).await;
        let body = collected.map_err(ConnectorError::io)?.bytes;
        let refusal = (!head.status.is_success()).then(|| refused(&self.redactions, self.who, head.status, &body));
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        HttpResponse::try_from(http::Response::from_parts(head, SdkBody::from(body)))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }
}

impl HttpConnector for Relay {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let relay = self.clone();
        HttpConnectorFuture::new(async move { relay.exchange(request).await })
    }
}

impl HttpClient for Relay {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
