//! Peers that stall: every wait has an end, no body has a deadline (faults.md OS24, OS25, NP04).

use std::time::{Duration, Instant};

use pgbr_repo::storage::s3::{S3Options, S3Storage};
use pgbr_repo::storage::{ErrorClass, StorageError};
use pgbr_testkit::s3::{ScriptedServer, WireAnswer};

use crate::{assert_clean, open, options, put, read, scripted, scripted_with};

const HEAD: &str = "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 100\r\n\r\n";

fn assert_timed_out(started: Instant, error: &StorageError) {
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}: {error}", started.elapsed());
    assert_clean(error);
}

#[tokio::test]
async fn os24_a_black_hole_ends_after_the_idle_time_out() {
    for answer in [
        WireAnswer::silence(),
        WireAnswer::bytes(&b"HTTP/1.1 200 OK\r\netag:"[..]).then_silence(),
        WireAnswer::bytes(HEAD).then_silence(),
        WireAnswer::bytes(HEAD).then_send(&b"0123"[..]).then_silence(),
    ] {
        let (_server, storage) = scripted(move |_| answer.clone());
        let started = Instant::now();
        assert_timed_out(started, &read(&storage, "a").await.unwrap_err());
    }
}

#[tokio::test]
async fn os24_a_handshake_that_never_comes_ends_after_the_connect_time_out() {
    let server = ScriptedServer::start_black_hole().unwrap();
    let mut options: S3Options = options(&server.url(), crate::KEY, crate::SECRET);
    options.verify_tls = false;
    options.connect_timeout = Duration::from_millis(500);
    let storage: S3Storage = open(&options);
    let started = Instant::now();
    let error = read(&storage, "a").await.unwrap_err();
    assert_timed_out(started, &error);
    assert!(error.to_string().contains("connect"), "{error}");
}

#[tokio::test]
async fn os24_an_upload_that_nobody_reads_ends() {
    let (_server, storage) = scripted(|_| WireAnswer::silence().after_body_bytes(1000));
    let started = Instant::now();
    assert_timed_out(started, &put(&storage, "a", &vec![0; 64 * 1024 * 1024]).await.unwrap_err());
}

#[tokio::test]
async fn os25_a_byte_now_and_then_is_a_stall() {
    let (_server, storage) = scripted(|_| {
        WireAnswer::bytes(HEAD.replace("100", "1000")).then_dribble(&[b'x'; 1000], Duration::from_millis(300))
    });
    let error = {
        let (_server2, slow) = scripted_with(
            |_| WireAnswer::bytes(HEAD.replace("100", "1000")).then_dribble(&[b'x'; 1000], Duration::from_millis(300)),
            |options| options.idle_timeout = Duration::from_millis(1500),
        );
        let started = Instant::now();
        let error = read(&slow, "a").await.unwrap_err();
        assert_timed_out(started, &error);
        error
    };
    assert!(error.to_string().contains("bytes a second"), "{error}");
    drop(storage);
}

#[tokio::test]
async fn np04_a_slow_but_live_body_is_read_whole() {
    let (_server, storage) = scripted(|_| {
        let mut answer = WireAnswer::bytes(HEAD.replace("100", "1000"));
        for _ in 0..10 {
            answer = answer.then_wait(Duration::from_millis(300)).then_send(vec![b'x'; 100]);
        }
        answer
    });
    // Three seconds in all, with an idle time-out of 700 ms.
    assert_eq!(read(&storage, "a").await.unwrap().len(), 1000);
}
