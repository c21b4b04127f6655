//! [`S3Options`]: everything that a repository on S3 is configured with (repository-behaviour.md §8.4).

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::endpoint::S3Endpoint;

/// Smallest `repo-storage-upload-chunk-size`: S3 accepts no smaller part but the last.
pub const PART_SIZE_BYTES_MIN: usize = 5 * 1024 * 1024;

/// Largest `repo-storage-upload-chunk-size`, and the size the parts grow to (pgBackRest `storage/write.c`).
pub const PART_SIZE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The metadata service of EC2: plain HTTP on a link-local address, contacted only for key type `auto`.
pub const METADATA_URL: &str = "http://169.254.169.254:80";

/// How to reach and use a bucket. [`S3Options::new`] gives pgBackRest's defaults; set fields as needed.
///
/// Secrets print as redacted.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// `repo-s3-bucket`.
    pub bucket: String,
    /// `repo-s3-endpoint`: what requests are signed for and, unless `storage_host` is set, connected to.
    pub endpoint: S3Endpoint,
    /// `repo-s3-region`.
    pub region: String,
    /// `repo-s3-key-type` with what belongs to it.
    pub credentials: S3Credentials,
    /// The metadata service that key type `auto` asks, without a `/` at the end. Another address than
    /// [`METADATA_URL`] is for tests.
    pub metadata_url: String,
    /// `repo-path`: the prefix of every key, with or without the leading `/`; `/` is no prefix.
    pub path: String,
    /// `repo-s3-service`: the name of the service that requests are signed for.
    pub service: String,
    /// `repo-s3-uri-style`.
    pub uri_style: UriStyle,
    /// `repo-storage-host`: connect to this instead of the endpoint; its scheme and port count too.
    pub storage_host: Option<S3Endpoint>,
    /// `repo-storage-port`, when it was given: overrides every other port.
    pub storage_port: Option<u16>,
    /// `repo-storage-verify-tls`.
    pub verify_tls: bool,
    /// `repo-storage-ca-file`: PEM certificates that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `repo-storage-ca-path`: a directory of such files.
    pub ca_path: Option<PathBuf>,
    /// `repo-storage-tag`: put on every object.
    pub tags: Vec<(String, String)>,
    /// `repo-s3-kms-key-id`.
    pub kms_key_id: Option<String>,
    /// `repo-s3-sse-customer-key`: 32 bytes in base64.
    pub sse_customer_key: Option<SecretString>,
    /// `repo-s3-requester-pays`.
    pub requester_pays: bool,
    /// `repo-storage-upload-chunk-size`: from [`PART_SIZE_BYTES_MIN`] to [`PART_SIZE_BYTES_MAX`].
    pub upload_chunk_size_bytes: usize,
    /// Longest wait for a connection, the TLS handshake included.
    pub connect_timeout: Duration,
    /// Longest wait without a byte in either direction. There is no deadline for a whole body.
    pub idle_timeout: Duration,
}

impl S3Options {
    /// pgBackRest's defaults for everything that is not required (`build/config.yaml`).
    pub fn new(
        bucket: impl Into<String>,
        endpoint: S3Endpoint,
        region: impl Into<String>,
        credentials: S3Credentials,
    ) -> Self {
        Self {
            bucket: bucket.into(),
            endpoint,
            region: region.into(),
            credentials,
            metadata_url: METADATA_URL.to_owned(),
            path: "/var/lib/pgbackrest".to_owned(),
            service: "s3".to_owned(),
            uri_style: UriStyle::Host,
            storage_host: None,
            storage_port: None,
            verify_tls: true,
            ca_file: None,
            ca_path: None,
            tags: Vec::new(),
            kms_key_id: None,
            sse_customer_key: None,
            requester_pays: false,
            upload_chunk_size_bytes: PART_SIZE_BYTES_MIN,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }

    /// The address to connect to when it is not the one in the request: host, port, and whether TLS is off.
    pub(super) fn connect_port(&self) -> u16 {
        let written = self.storage_host.as_ref().unwrap_or(&self.endpoint);
        self.storage_port.unwrap_or_else(|| written.port_or_default())
    }

    /// Whether the connection has no TLS: the scheme of the storage host, else of the endpoint.
    pub(super) fn plain_http(&self) -> bool {
        self.storage_host.as_ref().unwrap_or(&self.endpoint).is_plain_http()
    }

    /// The address in requests: what is signed, without a port.
    pub(super) fn request_url(&self) -> String {
        let scheme = if self.plain_http() { "http" } else { "https" };
        match self.uri_style {
            UriStyle::Host => format!("{scheme}://{}.{}", self.bucket, self.endpoint.host()),
            UriStyle::Path => format!("{scheme}://{}/{}", self.endpoint.host(), self.bucket),
        }
    }
}

/// Where the bucket's name stands in an address (`repo-s3-uri-style`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriStyle {
    /// `bucket.endpoint`.
    Host,
    /// `endpoint/bucket`.
    Path,
}

/// Where the credentials come from (`repo-s3-key-type`). The type `process` does not exist here: the engine starts no
/// process.
#[derive(Debug, Clone)]
pub enum S3Credentials {
    /// `shared`: fixed keys.
    Shared {
        /// `repo-s3-key`.
        key: SecretString,
        /// `repo-s3-key-secret`.
        secret: SecretString,
        /// `repo-s3-token`.
        token: Option<SecretString>,
    },
    /// `auto`: the role of the EC2 instance, from its metadata service (IMDSv2, else v1).
    Auto {
        /// `repo-s3-role`; asked from the metadata service when not set.
        role: Option<String>,
    },
    /// `web-id`: AssumeRoleWithWebIdentity at STS.
    WebId {
        /// The role to assume (`AWS_ROLE_ARN`).
        role_arn: String,
        /// The file with the identity token (`AWS_WEB_IDENTITY_TOKEN_FILE`), read anew each time.
        token_file: PathBuf,
        /// `repo-s3-sts-host`; pgBackRest's default is `sts.amazonaws.com`.
        sts_host: S3Endpoint,
    },
    /// `pod-id`: the EKS pod identity agent.
    PodId {
        /// The agent's address (`AWS_CONTAINER_CREDENTIALS_FULL_URI`).
        url: String,
        /// The file with the authorization token (`AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`), read anew each time.
        token_file: PathBuf,
    },
}
