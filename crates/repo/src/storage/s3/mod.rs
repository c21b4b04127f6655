//! A repository in a bucket of S3 or of a store that speaks its protocol (repository-behaviour.md §9.1).
//!
//! - [`S3Options`], [`S3Endpoint`]: what is configured
//! - `connector`, `body`, `transport`: our own HTTP client below the SDK, with its time limits
//! - `tls`: whom to trust; `credentials`: fixed and temporary keys
//! - `answer`, `error`, `redact`: what an answer means and what of it may be shown
//! - `read`, `list`, `write`, `delete`, `probe`: the operations of [`Storage`]
//! - `versions`, [`PastS3Storage`]: the bucket as it was at a time
//!
//! The SDK signs requests and reads XML. It retries nothing: that is the work of the one wrapper around all storages.
//! Every request with a body is signed over the body's SHA-256, which the store checks (faults.md OS06).

mod answer;
mod body;
mod connector;
mod credentials;
mod delete;
mod endpoint;
mod error;
mod list;
mod options;
mod past;
mod probe;
mod read;
mod redact;
mod tls;
mod transport;
mod versions;
mod write;

use std::error::Error;
use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::RequestPayer;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::Engine;
use bytes::Bytes;
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};

use self::connector::{Connector, Target};
use self::credentials::{CredentialSource, Provider, SigningTime};
use self::endpoint::FixedEndpoint;
use self::error::Failure;
use self::read::Wanted;
use self::redact::Redactions;
use self::transport::Transport;
use super::{
    ByteRange, Capabilities, Condition, Durability, ErrorClass, ListOptions, ListPage, ObjectInfo, ObjectRead,
    ObjectVersion, Operation, PageToken, PartTag, PathError, Storage, StorageError, StorageFuture, StoragePath,
    UploadId, UploadPart,
};
use crate::clock::Clock;

pub use self::endpoint::{EndpointError, S3Endpoint};
pub use self::options::{METADATA_URL, PART_SIZE_BYTES_MAX, PART_SIZE_BYTES_MIN, S3Credentials, S3Options, UriStyle};
pub use self::past::PastS3Storage;

