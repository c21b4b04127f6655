//! `auto`: the role of an EC2 instance, from its metadata service.
//!
//! aws-config's client speaks version 2 of the service. When that gives no session token the service may be of version
//! 1, which aws-config does not speak and the original falls back to: then the same questions are asked without one.
//! The client and not aws-config's `ImdsCredentialsProvider` is used since that one asks the environment whether it may.

use std::time::Duration;

use aws_config::imds::client::error::ImdsError;
use aws_config::imds::client::{Client, SensitiveString};
use aws_smithy_types::body::SdkBody;
use http::{Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::relay::Relay;
use super::{Result, exchange, from_json, parse_json, refused, text_of, unusable};
use crate::storage::ErrorClass;
use crate::storage::s3::credentials::{CredentialSource, CredentialsUnavailable, Fetched};

const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials";

/// How long the session with the service lives: it serves two requests.
const SESSION_TTL: Duration = Duration::from_secs(180);

/// What RFC 3986 leaves unencoded.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const WHO: &str = "the metadata service";

pub(in crate::storage::s3::credentials) async fn fetch_auto(
    source: &CredentialSource,
    role: Option<&str>,
) -> Result<Fetched> {
    let mut metadata = Metadata::new(source)?;
    let role = match role {
        Some(role) => role.to_owned(),
        None => {
            let roles = metadata.get(ROLE_PATH, "is a role associated with this instance?").await?;
            let first = roles.lines().next().unwrap_or_default().trim().to_owned();
            if first.is_empty() {
                return Err(unusable(&format!("{WHO} names no role: is a role associated with this instance?")));
            }
            first
        }
    };
    let path = format!("{ROLE_PATH}/{}", utf8_percent_encode(&role, UNRESERVED));
    let hint = format!("is the role '{role}' associated with this instance?");
    let document = parse_json(metadata.get(&path, &hint).await?.as_bytes())?;
    match document.get("Code").and_then(Value::as_str) {
        Some("Success") => from_json(&document),
        code => {
            let text = format!("{WHO} answers code '{}' for role '{role}'", code.unwrap_or("(none)"));
            Err(CredentialsUnavailable::new(ErrorClass::Transient, source.redactions.clean(&text)))
        }
    }
}

struct Metadata<'a> {
    source: &'a CredentialSource,
    relay: Relay,
    /// `None` once the service turned out to be of version 1.
    client: Option<Client>,
}

impl<'a> Metadata<'a> {
    fn new(source: &'a CredentialSource) -> Result<Self> {
        let relay = Relay::new(source, WHO, None);
        let limit = source.transport.idle_timeout();
        let client = Client::builder()
            .configure(&relay.provider_config(source))
            .endpoint(&source.metadata_url)
            .map_err(|error| unusable(&format!("the address of {WHO}: {error}")))?
            .max_attempts(1)
            .token_ttl(SESSION_TTL)
            .connect_timeout(limit)
            .read_timeout(limit)
            .operation_attempt_timeout(limit)
            .operation_timeout(limit)
            .build();
        Ok(Self { source, relay, client: Some(client) })
    }

    async fn get(&mut self, path: &str, hint: &str) -> Result<String> {
        let Some(client) = &self.client else { return self.get_by_version_1(path, hint).await };
        match client.get(path).await {
            Ok(answer) => Ok(String::from(<SensitiveString as AsRef<str>>::as_ref(&answer))),
            Err(ImdsError::FailedToLoadToken(_)) => {
                self.client = None;
                self.get_by_version_1(path, hint).await
            }
            Err(ImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => Err(no_role(hint)),
            Err(error) => Err(self.relay.failure(self.source, &error)),
        }
    }

    async fn get_by_version_1(&self, path: &str, hint: &str) -> Result<String> {
        let url = format!("{}{path}", self.source.metadata_url);
        let request = Request::get(url)
            .body(SdkBody::empty())
            .map_err(|error| unusable(&format!("the address of {WHO}: {error}")))?;
        match exchange(self.source, request).await? {
            (StatusCode::OK, body) => Ok(text_of(&body)?.to_owned()),
            (StatusCode::NOT_FOUND, _) => Err(no_role(hint)),
            (status, body) => Err(refused(&self.source.redactions, WHO, status, &body)),
        }
    }
}

fn no_role(hint: &str) -> CredentialsUnavailable {
    unusable(&format!("{WHO} has no such role: {hint}"))
}
