//! Whom the backend trusts (faults.md OS28, SEC-04).

use std::io::{Read, Write};
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
async fn os28_sec04_only_a_trusted_certificate_with_the_right_name_will_do() {
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

/// What comes after `mark` in bytes that are sent once.
fn after<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    bytes.get(at + mark.len()..)
}

/// Nothing older than TLS 1.2 is offered, nor taken from a server that has nothing newer, with or without verification.
#[tokio::test]
async fn os28_sec04_no_version_before_tls_1_2_will_do() {
    for verify in [true, false] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = vec![0; 16 * 1024];
            let length = stream.read(&mut hello).unwrap();
            hello.truncate(length);
            // A ServerHello of TLS 1.1 with ECDHE-RSA-AES128-SHA.
            let body = [&[3, 2][..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat();
            let length = u8::try_from(body.len()).unwrap();
            stream.write_all(&[&[22, 3, 2, 0, length + 4, 2, 0, 0, length][..], &body].concat()).unwrap();
            // Until the client gives up.
            drop(stream.read(&mut [0; 16]));
            hello
        });
        let mut options = options(&format!("https://localhost:{port}"), "key", "secret");
        let root = tempfile::tempdir().unwrap();
        let ca_file = root.path().join("ca.pem");
        TestCertificate::localhost().unwrap().write_pem(&ca_file).unwrap();
        (options.ca_file, options.verify_tls) = (Some(ca_file), verify);
        let error = put(&open(&options), "a", b"content").await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("tls"), "{error}");
        let hello = server.join().unwrap();
        // The extension supported_versions: its length, then that of the list.
        let list = after(&hello, &[0, 43, 0, 5, 4]).expect("two versions");
        assert_eq!(list[..4], [3, 4, 3, 3], "TLS 1.3 and 1.2");
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
