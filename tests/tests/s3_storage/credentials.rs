//! Temporary credentials: fetched, used, renewed when the store calls them expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::storage::ErrorClass;
use pgbr_repo::storage::s3::{S3Credentials, S3Endpoint, S3Options};
use pgbr_testkit::s3::{ScriptedServer, WireAnswer};

use crate::{assert_clean, open, options, put};

fn sts_document(number: usize) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>CANARYKEY{number}</AccessKeyId><SecretAccessKey>CANARYSECRET</SecretAccessKey>\
         <SessionToken>CANARYTOKEN{number}</SessionToken><Expiration>2099-01-02T03:04:05Z</Expiration>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

fn sts_answer(number: usize) -> WireAnswer {
    WireAnswer::http(200, &[], sts_document(number))
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
    std::fs::write(token_file.path(), "CANARYIDENTITY").unwrap();
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
    for part in [
        "Action=AssumeRoleWithWebIdentity",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx",
        "RoleSessionName=pgBackRest",
        "WebIdentityToken=CANARYIDENTITY",
    ] {
        assert!(body.split('&').any(|found| found == part), "{part} is not in {body}");
    }
    assert_eq!(sts.requests()[0].target, "/");
}

/// A storage with a web identity, and the file of its token.
fn web_identity(store: &ScriptedServer, sts: &ScriptedServer) -> (S3Options, tempfile::NamedTempFile) {
    let token_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token_file.path(), "CANARYIDENTITY").unwrap();
    let mut options = options(&store.url(), "", "");
    options.credentials = S3Credentials::WebId {
        role_arn: "role".to_owned(),
        token_file: token_file.path().to_owned(),
        sts_host: S3Endpoint::parse(&sts.url()).unwrap(),
    };
    (options, token_file)
}

fn accepting() -> ScriptedServer {
    ScriptedServer::start(|_| WireAnswer::http(200, &[("etag", "\"1\"")], b"")).unwrap()
}

