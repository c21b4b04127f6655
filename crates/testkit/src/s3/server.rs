//! A real S3 server over HTTPS: s3s checks signatures and speaks the protocol, s3s-fs keeps each bucket as a folder
//! and each object as a file, so that tests can look at and damage objects.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::{S3Auth, SecretKey, SimpleAuth};
use s3s::host::SingleDomain;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::certificate::TestCertificate;
use super::fault::{Fault, RequestInfo, Rule, S3Operation};
use super::flat::FlatKeys;
use super::service::{Shared, serve};
use super::tcp::accept;
use super::thread::ServerThread;
use super::versions::{VersionedKeys, Versions};
use crate::canary;

/// The region that the server signs for.
pub const REGION: &str = "us-east-1";

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct S3Server {
    thread: ServerThread,
    shared: Arc<Shared>,
    root: PathBuf,
    files: TempDir,
    key: String,
    secret: String,
    keys: Keys,
}

/// The one pair of keys that the server knows.
#[derive(Debug, Clone)]
struct Keys(Arc<Mutex<SimpleAuth>>);

impl Keys {
    fn one(key: &str, secret: &str) -> Self {
        Self(Arc::new(Mutex::new(SimpleAuth::from_single(key, secret))))
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> s3s::S3Result<SecretKey> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).lookup(access_key).cloned();
        found.ok_or_else(|| s3s::s3_error!(InvalidAccessKeyId, "the key does not exist"))
    }
}

impl S3Server {
    /// Serves the buckets in folder `root`, which is created when it is missing.
    pub fn start(root: &Path) -> io::Result<Self> {
        Self::start_with(root, &TestCertificate::localhost()?)
    }

    /// As [`S3Server::start`], showing this certificate.
    pub fn start_with(root: &Path, certificate: &TestCertificate) -> io::Result<Self> {
        Self::run(root, certificate, &Keeping::Plain)
    }

    /// As [`S3Server::start`]; an object may have the name of a "folder" of others, as in S3. For that the objects'
    /// files have other names than their keys.
    pub fn start_flat(root: &Path) -> io::Result<Self> {
        Self::run(root, &TestCertificate::localhost()?, &Keeping::Flat)
    }

    /// As [`S3Server::start`]; the buckets keep every version of every object, and can be asked for them.
    pub fn start_versioned(root: &Path) -> io::Result<Self> {
        let versions = Arc::new(Versions::new()?);
        Self::run(root, &TestCertificate::localhost()?, &Keeping::Versions(versions))
    }

    fn run(root: &Path, certificate: &TestCertificate, keeping: &Keeping) -> io::Result<Self> {
        let (key, secret) = (canary::S3_KEY.to_owned(), canary::S3_SECRET.to_owned());
        let files = tempfile::tempdir()?;
        certificate.write_pem(&files.path().join("ca.pem"))?;
        let tls = TlsAcceptor::from(certificate.server_config()?);
        let keys = Keys::one(&key, &secret);
        let store = open_store(root, keys.clone(), keeping)?;
        let shared = Arc::new(Shared::new(root, keeping.versions()));
        let serving = Arc::clone(&shared);
        let thread = ServerThread::start(move |listener| serve_listener(listener, tls, store, serving))?;
        Ok(Self { thread, shared, root: root.to_owned(), files, key, secret, keys })
    }

    /// Takes other keys from now on, and refuses those of before.
    pub fn rotate_keys(&mut self, key: &str, secret: &str) {
        (self.key, self.secret) = (key.to_owned(), secret.to_owned());
        *self.keys.0.lock().unwrap_or_else(PoisonError::into_inner) = SimpleAuth::from_single(key, secret);
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.thread.address.port()
    }

