//! From the SDK's errors to [`StorageError`]: one table of codes and one of statuses.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::credentials::CredentialsUnavailable;
use super::redact::Redactions;
use super::transport::TransportError;
use crate::storage::{ErrorClass, Operation, StorageError, StoragePath};

/// Longest `Retry-After` that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// A failed request, before it belongs to an object.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) class: ErrorClass,
    /// Clean: without secrets, escaped, bounded.
    pub(super) detail: String,
    /// HTTP status, when there was an answer.
    pub(super) status: Option<u16>,
    /// The code in the answer's document.
    pub(super) code: Option<String>,
    pub(super) retry_after: Option<Duration>,
    /// The answer's `Date`, as it came.
    pub(super) date: Option<String>,
}

impl Failure {
    pub(super) fn new(class: ErrorClass, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into(), status: None, code: None, retry_after: None, date: None }
    }

    pub(super) fn from_sdk<E>(error: &SdkError<E, HttpResponse>, redactions: &Redactions) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match (error, error.raw_response()) {
            (SdkError::ServiceError(service), Some(answer)) => {
                let error = service.err();
                let unread = answer.status().is_success().then(|| causes(error));
                Self::from_answer(answer, error.code(), error.message().or(unread.as_deref()), redactions)
            }
            (_, Some(answer)) => {
                let text = format!("unreadable answer, status {}: {}", answer.status().as_u16(), causes(error));
                Self {
                    status: Some(answer.status().as_u16()),
                    ..Self::new(ErrorClass::Transient, redactions.clean(&text))
                }
            }
            // A request that could not be built will not be better the next time.
            (SdkError::ConstructionFailure(_), None) => Self::from_causes(error, ErrorClass::Permanent, redactions),
            (_, None) => Self::from_causes(error, ErrorClass::Transient, redactions),
        }
    }

    fn from_answer(answer: &HttpResponse, code: Option<&str>, message: Option<&str>, redactions: &Redactions) -> Self {
        let status = answer.status().as_u16();
        let mut text = format!("status {status}");
        if let Some(code) = code {
            text.push_str(&format!(", {code}"));
        }
        if let Some(message) = message {
            text.push_str(&format!(": {message}"));
        }
        if matches!(status, 300..=399) {
            let target = answer.headers().get("location").unwrap_or("another address");
            text.push_str(&format!(
                " (redirect to {target}; redirects are not followed, the endpoint or the region is wrong)"
            ));
        }
        let mut detail = redactions.clean(&text);
        if let Some(id) = answer.headers().get("x-amz-request-id") {
            detail.push_str(&format!(" (request id {})", redactions.clean(id)));
        }
        let retry_after = answer.headers().get("retry-after").and_then(|text| text.trim().parse().ok());
        let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        Self {
            class: class_of(status, code, retry_after.is_some()),
            detail,
            status: Some(status),
            code: code.map(ToOwned::to_owned),
            retry_after,
            date: answer.headers().get("date").map(ToOwned::to_owned),
        }
    }

    /// No answer: the connection, TLS, the credentials or the request itself; `class` unless a cause tells more.
    pub(super) fn from_causes(error: &(dyn Error + 'static), class: ErrorClass, redactions: &Redactions) -> Self {
        let mut class = class;
        let mut excerpt = String::new();
        let mut known = None;
        for cause in Causes(Some(error)) {
            if let Some(unavailable) = cause.downcast_ref::<CredentialsUnavailable>() {
                return Self::new(unavailable.class, redactions.clean(&unavailable.to_string()));
            }
            if let Some(failed) = cause.downcast_ref::<TransportError>() {
                known = Some(failed.to_string());
                if let TransportError::Answer(answer) = failed {
                    excerpt = format!(": {}", answer.excerpt);
                }
            }
            if let Some(tls) = cause.downcast_ref::<rustls::Error>()
                && is_permanent(tls)
            {
                class = ErrorClass::Permanent;
            }
        }
        let text = known.unwrap_or_else(|| causes(error));
        Self::new(class, redactions.clean(&format!("{text}{excerpt}")))
    }

    pub(super) fn into_error(self, operation: Operation, path: &StoragePath) -> StorageError {
        let error = StorageError::new(self.class, operation, path, self.detail);
        match self.retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }
}

