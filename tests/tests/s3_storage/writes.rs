//! Scripted answers to writes.

use bytes::Bytes;
use pgbr_repo::storage::{
    Condition, Durability, ErrorClass, ObjectInfo, PartTag, Storage, StorageError, UploadId, UploadPart,
};
use pgbr_testkit::s3::{WireAnswer, WireRequest};
use secrecy::SecretString;

use crate::{assert_clean, path, put, scripted, scripted_with};

async fn complete(answer: WireAnswer) -> Result<ObjectInfo, StorageError> {
    let (_server, storage) = scripted(move |request| match request.method.as_str() {
        "HEAD" => WireAnswer::raw_http(200, &[("etag", "\"1-1\""), ("content-length", "5")], b""),
        _ => answer.clone(),
    });
    let parts = [PartTag { number: 1, tag: "\"1\"".to_owned() }];
    storage.upload_complete(&path("a"), &UploadId("id".to_owned()), &parts, Condition::None).await
}

fn result(inside: &str) -> WireAnswer {
    let body = format!("   \n<CompleteMultipartUploadResult>{inside}</CompleteMultipartUploadResult>");
    WireAnswer::http(200, &[("content-type", "application/xml")], body)
}

#[tokio::test]
async fn os02_an_error_in_a_200_is_no_success() {
    assert_eq!(complete(result("<ETag>\"1-1\"</ETag>")).await.unwrap().size_bytes, 5);
    for (code, class) in [
        ("InternalError", ErrorClass::Transient),
        ("SlowDown", ErrorClass::Throttled),
        ("AccessDenied", ErrorClass::Denied),
        ("NoSuchUpload", ErrorClass::Missing),
    ] {
        let body = format!("    \n   <?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>no</Message></Error>");
        let error = complete(WireAnswer::http(200, &[], body)).await.unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        assert!(error.to_string().contains(code), "{error}");
    }
}

#[tokio::test]
async fn os03_a_completion_without_proof_is_an_unknown_outcome() {
    let half = WireAnswer::http(200, &[], b"<CompleteMultipartUploadResult><ETag>\"1-1\"</ETag>");
    for (name, answer) in [
        ("empty", WireAnswer::http(200, &[], b"")),
        ("blank", WireAnswer::http(200, &[], b"    ")),
        ("half", half),
        ("html", WireAnswer::http(200, &[], b"<html><body>ok</body></html>")),
        ("no tag", result("<Key>a</Key>")),
        ("empty tag", result("<ETag></ETag>")),
        ("another object", result("<ETag>\"2-1\"</ETag>")),
        ("cut", WireAnswer::raw_http(200, &[("content-length", "100")], b"<Complete").then_close()),
    ] {
        let error = complete(answer).await.expect_err(name);
        assert_eq!(error.class(), ErrorClass::Transient, "{name}: {error}");
    }
}

#[tokio::test]
async fn os06_every_body_has_a_digest_that_is_signed() {
    let (server, storage) = scripted(|request| match request.method.as_str() {
        "POST" if request.target.contains("uploads") => WireAnswer::http(
            200,
            &[],
            b"<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>",
        ),
        _ => WireAnswer::http(200, &[("etag", "\"1\"")], b""),
    });
    put(&storage, "a", b"abc").await.unwrap();
    let upload = storage.upload_create(&path("a"), Durability::Now).await.unwrap();
    let part = UploadPart { number: 1, offset: 0, body: Bytes::from_static(b"abc") };
    storage.upload_part(&path("a"), &upload, part).await.unwrap();
    for request in server.requests().iter().filter(|request| request.method == "PUT") {
        // SHA-256 of "abc" (FIPS 180-2, appendix B.1).
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(request.header("x-amz-content-sha256"), Some(digest));
        assert!(request.header("authorization").unwrap().contains("x-amz-content-sha256"));
        assert_eq!((request.header("content-length"), request.header("transfer-encoding")), (Some("3"), None));
        assert_eq!(request.body, b"abc");
        assert_eq!(request.header("host"), Some("localhost"), "the host has a port");
    }
}

#[tokio::test]
async fn os23_a_reset_in_the_middle_of_a_part_is_transient() {
    let (_server, storage) = scripted(|_| WireAnswer::reset().after_body_bytes(100_000));
    let part = UploadPart { number: 1, offset: 0, body: Bytes::from(vec![0; 5 * 1024 * 1024]) };
    let error = storage.upload_part(&path("a"), &UploadId("id".to_owned()), part).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    assert_clean(&error);
}

