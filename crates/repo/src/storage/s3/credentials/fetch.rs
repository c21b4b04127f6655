//! The three sources of temporary credentials (repository-behaviour.md §9.1, pgBackRest `storage/s3/storage.c`).

use std::path::Path;

use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{CredentialSource, CredentialsUnavailable, Fetched};
use crate::storage::ErrorClass;
use crate::storage::s3::S3Endpoint;
use crate::storage::s3::answer::ERROR_SIZE_BYTES_MAX;
use crate::storage::s3::body::collect;

/// The metadata service of EC2: plain HTTP on a link-local address, contacted only for key type `auto`.
const METADATA_URL: &str = "http://169.254.169.254:80";
const METADATA_ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials";

/// Seconds that the metadata token lives: it serves two requests.
const METADATA_TOKEN_TTL_S: u32 = 180;

/// Longest identity token that is read from a file.
const TOKEN_SIZE_BYTES_MAX: u64 = 64 * 1024;

/// What RFC 3986 leaves unencoded.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

type Result<T> = std::result::Result<T, CredentialsUnavailable>;

/// `auto`: IMDSv2, or v1 when there is no token to be had.
pub(super) async fn fetch_auto(source: &CredentialSource, role: Option<&str>) -> Result<Fetched> {
    let metadata = Metadata { source, token: metadata_token(source).await };
    let role = match role {
        Some(role) => role.to_owned(),
        None => {
            let answer = metadata.get(METADATA_ROLE_PATH, "is a role associated with this instance?").await?;
            text_of(&answer)?.lines().next().unwrap_or_default().trim().to_owned()
        }
    };
    let hint = "is the role associated with this instance?";
    let path = format!("{METADATA_ROLE_PATH}/{}", utf8_percent_encode(&role, QUERY));
    let document = parse_json(&metadata.get(&path, hint).await?)?;
    match document.get("Code").and_then(Value::as_str) {
        Some("Success") => from_json(&document),
        code => {
            let text = format!("the metadata service answers code '{}'", code.unwrap_or("(none)"));
            Err(CredentialsUnavailable::new(ErrorClass::Transient, source.redactions.clean(&text)))
        }
    }
}

struct Metadata<'a> {
    source: &'a CredentialSource,
    token: Option<HeaderValue>,
}

impl Metadata<'_> {
    async fn get(&self, path: &str, hint: &str) -> Result<Bytes> {
        let mut request = request(Method::GET, &format!("{METADATA_URL}{path}"))?;
        if let Some(token) = &self.token {
            request.headers_mut().insert("x-aws-ec2-metadata-token", token.clone());
        }
        match exchange(self.source, request).await? {
            (StatusCode::OK, body) => Ok(body),
            (StatusCode::NOT_FOUND, _) => {
                let text = format!("the metadata service has no such role: {hint}");
                Err(CredentialsUnavailable::new(ErrorClass::Permanent, text))
            }
            (status, body) => Err(refused(self.source, "the metadata service", status, &body)),
        }
    }
}

/// Any failure means that the service may be of version 1; if it is not, the next request fails.
async fn metadata_token(source: &CredentialSource) -> Option<HeaderValue> {
    let mut request = request(Method::PUT, &format!("{METADATA_URL}/latest/api/token")).ok()?;
    request.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", METADATA_TOKEN_TTL_S.into());
    let (status, body) = exchange(source, request).await.ok()?;
    let mut token = HeaderValue::from_bytes(body.trim_ascii()).ok()?;
    token.set_sensitive(true);
    (status == StatusCode::OK).then_some(token)
}

/// `web-id`: AssumeRoleWithWebIdentity, which needs no signature. Sent as a POST so that the token is in no address.
pub(super) async fn fetch_web_id(
    source: &CredentialSource,
    role_arn: &str,
    token_file: &Path,
    sts_host: &S3Endpoint,
) -> Result<Fetched> {
    let token = read_token(source, token_file).await?;
    let body = format!(
        "Action=AssumeRoleWithWebIdentity&RoleArn={}&RoleSessionName=pgBackRest&Version=2011-06-15&WebIdentityToken={}",
        utf8_percent_encode(role_arn, QUERY),
        utf8_percent_encode(&token, QUERY),
    );
    let mut request = request(Method::POST, &format!("{sts_host}/"))?;
    request
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    *request.body_mut() = SdkBody::from(body);
    match exchange(source, request).await? {
        (StatusCode::OK, body) => from_xml(text_of(&body)?),
        (status, body) => Err(refused(source, "STS", status, &body)),
    }
}

/// `pod-id`: the EKS agent on the node, which trusts the token of the pod.
pub(super) async fn fetch_pod_id(source: &CredentialSource, url: &str, token_file: &Path) -> Result<Fetched> {
    let token = read_token(source, token_file).await?;
    let mut request = request(Method::GET, url)?;
    let mut token =
        HeaderValue::from_str(&token).map_err(|_| unusable("the authorization token has control characters"))?;
    token.set_sensitive(true);
    request.headers_mut().insert(http::header::AUTHORIZATION, token);
    match exchange(source, request).await? {
        (StatusCode::OK, body) => from_json(&parse_json(&body)?),
        (status, body) => Err(refused(source, "the pod identity agent", status, &body)),
    }
}

fn request(method: Method, url: &str) -> Result<Request<SdkBody>> {
    Request::builder()
        .method(method)
        .uri(url)
        .body(SdkBody::empty())
        .map_err(|error| unusable(&format!("the address of the credentials: {error}")))
}

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

fn refused(source: &CredentialSource, who: &str, status: StatusCode, body: &[u8]) -> CredentialsUnavailable {
    let class = match status.as_u16() {
        429 => ErrorClass::Throttled,
        408 | 500..=599 => ErrorClass::Transient,
        _ => ErrorClass::Denied,
    };
    let text = format!("{who} answers status {}: {}", status.as_u16(), String::from_utf8_lossy(body));
    CredentialsUnavailable::new(class, source.redactions.clean(&text))
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

/// Takes the four elements from the answer of STS. Their values are base64 or a time: one with markup in it is refused.
fn from_xml(document: &str) -> Result<Fetched> {
    let field = |name: &str| {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let value = document
            .split_once("<Credentials>")
            .and_then(|(_, rest)| rest.split_once("</Credentials>"))
            .and_then(|(inside, _)| inside.split_once(&open))
            .and_then(|(_, rest)| rest.split_once(&close))
            .map(|(value, _)| value.trim());
        match value {
            Some(value) if !value.is_empty() && !value.contains(['<', '&']) => Ok(value.to_owned()),
            _ => Err(malformed(&format!("{name} is missing"))),
        }
    };
    Ok(Fetched {
        key: field("AccessKeyId")?,
        secret: field("SecretAccessKey")?,
        token: field("SessionToken")?,
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

    const STS: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
        <AccessKeyId>AKID</AccessKeyId><SecretAccessKey>a/b+c=</SecretAccessKey><SessionToken>tok==</SessionToken>\
        <Expiration>2026-01-02T03:04:05Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
        </AssumeRoleWithWebIdentityResponse>";

    #[test]
    fn reads_the_answer_of_sts() {
        let fetched = from_xml(STS).unwrap();
        assert_eq!((&*fetched.key, &*fetched.secret, &*fetched.token), ("AKID", "a/b+c=", "tok=="));
        assert_eq!(fetched.expires_s, 1_767_323_045);
        for cut in 0..STS.find("</Credentials>").unwrap() {
            assert!(from_xml(&STS[..cut]).is_err(), "cut at {cut} was accepted");
        }
    }

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
