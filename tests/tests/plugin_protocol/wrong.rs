//! What nobody should send or do: unknown methods, broken requests, and handlers with mistakes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgbr_plugin::ids;
use pgbr_plugin::proto::backup::BackupRequest;
use pgbr_plugin::proto::backup::backup_client::BackupClient;
use pgbr_plugin::proto::backup::backup_server::{Backup, BackupServer};
use pgbr_plugin::proto::identity::postgres_server::{Postgres, PostgresServer};
use pgbr_plugin::proto::metrics::metrics_server::{Metrics, MetricsServer};
use pgbr_plugin::proto::operator::operator_server::{Operator, OperatorServer};
use pgbr_plugin::proto::operator_lifecycle::operator_lifecycle_server::{OperatorLifecycle, OperatorLifecycleServer};
use pgbr_plugin::proto::reconciler::reconciler_hooks_server::{ReconcilerHooks, ReconcilerHooksServer};
use pgbr_plugin::proto::wal::restore_job_hooks_server::{RestoreJobHooks, RestoreJobHooksServer};
use pgbr_plugin::proto::wal::wal_client::WalClient;
use pgbr_plugin::proto::wal::wal_server::{Wal, WalServer};
use pgbr_plugin::proto::wal::{WalArchiveRequest, WalRestoreRequest};
use pgbr_plugin::transport::limits::Services;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::body::Body;

use crate::client::{self, name, unix};
use crate::server::{Heard, UnixServer, spawn_unix};

/// Every method of every service.
pub(crate) const METHODS: [&str; 28] = [
    "/cnpgi.wal.v1.WAL/GetCapabilities",
    "/cnpgi.wal.v1.WAL/Archive",
    "/cnpgi.wal.v1.WAL/Restore",
    "/cnpgi.wal.v1.WAL/Status",
    "/cnpgi.wal.v1.WAL/SetFirstRequired",
    "/cnpgi.backup.v1.Backup/GetCapabilities",
    "/cnpgi.backup.v1.Backup/Backup",
    "/cnpgi.wal.v1.RestoreJobHooks/GetCapabilities",
    "/cnpgi.wal.v1.RestoreJobHooks/Restore",
    "/cnpgi.operator.v1.Operator/GetCapabilities",
    "/cnpgi.operator.v1.Operator/ValidateClusterCreate",
    "/cnpgi.operator.v1.Operator/ValidateClusterChange",
    "/cnpgi.operator.v1.Operator/MutateCluster",
    "/cnpgi.operator.v1.Operator/SetStatusInCluster",
    "/cnpgi.operator.v1.Operator/Deregister",
    "/cnpgi.operator_lifecycle.v1.OperatorLifecycle/GetCapabilities",
    "/cnpgi.operator_lifecycle.v1.OperatorLifecycle/LifecycleHook",
    "/cnpgi.reconciler.v1.ReconcilerHooks/GetCapabilities",
    "/cnpgi.reconciler.v1.ReconcilerHooks/Pre",
    "/cnpgi.reconciler.v1.ReconcilerHooks/Post",
    "/cnpgi.identity.v1.Postgres/GetCapabilities",
    "/cnpgi.identity.v1.Postgres/EnrichConfiguration",
    "/cnpgi.metrics.v1.Metrics/GetCapabilities",
    "/cnpgi.metrics.v1.Metrics/Define",
    "/cnpgi.metrics.v1.Metrics/Collect",
    "/cnpgi.identity.v1.Identity/GetPluginMetadata",
    "/cnpgi.identity.v1.Identity/GetPluginCapabilities",
    "/cnpgi.identity.v1.Identity/Probe",
];

/// Calls a method by its path, with an empty message.
pub(crate) async fn call(channel: &tonic::transport::Channel, path: &str) -> Code {
    let message = Body::new(Whole(Some(vec![0; 5].into())));
    let answer = client::send(channel, path, message).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    if let Some(status) = tonic::Status::from_header_map(&parts.headers) {
        return status.code();
    }
    let mut body = std::pin::pin!(body);
    while let Some(frame) = std::future::poll_fn(|context| http_body::Body::poll_frame(body.as_mut(), context)).await {
        if let Ok(trailers) = frame.expect("a frame").into_trailers() {
            return tonic::Status::from_header_map(&trailers).map_or(Code::Unknown, |status| status.code());
        }
    }
    Code::Unknown
}