#[tokio::test]
async fn os26_a_part_without_a_tag_is_sent_again_and_tags_are_opaque() {
    let upload = UploadId("id".to_owned());
    let part = || UploadPart { number: 1, offset: 0, body: Bytes::from_static(b"abc") };
    let (_server, storage) = scripted(|_| WireAnswer::http(200, &[], b""));
    let error = storage.upload_part(&path("a"), &upload, part()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    assert_eq!(put(&storage, "a", b"abc").await.unwrap_err().class(), ErrorClass::Transient);
    for tag in ["unquoted", "\"not an md5-3\"", "\"\""] {
        let (_server, storage) = scripted(move |_| WireAnswer::http(200, &[("etag", tag)], b""));
        assert_eq!(storage.upload_part(&path("a"), &upload, part()).await.unwrap().tag, tag);
    }
}

#[tokio::test]
async fn os33_a_full_store_is_told_apart() {
    for (status, code) in [(507, "InsufficientStorage"), (403, "QuotaExceeded"), (507, "Whatever")] {
        let (_server, storage) = scripted(move |_| WireAnswer::error(status, code));
        let error = put(&storage, "a", b"abc").await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::NoSpace, "{error}");
    }
}

#[tokio::test]
async fn os35_stores_that_do_not_check_conditions_are_found_out() {
    let refusing = |request: &WireRequest| match (request.method.as_str(), request.header("if-none-match")) {
        ("PUT", Some(_)) => WireAnswer::error(501, "NotImplemented"),
        ("PUT", None) => WireAnswer::http(200, &[("etag", "\"1\"")], b""),
        _ => WireAnswer::http(204, &[], b""),
    };
    let bad_request = |request: &WireRequest| match request.method.as_str() {
        "PUT" => WireAnswer::error(400, "InvalidArgument"),
        _ => WireAnswer::http(204, &[], b""),
    };
    let ignoring = |request: &WireRequest| match request.method.as_str() {
        "PUT" => WireAnswer::http(200, &[("etag", "\"1\"")], b""),
        _ => WireAnswer::http(204, &[], b""),
    };
    let (_first, refusing) = scripted(refusing);
    let (_second, bad_request) = scripted(bad_request);
    let (_third, ignoring) = scripted(ignoring);
    for storage in [refusing, bad_request, ignoring] {
        assert!(!storage.probe_conditional_put(&path("probe")).await.unwrap());
        assert!(!storage.capabilities().conditional_put);
    }
    let (_server, down) = scripted(|_| WireAnswer::error(503, "SlowDown"));
    assert_eq!(down.probe_conditional_put(&path("probe")).await.unwrap_err().class(), ErrorClass::Throttled);
}

#[tokio::test]
async fn options_become_headers() {
    let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let change = |options: &mut pgbr_repo::storage::s3::S3Options| {
        options.tags = vec![("a b".to_owned(), "1&2".to_owned())];
        options.sse_customer_key = Some(SecretString::from(key));
        options.kms_key_id = Some("kms".to_owned());
        options.requester_pays = true;
        options.service = "s3-outposts".to_owned();
    };
    let (server, storage) = scripted_with(|_| WireAnswer::http(200, &[("etag", "\"1\"")], b""), change);
    put(&storage, "a", b"abc").await.unwrap();
    let request = &server.requests()[0];
    for (name, value) in [
        ("x-amz-tagging", "a+b=1%262"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "kms"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", key),
        ("x-amz-request-payer", "requester"),
        ("x-amz-security-token", crate::TOKEN),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert!(request.header("x-amz-server-side-encryption-customer-key-md5").is_some());
    assert!(request.header("authorization").unwrap().contains("/us-east-1/s3-outposts/aws4_request"));
    assert!(request.headers.iter().all(|(name, _)| !name.starts_with("x-amz-checksum")));
    // An error that echoes the customer key.
    let echo = |request: &WireRequest| {
        let all: String = request.headers.iter().map(|(name, value)| format!("{name}: {value} ")).collect();
        WireAnswer::http(403, &[], format!("<Error><Code>AccessDenied</Code><Message>{all}</Message></Error>"))
    };
    let (_server, storage) = scripted_with(echo, change);
    let error = put(&storage, "a", b"abc").await.unwrap_err();
    assert!(!error.to_string().contains(key), "{error}");
    assert_clean(&error);
}
