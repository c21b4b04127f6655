//! What holds for every service on every transport: how large a message is, how many requests there are, and that a
//! mistake in one of them does not reach the others.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response};
use tokio::sync::mpsc::Receiver;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tower_service::Service;

use super::TransportError;
use super::accept::Connection;
use super::receive::{Arriving, MESSAGE_BYTES_MAX, Received};
use crate::log::Log;
use crate::proto;

/// Requests at a time on one connection.
const REQUESTS_PER_CONNECTION: u32 = 32;

/// What a request may send before it is looked at.
const REQUEST_WINDOW_BYTES: u32 = 64 * 1024;

/// The same for all requests of a connection: those that wait for their turn must not keep one that has it from going on.
const CONNECTION_WINDOW_BYTES: u32 = REQUESTS_PER_CONNECTION * REQUEST_WINDOW_BYTES;

/// How long open requests may take when the server ends. A role that has work to finish ends its server after it.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// A service whose messages may be as large as those of any other.
pub trait Sized16MiB {
    /// The service with the limit.
    #[must_use]
    fn sized(self) -> Self;
}

macro_rules! sized {
    ($($server:path: $service:path;)*) => {$(
        impl<T: $service> Sized16MiB for $server {
            fn sized(self) -> Self {
                // What is larger is refused before, with a better answer.
                self.max_decoding_message_size(MESSAGE_BYTES_MAX)
            }
        }
    )*};
}

sized! {
    proto::identity::identity_server::IdentityServer<T>: proto::identity::identity_server::Identity;
    proto::identity::postgres_server::PostgresServer<T>: proto::identity::postgres_server::Postgres;
    proto::wal::wal_server::WalServer<T>: proto::wal::wal_server::Wal;
    proto::wal::restore_job_hooks_server::RestoreJobHooksServer<T>: proto::wal::restore_job_hooks_server::RestoreJobHooks;
    proto::backup::backup_server::BackupServer<T>: proto::backup::backup_server::Backup;
    proto::operator::operator_server::OperatorServer<T>: proto::operator::operator_server::Operator;
    proto::operator_lifecycle::operator_lifecycle_server::OperatorLifecycleServer<T>:
        proto::operator_lifecycle::operator_lifecycle_server::OperatorLifecycle;
    proto::reconciler::reconciler_hooks_server::ReconcilerHooksServer<T>:
        proto::reconciler::reconciler_hooks_server::ReconcilerHooks;
    proto::metrics::metrics_server::MetricsServer<T>: proto::metrics::metrics_server::Metrics;
}

/// The services of a server, each within the limits; the health service is always among them.
#[derive(Debug, Clone)]
pub struct Services {
    routes: Routes,
    observer: Option<Observer>,
    pub(super) log: Log,
}

/// Hears the path and the gRPC code of every request that was answered.
#[derive(Clone)]
struct Observer(Arc<Observe>);

type Observe = dyn Fn(&str, i32) + Send + Sync;

impl std::fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Observer")
    }
}

impl Services {
    /// The health service alone.
    #[must_use]
    pub fn new(log: &Log) -> Self {
        let (_reporter, health) = tonic_health::server::health_reporter();
        Self { routes: Routes::new(health), observer: None, log: log.clone() }
    }

    /// Adds a service.
    #[must_use]
    pub fn with<S>(self, server: S) -> Self
    where
        S: Sized16MiB
            + Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + tonic::server::NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self { routes: self.routes.add_service(server.sized()), ..self }
    }

    /// Tells how each request was answered: its path, and the number of its gRPC code.
    #[must_use]
    pub fn observed(self, observe: impl Fn(&str, i32) + Send + Sync + 'static) -> Self {
        Self { observer: Some(Observer(Arc::new(observe))), ..self }
    }

    /// Serves connections until the shutdown; what is open then gets a moment to end.
    pub(super) async fn serve(
        self,
        connections: Receiver<Connection>,
        shutdown: CancellationToken,
    ) -> Result<(), TransportError> {
        let contained = Contained { routes: self.routes.prepare(), observer: self.observer, arriving: Arriving::new() };
        let incoming = ReceiverStream::new(connections).map(Ok::<_, Infallible>);
        let served = Server::builder()
            .max_concurrent_streams(REQUESTS_PER_CONNECTION)
            .initial_stream_window_size(REQUEST_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .serve_with_incoming_shutdown(contained, incoming, shutdown.clone().cancelled_owned());
        let too_late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN_TIME_MAX).await;
        };
        tokio::select! {
            ended = served => Ok(ended?),
            () = too_late => Ok(()),
        }
    }
}

/// The services behind the bounds on what arrives. A panic in one of them is the answer `Internal`, and nothing else ends.
#[derive(Debug, Clone)]
struct Contained {
    routes: Routes,
    observer: Option<Observer>,
    arriving: Arriving,
}

impl Service<Request<Body>> for Contained {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let observed = self.observer.clone().map(|observer| (observer, request.uri().path().to_owned()));
        let tell = move |answer: Response<Body>| {
            if let Some((observer, path)) = &observed {
                (observer.0)(path, code(&answer));
            }
            answer
        };
        let request = request.map(|body| Body::new(Received::new(body, &self.arriving)));
        // A service is not used again after its panic in a way that could see a half-done change: each request has a clone.
        let Ok(answer) = catch_unwind(AssertUnwindSafe(|| self.routes.call(request))) else {
            return Box::pin(std::future::ready(Ok(tell(internal()))));
        };
        let answer = AssertUnwindSafe(answer).catch_unwind();
        Box::pin(answer.map(move |answer| answer.unwrap_or_else(|_panic| Ok(internal())).map(tell)))
    }
}

/// The gRPC code of an answer. All methods are unary: an error is known before any message, and stands in the headers.
fn code(answer: &Response<Body>) -> i32 {
    let code = answer.headers().get("grpc-status").map(|code| code.to_str().ok().and_then(|code| code.parse().ok()));
    // 2 is "unknown".
    code.map_or(0, |code| code.unwrap_or(2))
}

/// The answer after a panic; the process's panic hook has written where it was.
fn internal() -> Response<Body> {
    Status::internal("the request failed unexpectedly: this is a mistake in pgbr, please report it with its log")
        .into_http()
}