/// What the answer means: the document's code where it is known, else the status.
fn class_of(status: u16, code: Option<&str>, wait_asked: bool) -> ErrorClass {
    match code.and_then(class_of_code) {
        Some(class) => class,
        None => class_of_status(status, code, wait_asked),
    }
}

/// Codes of the S3 API reference ("Error responses") that mean more, or something else, than their status. Codes in
/// use elsewhere: `QuotaExceeded` (Ceph), `XMinioStorageFull`, `SlowDownRead`, `SlowDownWrite` (MinIO).
fn class_of_code(code: &str) -> Option<ErrorClass> {
    Some(match code {
        "NoSuchKey" | "NoSuchUpload" => ErrorClass::Missing,
        // Listed a moment ago: the version is gone for good, which is not to say that there was none.
        "NoSuchVersion"
        | "NoSuchBucket"
        | "NotImplemented"
        | "MethodNotAllowed"
        | "InvalidArgument"
        | "EntityTooLarge"
        | "InvalidBucketName"
        | "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "InvalidRange" => ErrorClass::Permanent,
        "AccessDenied"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired" => ErrorClass::Denied,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded" => ErrorClass::Throttled,
        // The SDK signs the next try with the time of the answer (faults.md OS20).
        "RequestTimeTooSkewed" => ErrorClass::Transient,
        "InternalError"
        | "RequestTimeout"
        | "ServiceUnavailable"
        | "BadDigest"
        | "IncompleteBody"
        | "XAmzContentSHA256Mismatch"
        | "ConditionalRequestConflict"
        | "OperationAborted"
        | "TemporaryRedirect" => ErrorClass::Transient,
        "PreconditionFailed" => ErrorClass::Conflict,
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => ErrorClass::NoSpace,
        _ => return None,
    })
}

fn class_of_status(status: u16, code: Option<&str>, wait_asked: bool) -> ErrorClass {
    match status {
        401 | 403 => ErrorClass::Denied,
        // Without a code in it a 404 comes from something that is no S3 service: a proxy without a route. The SDK gives
        // the code NotFound to the answer of HEAD, which never has a document.
        404 if code == Some("NotFound") => ErrorClass::Missing,
        404 => ErrorClass::Transient,
        412 => ErrorClass::Conflict,
        429 => ErrorClass::Throttled,
        503 if wait_asked => ErrorClass::Throttled,
        507 => ErrorClass::NoSpace,
        501 | 505 => ErrorClass::Permanent,
        // A success that could not be read.
        200..=299 | 408 | 500..=599 => ErrorClass::Transient,
        _ => ErrorClass::Permanent,
    }
}

/// A certificate that is wrong now will be wrong in a second; a broken handshake may not be.
fn is_permanent(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::UnsupportedNameType
    )
}

/// The chain of causes. An I/O error hides the error it was made of from `source`, so it is opened.
struct Causes<'a>(Option<&'a (dyn Error + 'static)>);

impl<'a> Iterator for Causes<'a> {
    type Item = &'a (dyn Error + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let current = self.0?;
        self.0 = match current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        };
        Some(current)
    }
}

/// The chain as text, outermost first, without repetitions.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in Causes(Some(error)).take(12) {
        let next = cause.to_string();
        if !next.is_empty() && !text.contains(&next) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&next);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os17_only_a_positive_absence_is_missing() {
        for (status, code, class) in [
            (404, Some("NoSuchKey"), ErrorClass::Missing),
            (404, Some("NotFound"), ErrorClass::Missing),
            (404, Some("NoSuchBucket"), ErrorClass::Permanent),
            (404, None, ErrorClass::Transient),
            (403, None, ErrorClass::Denied),
            (500, Some("AccessDenied"), ErrorClass::Denied),
            (503, Some("SlowDown"), ErrorClass::Throttled),
            (503, None, ErrorClass::Transient),
            (429, None, ErrorClass::Throttled),
            (412, None, ErrorClass::Conflict),
            (400, Some("RequestTimeout"), ErrorClass::Transient),
            (400, None, ErrorClass::Permanent),
            (301, Some("PermanentRedirect"), ErrorClass::Permanent),
            (507, None, ErrorClass::NoSpace),
            (501, Some("NotImplemented"), ErrorClass::Permanent),
        ] {
            assert_eq!(class_of(status, code, false), class, "{status} {code:?}");
        }
        assert_eq!(class_of(503, None, true), ErrorClass::Throttled);
    }
}