struct Whole(Option<bytes::Bytes>);

impl http_body::Body for Whole {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

/// A service with nothing in it.
struct Nothing;

impl Wal for Nothing {}
impl RestoreJobHooks for Nothing {}
impl Backup for Nothing {}
impl Operator for Nothing {}
impl OperatorLifecycle for Nothing {}
impl ReconcilerHooks for Nothing {}
impl Postgres for Nothing {}
impl Metrics for Nothing {}

#[tokio::test]
async fn kg05_c38_methods_that_are_not_there_say_so() {
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join(ids::PLUGIN_NAME);
    let (heard, shutdown) = (Heard::default(), CancellationToken::new());
    let services = Services::new(&heard.log())
        .with(WalServer::new(Nothing))
        .with(RestoreJobHooksServer::new(Nothing))
        .with(BackupServer::new(Nothing))
        .with(OperatorServer::new(Nothing))
        .with(OperatorLifecycleServer::new(Nothing))
        .with(ReconcilerHooksServer::new(Nothing))
        .with(PostgresServer::new(Nothing))
        .with(MetricsServer::new(Nothing));
    let _task = spawn_unix(&socket, services, &shutdown);
    heard.wait_for("listening").await;
    let channel = unix(&socket).await;
    for path in METHODS.iter().chain(&["/cnpgi.wal.v1.WAL/Nonsense", "/nobody.v1.Nothing/Here", "/", "/x"]) {
        assert_eq!(call(&channel, path).await, Code::Unimplemented, "{path}");
    }
    assert_eq!(call(&channel, "/grpc.health.v1.Health/Check").await, Code::Ok);
    shutdown.cancel();
}

#[tokio::test]
async fn c38_re08_a_panic_is_an_answer_and_reaches_nobody_else() {
    let server = UnixServer::start().await;
    let channel = unix(&server.socket).await;
    let mut waiting = WalClient::new(channel.clone());
    let waiting = tokio::spawn(async move { waiting.restore(WalRestoreRequest::default()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..3 {
        let request = WalArchiveRequest { source_file_name: "panic".to_owned(), ..WalArchiveRequest::default() };
        let status = WalClient::new(channel.clone()).archive(request).await.expect_err("it panics");
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("mistake in pgbr"), "{status:?}");
    }
    server.gate.notify_one();
    waiting.await.expect("no panic").expect("a request on the same connection goes on");
    name(channel).await.expect("and so does the connection");
    name(unix(&server.socket).await).await.expect("and the server");
}

#[tokio::test]
async fn c38_a_broken_message_is_the_callers_mistake() {
    let server = UnixServer::start().await;
    let channel = unix(&server.socket).await;
    for body in [&[0, 0, 0, 0, 3, 0xff, 0xff, 0xff][..], &[9, 0, 0, 0, 0], &[0, 0, 0], &[]] {
        let body = Body::new(Whole(Some(bytes::Bytes::copy_from_slice(body))));
        client::send(&channel, "/cnpgi.wal.v1.WAL/Archive", body).await.expect("an answer");
    }
    name(channel).await.expect("served on");
}

#[tokio::test]
async fn c11_c12_the_handshake_is_quick_while_a_backup_runs() {
    let server = UnixServer::start().await;
    let mut backup = BackupClient::new(unix(&server.socket).await);
    let backup = tokio::spawn(async move { backup.backup(BackupRequest::default()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        name(unix(&server.socket).await).await.expect("served");
        times.push(begin.elapsed());
    }
    times.sort();
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
    assert!(!backup.is_finished());
}

#[tokio::test]
async fn the_end_waits_a_moment_for_open_requests() {
    let server = UnixServer::start().await;
    let channel = unix(&server.socket).await;
    let mut waiting = WalClient::new(channel);
    let waiting = tokio::spawn(async move { waiting.restore(WalRestoreRequest::default()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(client::try_unix(&server.socket).await.is_err(), "nothing new is taken");
    assert!(
        server.socket.symlink_metadata().is_ok(),
        "the socket stays, so that callers fail instead of doing without"
    );
    let gate = Arc::clone(&server.gate);
    gate.notify_one();
    waiting.await.expect("no panic").expect("what was open is answered");
    let ended = tokio::time::timeout(Duration::from_secs(5), server.task).await;
    ended.expect("it ends at once then").expect("no panic").expect("without an error");
}
