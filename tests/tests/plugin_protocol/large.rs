//! Large messages, many of them, and slow ones.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use pgbr_plugin::proto::wal::WalArchiveRequest;
use pgbr_plugin::proto::wal::wal_client::WalClient;
use tempfile::TempDir;
use tonic::Code;
use tonic::body::Body;
use tonic::transport::Channel;

use crate::certificates;
use crate::client;
use crate::server::{TlsServer, UnixServer};

const MIB: usize = 1024 * 1024;

/// Sends a Cluster of so many bytes.
async fn archive(channel: Channel, bytes: usize) -> Result<(), tonic::Status> {
    let request = WalArchiveRequest {
        cluster_definition: vec![b' '; bytes],
        source_file_name: format!("{bytes} bytes"),
        ..WalArchiveRequest::default()
    };
    WalClient::new(channel).archive(request).await.map(|_| ())
}

#[tokio::test]
async fn c37_five_mebibytes_are_taken_on_both_transports() {
    let unix = UnixServer::start().await;
    archive(client::unix(&unix.socket).await, 5 * MIB).await.expect("taken");

    let folder = TempDir::new().expect("a folder");
    let (server, operator) = (certificates::server(), certificates::client());
    let tls = TlsServer::start(certificates::mount(folder.path(), &server, &[&operator.pem])).await;
    archive(client::tls(tls.address, &server, &operator).await.expect("served"), 5 * MIB).await.expect("taken");
}

#[tokio::test]
async fn kg03_sec10_a_message_above_the_limit_is_refused_and_nothing_else() {
    let server = UnixServer::start().await;
    let channel = client::unix(&server.socket).await;
    let status = archive(channel.clone(), 16 * MIB).await.expect_err("with its other fields it is above the limit");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("at most 16777216"), "{status:?}");
    archive(channel, 15 * MIB).await.expect("taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kg03_many_at_a_time_wait_for_their_turn() {
    let server = UnixServer::start().await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let channel = client::unix(&server.socket).await;
        for _ in 0..10 {
            requests.spawn(archive(channel.clone(), 5 * MIB));
        }
    }
    while let Some(answer) = requests.join_next().await {
        answer.expect("no panic").expect("taken");
    }
}

/// The begin of a message, and nothing after it.
struct Stalled(Option<Bytes>);

impl http_body::Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |begin| Poll::Ready(Some(Ok(Frame::data(begin)))))
    }
}

#[tokio::test]
async fn kg03_c11_slow_clients_do_not_hold_up_a_handshake() {
    let server = UnixServer::start().await;
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let channel = client::unix(&server.socket).await;
        slow.spawn(async move {
            let announced = u32::try_from(12 * MIB).expect("small");
            let begin: Vec<u8> = [0].into_iter().chain(announced.to_be_bytes()).collect();
            client::send(&channel, "/cnpgi.wal.v1.WAL/Archive", Body::new(Stalled(Some(begin.into())))).await
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begin = Instant::now();
    client::name(client::unix(&server.socket).await).await.expect("served");
    archive(client::unix(&server.socket).await, 60 * 1024).await.expect("a usual request does not wait");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(slow.try_join_next().is_none(), "they have until the time limit");
}
