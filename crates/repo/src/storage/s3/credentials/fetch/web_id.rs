//! `web-id`: AssumeRoleWithWebIdentity at STS, which needs no signature, by aws-config's provider.

use std::path::Path;
use std::time::UNIX_EPOCH;

use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;

use super::relay::Relay;
use super::{Result, malformed, read_token};
use crate::storage::s3::S3Endpoint;
use crate::storage::s3::credentials::{CredentialSource, Fetched};

/// As the original calls itself in the logs of STS.
const SESSION_NAME: &str = "pgBackRest";

pub(in crate::storage::s3::credentials) async fn fetch_web_id(
    source: &CredentialSource,
    role_arn: &str,
    token_file: &Path,
    sts_host: &S3Endpoint,
) -> Result<Fetched> {
    // The provider reads the file, too. Here it is read for an error that names it, and so that no answer that quotes
    // the token can show it.
    read_token(source, token_file).await?;
    // The provider would choose a host by the region.
    let relay = Relay::new(source, "STS", Some(sts_host.clone()));
    let provider = WebIdentityTokenCredentialsProvider::builder()
        .configure(&relay.provider_config(source))
        .static_configuration(StaticConfiguration {
            web_identity_token_file: token_file.to_owned(),
            role_arn: role_arn.to_owned(),
            session_name: SESSION_NAME.to_owned(),
        })
        .build();
    match provider.provide_credentials().await {
        Ok(credentials) => fetched(&credentials),
        Err(error) => Err(relay.failure(source, &error)),
    }
}

fn fetched(credentials: &Credentials) -> Result<Fetched> {
    let missing = |name: &str| malformed(&format!("{name} is missing"));
    let token = credentials.session_token().filter(|token| !token.is_empty()).ok_or_else(|| missing("SessionToken"))?;
    let since_epoch = credentials.expiry().and_then(|expiry| expiry.duration_since(UNIX_EPOCH).ok());
    // A missing element is read as the begin of the epoch.
    let expires_s = since_epoch.and_then(|time| i64::try_from(time.as_secs()).ok()).filter(|time_s| *time_s > 0);
    let (key, secret) = (credentials.access_key_id(), credentials.secret_access_key());
    if key.is_empty() || secret.is_empty() {
        return Err(missing("a key"));
    }
    Ok(Fetched {
        key: key.to_owned(),
        secret: secret.to_owned(),
        token: token.to_owned(),
        expires_s: expires_s.ok_or_else(|| missing("Expiration"))?,
    })
}
