//! The suite that every storage must pass, over HTTPS.

use std::sync::Arc;

use pgbr_repo::storage::conformance;
use pgbr_testkit::s3::S3Server;

use crate::{open, path, with_bucket};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_with_a_trusted_certificate() {
    let root = tempfile::tempdir().unwrap();
    let (_server, options) = with_bucket(S3Server::start_flat(root.path()).unwrap());
    let storage = open(&options);
    assert!(storage.probe_conditional_put(&path("probe")).await.unwrap());
    conformance::run(Arc::new(storage), &path("suite")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_without_verification_and_without_a_prefix() {
    let root = tempfile::tempdir().unwrap();
    let (_server, mut options) = with_bucket(S3Server::start_flat(root.path()).unwrap());
    options.ca_file = None;
    options.verify_tls = false;
    options.path = "/".to_owned();
    conformance::run(Arc::new(open(&options)), &path("suite")).await.unwrap();
}
