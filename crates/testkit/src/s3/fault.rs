//! Orders to misbehave: which requests, how often, and what happens to them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

/// The S3 operation of a request, told from its method and query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum S3Operation {
    GetObject,
    HeadObject,
    PutObject,
    DeleteObject,
    DeleteObjects,
    ListObjects,
    ListObjectVersions,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
    Other,
}

impl S3Operation {
    /// `key` is whether the path names an object and not only a bucket.
    pub(super) fn of(method: &Method, query: &str, key: bool) -> Self {
        let has = |name: &str| query.split('&').any(|term| term.split('=').next() == Some(name));
        match (method.as_str(), key) {
            ("GET", true) if !has("uploadId") => Self::GetObject,
            ("GET", false) if has("versions") => Self::ListObjectVersions,
            ("GET", false) if !has("uploads") && !has("location") => Self::ListObjects,
            ("GET", false) if has("uploads") => Self::ListMultipartUploads,
            ("HEAD", true) => Self::HeadObject,
            ("PUT", true) if has("uploadId") => Self::UploadPart,
            ("PUT", true) => Self::PutObject,
            ("DELETE", true) if has("uploadId") => Self::AbortMultipartUpload,
            ("DELETE", true) => Self::DeleteObject,
            ("POST", true) if has("uploads") => Self::CreateMultipartUpload,
            ("POST", true) if has("uploadId") => Self::CompleteMultipartUpload,
            ("POST", false) if has("delete") => Self::DeleteObjects,
            _ => Self::Other,
        }
    }

    /// Whether it changes which uploads are unfinished.
    pub(super) fn is_of_upload(self) -> bool {
        matches!(self, Self::CreateMultipartUpload | Self::CompleteMultipartUpload | Self::AbortMultipartUpload)
    }
}

/// A request as a rule sees it; the body is not read yet.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    /// What it asks for.
    pub operation: S3Operation,
    /// The bucket.
    pub bucket: String,
    /// The object's key, decoded; empty when there is none.
    pub key: String,
    /// The query as sent.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This answer instead of the real one; the request is not carried out.
    Answer {
        /// Status.
        status: StatusCode,
        /// Headers beside the length.
        headers: Vec<(&'static str, String)>,
        /// Body.
        body: Bytes,
    },
    /// The real answer, this much later.
    Delay(Duration),
    /// The real answer with a body that ends after so many bytes although more were announced.
    CutBody(u64),
    /// As [`Fault::CutBody`], but the connection ends with RST.
    ResetBody(u64),
    /// The real answer with a body of `bytes` each `every`.
    SlowBody {
        /// Bytes at once.
        bytes: usize,
        /// The time between.
        every: Duration,
    },
    /// RST before the request is read.
    Reset,
    /// The request is carried out, then RST: the answer is lost.
    LoseAnswer,
    /// No answer, ever.
    Silence,
}

impl Fault {
    /// An S3 error document.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>scripted</Message></Error>");
        Self::Answer {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: vec![("content-type", "application/xml".to_owned())],
            body: body.into(),
        }
    }

    /// 503 SlowDown with `Retry-After`.
    pub fn slow_down(retry_after_s: u64) -> Self {
        match Self::error(503, "SlowDown") {
            Self::Answer { status, mut headers, body } => {
                headers.push(("retry-after", retry_after_s.to_string()));
                Self::Answer { status, headers, body }
            }
            other => other,
        }
    }

    /// A login page.
    pub fn html() -> Self {
        Self::Answer {
            status: StatusCode::OK,
            headers: vec![("content-type", "text/html".to_owned())],
            body: Bytes::from_static(b"<!DOCTYPE html><html><body>please log in</body></html>"),
        }
    }
}

/// A fault for some requests.
pub struct Rule {
    pub(super) matches: Box<dyn Fn(&RequestInfo) -> bool + Send>,
    /// How often it still applies; `None` is always.
    pub(super) left: Option<u64>,
    pub(super) fault: Fault,
}

impl Rule {
    /// `fault` for every request that `matches`.
    pub fn always(fault: Fault, matches: impl Fn(&RequestInfo) -> bool + Send + 'static) -> Self {
        Self { matches: Box::new(matches), left: None, fault }
    }

    /// `fault` for the next `times` requests of an operation.
    pub fn next(times: u64, operation: S3Operation, fault: Fault) -> Self {
        Self { matches: Box::new(move |request| request.operation == operation), left: Some(times), fault }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rule").field("left", &self.left).field("fault", &self.fault).finish_non_exhaustive()
    }
}
