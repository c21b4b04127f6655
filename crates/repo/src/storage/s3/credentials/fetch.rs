//! The sources of temporary credentials (repository-behaviour.md §9.1, pgBackRest `storage/s3/storage.c`).
//!
//! The metadata service and STS are asked through aws-config. It sends over our own connections ([`relay`]), tries
//! nothing twice, and is told everything, so that it has nothing to look for in the environment or in `~/.aws`.

mod imds;
mod pod_id;
mod relay;
mod web_id;

use std::path::Path;

use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;

use super::{CredentialSource, CredentialsUnavailable, Fetched};
use crate::storage::ErrorClass;
use crate::storage::s3::answer::ERROR_SIZE_BYTES_MAX;
use crate::storage::s3::body::collect;
use crate::storage::s3::redact::Redactions;

pub(super) use imds::fetch_auto;
pub(super) use pod_id::fetch_pod_id;
pub(super) use web_id::fetch_web_id;

/// Longest identity token that is read from a file.
const TOKEN_SIZE_BYTES_MAX: u64 = 64 * 1024;

type Result<T> = std::result::Result<T, CredentialsUnavailable>;

async fn exchange(source: &CredentialSource, request: Request<SdkBody>) -> Result<(StatusCode, Bytes)> {
    let answer = source.transport.send(request).await.map_err(|error| source.failure(&error))?;
    let (head, body) = answer.into_parts();
    let collected = collect(body, ERROR_SIZE_BYTES_MAX, source.transport.idle_timeout()).await;
    let collected = collected.map_err(|error| source.failure(error.as_ref()))?;
    Ok((head.status, collected.bytes))
}

async fn read_token(source: &CredentialSource, path: &Path) -> Result<String> {
    use tokio::io::AsyncReadExt;
    let failed = |error: std::io::Error| {
        CredentialsUnavailable::new(ErrorClass::Transient, format!("token file '{}': {error}", path.display()))
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut token = String::new();
    file.take(TOKEN_SIZE_BYTES_MAX).read_to_string(&mut token).await.map_err(failed)?;
    let token = token.trim().to_owned();
    source.redactions.add(&token);
    Ok(token)
}

fn refused(redactions: &Redactions, who: &str, status: StatusCode, body: &[u8]) -> CredentialsUnavailable {
    let class = match status.as_u16() {
        429 => ErrorClass::Throttled,
        408 | 500..=599 => ErrorClass::Transient,
        _ => ErrorClass::Denied,
    };
    let text = format!("{who} answers status {}: {}", status.as_u16(), String::from_utf8_lossy(body));
    CredentialsUnavailable::new(class, redactions.clean(&text))
}

fn unusable(detail: &str) -> CredentialsUnavailable {
    CredentialsUnavailable::new(ErrorClass::Permanent, detail)
}

/// Nothing of a document with secrets is quoted.
fn malformed(what: &str) -> CredentialsUnavailable {
    CredentialsUnavailable::new(ErrorClass::Transient, format!("the answer with the credentials: {what}"))
}

fn text_of(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|_| malformed("not UTF-8"))
}

fn parse_json(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|_| malformed("not JSON"))
}

fn from_json(document: &Value) -> Result<Fetched> {
    let field = |name: &str| match document.get(name).and_then(Value::as_str) {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(malformed(&format!("{name} is missing"))),
    };
    Ok(Fetched {
        key: field("AccessKeyId")?,
        secret: field("SecretAccessKey")?,
        token: field("Token")?,
        expires_s: expiration(&field("Expiration")?)?,
    })
}

fn expiration(text: &str) -> Result<i64> {
    DateTime::from_str(text, Format::DateTimeWithOffset)
        .map(|time| time.secs())
        .map_err(|_| malformed("Expiration is not a time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_answer_of_the_agents_and_quotes_none_of_it() {
        let good = br#"{"Code":"Success","AccessKeyId":"AKID","SecretAccessKey":"SECRET","Token":"tok",
            "Expiration":"2026-01-02T03:04:05Z"}"#;
        assert_eq!(from_json(&parse_json(good).unwrap()).unwrap().secret, "SECRET");
        let bad = br#"{"AccessKeyId":"AKID","SecretAccessKey":"SECRET","Token":"tok","Expiration":"soon SECRET"}"#;
        let error = from_json(&parse_json(bad).unwrap()).err().unwrap().to_string();
        assert!(!error.contains("SECRET") && error.contains("Expiration"), "{error}");
    }
}
