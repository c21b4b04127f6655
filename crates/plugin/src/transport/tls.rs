//! The operator's connection: TLS 1.3 with certificates on both sides.
//!
//! Each side trusts exactly the certificate that the other one was given, as its file `tls.crt` has it; no authority is
//! asked. cert-manager replaces the files while the server runs, so they are looked at for every new connection.

use std::fs::Metadata;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::TransportError;
use super::accept::{self, Listener};
use super::certificate::Allowance;
use super::limits::Services;
use crate::log::Log;

/// How long a peer may take to say who it is.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// The largest file of certificates that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The one protocol that is spoken above TLS.
const ALPN: &[u8] = b"h2";

/// Refused peers that are logged: one in so much time, with the number of those in between.
const REFUSED_LOG_PAUSE: Duration = Duration::from_secs(1);

/// The files of the two secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, with its chain if it has one.
    pub server_cert: PathBuf,
    /// Its private key.
    pub server_key: PathBuf,
    /// The certificates that a client may show; each is taken as it is.
    pub client_cert: PathBuf,
}

/// A listening address: bound, not yet served.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// The address with its port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listener, for something other than the services.
    #[must_use]
    pub fn into_listener(self) -> TcpListener {
        self.listener
    }
}

/// Listens on `HOST:PORT`, or on every address of the machine for `:PORT`.
///
/// # Errors
/// When the address is none, or taken.
pub async fn bind(address: &str) -> Result<Bound, TransportError> {
    let failed = |source| TransportError::Address { address: address.to_owned(), source };
    let listener = match address.strip_prefix(':') {
        Some(port) => {
            let port: u16 = port.parse().map_err(|_| failed(io::Error::other("the port is no number below 65536")))?;
            match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                Ok(listener) => listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(error)),
                // A machine without IPv6.
                Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(failed)?,
            }
        }
        None => TcpListener::bind(address).await.map_err(failed)?,
    };
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address })
}

/// Serves on `address` (see [`bind`]) until the shutdown.
///
/// # Errors
/// When the address cannot be listened on, or a file cannot be used at the start.
pub async fn serve(
    address: &str,
    files: TlsFiles,
    services: Services,
    shutdown: CancellationToken,
) -> Result<(), TransportError> {
    serve_bound(bind(address).await?, files, services, shutdown).await
}

/// Serves on an address that is bound already.
///
/// # Errors
/// When a file cannot be used at the start.
pub async fn serve_bound(
    bound: Bound,
    files: TlsFiles,
    services: Services,
    shutdown: CancellationToken,
) -> Result<(), TransportError> {
    let settings = Current::load(files)?;
    services.log.info("listening", &[("address", bound.address.to_string().into())]);
    let listener = TlsListener { listener: bound.listener, settings, refused: Refused::new(services.log.clone()) };
    let connections = accept::start(listener, services.log.clone(), shutdown.clone());
    services.serve(connections, shutdown).await
}

struct TlsListener {
    listener: TcpListener,
    settings: Current,
    refused: Refused,
}

impl Listener for TlsListener {
    type Raw = (TcpStream, SocketAddr);
    type Ready = TlsStream<TcpStream>;

    async fn accept(&self) -> io::Result<Self::Raw> {
        self.listener.accept().await
    }

    async fn greet(self: Arc<Self>, (stream, peer): Self::Raw) -> Option<Self::Ready> {
        match tokio::time::timeout(HANDSHAKE_TIME_MAX, self.handshake(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(reason)) => self.refused.log(peer, &reason),
            Err(_) => self.refused.log(peer, "it did not finish the handshake in time"),
        }
        None
    }
}

impl TlsListener {
    async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        // A connection that cannot be tuned works all the same.
        drop(stream.set_nodelay(true));
        let _refused = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        let mut first = [0];
        if matches!(stream.peek(&mut first).await, Ok(0)) {
            // Whoever only looks whether the port is open, as a readiness probe does, is nobody to complain about.
            return Err(String::new());
        }
        let config = self.settings.config().map_err(|error| error.to_string())?;
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(|error| error.to_string())?;
        // rustls refuses a client that names other protocols only; this one is about a client that names none.
        match stream.get_ref().1.alpn_protocol() {
            Some(ALPN) => Ok(stream),
            _ => Err("it did not offer HTTP/2 (ALPN h2)".to_owned()),
        }
    }
}

/// Reports refused peers, and not more often than somebody can read.
struct Refused {
    log: Log,
    last: Mutex<(Option<Instant>, u64)>,
}

impl Refused {
    fn new(log: Log) -> Self {
        Self { log, last: Mutex::new((None, 0)) }
    }