    /// The address, with name and port: `https://localhost:PORT`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port())
    }

    /// The certificate that clients must trust (`repo-storage-ca-file`).
    pub fn ca_file(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// `repo-s3-key`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// `repo-s3-key-secret`.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// `repo-s3-region`.
    pub fn region(&self) -> &str {
        REGION
    }

    /// Makes a bucket and returns its folder.
    pub fn create_bucket(&self, name: &str) -> io::Result<PathBuf> {
        let bucket = self.root.join(name);
        std::fs::create_dir_all(&bucket)?;
        Ok(bucket)
    }

    /// Pages of a listing of versions have at most so many entries from now on.
    pub fn limit_version_pages(&self, entries: usize) {
        if let Some(versions) = self.shared.versions() {
            versions.set_page_max(entries);
        }
    }

    /// Adds a rule; all rules that match a request apply, in the order they were added.
    pub fn inject(&self, rule: Rule) {
        self.shared.add_rule(rule);
    }

    /// Heals the server.
    pub fn heal(&self) {
        self.shared.clear_rules();
    }

    /// Answers every request this much later.
    pub fn delay(&self, wait: Duration) {
        self.inject(Rule::always(Fault::Delay(wait), |_| true));
    }

    /// How many requests for an operation came.
    pub fn count(&self, operation: S3Operation) -> u64 {
        self.shared.count(operation)
    }

    /// The last request for an operation.
    pub fn last_request(&self, operation: S3Operation) -> Option<RequestInfo> {
        self.shared.last(operation)
    }
}

/// Serves on 127.0.0.1 until the program ends; prints where. Port 0 takes a free one. The certificate goes to
/// `cert_out`, which is the `repo-storage-ca-file` of clients.
#[allow(clippy::print_stdout)]
pub async fn serve_forever(root: &Path, port: u16, cert_out: &Path, key: &str, secret: &str) -> io::Result<()> {
    let certificate = TestCertificate::localhost()?;
    certificate.write_pem(cert_out)?;
    let store = open_store(root, Keys::one(key, secret), &Keeping::Plain)?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    let tls = TlsAcceptor::from(certificate.server_config()?);
    serve_listener(listener, tls, store, Arc::new(Shared::new(root, None))).await;
    Ok(())
}

/// How the server keeps objects.
enum Keeping {
    /// As files with the names of their keys.
    Plain,
    /// As files with other names.
    Flat,
    /// As [`Keeping::Plain`], and every version beside.
    Versions(Arc<Versions>),
}

impl Keeping {
    fn versions(&self) -> Option<Arc<Versions>> {
        match self {
            Self::Versions(versions) => Some(Arc::clone(versions)),
            Self::Plain | Self::Flat => None,
        }
    }
}

fn open_store(root: &Path, keys: Keys, keeping: &Keeping) -> io::Result<S3Service> {
    std::fs::create_dir_all(root)?;
    let files = s3s_fs::FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut builder = match keeping {
        Keeping::Plain => S3ServiceBuilder::new(files),
        Keeping::Flat => S3ServiceBuilder::new(FlatKeys(files)),
        Keeping::Versions(versions) => S3ServiceBuilder::new(VersionedKeys::new(files, root, Arc::clone(versions))?),
    };
    builder.set_auth(keys);
    builder.set_host(LoopbackHost(SingleDomain::new("localhost").map_err(io::Error::other)?));
    Ok(builder.build())
}

/// `bucket.localhost` is host style; `localhost` and addresses are path style.
struct LoopbackHost(SingleDomain);

impl s3s::host::S3Host for LoopbackHost {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> s3s::S3Result<s3s::host::VirtualHost<'a>> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        match name == "localhost" || name.ends_with(".localhost") {
            true => self.0.parse_host_header(name),
            false => Ok(s3s::host::VirtualHost::new(name)),
        }
    }
}

async fn serve_listener(listener: TcpListener, tls: TlsAcceptor, store: S3Service, shared: Arc<Shared>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        tokio::spawn(serve_connection(tcp, tls.clone(), store.clone(), Arc::clone(&shared)));
    }
}

async fn serve_connection(tcp: TcpStream, tls: TlsAcceptor, store: S3Service, shared: Arc<Shared>) {
    let Ok((wire, reset)) = accept(tcp, Some(&tls)).await else { return };
    let service = service_fn(move |request| {
        let (shared, store, reset) = (Arc::clone(&shared), store.clone(), reset.clone());
        async move { serve(&shared, &store, &reset, request).await }
    });
    let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    let _broken = http.serve_connection(TokioIo::new(wire), service).await;
}