/// The options cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum S3OpenError {
    /// The bucket's name cannot stand in an address.
    #[error("'{0}' is not the name of a bucket, expected letters, digits, '.', '-' and '_'")]
    Bucket(String),
    /// Region or service is empty or has unusable characters.
    #[error("'{0}' is not the name of a region or service")]
    Scope(String),
    /// The size of parts is out of range.
    #[error("upload chunk size {0} is not between 5MiB and 1GiB")]
    ChunkSize(usize),
    /// The path cannot be a prefix of keys.
    #[error("repository path: {0}")]
    Path(#[from] PathError),
    /// The customer key is not the base64 of 32 bytes.
    #[error("the customer key for server-side encryption is not 32 bytes in base64")]
    CustomerKey,
    /// A file or directory with trusted certificates is unusable.
    #[error("certificates in '{}': {reason}", .path.display())]
    Ca {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no trusted certificates and none were given.
    #[error("no trusted certificates were found on this system, expected a CA file or path in the options")]
    NoSystemRoots,
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
}

/// The [`Storage`] over a bucket.
pub struct S3Storage {
    client: Client,
    bucket: String,
    /// Prefix of every key; the root is no prefix.
    base: StoragePath,
    part_base_bytes: usize,
    tagging: Option<String>,
    kms_key_id: Option<String>,
    customer_key: Option<CustomerKey>,
    request_payer: Option<RequestPayer>,
    clock: Arc<dyn Clock>,
    credentials: Arc<CredentialSource>,
    redactions: Redactions,
    /// Whether the store was seen to check conditions of writes.
    conditional_put: AtomicBool,
    /// Whether the store was seen to refuse `If-Match` on reads.
    plain_reads: AtomicBool,
    /// Whether the store was seen not to know DeleteObjects.
    single_deletes: AtomicBool,
}

/// SSE-C: the key and its MD5, both in base64.
struct CustomerKey {
    key: SecretString,
    md5: SecretString,
}

impl Debug for S3Storage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("S3Storage")
            .field("bucket", &self.bucket)
            .field("path", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl S3Storage {
    /// Prepares the use of a bucket; nothing is sent yet. Reads the files with certificates.
    ///
    /// # Errors
    /// [`S3OpenError`] when an option cannot be used.
    pub fn open(options: &S3Options, clock: Arc<dyn Clock>) -> Result<Self, S3OpenError> {
        check_options(options)?;
        let redactions = Redactions::default();
        let customer_key = options.sse_customer_key.as_ref().map(customer_key).transpose()?;
        if let Some(key) = &customer_key {
            redactions.add(key.key.expose_secret());
            redactions.add(key.md5.expose_secret());
        }
        let tls = tls::client_config(options)?;
        let storage_host = options.storage_host.as_ref().map(|host| host.host().to_owned());
        let to_store = Target { host: storage_host, port: Some(options.connect_port()) };
        let transport = |target| {
            Connector::new(tls.clone(), target, options.connect_timeout)
                .map(|connector| Transport::new(connector, options.idle_timeout))
                .map_err(S3OpenError::Tls)
        };
        let credentials = Arc::new(CredentialSource::new(
            options,
            transport(Target { host: None, port: None })?,
            Arc::clone(&clock),
            redactions.clone(),
        ));
        let signing_time = SigningTime(Arc::clone(&clock));
        let config = sdk_config(options, transport(to_store)?, Provider(Arc::clone(&credentials)), signing_time);
        Ok(Self {
            client: Client::from_conf(config),
            bucket: options.bucket.clone(),
            base: StoragePath::parse(options.path.trim_matches('/'))?,
            part_base_bytes: options.upload_chunk_size_bytes,
            tagging: tagging(&options.tags),
            kms_key_id: options.kms_key_id.clone(),
            customer_key,
            request_payer: options.requester_pays.then_some(RequestPayer::Requester),
            clock,
            credentials,
            redactions,
            conditional_put: AtomicBool::new(false),
            plain_reads: AtomicBool::new(false),
            single_deletes: AtomicBool::new(false),
        })
    }

    fn key(&self, path: &StoragePath) -> String {
        match (self.base.as_str(), path.as_str()) {
            ("", path) => path.to_owned(),
            (base, "") => base.to_owned(),
            (base, path) => format!("{base}/{path}"),
        }
    }

    /// What all keys below a directory begin with; empty for a root without prefix.
    fn directory_prefix(&self, path: &StoragePath) -> String {
        let mut key = self.key(path);
        if !key.is_empty() {
            key.push('/');
        }
        key
    }

    /// Makes sense of a failed request, and of its hints: credentials that expired, a clock that is off.
    async fn failure<E>(&self, error: SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let mut failure = Failure::from_sdk(&error, &self.redactions);
        let code = failure.code.as_deref();
        let expired =
            matches!(code, Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId"));
        let skewed = code == Some("RequestTimeTooSkewed");
        if expired && self.credentials.forget().await {
            failure.class = ErrorClass::Transient;
        }
        if skewed && let Some(theirs_s) = failure.date.as_deref().and_then(http_date_s) {
            let offset_s = theirs_s.saturating_sub(self.clock.now_s());
            failure.detail.push_str(&format!(" (the clock differs from the store's by {offset_s} s)"));
        }
        failure
    }

    async fn error<E>(&self, operation: Operation, path: &StoragePath, error: SdkError<E, HttpResponse>) -> StorageError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        self.failure(error).await.into_error(operation, path)
    }
}

/// The SDK with everything switched off that another layer owns: retries, time limits, checksum trailers.
fn sdk_config(options: &S3Options, transport: Transport, provider: Provider, time: SigningTime) -> Config {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(options.region.clone()))
        .endpoint_resolver(FixedEndpoint::new(options.request_url(), &options.service, &options.region))
        .credentials_provider(SharedCredentialsProvider::new(provider))
        .identity_cache(IdentityCache::no_cache())
        .http_client(transport)
        .time_source(time)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build()
}

fn check_options(options: &S3Options) -> Result<(), S3OpenError> {
    let name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let shown = |text: &str| text.escape_debug().take(200).collect();
    if !name(&options.bucket) || matches!(options.bucket.as_str(), "." | "..") {
        return Err(S3OpenError::Bucket(shown(&options.bucket)));
    }
    if let Some(bad) = [&options.region, &options.service].into_iter().find(|text| !name(text)) {
        return Err(S3OpenError::Scope(shown(bad)));
    }
    if !(PART_SIZE_BYTES_MIN..=PART_SIZE_BYTES_MAX).contains(&options.upload_chunk_size_bytes) {
        return Err(S3OpenError::ChunkSize(options.upload_chunk_size_bytes));
    }
    Ok(())
}

fn customer_key(key: &SecretString) -> Result<CustomerKey, S3OpenError> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let bytes = base64.decode(key.expose_secret()).map_err(|_| S3OpenError::CustomerKey)?;
    if bytes.len() != 32 {
        return Err(S3OpenError::CustomerKey);
    }
    let md5 = base64.encode(Md5::digest(&bytes));
    Ok(CustomerKey { key: key.clone(), md5: md5.into() })
}

/// An HTTP date in seconds since the Unix epoch.
fn http_date_s(text: &str) -> Option<i64> {
    let date = aws_smithy_types::DateTime::from_str(text, aws_smithy_types::date_time::Format::HttpDate);
    date.ok().map(|date| date.secs())
}

/// Tags as the header wants them: a query string.
fn tagging(tags: &[(String, String)]) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    Some(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(tags).finish())
}

