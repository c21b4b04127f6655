//! The way to the resident engine, where one runs: `archive-push` and `archive-get` ask it first, and do the work
//! themselves when it is not there, does not answer, or was started with other options.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::Duration;

use pgbr_config::opt;
use pgbr_repo::resident::protocol::{self, Answer, LENGTH_BYTES, Report, Request, Work};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::exit::{Failure, Outcome};
use crate::fingerprint;
use crate::session::Session;

/// Longest wait for the engine to take a connection and a request: it has nothing else to do.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The user that can do everything anyway.
const ROOT: u32 = 0;

/// The socket of the session's stanza.
pub fn socket_path(session: &Session) -> Result<PathBuf, Failure> {
    Ok(match session.options().path(opt::SERVE_SOCKET) {
        Some(path) => path.into(),
        None => session.lock_path().join(format!("{}-serve.sock", session.stanza()?)),
    })
}

/// Hands the work to the engine. `None` when the command has to do it itself.
pub async fn ask(session: &Session, work: Work) -> Result<Option<Outcome>, Failure> {
    let path = socket_path(session)?;
    // Looked at first: most hosts have none, and nothing else is then asked of them.
    if !std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(None);
    }
    let request = Request { target: fingerprint::of_archive(session, session.command())?, work };
    let limit: Duration = session.options().require(opt::ARCHIVE_TIMEOUT)?;
    let asked = tokio::time::timeout(limit, exchange(&path, &request)).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(reason)) => return Ok(alone(session, &reason)),
        Err(_) => return Ok(alone(session, "it did not answer in time")),
    };
    let say = |report: Report| {
        report.warnings.iter().for_each(|text| session.context.warn(text));
        report.done.iter().for_each(|text| session.context.info(text));
    };
    match answer {
        Answer::Declined { reason } => Ok(alone(session, &reason)),
        Answer::Done(report) => {
            say(report);
            Ok(Some(Outcome::Done))
        }
        Answer::Missing(report) => {
            say(report);
            Ok(Some(Outcome::Missing))
        }
        Answer::Failed { code, message, report } => {
            say(report);
            Err(Failure { code, message })
        }
    }
}

fn alone<T>(session: &Session, reason: &str) -> Option<T> {
    session.context.detail(format!("without the resident archiver: {reason}"));
    None
}

async fn exchange(path: &std::path::Path, request: &Request) -> Result<Answer, String> {
    let text = |error: std::io::Error| error.to_string();
    let frame = request.write().map_err(|error| error.to_string())?;
    let sent = async {
        let mut stream = UnixStream::connect(path).await.map_err(text)?;
        // Whoever can write to the directory could have put a socket there. One that systemd opened is root's: the kernel
        // tells who began to listen.
        let peer = stream.peer_cred().map_err(text)?.uid();
        if peer != rustix::process::geteuid().as_raw() && peer != ROOT {
            return Err(format!("it runs as user {peer}"));
        }
        stream.write_all(&frame).await.map_err(text)?;
        Ok(stream)
    };
    let mut stream =
        tokio::time::timeout(CONNECT_TIMEOUT, sent).await.map_err(|_| "it takes no request".to_owned())??;
    let answer = read_frame(&mut stream).await?;
    Answer::parse(&answer).map_err(|error| error.to_string())
}

/// The next frame, without its length.
pub async fn read_frame(stream: &mut UnixStream) -> Result<Vec<u8>, String> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).await.map_err(|error| error.to_string())?;
    let bytes = protocol::frame_bytes(length).map_err(|error| error.to_string())?;
    let mut frame = vec![0; bytes];
    stream.read_exact(&mut frame).await.map_err(|error| error.to_string())?;
    Ok(frame)
}
