//! Whom the backend trusts (faults.md OS28, SEC-04).

use std::time::Duration;

use pgbr_repo::storage::{ErrorClass, StorageError};
use pgbr_testkit::s3::{S3Server, TestCertificate};

use crate::{BUCKET, open, options, put, read, real_server};

/// Writes to a server that shows `certificate`, trusting `trusted`.
async fn write_trusting(
    certificate: &TestCertificate,
    trusted: &TestCertificate,
    verify: bool,
) -> Result<(), StorageError> {
    let root = tempfile::tempdir().unwrap();
    let server = S3Server::start_with(root.path(), certificate).unwrap();
    server.create_bucket(BUCKET).unwrap();
    let ca_file = root.path().join("ca.pem");
    trusted.write_pem(&ca_file).unwrap();
    let mut options = options(&server.url(), server.key(), server.secret());
    options.ca_file = Some(ca_file);
    options.verify_tls = verify;
    options.connect_timeout = Duration::from_secs(5);
    put(&open(&options), "a", b"content").await.map(|_| ())
}

#[tokio::test]
async fn os28_only_a_trusted_certificate_with_the_right_name_will_do() {
    let good = TestCertificate::localhost().unwrap();
    let other = TestCertificate::localhost().unwrap();
    let wrong_name = TestCertificate::for_names(&["elsewhere.example"], false).unwrap();
    let expired = TestCertificate::for_names(&["localhost"], true).unwrap();
    write_trusting(&good, &good, true).await.unwrap();
    for (certificate, trusted, reason) in [
        (&good, &other, "invalid peer certificate"),
        (&wrong_name, &wrong_name, "not valid for name"),
        (&expired, &expired, "expired"),
    ] {
        let error = write_trusting(certificate, trusted, true).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Permanent, "{error}");
        assert!(error.to_string().contains(reason), "{reason} is not in: {error}");
        // Only by explicit choice.
        write_trusting(certificate, trusted, false).await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_of_certificates_is_read() {
    let root = tempfile::tempdir().unwrap();
    let (server, mut options) = real_server(root.path());
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(server.ca_file(), directory.path().join("store.crt")).unwrap();
    std::fs::write(directory.path().join("README"), "no certificate").unwrap();
    options.ca_file = None;
    options.ca_path = Some(directory.path().to_owned());
    let storage = open(&options);
    put(&storage, "a", b"content").await.unwrap();
    assert_eq!(read(&storage, "a").await.unwrap(), b"content");
}
