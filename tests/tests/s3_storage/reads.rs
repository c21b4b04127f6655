//! Scripted answers to reads.

use pgbr_repo::storage::{ByteRange, ErrorClass, ObjectVersion, Storage};
use pgbr_testkit::s3::{WireAnswer, WireRequest};

use crate::{assert_clean, path, read, read_range, scripted, scripted_with};

const ETAG: (&str, &str) = ("etag", "\"1\"");
const TEN: &[u8] = b"0123456789";

#[tokio::test]
async fn os07_a_body_shorter_than_announced_is_an_error() {
    for length in [0, 1, 5, 9] {
        for reset in [false, true] {
            let (_server, storage) = scripted(move |_| {
                let answer = WireAnswer::raw_http(200, &[ETAG, ("content-length", "10")], &TEN[..length]);
                if reset { answer.then_reset() } else { answer.then_close() }
            });
            let error = read(&storage, "a").await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Transient, "{length} {reset}: {error}");
            assert_clean(&error);
        }
    }
}

#[tokio::test]
async fn os08_a_body_without_length_is_measured() {
    for (length, good) in [(10, true), (9, false), (0, false)] {
        let (server, storage) = scripted(move |request| match request.method.as_str() {
            "HEAD" => WireAnswer::raw_http(200, &[ETAG, ("content-length", "10")], b""),
            _ => WireAnswer::raw_http(200, &[ETAG, ("connection", "close")], &TEN[..length]).then_close(),
        });
        let bytes = read(&storage, "a").await;
        assert_eq!(bytes.is_ok(), good, "{length} bytes: {bytes:?}");
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn os09_a_wrong_range_never_reaches_the_reader() {
    type Headers = &'static [(&'static str, &'static str)];
    let range = ByteRange { offset: 2, length: Some(3) };
    let cases: [(u16, Headers, &[u8], bool); 6] = [
        (206, &[("content-range", "bytes 2-4/10")], b"234", true),
        (200, &[], TEN, false),
        (206, &[("content-range", "bytes 3-5/10")], b"345", false),
        (206, &[("content-range", "bytes 2-9/10")], b"23456789", false),
        (206, &[], b"234", false),
        (206, &[("content-range", "bytes 2-4/10")], b"2345", false),
    ];
    for (status, headers, body, good) in cases {
        let headers: Vec<_> = headers.iter().copied().chain([ETAG]).collect();
        let (server, storage) = scripted(move |_| WireAnswer::http(status, &headers, body));
        let bytes = read_range(&storage, "a", range, None).await;
        match bytes {
            Ok(bytes) => assert!(good && bytes == b"234", "{status} gave {bytes:?}"),
            Err(error) => {
                assert!(!good, "{error}");
                assert_eq!(error.class(), ErrorClass::Transient);
            }
        }
        assert_eq!(server.requests()[0].header("range"), Some("bytes=2-4"));
    }
}

#[tokio::test]
async fn os10_a_read_is_pinned_to_its_version() {
    let pin = ObjectVersion("\"1\"".to_owned());
    let (server, storage) = scripted(|_| WireAnswer::error(412, "PreconditionFailed"));
    let error = read_range(&storage, "a", ByteRange::ALL, Some(&pin)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Conflict, "{error}");
    assert_eq!(server.requests()[0].header("if-match"), Some("\"1\""));
    // A store that ignores the condition.
    let (_server, storage) = scripted(|_| WireAnswer::http(200, &[("etag", "\"2\"")], TEN));
    let error = read_range(&storage, "a", ByteRange::ALL, Some(&pin)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Conflict, "{error}");
}

#[tokio::test]
async fn np08_stores_without_conditional_reads_and_with_odd_tags_work() {
    for (pin, tag) in [("1", "\"1\""), ("\"1\"", "1"), ("W/\"1\"", "\"1\"")] {
        let pin = ObjectVersion(pin.to_owned());
        let (server, storage) = scripted(move |request| match request.header("if-match") {
            Some(_) => WireAnswer::error(501, "NotImplemented"),
            None => WireAnswer::http(200, &[("etag", tag)], TEN),
        });
        for _ in 0..3 {
            assert_eq!(read_range(&storage, "a", ByteRange::ALL, Some(&pin)).await.unwrap(), TEN);
        }
        // Learned once.
        assert_eq!(server.requests().len(), 4);
    }
}

#[tokio::test]
async fn np01_no_broken_answer_is_an_absence_or_an_object() {
    let html = "<!DOCTYPE html><html><body>\x1b[31mplease log in</body></html>";
    let answers: [(&str, WireAnswer, ErrorClass); 10] = [
        ("503", WireAnswer::error(503, "ServiceUnavailable"), ErrorClass::Transient),
        ("503 html", WireAnswer::http(503, &[("content-type", "text/html")], html), ErrorClass::Transient),
        ("403", WireAnswer::error(403, "AccessDenied"), ErrorClass::Denied),
        ("400", WireAnswer::error(400, "InvalidRequest"), ErrorClass::Permanent),
        ("301", WireAnswer::error(301, "PermanentRedirect"), ErrorClass::Permanent),
        ("404 html", WireAnswer::http(404, &[("content-type", "text/html")], html), ErrorClass::Transient),
        ("404 bucket", WireAnswer::error(404, "NoSuchBucket"), ErrorClass::Permanent),
        ("200 html", WireAnswer::http(200, &[("content-type", "text/html"), ETAG], html), ErrorClass::Transient),
        ("200 error", WireAnswer::error(200, "InternalError"), ErrorClass::Transient),
        ("nothing", WireAnswer::default().then_close(), ErrorClass::Transient),
    ];
    for (name, answer, class) in answers {
        let (_server, storage) = scripted(move |_| answer.clone());
        let error = read(&storage, "a").await.unwrap_err();
        assert_eq!(error.class(), class, "{name}: {error}");
        assert_clean(&error);
    }
    let (_server, storage) = scripted(|_| WireAnswer::error(404, "NoSuchKey"));
    assert!(read(&storage, "a").await.unwrap_err().is_missing());
}

#[tokio::test]
async fn np01_head_without_a_document_is_judged_by_its_status() {
    for (status, html, class) in [
        (404, false, ErrorClass::Missing),
        (404, true, ErrorClass::Transient),
        (403, false, ErrorClass::Denied),
        (503, false, ErrorClass::Transient),
        (429, false, ErrorClass::Throttled),
        (301, false, ErrorClass::Permanent),
        (200, true, ErrorClass::Transient),
    ] {
        let (_server, storage) = scripted(move |_| {
            let kind = if html { "text/html" } else { "application/xml" };
            WireAnswer::raw_http(status, &[("content-type", kind), ("content-length", "10")], b"")
        });
        let error = storage.info(&path("a")).await.unwrap_err();
        assert_eq!(error.class(), class, "{status} {html}: {error}");
    }
}

#[tokio::test]
async fn os27_sec05_redirects_are_not_followed() {
    let trap = pgbr_testkit::s3::ScriptedServer::start(|_| WireAnswer::http(200, &[ETAG], TEN)).unwrap();
    let target = format!("{}/bucket/repo/a", trap.url());
    for status in [301, 302, 307, 308] {
        let target = target.clone();
        let (_server, storage) = scripted(move |_| WireAnswer::http(status, &[("location", &target)], b""));
        let error = read(&storage, "a").await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Permanent, "{error}");
        assert!(error.to_string().contains("localhost"), "the target is not named: {error}");
    }
    assert!(trap.requests().is_empty(), "the trap was reached");
}

#[tokio::test]
async fn sec06_answers_are_quoted_bounded_escaped_and_redacted() {
    let message = format!(
        "\x1b[31mP00   INFO: all is well {} {} {} AWS4-HMAC-SHA256 Credential={} {}",
        crate::KEY,
        crate::SECRET,
        crate::TOKEN,
        crate::KEY,
        "x".repeat(40_000)
    );
    let body = format!("<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>").replace('\x1b', "&#27;");
    let huge = format!("<html>{}{}", crate::SECRET, "\x1b[31m".repeat(2_000_000));
    let (_server, storage) = scripted(move |request| match request.method.as_str() {
        "GET" => WireAnswer::http(403, &[], &body),
        _ => WireAnswer::http(500, &[], &huge),
    });
    assert_clean(&read(&storage, "a").await.unwrap_err());
    assert_clean(&crate::put(&storage, "a", b"content").await.unwrap_err());
}

/// A store that echoes the request in its refusal, as gateways and proxies do when they are asked why: nothing of what the
/// request was signed with is in the error.
#[tokio::test]
async fn sec03_a_refusal_that_echoes_the_request_tells_no_secret() {
    // 32 bytes of seven.
    let customer_key = format!("{}Bwc=", "BwcH".repeat(10));
    let echoes: [fn(&WireRequest) -> String; 4] = [
        |request| format!("<Error><Code>AccessDenied</Code><Message>{}</Message></Error>", lines(request, "; ")),
        |request| format!("<html><pre>{} {}\n{}</pre></html>", request.method, request.target, lines(request, "\n")),
        |request| format!("{{\"headers\": {:?}}}", request.headers),
        |request| {
            let signed = request.header("authorization").unwrap();
            let signature = signed.rsplit_once("Signature=").unwrap().1;
            format!("<html>GET /b/k?X-Amz-Expires=60&X-Amz-Signature={signature}</html>")
        },
    ];
    for echo in echoes {
        let (server, storage) = scripted_with(
            move |request| WireAnswer::http(403, &[], echo(request)),
            |options| options.sse_customer_key = Some(customer_key.clone().into()),
        );
        for error in [read(&storage, "a").await.unwrap_err(), crate::put(&storage, "a", b"content").await.unwrap_err()]
        {
            assert_clean(&error);
            let shown = format!("{error} {error:?}");
            let mut secrets: Vec<String> = Vec::new();
            for request in server.requests() {
                let authorization = request.header("authorization").unwrap();
                secrets.push(authorization.rsplit_once("Signature=").unwrap().1.to_owned());
                secrets.push(request.header("x-amz-security-token").unwrap().to_owned());
                secrets.push(request.header("x-amz-server-side-encryption-customer-key").unwrap().to_owned());
                secrets.push(request.header("x-amz-server-side-encryption-customer-key-md5").unwrap().to_owned());
            }
            assert!(secrets.contains(&customer_key) && secrets.iter().all(|secret| !secret.is_empty()));
            for secret in secrets {
                assert!(!shown.contains(&secret), "{secret} is in: {shown}");
            }
            assert_eq!(error.class(), ErrorClass::Denied, "{shown}");
        }
    }
}

fn lines(request: &WireRequest, between: &str) -> String {
    request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(between)
}

#[tokio::test]
async fn hi14_sec10_broken_framing_ends_the_connection() {
    let many = (0..10_000).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let long = format!("x-long: {}\r\n", "a".repeat(1024 * 1024));
    for head in [
        "content-length: -1\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n",
        "transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        &many,
        &long,
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\netag: \"1\"\r\n{head}\r\nabc");
        let (_server, storage) = scripted(move |_| WireAnswer::bytes(bytes.clone()).then_close());
        let error = read(&storage, "a").await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Transient, "{error}");
        assert_clean(&error);
    }
}
