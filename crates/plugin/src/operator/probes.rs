//! `/healthz`, `/readyz` and `/metrics` of the role beside the operator, over plain HTTP: they tell that the process works and
//! count requests, and nothing about anybody's data.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::tally::Tally;
use crate::log::Log;
use crate::transport::TransportError;
use crate::transport::tls::{self, TlsFiles};

/// Connections at a time: a probe and a scraper have one each.
const CONNECTIONS_MAX: usize = 16;

/// A connection may take this long from its begin to its end.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// The pause after the system refused a connection.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// What an address serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/healthz` and `/readyz`.
    Health,
    /// `/metrics`.
    Metrics,
}

/// What the answers are made from.
#[derive(Debug, Clone)]
pub struct State {
    /// What was counted.
    pub tally: Tally,
    /// The certificates of the gRPC services, where they have some.
    pub tls: Option<TlsFiles>,
}

/// Whether an address is meant to be served; `0` and nothing are not, as in the original.
#[must_use]
pub fn is_wanted(address: &str) -> bool {
    !matches!(address, "" | "0")
}

/// Listens for one of the pages.
///
/// # Errors
/// [`TransportError::Address`] when the address cannot be listened on.
pub async fn listen(address: &str) -> Result<TcpListener, TransportError> {
    tls::bind(address).await.map(tls::Bound::into_listener)
}

/// Answers on a listener until the shutdown.
pub async fn serve(listener: TcpListener, page: Page, state: State, log: Log, shutdown: CancellationToken) {
    let (places, state) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(state));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let state = Arc::clone(&state);
                drop(tokio::spawn(async move {
                    let _place = place;
                    // A peer that goes away, or is slow, is nobody to complain about.
                    drop(tokio::time::timeout(CONNECTION_TIME_MAX, answer(stream, page, state)).await);
                }));
            }
            Err(error) => {
                log.warn("a connection was not taken", &[("error", Value::from(error.to_string()))]);
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, page: Page, state: Arc<State>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = response(page, request.method(), request.uri().path(), &state);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).keep_alive(false);
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

fn response(page: Page, method: &Method, path: &str, state: &State) -> Response<Full<Bytes>> {
    let (status, text) = match (page, path) {
        _ if method != Method::GET && method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned())
        }
        (Page::Health, "/healthz") => (StatusCode::OK, "ok\n".to_owned()),
        (Page::Health, "/readyz") => readiness(state),
        (Page::Metrics, "/metrics") => (StatusCode::OK, state.tally.text()),
        _ => (StatusCode::NOT_FOUND, "there is nothing here\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = match page {
        Page::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        Page::Health => "text/plain; charset=utf-8",
    };
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// Ready is who could greet CloudNativePG now and knows every Archive it has to know.
fn readiness(state: &State) -> (StatusCode, String) {
    let certificate = state.tls.as_ref().map_or(Ok(()), tls::check);
    let word = |is_good: bool| if is_good { "ok" } else { "failed" };
    let (is_loaded, is_caught_up) = (certificate.is_ok(), state.tally.is_caught_up());
    let text = format!("certificate {}\nwatch {}\n", word(is_loaded), word(is_caught_up));
    (if is_loaded && is_caught_up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}