impl Storage for S3Storage {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            directories: false,
            conditional_put: self.conditional_put.load(Ordering::Relaxed),
            part_size_bytes: write::part_size_bytes,
            part_base_bytes: self.part_base_bytes,
            kept_versions: false,
        }
    }

    fn read<'a>(
        &'a self,
        path: &'a StoragePath,
        range: ByteRange,
        pin: Option<&'a ObjectVersion>,
    ) -> StorageFuture<'a, ObjectRead> {
        Box::pin(self.read_object(path, range, pin.map_or(Wanted::Current, Wanted::Tagged)))
    }

    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(self.object_info(path))
    }

    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage> {
        Box::pin(self.list_entries(path, options, page))
    }

    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        body: Bytes,
        condition: Condition,
        _: Durability,
    ) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(self.put_object(path, body, condition))
    }

    fn upload_create<'a>(&'a self, path: &'a StoragePath, _: Durability) -> StorageFuture<'a, UploadId> {
        Box::pin(self.create_upload(path))
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        part: UploadPart,
    ) -> StorageFuture<'a, PartTag> {
        Box::pin(self.put_part(path, upload, part))
    }

    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        parts: &'a [PartTag],
        condition: Condition,
    ) -> StorageFuture<'a, ObjectInfo> {
        Box::pin(self.complete_upload(path, upload, parts, condition))
    }

    fn upload_abort<'a>(&'a self, path: &'a StoragePath, upload: &'a UploadId) -> StorageFuture<'a, ()> {
        Box::pin(self.abort_upload(path, upload))
    }

    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(async move { self.delete_key(self.key(path), path).await })
    }

    fn remove_many<'a>(&'a self, paths: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>> {
        Box::pin(self.delete_paths(paths))
    }

    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        Box::pin(self.delete_tree(path))
    }

    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, begun_before_s: i64) -> StorageFuture<'a, u64> {
        Box::pin(self.abort_stale_uploads(path, begun_before_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    const KEY: &str = "CANARYKEYID";
    const SECRET: &str = "CANARYSECRET";

    fn options() -> S3Options {
        let credentials =
            S3Credentials::Shared { key: KEY.into(), secret: SECRET.into(), token: Some("CANARYTOKEN".into()) };
        let endpoint = S3Endpoint::parse("https://s3.example.com:9000").unwrap();
        let mut options = S3Options::new("bucket", endpoint, "eu-central-1", credentials);
        options.verify_tls = false;
        options.sse_customer_key = Some(base64::engine::general_purpose::STANDARD.encode([7; 32]).into());
        options
    }

    #[tokio::test]
    async fn sec01_nothing_secret_is_in_debug_output() {
        let options = options();
        let storage = S3Storage::open(&options, Arc::new(SystemClock)).unwrap();
        for text in [format!("{options:?}"), format!("{storage:?}"), format!("{:?}", storage.credentials)] {
            assert!(!text.contains("CANARY") && !text.contains("BwcHBwcH"), "{text}");
        }
    }

    #[tokio::test]
    async fn keys_have_the_repository_path_without_its_slash() {
        let mut options = options();
        let path = StoragePath::parse("archive/demo/archive.info").unwrap();
        for (repo_path, key, root) in [
            ("/", "archive/demo/archive.info", ""),
            ("/repo/", "repo/archive/demo/archive.info", "repo/"),
            ("/var/lib/pgbackrest", "var/lib/pgbackrest/archive/demo/archive.info", "var/lib/pgbackrest/"),
        ] {
            options.path = repo_path.to_owned();
            let storage = S3Storage::open(&options, Arc::new(SystemClock)).unwrap();
            assert_eq!(storage.key(&path), key);
            assert_eq!(storage.directory_prefix(&StoragePath::root()), root);
        }
        options.path = "/a/../b".to_owned();
        assert!(matches!(S3Storage::open(&options, Arc::new(SystemClock)), Err(S3OpenError::Path(_))));
    }

    #[tokio::test]
    async fn unusable_options_are_refused() {
        type Change = fn(&mut S3Options);
        let changes: [Change; 7] = [
            |options| options.bucket = String::new(),
            |options| options.bucket = "a/b".to_owned(),
            |options| options.region = "eu central".to_owned(),
            |options| options.upload_chunk_size_bytes = PART_SIZE_BYTES_MIN - 1,
            |options| options.sse_customer_key = Some("c2hvcnQ=".into()),
            |options| {
                options.verify_tls = true;
                options.ca_file = Some("missing.pem".into());
            },
            |options| options.service = String::new(),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut options = options();
            change(&mut options);
            let error = S3Storage::open(&options, Arc::new(SystemClock)).map(|_| ()).unwrap_err();
            assert!(!error.to_string().contains("CANARY"), "{number}: {error}");
        }
    }

    #[test]
    fn addresses_have_the_bucket_where_the_style_says_and_no_port() {
        let mut options = options();
        assert_eq!(options.request_url(), "https://bucket.s3.example.com");
        assert_eq!(options.connect_port(), 9000);
        options.uri_style = UriStyle::Path;
        options.storage_host = Some(S3Endpoint::parse("http://minio").unwrap());
        assert_eq!(options.request_url(), "http://s3.example.com/bucket");
        assert_eq!(options.connect_port(), 80);
        options.storage_port = Some(9001);
        assert_eq!(options.connect_port(), 9001);
    }
}
