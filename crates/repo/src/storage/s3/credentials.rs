//! Credentials: fixed ones, or temporary ones that are fetched and renewed before they expire.

mod fetch;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_async::time::TimeSource;
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

use self::fetch::{fetch_auto, fetch_pod_id, fetch_web_id};
use super::redact::Redactions;
use super::transport::Transport;
use super::{S3Credentials, S3Options, error::Failure};
use crate::clock::Clock;
use crate::storage::ErrorClass;

/// Temporary credentials are renewed when they have less than this left (pgBackRest `S3_CREDENTIAL_RENEW_SEC`).
const RENEW_S: i64 = 5 * 60;

/// No credentials could be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("unable to get credentials: {detail}")]
pub(super) struct CredentialsUnavailable {
    pub(super) class: ErrorClass,
    pub(super) detail: String,
}

impl CredentialsUnavailable {
    fn new(class: ErrorClass, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into() }
    }
}

/// The source of the credentials of one repository. Kept apart from the SDK's own cache, which cannot be told that
/// the store refused what it holds.
#[derive(Debug)]
pub(super) struct CredentialSource {
    credentials: S3Credentials,
    /// Where the metadata service of EC2 is.
    metadata_url: String,
    region: String,
    transport: Transport,
    clock: Arc<dyn Clock>,
    redactions: Redactions,
    held: Mutex<Option<Held>>,
}

struct Held {
    credentials: Credentials,
    /// Seconds since the Unix epoch; `None` never expires.
    expires_s: Option<i64>,
}

/// The SDK's own output shows the access key id.
impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Held").field("expires_s", &self.expires_s).finish_non_exhaustive()
    }
}

/// Temporary credentials as their source gives them.
struct Fetched {
    key: String,
    secret: String,
    token: String,
    expires_s: i64,
}

impl CredentialSource {
    /// `transport` reaches the source of temporary credentials.
    pub(super) fn new(
        options: &S3Options,
        transport: Transport,
        clock: Arc<dyn Clock>,
        redactions: Redactions,
    ) -> Self {
        let credentials = options.credentials.clone();
        let (metadata_url, region) = (options.metadata_url.clone(), options.region.clone());
        let held = match &credentials {
            S3Credentials::Shared { key, secret, token } => {
                let token = token.as_ref().map(|token| token.expose_secret().to_owned());
                let (key, secret) = (key.expose_secret(), secret.expose_secret());
                for secret in [Some(key), Some(secret), token.as_deref()].into_iter().flatten() {
                    redactions.add(secret);
                }
                Some(Held { credentials: Credentials::new(key, secret, token, None, "shared"), expires_s: None })
            }
            _ => None,
        };
        Self { credentials, metadata_url, region, transport, clock, redactions, held: Mutex::new(held) }
    }

    /// Forgets temporary credentials that the store called expired; false for fixed ones.
    pub(super) async fn forget(&self) -> bool {
        if matches!(self.credentials, S3Credentials::Shared { .. }) {
            return false;
        }
        *self.held.lock().await = None;
        true
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsUnavailable> {
        // Held over the fetch, so that many requests fetch once.
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref() {
            let left = |expires_s: i64| expires_s.saturating_sub(self.clock.now_s());
            if held.expires_s.is_none_or(|expires_s| left(expires_s) >= RENEW_S) {
                return Ok(held.credentials.clone());
            }
        }
        let fetched = match self.fetch().await {
            Ok(fetched) => fetched,
            Err(error) => return self.survive(held.as_ref(), error),
        };
        for secret in [&fetched.key, &fetched.secret, &fetched.token] {
            self.redactions.add(secret);
        }
        let credentials = Credentials::new(fetched.key, fetched.secret, Some(fetched.token), None, "fetched");
        *held = Some(Held { credentials: credentials.clone(), expires_s: Some(fetched.expires_s) });
        Ok(credentials)
    }

    /// Renewal failed: what is held serves on while it is valid.
    fn survive(
        &self,
        held: Option<&Held>,
        error: CredentialsUnavailable,
    ) -> Result<Credentials, CredentialsUnavailable> {
        match held {
            Some(Held { credentials, expires_s: Some(expires_s) }) if *expires_s > self.clock.now_s() => {
                Ok(credentials.clone())
            }
            _ => Err(error),
        }
    }

    async fn fetch(&self) -> Result<Fetched, CredentialsUnavailable> {
        match &self.credentials {
            S3Credentials::Shared { .. } => {
                Err(CredentialsUnavailable::new(ErrorClass::Permanent, "fixed keys are gone"))
            }
            S3Credentials::Auto { role } => fetch_auto(self, role.as_deref()).await,
            S3Credentials::WebId { role_arn, token_file, sts_host } => {
                fetch_web_id(self, role_arn, token_file, sts_host).await
            }
            S3Credentials::PodId { url, token_file } => fetch_pod_id(self, url, token_file).await,
        }
    }

    fn failure(&self, error: &(dyn std::error::Error + 'static)) -> CredentialsUnavailable {
        let failure = Failure::from_causes(error, ErrorClass::Transient, &self.redactions);
        CredentialsUnavailable::new(failure.class, failure.detail)
    }
}

/// The handle that the SDK gets.
#[derive(Debug, Clone)]
pub(super) struct Provider(pub(super) Arc<CredentialSource>);

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.0.credentials().await.map_err(CredentialsError::provider_error) })
    }
}

/// The clock in the form that the SDK wants. The SDK itself corrects signatures by what it finds the store's clock to
/// be (faults.md OS20).
#[derive(Debug, Clone)]
pub(super) struct SigningTime(pub(super) Arc<dyn Clock>);

impl TimeSource for SigningTime {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.0.now_ms()).unwrap_or(0))
    }
}
