//! From `repoN-*` options to opened repositories.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::error::{Error, ErrorKind, Result};
use pgbr_repo::filter::Passphrase;
use pgbr_repo::format::Stanza;
use pgbr_repo::repository::{self, Repository};
use pgbr_repo::storage::retry::RetryPolicy;
use pgbr_repo::storage::s3::{PastS3Storage, S3Credentials, S3Endpoint, S3Options, S3Storage, UriStyle};
use pgbr_repo::storage::{LocalStorage, RetryStorage, Storage};
use secrecy::ExposeSecret;

use crate::{OptionSet, RepoIndex, RepoOptions, opt};

/// Reads a variable of the environment that the program was started with.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The stanza that the options name.
pub fn stanza(options: &OptionSet) -> Result<Stanza> {
    let name = options.require(opt::STANZA)?;
    Stanza::parse(name).map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))
}

/// The repositories that a command works on: the one that `--repo` names, or all.
pub fn chosen(options: &OptionSet) -> Vec<RepoIndex> {
    match options.repo_named() {
        Some(index) => vec![index],
        None => options.repos().collect(),
    }
}

/// Opens one repository for the stanza.
pub fn open(options: &OptionSet, index: RepoIndex, stanza: &Stanza, variable: Variable<'_>) -> Result<Repository> {
    let number = repository::RepoIndex::new(index.number().into())
        .ok_or_else(|| Error::new(ErrorKind::Assert, "a repository has no number"))?;
    let storage = storage(options, index, variable)?;
    Ok(Repository::new(number, stanza.clone(), storage, passphrase(&options.repo(index))?))
}

/// Opens every chosen repository for the stanza.
pub fn open_all(options: &OptionSet, stanza: &Stanza, variable: Variable<'_>) -> Result<Vec<Repository>> {
    chosen(options).into_iter().map(|index| open(options, index, stanza, variable)).collect()
}

/// The user's passphrase of a repository.
pub fn passphrase(repo: &RepoOptions<'_>) -> Result<Option<Passphrase>> {
    if repo.string_id(opt::REPO_CIPHER_TYPE) != Some("aes-256-cbc") {
        return Ok(None);
    }
    let pass = repo.require(opt::REPO_CIPHER_PASS)?.expose_secret().as_bytes().to_vec();
    Passphrase::new(pass).map(Some).map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))
}

/// The storage of a repository, with retries.
pub fn storage(options: &OptionSet, index: RepoIndex, variable: Variable<'_>) -> Result<Arc<dyn Storage>> {
    let repo = options.repo(index);
    let timeout = options.require(opt::IO_TIMEOUT)?;
    match repo.string_id(opt::REPO_TYPE) {
        Some("s3") => {
            let store = S3Storage::open(&s3_options(options, &repo, variable)?, Arc::new(SystemClock))
                .map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))?;
            // Known to check conditions itself; of another store that is known only after a trial.
            if repo.text(opt::REPO_S3_ENDPOINT).is_some_and(|endpoint| endpoint.ends_with(".amazonaws.com")) {
                store.set_conditional_put(true);
            }
            let store: Arc<dyn Storage> = match target_time_s(options)? {
                Some(at_s) => Arc::new(PastS3Storage::new(store, at_s)),
                None => Arc::new(store),
            };
            Ok(Arc::new(RetryStorage::new(store, retry_policy(timeout), Arc::new(SystemRandom))))
        }
        // The original reads the present there, whatever time was asked for.
        _ if options.is_set(opt::REPO_TARGET_TIME) => Err(Error::new(
            ErrorKind::OptionInvalid,
            "option 'repo-target-time' not valid for a repository in a directory, which keeps no versions",
        )),
        _ => Ok(Arc::new(LocalStorage::new(PathBuf::from(repo.require(opt::REPO_PATH)?)))),
    }
}

/// The time as of which repositories are read, in seconds since the Unix epoch; without a zone it is in this host's.
fn target_time_s(options: &OptionSet) -> Result<Option<i64>> {
    let Some(text) = options.text(opt::REPO_TARGET_TIME) else { return Ok(None) };
    let time = repository::parse_time(text, &TimeZone::system());
    let invalid = || Error::new(ErrorKind::Format, format!("invalid date/time {}", text.escape_debug()));
    time.map(Some).ok_or_else(invalid)
}

