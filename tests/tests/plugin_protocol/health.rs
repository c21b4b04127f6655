//! `healthcheck unix`: the exit codes that the original's has.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use tokio_stream::wrappers::UnixListenerStream;
use tonic_health::ServingStatus;

use crate::sidecar::Pod;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_says_what_the_server_said() {
    for (status, code) in [(ServingStatus::Serving, 0), (ServingStatus::Unknown, 2), (ServingStatus::NotServing, 3)] {
        let pod = Pod::new();
        let (reporter, service) = tonic_health::server::health_reporter();
        reporter.set_service_status("", status).await;
        let listener = tokio::net::UnixListener::bind(pod.socket()).expect("a socket");
        fs::set_permissions(pod.socket(), Permissions::from_mode(0o777)).expect("a mode");
        let server = tonic::transport::Server::builder().add_service(service);
        let server = tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        assert_eq!(tokio::task::block_in_place(|| pod.health()), code, "{status:?}");
        server.abort();
    }
}

#[test]
fn a_socket_that_nobody_serves_is_code_1() {
    let pod = Pod::new();
    assert_eq!(pod.health(), 1, "there is none");
    drop(UnixListener::bind(pod.socket()).expect("a socket"));
    assert_eq!(pod.health(), 1, "it is abandoned");
}

#[test]
fn a_check_that_is_none_is_code_125() {
    let pod = Pod::new();
    for words in [&["healthcheck"][..], &["healthcheck", "tcp"], &["healthcheck", "unix", "--loud"]] {
        let output = pod.command(words).output().expect("a process");
        assert_eq!(output.status.code(), Some(125), "{words:?}");
        assert!(!output.stderr.is_empty());
    }
}
