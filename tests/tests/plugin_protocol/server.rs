//! Servers in the test's own process, over the plugin's transports, with services that a test can do something with.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgbr_plugin::ids;
use pgbr_plugin::log::{Level, Log, Settings};
use pgbr_plugin::proto::backup::backup_server::{Backup, BackupServer};
use pgbr_plugin::proto::backup::{BackupRequest, BackupResult};
use pgbr_plugin::proto::identity::identity_server::IdentityServer;
use pgbr_plugin::proto::wal::wal_server::{Wal, WalServer};
use pgbr_plugin::proto::wal::{WalArchiveRequest, WalArchiveResult, WalRestoreRequest, WalRestoreResult};
use pgbr_plugin::service::identity::Identity;
use pgbr_plugin::transport::limits::Services;
use pgbr_plugin::transport::tls::{self, TlsFiles};
use pgbr_plugin::transport::unix;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

/// What the log of a server says.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    pub(crate) fn log(&self) -> Log {
        let settings = Settings { level: Level::Debug, ..Settings::default() };
        Log::write_to(settings, Box::new(self.clone())).expect("a thread")
    }

    /// Waits until a line has this text.
    pub(crate) async fn wait_for(&self, text: &str) -> String {
        for _ in 0..200 {
            let heard = String::from_utf8(self.0.lock().expect("the log").clone()).expect("text");
            if let Some(line) = heard.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the log never said {text}");
    }
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Archive answers with nothing, or panics when the name says so; Restore lasts until it is let go.
#[derive(Default)]
pub(crate) struct TestWal {
    pub(crate) gate: Arc<tokio::sync::Notify>,
}

#[tonic::async_trait]
impl Wal for TestWal {
    async fn archive(&self, request: Request<WalArchiveRequest>) -> Result<Response<WalArchiveResult>, Status> {
        let request = request.into_inner();
        assert_ne!(request.source_file_name, "panic", "as a mistake in a handler would");
        if request.source_file_name != format!("{} bytes", request.cluster_definition.len()) {
            return Err(Status::data_loss("another number of bytes arrived"));
        }
        Ok(Response::new(WalArchiveResult {}))
    }

    async fn restore(&self, _request: Request<WalRestoreRequest>) -> Result<Response<WalRestoreResult>, Status> {
        self.gate.notified().await;
        Ok(Response::new(WalRestoreResult {}))
    }
}

/// A backup that lasts.
struct TestBackup;

#[tonic::async_trait]
impl Backup for TestBackup {
    async fn backup(&self, _request: Request<BackupRequest>) -> Result<Response<BackupResult>, Status> {
        std::future::pending().await
    }
}

/// The services of a test's server.
pub(crate) fn services(log: &Log, gate: &Arc<tokio::sync::Notify>) -> Services {
    Services::new(log)
        .with(IdentityServer::new(Identity::new(&[])))
        .with(WalServer::new(TestWal { gate: Arc::clone(gate) }))
        .with(BackupServer::new(TestBackup))
}

/// A server on a socket.
pub(crate) struct UnixServer {
    pub(crate) folder: TempDir,
    pub(crate) socket: PathBuf,
    pub(crate) gate: Arc<tokio::sync::Notify>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), String>>,
    _end: DropGuard,
}

impl UnixServer {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let socket = folder.path().join(ids::PLUGIN_NAME);
        let (gate, shutdown, heard) = (Arc::default(), CancellationToken::new(), Heard::default());
        let task = spawn_unix(&socket, services(&heard.log(), &gate), &shutdown);
        heard.wait_for("listening").await;
        Self { folder, socket, gate, _end: shutdown.clone().drop_guard(), shutdown, task }
    }
}

pub(crate) fn spawn_unix(
    socket: &Path,
    services: Services,
    shutdown: &CancellationToken,
) -> JoinHandle<Result<(), String>> {
    let (socket, shutdown) = (socket.to_owned(), shutdown.clone());
    tokio::spawn(async move { unix::serve(&socket, services, shutdown).await.map_err(|error| error.to_string()) })
}

/// A server with TLS on a port of its own.
pub(crate) struct TlsServer {
    pub(crate) address: SocketAddr,
    pub(crate) heard: Heard,
    _end: DropGuard,
}

impl TlsServer {
    pub(crate) async fn start(files: TlsFiles) -> Self {
        let heard = Heard::default();
        let bound = tls::bind("127.0.0.1:0").await.expect("a port");
        let address = bound.address();
        let shutdown = CancellationToken::new();
        let services = services(&heard.log(), &Arc::default());
        tokio::spawn(tls::serve_bound(bound, files, services, shutdown.clone()));
        heard.wait_for("listening").await;
        Self { address, heard, _end: shutdown.drop_guard() }
    }
}
