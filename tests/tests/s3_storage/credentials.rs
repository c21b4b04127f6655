//! Temporary credentials: fetched, used, renewed when the store calls them expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgbr_repo::storage::ErrorClass;
use pgbr_repo::storage::s3::{S3Credentials, S3Endpoint};
use pgbr_testkit::s3::{ScriptedServer, WireAnswer};

use crate::{assert_clean, open, options, put};

fn sts_answer(number: usize) -> WireAnswer {
    WireAnswer::http(
        200,
        &[],
        format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>CANARYKEY{number}</AccessKeyId><SecretAccessKey>CANARYSECRET</SecretAccessKey>\
             <SessionToken>CANARYTOKEN{number}</SessionToken><Expiration>2099-01-02T03:04:05Z</Expiration>\
             </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        ),
    )
}

#[tokio::test]
async fn os21_expired_credentials_are_fetched_again() {
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetches);
    let sts = ScriptedServer::start(move |_| sts_answer(counted.fetch_add(1, Ordering::Relaxed))).unwrap();
    let store = ScriptedServer::start(|request| match request.header("x-amz-security-token") {
        Some("CANARYTOKEN0") => WireAnswer::error(400, "ExpiredToken"),
        _ => WireAnswer::http(200, &[("etag", "\"1\"")], b""),
    })
    .unwrap();
    let token_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token_file.path(), "CANARYIDENTITY\n").unwrap();
    let mut options = options(&store.url(), "", "");
    options.credentials = S3Credentials::WebId {
        role_arn: "arn:aws:iam::1:role/x".to_owned(),
        token_file: token_file.path().to_owned(),
        sts_host: S3Endpoint::parse(&sts.url()).unwrap(),
    };
    let storage = open(&options);
    let error = put(&storage, "a", b"abc").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    assert_clean(&error);
    put(&storage, "a", b"abc").await.unwrap();
    put(&storage, "a", b"abc").await.unwrap();
    assert_eq!(fetches.load(Ordering::Relaxed), 2);
    let body = String::from_utf8(sts.requests()[0].body.clone()).unwrap();
    assert!(body.contains("Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx"), "{body}");
    assert!(body.ends_with("WebIdentityToken=CANARYIDENTITY"), "{body}");
}

#[tokio::test]
async fn refused_credentials_are_an_error_without_secrets() {
    let sts = ScriptedServer::start(|request| {
        WireAnswer::http(403, &[], format!("<Error><Code>AccessDenied</Code>{request:?} CANARYIDENTITY</Error>"))
    })
    .unwrap();
    let token_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token_file.path(), "CANARYIDENTITY").unwrap();
    let mut options = options("http://localhost:1", "", "");
    options.credentials = S3Credentials::WebId {
        role_arn: "role".to_owned(),
        token_file: token_file.path().to_owned(),
        sts_host: S3Endpoint::parse(&sts.url()).unwrap(),
    };
    let error = put(&open(&options), "a", b"abc").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied, "{error}");
    assert_clean(&error);
}

#[tokio::test]
async fn pod_identity_sends_the_token_and_reads_json() {
    let agent = ScriptedServer::start(|_| {
        WireAnswer::http(
            200,
            &[],
            br#"{"AccessKeyId":"K1K1","SecretAccessKey":"CANARYS","Token":"CANARYT","Expiration":"2099-01-02T03:04:05Z"}"#,
        )
    })
    .unwrap();
    let store = ScriptedServer::start(|_| WireAnswer::http(200, &[("etag", "\"1\"")], b"")).unwrap();
    let token_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token_file.path(), "podtoken").unwrap();
    let mut options = options(&store.url(), "", "");
    let url = format!("{}/v1/credentials", agent.url());
    options.credentials = S3Credentials::PodId { url, token_file: token_file.path().to_owned() };
    put(&open(&options), "a", b"abc").await.unwrap();
    let request = &agent.requests()[0];
    assert_eq!((request.target.as_str(), request.header("authorization")), ("/v1/credentials", Some("podtoken")));
    assert!(store.requests()[0].header("authorization").unwrap().contains("Credential=K1K1/"));
}

#[tokio::test]
async fn os20_a_clock_that_is_off_is_corrected_once() {
    let store = ScriptedServer::start(|request| {
        let date = request.header("x-amz-date").unwrap_or_default();
        match date.starts_with("2033") {
            true => WireAnswer::http(200, &[("etag", "\"1\"")], b""),
            false => WireAnswer::http(
                403,
                &[("date", "Tue, 18 Jan 2033 10:00:00 GMT")],
                b"<Error><Code>RequestTimeTooSkewed</Code><Message>skewed</Message></Error>",
            ),
        }
    })
    .unwrap();
    let storage = open(&options(&store.url(), crate::KEY, crate::SECRET));
    let error = put(&storage, "a", b"abc").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    assert!(error.to_string().contains("clock differs"), "{error}");
    let again = put(&storage, "a", b"abc").await;
    let dates: Vec<_> = store.requests().iter().map(|request| request.header("x-amz-date").map(str::to_owned)).collect();
    assert!(again.is_ok(), "{again:?}, dates {dates:?}");
}