    fn log(&self, peer: SocketAddr, reason: &str) {
        if reason.is_empty() {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.is_some_and(|at| at.elapsed() < REFUSED_LOG_PAUSE) {
            last.1 = last.1.saturating_add(1);
            return;
        }
        let fields = [
            ("peer", Value::from(peer.to_string())),
            ("error", Value::from(reason)),
            ("refusedBefore", Value::from(last.1)),
        ];
        *last = (Some(Instant::now()), 0);
        self.log.warn("a TLS connection was refused", &fields);
    }
}

/// The settings as the files have them now.
struct Current {
    files: TlsFiles,
    loaded: Mutex<(Stamps, Arc<ServerConfig>)>,
}

/// What changes when a file is replaced or written: device, inode, size, time of change.
type Stamp = (u64, u64, u64, i64, i64);
type Stamps = [Stamp; 3];

impl Current {
    fn load(files: TlsFiles) -> Result<Self, TransportError> {
        let stamps = stamps(&files)?;
        let config = Arc::new(server_config(&files)?);
        Ok(Self { files, loaded: Mutex::new((stamps, config)) })
    }

    /// The settings for a new connection. A file that cannot be used refuses the connection: what it said before is not
    /// known to hold still. The files are small and local, so they are read in place.
    fn config(&self) -> Result<Arc<ServerConfig>, TransportError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before they are read: a change in between is found by the next connection.
        let stamps = stamps(&self.files)?;
        if stamps != loaded.0 {
            *loaded = (stamps, Arc::new(server_config(&self.files)?));
        }
        Ok(Arc::clone(&loaded.1))
    }
}

/// Whether the files can be used as they are now.
///
/// # Errors
/// [`TransportError::TlsFile`]
pub fn check(files: &TlsFiles) -> Result<(), TransportError> {
    server_config(files).map(drop)
}

fn stamps(files: &TlsFiles) -> Result<Stamps, TransportError> {
    let stamp = |path: &Path| {
        let of = |file: Metadata| (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec());
        std::fs::metadata(path).map(of).map_err(|error| unusable(path, error.to_string()))
    };
    Ok([stamp(&files.server_cert)?, stamp(&files.server_key)?, stamp(&files.client_cert)?])
}

fn unusable(path: &Path, reason: impl Into<String>) -> TransportError {
    TransportError::TlsFile { path: path.to_owned(), reason: reason.into() }
}

fn read(path: &Path) -> Result<Vec<u8>, TransportError> {
    let size = std::fs::metadata(path).map_err(|error| unusable(path, error.to_string()))?.size();
    if size > FILE_BYTES_MAX {
        return Err(unusable(path, format!("it has {size} bytes, more than {FILE_BYTES_MAX}")));
    }
    std::fs::read(path).map_err(|error| unusable(path, error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(path, "it has no certificate")),
        Ok(found) => Ok(found),
        Err(_) => Err(unusable(path, "it is not in PEM form")),
    }
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, TransportError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Pinned::load(&files.client_cert, &provider)?);
    let chain = certificates(&files.server_cert)?;
    let key = zeroize(read(&files.server_key)?, PrivateKeyDer::from_pem_slice)
        .map_err(|_| unusable(&files.server_key, "it has no private key in PEM form"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&files.server_cert, error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&files.server_key, format!("it does not fit the certificate: {error}")))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would not show its certificate again, which may have expired or been replaced.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Uses bytes that hold a secret, and overwrites them.
fn zeroize<T>(bytes: Vec<u8>, using: impl FnOnce(&[u8]) -> T) -> T {
    use secrecy::ExposeSecret;
    let bytes = secrecy::SecretSlice::from(bytes);
    using(bytes.expose_secret())
}

/// Accepts the clients whose certificate is one of these, byte for byte, while it is valid and meant for clients.
#[derive(Debug)]
struct Pinned {
    certificates: Vec<(CertificateDer<'static>, Allowance)>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn load(path: &Path, provider: &CryptoProvider) -> Result<Self, TransportError> {
        let pinned = |certificate: CertificateDer<'static>| {
            let allowance = Allowance::parse(&certificate)
                .ok_or_else(|| unusable(path, "it holds something that is no certificate"))?;
            Ok((certificate, allowance))
        };
        let certificates = certificates(path)?.into_iter().map(pinned).collect::<Result<_, TransportError>>()?;
        Ok(Self { certificates, algorithms: provider.signature_verification_algorithms })
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hint: a client shows the only certificate that it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (_, allowance) = self
            .certificates
            .iter()
            .find(|(certificate, _)| certificate == end_entity)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let refused = if now_s < allowance.not_before_s {
            CertificateError::NotValidYet
        } else if now_s > allowance.not_after_s {
            CertificateError::Expired
        } else if !allowance.client {
            CertificateError::InvalidPurpose
        } else {
            return Ok(ClientCertVerified::assertion());
        };
        Err(Error::InvalidCertificate(refused))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
