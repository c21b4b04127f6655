//! The S3 backend over real sockets: against a real server (`real`, `certificates`) and against scripted answers
//! (`reads`, `writes`, `lists`, `waits`).

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands, helpers of tests too")]

mod certificates;
mod conformance;
mod credentials;
mod info_files;
mod lists;
mod oracle;
mod reads;
mod real;
mod trap;
mod waits;
mod writes;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use pgbr_repo::clock::SystemClock;
use pgbr_repo::storage::s3::{S3Credentials, S3Endpoint, S3Options, S3Storage, UriStyle};
use pgbr_repo::storage::{
    ByteRange, Condition, Durability, ObjectInfo, ObjectVersion, Storage, StorageError, StoragePath,
};
use pgbr_testkit::s3::{S3Server, ScriptedServer, WireAnswer, WireRequest};

const BUCKET: &str = "bucket";

/// Secrets that must appear nowhere.
const KEY: &str = "CANARYKEYID";
const SECRET: &str = "CANARYSECRETVALUE";
const TOKEN: &str = "CANARYTOKENVALUE";

/// Options for a server at `url`, with short time limits.
fn options(url: &str, key: &str, secret: &str) -> S3Options {
    let credentials = S3Credentials::Shared { key: key.into(), secret: secret.into(), token: None };
    let mut options = S3Options::new(BUCKET, S3Endpoint::parse(url).unwrap(), "us-east-1", credentials);
    options.uri_style = UriStyle::Path;
    options.path = "/repo".to_owned();
    options.connect_timeout = Duration::from_secs(2);
    options.idle_timeout = Duration::from_secs(10);
    options
}

fn open(options: &S3Options) -> S3Storage {
    S3Storage::open(options, Arc::new(SystemClock)).unwrap()
}

/// A real server with the bucket, and options that reach it.
fn real_server(root: &Path) -> (S3Server, S3Options) {
    with_bucket(S3Server::start(root).unwrap())
}

fn with_bucket(server: S3Server) -> (S3Server, S3Options) {
    server.create_bucket(BUCKET).unwrap();
    let mut options = options(&server.url(), server.key(), server.secret());
    options.ca_file = Some(server.ca_file());
    (server, options)
}

/// A script over plain HTTP, and a storage that talks to it.
fn scripted(script: impl Fn(&WireRequest) -> WireAnswer + Send + Sync + 'static) -> (ScriptedServer, S3Storage) {
    scripted_with(script, |_| {})
}

fn scripted_with(
    script: impl Fn(&WireRequest) -> WireAnswer + Send + Sync + 'static,
    change: impl FnOnce(&mut S3Options),
) -> (ScriptedServer, S3Storage) {
    let server = ScriptedServer::start(script).unwrap();
    let mut options = options(&server.url(), KEY, SECRET);
    if let S3Credentials::Shared { token, .. } = &mut options.credentials {
        *token = Some(TOKEN.into());
    }
    options.idle_timeout = Duration::from_millis(700);
    change(&mut options);
    let storage = open(&options);
    (server, storage)
}

fn path(text: &str) -> StoragePath {
    StoragePath::parse(text).unwrap()
}

/// The bytes of a whole read.
async fn read(storage: &S3Storage, at: &str) -> Result<Vec<u8>, StorageError> {
    read_range(storage, at, ByteRange::ALL, None).await
}

async fn read_range(
    storage: &S3Storage,
    at: &str,
    range: ByteRange,
    pin: Option<&ObjectVersion>,
) -> Result<Vec<u8>, StorageError> {
    let opened = storage.read(&path(at), range, pin).await?;
    let pieces: Vec<Bytes> = opened.body.try_collect().await?;
    Ok(pieces.concat())
}

async fn put(storage: &S3Storage, at: &str, body: &[u8]) -> Result<ObjectInfo, StorageError> {
    storage.put(&path(at), Bytes::copy_from_slice(body), Condition::None, Durability::Now).await
}

/// No error shows a secret or a raw control character, and all are short.
fn assert_clean(error: &StorageError) {
    let text = format!("{error} {error:?}");
    assert!(!text.contains("CANARY"), "a secret in: {text}");
    let shown = error.to_string();
    assert!(!shown.contains('\x1b') && !shown.contains('\n'), "raw characters in: {shown:?}");
    assert!(shown.len() < 2000, "{} bytes of error", shown.len());
}
