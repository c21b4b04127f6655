//! A server that plays broken answers byte by byte (faults.md I-WIRE): it reads requests, and a script says what goes
//! over the wire.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::certificate::TestCertificate;
use super::tcp::{ResetSwitch, Wire, accept};
use super::thread::ServerThread;

/// Most bytes of a head that is read.
const HEAD_SIZE_BYTES_MAX: usize = 64 * 1024;

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub struct WireRequest {
    /// From 0, over all connections.
    pub number: usize,
    /// Method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body; empty when the script broke the connection before it was read.
    pub body: Vec<u8>,
}

impl WireRequest {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What happens on the wire, step by step. After the last step the connection waits for the next request.
#[derive(Debug, Clone, Default)]
pub struct WireAnswer {
    steps: Vec<Step>,
    read_body_bytes: Option<usize>,
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    Close,
    Reset,
    Silence,
}

impl WireAnswer {
    /// A whole answer with its length.
    pub fn http(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let length = body.as_ref().len().to_string();
        let mut all = headers.to_vec();
        all.push(("content-length", &length));
        Self::raw_http(status, &all, body)
    }

    /// An answer with exactly these headers, wrong lengths included.
    pub fn raw_http(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Self::bytes([head.as_bytes(), body.as_ref()].concat())
    }

    /// These bytes.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { steps: vec![Step::Send(bytes.into())], read_body_bytes: None }
    }

    /// An S3 error document.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>scripted</Message></Error>");
        Self::http(status, &[("content-type", "application/xml")], body)
    }

    /// Nothing at all, for ever.
    pub fn silence() -> Self {
        Self::default().then_silence()
    }

    /// RST, without an answer.
    pub fn reset() -> Self {
        Self::default().then_reset()
    }

    /// Then these bytes.
    #[must_use]
    pub fn then_send(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Send(bytes.into()));
        self
    }

    /// Then a pause.
    #[must_use]
    pub fn then_wait(mut self, wait: Duration) -> Self {
        self.steps.push(Step::Wait(wait));
        self
    }

    /// Then these bytes one by one, each after `every`.
    #[must_use]
    pub fn then_dribble(mut self, bytes: &[u8], every: Duration) -> Self {
        for byte in bytes {
            self.steps.push(Step::Wait(every));
            self.steps.push(Step::Send(vec![*byte]));
        }
        self
    }

    /// Then the end of the connection.
    #[must_use]
    pub fn then_close(mut self) -> Self {
        self.steps.push(Step::Close);
        self
    }

    /// Then RST.
    #[must_use]
    pub fn then_reset(mut self) -> Self {
        self.steps.push(Step::Reset);
        self
    }

    /// Then nothing, for ever.
    #[must_use]
    pub fn then_silence(mut self) -> Self {
        self.steps.push(Step::Silence);
        self
    }

    /// Reads only so many bytes of the request's body before the steps.
    #[must_use]
    pub fn after_body_bytes(mut self, bytes: usize) -> Self {
        self.read_body_bytes = Some(bytes);
        self
    }
}

type Script = Arc<dyn Fn(&WireRequest) -> WireAnswer + Send + Sync>;

/// A running script; dropping it ends it.
#[derive(Debug)]
pub struct ScriptedServer {
    thread: ServerThread,
    seen: Arc<Mutex<Vec<WireRequest>>>,
    tls: bool,
}

impl ScriptedServer {
    /// Plays `script` for every request over plain HTTP. The script sees the head of the request.
    pub fn start(script: impl Fn(&WireRequest) -> WireAnswer + Send + Sync + 'static) -> io::Result<Self> {
        Self::run(None, Arc::new(script))
    }

    /// As [`ScriptedServer::start`], over TLS with this certificate.
    pub fn start_tls(
        certificate: &TestCertificate,
        script: impl Fn(&WireRequest) -> WireAnswer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::run(Some(TlsAcceptor::from(certificate.server_config()?)), Arc::new(script))
    }

    /// Accepts connections and says nothing, not even a TLS handshake.
    pub fn start_black_hole() -> io::Result<Self> {
        let seen = Arc::default();
        let thread = ServerThread::start(|listener| async move {
            let mut held = Vec::new();
            while let Ok((tcp, _)) = listener.accept().await {
                held.push(tcp);
            }
        })?;
        Ok(Self { thread, seen, tls: true })
    }

    fn run(tls: Option<TlsAcceptor>, script: Script) -> io::Result<Self> {
        let seen = Arc::<Mutex<Vec<WireRequest>>>::default();
        let (shared, has_tls) = (Arc::clone(&seen), tls.is_some());
        let thread = ServerThread::start(move |listener| serve_listener(listener, tls, script, shared))?;
        Ok(Self { thread, seen, tls: has_tls })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.thread.address
    }

    /// The address with scheme, name and port.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.thread.address.port())
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<WireRequest> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve_listener(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    script: Script,
    seen: Arc<Mutex<Vec<WireRequest>>>,
) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        tokio::spawn(serve_connection(tcp, tls.clone(), Arc::clone(&script), Arc::clone(&seen)));
    }
}

async fn serve_connection(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    script: Script,
    seen: Arc<Mutex<Vec<WireRequest>>>,
) {
    let Ok((mut wire, reset)) = accept(tcp, tls.as_ref()).await else { return };
    while let Ok(Some((mut request, rest))) = read_head(&mut wire).await {
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            request.number = seen.len();
            seen.push(request.clone());
        }
        let answer = script(&request);
        let announced = request.header("content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        let wanted = answer.read_body_bytes.unwrap_or(announced).min(announced);
        let Ok(body) = read_body(&mut wire, rest, wanted).await else { return };
        if let Some(seen) = seen.lock().unwrap_or_else(PoisonError::into_inner).get_mut(request.number) {
            seen.body = body;
        }
        if play(&mut wire, &reset, answer.steps).await.is_err() {
            return;
        }
    }
}

/// Plays the steps; an error is the end of the connection.
async fn play(wire: &mut Box<dyn Wire>, reset: &ResetSwitch, steps: Vec<Step>) -> io::Result<()> {
    for step in steps {
        match step {
            Step::Send(bytes) => {
                wire.write_all(&bytes).await?;
                wire.flush().await?;
            }
            Step::Wait(wait) => tokio::time::sleep(wait).await,
            Step::Close => {
                let _closed = wire.shutdown().await;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Step::Reset => {
                reset.set();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Step::Silence => std::future::pending().await,
        }
    }
    Ok(())
}

/// The head of the next request and what came after it; `None` at the end of the connection.
async fn read_head(wire: &mut Box<dyn Wire>) -> io::Result<Option<(WireRequest, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > HEAD_SIZE_BYTES_MAX || wire.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let rest = bytes.split_off(end + 4);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(ToOwned::to_owned);
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Some((WireRequest { number: 0, method, target, headers, body: Vec::new() }, rest)))
}

async fn read_body(wire: &mut Box<dyn Wire>, mut body: Vec<u8>, wanted: usize) -> io::Result<Vec<u8>> {
    while body.len() < wanted {
        if wire.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(body)
}