/// The time `after_s` seconds from now, as services write it.
fn in_seconds(after_s: i64) -> String {
    let now_s = SystemClock.now_s() + after_s;
    let (days, second) = (now_s.div_euclid(86_400), now_s.rem_euclid(86_400));
    // Civil from days, for the years that matter here.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[tokio::test]
async fn os21_credentials_with_little_time_left_are_renewed_with_the_token_of_then() {
    let answers = AtomicUsize::new(0);
    let sts = ScriptedServer::start(move |_| {
        let number = answers.fetch_add(1, Ordering::Relaxed);
        // The first ones live four minutes, less than what pgBackRest leaves a request.
        let expires = in_seconds(if number == 0 { 240 } else { 3_600 });
        let answer = sts_document(number).replace("2099-01-02T03:04:05Z", &expires);
        WireAnswer::http(200, &[], answer)
    })
    .unwrap();
    let store = accepting();
    let (options, token_file) = web_identity(&store, &sts);
    let storage = open(&options);
    put(&storage, "a", b"abc").await.unwrap();
    std::fs::write(token_file.path(), "CANARYROTATED").unwrap();
    put(&storage, "b", b"abc").await.unwrap();
    put(&storage, "c", b"abc").await.unwrap();
    let tokens: Vec<_> =
        sts.requests().iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect();
    assert_eq!(tokens.len(), 2, "the second ones live long enough");
    assert!(tokens[0].contains("CANARYIDENTITY") && tokens[1].contains("CANARYROTATED"), "{tokens:?}");
    let used: Vec<_> = store
        .requests()
        .iter()
        .map(|request| request.header("x-amz-security-token").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(used, ["CANARYTOKEN0", "CANARYTOKEN1", "CANARYTOKEN1"]);
}

#[tokio::test]
async fn os21_a_renewal_that_fails_does_not_take_valid_credentials_away() {
    let answers = AtomicUsize::new(0);
    let sts = ScriptedServer::start(move |_| match answers.fetch_add(1, Ordering::Relaxed) {
        0 => WireAnswer::http(200, &[], sts_document(0).replace("2099-01-02T03:04:05Z", &in_seconds(240))),
        _ => WireAnswer::http(500, &[], b"down"),
    })
    .unwrap();
    let store = accepting();
    let (options, _token_file) = web_identity(&store, &sts);
    let storage = open(&options);
    put(&storage, "a", b"abc").await.unwrap();
    put(&storage, "b", b"abc").await.unwrap();
    assert_eq!(sts.requests().len(), 2);
}

#[tokio::test]
async fn os21_what_sts_says_decides_whether_trying_again_can_help() {
    let store = accepting();
    for (status, class) in [
        (400, ErrorClass::Denied),
        (403, ErrorClass::Denied),
        (429, ErrorClass::Throttled),
        (500, ErrorClass::Transient),
        (503, ErrorClass::Transient),
    ] {
        let sts = ScriptedServer::start(move |_| {
            WireAnswer::http(status, &[], b"<ErrorResponse><Error><Code>Whatever</Code></Error></ErrorResponse>")
        })
        .unwrap();
        let (options, _token_file) = web_identity(&store, &sts);
        let error = put(&open(&options), "a", b"abc").await.unwrap_err();
        assert_eq!(error.class(), class, "{status}: {error}");
        assert!(error.to_string().contains(&format!("STS answers status {status}")), "{error}");
        assert_eq!(sts.requests().len(), 1, "only storage::retry tries again");
    }
    let cut = sts_document(0);
    let cut = cut.split_once("<Expiration>").unwrap().0.to_owned();
    let sts = ScriptedServer::start(move |_| WireAnswer::http(200, &[], cut.clone())).unwrap();
    let (mut options, token_file) = web_identity(&store, &sts);
    assert_clean(&put(&open(&options), "a", b"abc").await.unwrap_err());
    drop(token_file);
    let error = put(&open(&options), "a", b"abc").await.unwrap_err();
    assert!(error.to_string().contains("token file"), "{error}");
    // Nobody there.
    let (silent, _token_file) = web_identity(&store, &sts);
    options.credentials = match silent.credentials {
        S3Credentials::WebId { role_arn, token_file, .. } => {
            S3Credentials::WebId { role_arn, token_file, sts_host: S3Endpoint::parse("http://localhost:1").unwrap() }
        }
        other => other,
    };
    assert_eq!(put(&open(&options), "a", b"abc").await.unwrap_err().class(), ErrorClass::Transient);
}

const SESSION: &str = "CANARYSESSION";
const ROLES: &str = "/latest/meta-data/iam/security-credentials";

fn metadata_document(number: usize) -> String {
    format!(
        "{{\"Code\":\"Success\",\"AccessKeyId\":\"CANARYKEY{number}\",\"SecretAccessKey\":\"CANARYSECRET\",\
         \"Token\":\"CANARYTOKEN{number}\",\"Expiration\":\"2099-01-02T03:04:05Z\",\"Type\":\"AWS-HMAC\",\
         \"LastUpdated\":\"2026-01-02T03:04:05Z\"}}"
    )
}

/// The metadata service of an instance with the role `backup role`.
fn metadata_service(version: u8) -> ScriptedServer {
    ScriptedServer::start(move |request| {
        let session = request.header("x-aws-ec2-metadata-token");
        if request.method == "PUT" && request.target == "/latest/api/token" && version == 2 {
            let ttl = request.header("x-aws-ec2-metadata-token-ttl-seconds").unwrap_or("0").to_owned();
            return WireAnswer::http(200, &[("x-aws-ec2-metadata-token-ttl-seconds", &ttl)], SESSION);
        }
        if request.method != "GET" || (version == 2 && session != Some(SESSION)) {
            return WireAnswer::http(if version == 2 { 401 } else { 404 }, &[], b"");
        }
        match request.target.trim_end_matches('/') {
            ROLES => WireAnswer::http(200, &[], b"backup role"),
            role if role == format!("{ROLES}/backup%20role") => WireAnswer::http(200, &[], metadata_document(0)),
            role if role == format!("{ROLES}/broken") => WireAnswer::http(200, &[], br#"{"Code":"Failed"}"#),
            _ => WireAnswer::http(404, &[], b"<html>CANARYSECRET</html>"),
        }
    })
    .unwrap()
}

fn instance(store: &ScriptedServer, metadata: &ScriptedServer, role: Option<&str>) -> S3Options {
    let mut options = options(&store.url(), "", "");
    options.metadata_url = metadata.url();
    options.credentials = S3Credentials::Auto { role: role.map(str::to_owned) };
    options
}

#[tokio::test]
async fn the_role_of_an_instance_is_used_by_either_version_of_the_metadata_service() {
    for version in [2, 1] {
        for (role, requests) in [(None, 3), (Some("backup role"), 2)] {
            let (store, metadata) = (accepting(), metadata_service(version));
            let storage = open(&instance(&store, &metadata, role));
            put(&storage, "a", b"abc").await.unwrap();
            put(&storage, "b", b"abc").await.unwrap();
            assert_eq!(metadata.requests().len(), requests, "version {version}, role {role:?}");
            for request in store.requests() {
                assert_eq!(request.header("x-amz-security-token"), Some("CANARYTOKEN0"));
            }
        }
    }
}

#[tokio::test]
async fn a_role_that_is_not_there_is_named() {
    for version in [2, 1] {
        let (store, metadata) = (accepting(), metadata_service(version));
        let error = put(&open(&instance(&store, &metadata, Some("other"))), "a", b"abc").await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Permanent, "{error}");
        assert!(error.to_string().contains("is the role 'other' associated with this instance?"), "{error}");
        assert_clean(&error);
        let error = put(&open(&instance(&store, &metadata, Some("broken"))), "a", b"abc").await.unwrap_err();
        assert!(error.to_string().contains("answers code 'Failed' for role 'broken'"), "{error}");
        // The original appends the role as it is; ours never lets it lead to another address.
        let error = put(&open(&instance(&store, &metadata, Some("../x?y"))), "a", b"abc").await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Permanent, "{error}");
        assert!(metadata.requests().iter().all(|request| !request.target.contains("../")), "{:?}", metadata.requests());
    }
    let store = accepting();
    let empty = ScriptedServer::start(|request| match request.method.as_str() {
        "PUT" => WireAnswer::http(200, &[("x-aws-ec2-metadata-token-ttl-seconds", "180")], SESSION),
        _ => WireAnswer::http(404, &[], b""),
    })
    .unwrap();
    let error = put(&open(&instance(&store, &empty, None)), "a", b"abc").await.unwrap_err();
    assert!(error.to_string().contains("is a role associated with this instance?"), "{error}");
    let down = ScriptedServer::start(|_| WireAnswer::http(503, &[], b"")).unwrap();
    let error = put(&open(&instance(&store, &down, None)), "a", b"abc").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
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
    let dates: Vec<_> =
        store.requests().iter().map(|request| request.header("x-amz-date").map(str::to_owned)).collect();
    assert!(again.is_ok(), "{again:?}, dates {dates:?}");
}