/// `io-timeout` is how long a request is tried, and how long one try may be silent.
fn retry_policy(timeout: Duration) -> RetryPolicy {
    RetryPolicy { elapsed_max: timeout, silence_max: timeout, ..RetryPolicy::default() }
}

fn s3_options(options: &OptionSet, repo: &RepoOptions<'_>, variable: Variable<'_>) -> Result<S3Options> {
    let endpoint = |text: &str| {
        S3Endpoint::parse(text).map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))
    };
    let mut s3 = S3Options::new(
        repo.require(opt::REPO_S3_BUCKET)?,
        endpoint(repo.require(opt::REPO_S3_ENDPOINT)?)?,
        repo.require(opt::REPO_S3_REGION)?,
        credentials(repo, variable)?,
    );
    s3.path = repo.require(opt::REPO_PATH)?.to_owned();
    s3.service = repo.text(opt::REPO_S3_SERVICE).unwrap_or("s3").to_owned();
    s3.uri_style = match repo.string_id(opt::REPO_S3_URI_STYLE) {
        Some("path") => UriStyle::Path,
        _ => UriStyle::Host,
    };
    s3.storage_host = repo.text(opt::REPO_STORAGE_HOST).map(endpoint).transpose()?;
    if repo.is_given(opt::REPO_STORAGE_PORT) {
        s3.storage_port = repo.integer(opt::REPO_STORAGE_PORT).and_then(|port| u16::try_from(port).ok());
    }
    s3.verify_tls = repo.boolean(opt::REPO_STORAGE_VERIFY_TLS);
    s3.ca_file = repo.text(opt::REPO_STORAGE_CA_FILE).map(PathBuf::from);
    s3.ca_path = repo.path(opt::REPO_STORAGE_CA_PATH).map(PathBuf::from);
    s3.tags = repo.hash(opt::REPO_STORAGE_TAG).to_vec();
    s3.kms_key_id = repo.text(opt::REPO_S3_KMS_KEY_ID).map(str::to_owned);
    s3.sse_customer_key = repo.secret(opt::REPO_S3_SSE_CUSTOMER_KEY).cloned();
    s3.requester_pays = repo.boolean(opt::REPO_S3_REQUESTER_PAYS);
    if let Some(size) = repo.size_bytes(opt::REPO_STORAGE_UPLOAD_CHUNK_SIZE) {
        s3.upload_chunk_size_bytes = usize::try_from(size).unwrap_or(usize::MAX);
    }
    s3.idle_timeout = options.require(opt::IO_TIMEOUT)?;
    Ok(s3)
}

fn credentials(repo: &RepoOptions<'_>, variable: Variable<'_>) -> Result<S3Credentials> {
    let required = |name: &str, kind: &str| {
        variable(name).ok_or_else(|| {
            Error::new(
                ErrorKind::OptionInvalid,
                format!("option 'repo-s3-key-type' is '{kind}' but the environment variable '{name}' is not set"),
            )
        })
    };
    Ok(match repo.string_id(opt::REPO_S3_KEY_TYPE) {
        Some("auto") => S3Credentials::Auto { role: repo.text(opt::REPO_S3_ROLE).map(str::to_owned) },
        Some("web-id") => S3Credentials::WebId {
            role_arn: required("AWS_ROLE_ARN", "web-id")?,
            token_file: required("AWS_WEB_IDENTITY_TOKEN_FILE", "web-id")?.into(),
            sts_host: S3Endpoint::parse(repo.text(opt::REPO_S3_STS_HOST).unwrap_or("sts.amazonaws.com"))
                .map_err(|error| Error::new(ErrorKind::OptionInvalidValue, error.to_string()))?,
        },
        Some("pod-id") => S3Credentials::PodId {
            url: required("AWS_CONTAINER_CREDENTIALS_FULL_URI", "pod-id")?,
            token_file: required("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "pod-id")?.into(),
        },
        _ => S3Credentials::Shared {
            key: repo.require(opt::REPO_S3_KEY)?.clone(),
            secret: repo.require(opt::REPO_S3_KEY_SECRET)?.clone(),
            token: repo.secret(opt::REPO_S3_TOKEN).cloned(),
        },
    })
}
