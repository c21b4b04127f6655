//! The layer in front of s3s: applies the rules, counts, and closes the gaps that s3s-fs has against S3
//! (a read with a stale `If-Match` must be refused, a refused write must leave nothing, unfinished uploads can be
//! listed and are unknown when they are over).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use md5::{Digest, Md5};
use s3s::service::S3Service;
use sha2::Sha256;
use tokio::time::Sleep;

use super::fault::{Fault, RequestInfo, Rule, S3Operation};
use super::tcp::ResetSwitch;
use super::uploads::Uploads;
use super::versions::Versions;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;
pub(super) type Answer = Response<AnswerBody>;

/// What the handle and the connections share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    rules: Mutex<Vec<Rule>>,
    counts: Mutex<BTreeMap<S3Operation, u64>>,
    last: Mutex<BTreeMap<S3Operation, RequestInfo>>,
    uploads: Uploads,
    versions: Option<Arc<Versions>>,
    /// The folder of the buckets.
    root: PathBuf,
    /// s3s-fs looks whether an object exists before it reads the new one: conditional writes take turns.
    conditional_write: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(root: &Path, versions: Option<Arc<Versions>>) -> Self {
        Self { root: root.to_owned(), versions, ..Self::default() }
    }

    pub(super) fn versions(&self) -> Option<&Versions> {
        self.versions.as_deref()
    }

    /// Whether a part of the key before its end is an object: s3s-fs answers 500 then, because a file has no entries.
    fn is_below_object(&self, request: &RequestInfo) -> bool {
        let mut parents = Path::new(&request.key).ancestors().skip(1);
        let bucket = self.root.join(&request.bucket);
        parents.any(|parent| !parent.as_os_str().is_empty() && bucket.join(parent).is_file())
    }

    pub(super) fn add_rule(&self, rule: Rule) {
        lock(&self.rules).push(rule);
    }

    pub(super) fn clear_rules(&self) {
        lock(&self.rules).clear();
    }

    pub(super) fn count(&self, operation: S3Operation) -> u64 {
        lock(&self.counts).get(&operation).copied().unwrap_or(0)
    }

    pub(super) fn last(&self, operation: S3Operation) -> Option<RequestInfo> {
        lock(&self.last).get(&operation).cloned()
    }

    fn note(&self, request: &RequestInfo) {
        *lock(&self.counts).entry(request.operation).or_insert(0) += 1;
        lock(&self.last).insert(request.operation, request.clone());
    }

    /// The faults of this request, each used up by one.
    fn faults(&self, request: &RequestInfo) -> Vec<Fault> {
        let mut faults = Vec::new();
        for rule in lock(&self.rules).iter_mut() {
            if rule.left != Some(0) && (rule.matches)(request) {
                rule.left = rule.left.map(|left| left - 1);
                faults.push(rule.fault.clone());
            }
        }
        faults
    }
}

/// Serves one request. An error ends the connection.
pub(super) async fn serve(
    shared: &Shared,
    store: &S3Service,
    reset: &ResetSwitch,
    request: Request<Incoming>,
) -> io::Result<Answer> {
    let info = describe(&request);
    shared.note(&info);
    let faults = shared.faults(&info);
    for fault in &faults {
        match fault {
            Fault::Answer { status, headers, body } => {
                // The request is read, else the client would see a broken connection instead of the answer.
                let _body = request.into_body().collect().await;
                return scripted(*status, headers, body.clone());
            }
            Fault::Delay(wait) => tokio::time::sleep(*wait).await,
            Fault::Reset => return Err(hard_reset(reset)),
            Fault::Silence => std::future::pending().await,
            _ => {}
        }
    }
    let answer = carry_out(shared, store, request, &info).await?;
    let mut answer = answer;
    for fault in faults {
        answer = match fault {
            Fault::LoseAnswer => return Err(hard_reset(reset)),
            Fault::CutBody(bytes) => answer.map(|body| BrokenBody::cut(body, bytes, None).boxed_unsync()),
            Fault::ResetBody(bytes) => {
                answer.map(|body| BrokenBody::cut(body, bytes, Some(reset.clone())).boxed_unsync())
            }
            Fault::SlowBody { bytes, every } => answer.map(|body| SlowBody::new(body, bytes, every).boxed_unsync()),
            _ => answer,
        };
    }
    Ok(answer)
}

fn hard_reset(reset: &ResetSwitch) -> io::Error {
    reset.set();
    io::Error::other("scripted reset")
}

fn describe(request: &Request<Incoming>) -> RequestInfo {
    let (uri, headers) = (request.uri(), request.headers());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let host = host.split(':').next().unwrap_or("");
    let path = uri.path().trim_start_matches('/');
    let (bucket, key) = match host.strip_suffix(".localhost") {
        Some(bucket) => (bucket, path),
        None => path.split_once('/').unwrap_or((path, "")),
    };
    let query = uri.query().unwrap_or("").to_owned();
    let operation = S3Operation::of(request.method(), &query, !key.is_empty());
    RequestInfo { operation, bucket: bucket.to_owned(), key: percent_decode(key), query, headers: headers.clone() }
}

pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let decoded = match (first, tail.get(..2)) {
            (b'%', Some(digits)) => std::str::from_utf8(digits).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn carry_out(
    shared: &Shared,
    store: &S3Service,
    request: Request<Incoming>,
    info: &RequestInfo,
) -> io::Result<Answer> {
    let (head, body) = request.into_parts();
    // A body that is cut is never shown to the store.
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if head.method == Method::PUT
        && let Some(code) = refused_digest(&head.headers, &body)
    {
        return error_answer(StatusCode::BAD_REQUEST, code);
    }
    if info.operation == S3Operation::ListMultipartUploads {
        return scripted(StatusCode::OK, &[("content-type", "application/xml".to_owned())], shared.uploads.list(info));
    }
    if shared.is_below_object(info) {
        match info.operation {
            S3Operation::DeleteObject => return scripted(StatusCode::NO_CONTENT, &[], Bytes::new()),
            S3Operation::GetObject => return error_answer(StatusCode::NOT_FOUND, "NoSuchKey"),
            S3Operation::HeadObject => return scripted(StatusCode::NOT_FOUND, &[], Bytes::new()),
            _ => {}
        }
    }
    if shared.uploads.is_unknown(info) {
        return error_answer(StatusCode::NOT_FOUND, "NoSuchUpload");
    }
    let conditional = head.headers.contains_key(header::IF_MATCH) || head.headers.contains_key(header::IF_NONE_MATCH);
    let _turn = match conditional && head.method == Method::PUT {
        true => Some(shared.conditional_write.lock().await),
        false => None,
    };
    let if_match = head.headers.get(header::IF_MATCH).cloned();
    let answer = store.call(Request::from_parts(head, s3s::Body::from(body))).await;
    let answer = answer.map_err(|error| io::Error::other(format!("{error:?}")))?;
    let is_read = matches!(info.operation, S3Operation::GetObject | S3Operation::HeadObject);
    if let Some(asked) = if_match
        && is_read
        && answer.status().is_success()
        && answer.headers().get(header::ETAG).is_none_or(|tag| tag != asked)
    {
        return error_answer(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    if let Some(versions) = shared.versions()
        && info.operation == S3Operation::ListObjectVersions
        && answer.status().is_success()
    {
        return scripted(StatusCode::OK, &[("content-type", "application/xml".to_owned())], versions.list(info));
    }
    let is_upload = info.operation.is_of_upload() && answer.status().is_success();
    let answer = answer.map(|body| body.map_err(BoxError::from).boxed_unsync());
    if !is_upload {
        return Ok(answer);
    }
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    shared.uploads.note(info, &body);
    Ok(Response::from_parts(head, Full::new(body).map_err(from_infallible).boxed_unsync()))
}

/// The code with which S3 refuses a body that is not the one it was announced as.
fn refused_digest(headers: &HeaderMap, body: &[u8]) -> Option<&'static str> {
    if let Some(md5) = headers.get("content-md5")
        && md5.as_bytes() != base64::engine::general_purpose::STANDARD.encode(Md5::digest(body)).as_bytes()
    {
        return Some("BadDigest");
    }
    let sha256 = headers.get("x-amz-content-sha256")?.to_str().ok()?;
    if sha256.len() == 64 && sha256 != hex::encode(Sha256::digest(body)) {
        return Some("XAmzContentSHA256Mismatch");
    }
    None
}

fn error_answer(status: StatusCode, code: &str) -> io::Result<Answer> {
    match Fault::error(status.as_u16(), code) {
        Fault::Answer { status, headers, body } => scripted(status, &headers, body),
        _ => Err(io::Error::other("no answer")),
    }
}

fn scripted(status: StatusCode, headers: &[(&'static str, String)], body: Bytes) -> io::Result<Answer> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, value);
    }
    answer.body(Full::new(body).map_err(from_infallible).boxed_unsync()).map_err(io::Error::other)
}

fn from_infallible(never: Infallible) -> BoxError {
    match never {}
}

/// Announces the whole length and stops before it.
struct BrokenBody {
    inner: AnswerBody,
    left: u64,
    reset: Option<ResetSwitch>,
    hint: SizeHint,
}

impl BrokenBody {
    fn cut(inner: AnswerBody, after_bytes: u64, reset: Option<ResetSwitch>) -> Self {
        let hint = inner.size_hint();
        Self { inner, left: after_bytes, reset, hint }
    }
}

impl Body for BrokenBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            if let Some(reset) = &self.reset {
                reset.set();
            }
            return Poll::Ready(Some(Err("scripted end of the body".into())));
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(mut data) => {
                    data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= data.len() as u64;
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            },
            other => Poll::Ready(other),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

/// Lets the body through in small pieces.
struct SlowBody {
    inner: AnswerBody,
    held: Bytes,
    bytes: usize,
    every: Duration,
    wait: Pin<Box<Sleep>>,
    hint: SizeHint,
}

impl SlowBody {
    fn new(inner: AnswerBody, bytes: usize, every: Duration) -> Self {
        let hint = inner.size_hint();
        Self { inner, held: Bytes::new(), bytes: bytes.max(1), every, wait: Box::pin(tokio::time::sleep(every)), hint }
    }
}

impl Body for SlowBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while self.held.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.held = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        ready!(self.wait.as_mut().poll(context));
        self.wait = Box::pin(tokio::time::sleep(self.every));
        let length = self.bytes.min(self.held.len());
        Poll::Ready(Some(Ok(Frame::data(self.held.split_to(length)))))
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
