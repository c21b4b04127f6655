//! The HTTP client below the SDK: our own connections, time limits and judgement of answers.
//!
//! No redirect is followed and nothing is sent twice. Connections are kept and used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::{Method, header};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::answer::{Asked, BadAnswer, ERROR_SIZE_BYTES_MAX, XML_SIZE_BYTES_MAX, judge_body, judge_head};
use super::body::{CountedBody, LiveBody, collect};
use super::connector::Connector;

/// Buffer of a connection in each direction; also the most that the headers of an answer may take (faults.md HI14).
const BUFFER_SIZE_BYTES: usize = 128 * 1024;

/// Servers close idle connections after a minute or so; one that we close cannot fail a request.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// An exchange failed below the S3 protocol.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum TransportError {
    #[error("unable to {doing} the store within {} ms", .limit.as_millis())]
    Timeout { doing: &'static str, limit: Duration },
    #[error("the store sends less than 64 bytes a second")]
    TooSlow,
    #[error("{}", .0.reason)]
    Answer(BadAnswer),
}

impl TransportError {
    pub(super) fn timeout(doing: &'static str, limit: Duration) -> Self {
        Self::Timeout { doing, limit }
    }
}

/// The connections of one repository.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: Client<Connector, CountedBody>,
    idle_timeout: Duration,
}

impl Transport {
    pub(super) fn new(connector: Connector, idle_timeout: Duration) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .http1_max_buf_size(BUFFER_SIZE_BYTES)
            // A request that met a closing connection is not sent again here: retrying has one place.
            .retry_canceled_requests(false)
            .build(connector);
        Self { client, idle_timeout }
    }

    /// Longest wait without a byte.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// Sends a request and waits for the head of its answer, as long as the request makes progress.
    pub(super) async fn send(
        &self,
        request: http::Request<SdkBody>,
    ) -> Result<http::Response<Incoming>, ConnectorError> {
        let taken_bytes = Arc::new(AtomicU64::new(0));
        let request = request.map(|body| CountedBody::new(body, Arc::clone(&taken_bytes)));
        let mut answer = std::pin::pin!(self.client.request(request));
        loop {
            let before = taken_bytes.load(Ordering::Relaxed);
            match tokio::time::timeout(self.idle_timeout, &mut answer).await {
                Ok(answer) => return answer.map_err(|error| ConnectorError::io(error.into())),
                Err(_) if taken_bytes.load(Ordering::Relaxed) > before => {}
                Err(_) => {
                    let error = TransportError::timeout("get an answer from", self.idle_timeout);
                    return Err(ConnectorError::timeout(error.into()));
                }
            }
        }
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        let asked = Asked::new(request.method(), request.uri().query());
        let answer = self.send(request).await?;
        let bad = |answer| ConnectorError::other(TransportError::Answer(answer).into(), None);
        let (mut head, body) = answer.into_parts();
        judge_head(&asked, head.status, &head.headers).map_err(bad)?;
        let body = if asked.object && head.status.is_success() {
            SdkBody::from_body_1_x(LiveBody::new(body, self.idle_timeout))
        } else if asked.method == Method::HEAD {
            SdkBody::empty()
        } else {
            let limit_bytes = if head.status.is_success() { XML_SIZE_BYTES_MAX } else { ERROR_SIZE_BYTES_MAX };
            let collected = collect(body, limit_bytes, self.idle_timeout).await.map_err(ConnectorError::io)?;
            let (status, bytes) = judge_body(&asked, head.status, collected.bytes, collected.complete).map_err(bad)?;
            head.status = status;
            head.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
            SdkBody::from(bytes)
        };
        HttpResponse::try_from(http::Response::from_parts(head, body))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let transport = self.clone();
        HttpConnectorFuture::new(async move { transport.exchange(request).await })
    }
}

impl HttpClient for Transport {
    /// The SDK's own time limits are not used: they know nothing of progress.
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
