//! `serve`: the resident engine behind a unix socket, for `archive-push` and `archive-get` of the same user.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgbr_config::engine::archive::{fetch_options, push_options};
use pgbr_config::{Command, opt};
use pgbr_repo::command::archive::WalSource;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::progress::{Context, Level, Progress, Reporter};
use pgbr_repo::resident::protocol::{Answer, Report, Request, Work};
use pgbr_repo::resident::{Fetcher, Pusher, PusherOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::archive_get;
use crate::exit::{Failure, Outcome};
use crate::listener::Listener;
use crate::session::Session;
use crate::{fingerprint, listener, resident};

/// Requests at once. PostgreSQL makes one at a time.
const CONNECTIONS_MAX: usize = 64;

/// Longest wait for a request that was announced by a connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves requests until a signal ends it; those that are being worked on come to their end.
pub async fn run(session: &Arc<Session>) -> Result<Outcome, Failure> {
    session.test_stop()?;
    let path = resident::socket_path(session)?;
    let server = Arc::new(Server {
        pusher: Pusher::new(
            session.writable_repositories()?,
            PusherOptions { push: push_options(session.options())?, workers: session.workers() },
            session.context.clone(),
        ),
        fetcher: Fetcher::new(session.repositories()?, fetch_options(session.options())?, session.context.clone()),
        push_target: fingerprint::of_archive(session, Command::ArchivePush)?,
        get_target: fingerprint::of_archive(session, Command::ArchiveGet)?,
        session: Arc::clone(session),
    });
    let listener = listener::open(session, &path)?;
    session.context.info(format!("archiving for stanza {} on '{}'", session.stanza()?, path.display()));
    accept(session, &server, &listener).await
}

/// Takes requests until a signal comes or, where systemd would start it again, nobody has asked for a while.
async fn accept(session: &Session, server: &Arc<Server>, listener: &Listener) -> Result<Outcome, Failure> {
    let idle_max = match listener.is_passed() {
        true => Some(session.options().require(opt::SERVE_IDLE)?),
        false => None,
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut requests = JoinSet::new();
    loop {
        let is_idle = requests.is_empty();
        let accepted = tokio::select! {
            () = session.context.cancel.cancelled() => break,
            Some(_) = requests.join_next(), if !is_idle => continue,
            () = after(idle_max), if is_idle => {
                session.context.info("ended: no request for a while");
                break;
            }
            accepted = listener.socket.accept() => accepted,
        };
        let (Ok((stream, _)), Ok(place)) = (accepted, Arc::clone(&places).acquire_owned().await) else {
            // Out of descriptors, for example: it passes.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let server = Arc::clone(server);
        requests.spawn(async move {
            server.serve(stream).await;
            drop(place);
        });
    }
    while requests.join_next().await.is_some() {}
    Ok(Outcome::Done)
}

/// Ends after this time; without one, never.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

struct Server {
    pusher: Arc<Pusher>,
    fetcher: Arc<Fetcher>,
    push_target: String,
    get_target: String,
    session: Arc<Session>,
}

impl Server {
    /// One request, one answer. An end that breaks off has lost nothing: it does its work itself.
    async fn serve(&self, mut stream: UnixStream) {
        let own = rustix::process::geteuid().as_raw();
        if stream.peer_cred().map(|peer| peer.uid()).ok() != Some(own) {
            self.session.context.warn("a request of another user was refused");
            return;
        }
        let Ok(Ok(frame)) = tokio::time::timeout(REQUEST_TIMEOUT, resident::read_frame(&mut stream)).await else {
            return;
        };
        let answer = match Request::parse(&frame) {
            Ok(request) if request.target == *self.target(&request.work) => self.work(request.work).await,
            Ok(_) => Answer::Declined { reason: "it was started with other options".to_owned() },
            Err(error) => Answer::Declined { reason: error.to_string() },
        };
        if let Ok(frame) = answer.write() {
            drop(stream.write_all(&frame).await);
        }
    }

    fn target(&self, work: &Work) -> &String {
        match work {
            Work::Push { .. } => &self.push_target,
            Work::Get { .. } => &self.get_target,
        }
    }

    async fn work(&self, work: Work) -> Answer {
        let heard = Arc::new(Heard { inner: Arc::clone(&self.session.context.reporter), warnings: Mutex::default() });
        let context = Context { reporter: Arc::clone(&heard) as Arc<dyn Reporter>, ..self.session.context.clone() };
        let done = match work {
            Work::Push { path } => self.push(&path, &context).await,
            Work::Get { name, destination, stop_at_gap } => self.get(&name, &destination, stop_at_gap, &context).await,
        };
        let warnings = std::mem::take(&mut *heard.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        match done {
            Ok((Outcome::Done, done)) => Answer::Done(Report { warnings, done: Some(done) }),
            Ok((Outcome::Missing, done)) => Answer::Missing(Report { warnings, done: Some(done) }),
            // An answer of `plan` alone; "missing" would end a recovery.
            Ok((Outcome::Unreachable, done)) => {
                let report = Report { warnings, done: None };
                Answer::Failed { code: ErrorKind::Assert.code(), message: done, report }
            }
            Err(failure) => {
                let report = Report { warnings, done: None };
                Answer::Failed { code: failure.code, message: failure.message, report }
            }
        }
    }

    async fn push(&self, path: &str, context: &Context) -> Result<(Outcome, String), Failure> {
        // The stop file may have come since the command looked.
        self.session.test_stop()?;
        let source = WalSource::new(path.as_ref())?;
        for warning in self.pusher.push(&source).await?.warnings {
            context.warn(warning);
        }
        let done = format!("pushed WAL file '{}' to the archive", source.name);
        context.info(&done);
        Ok((Outcome::Done, done))
    }

    async fn get(
        &self,
        name: &str,
        destination: &str,
        stop_at_gap: bool,
        context: &Context,
    ) -> Result<(Outcome, String), Failure> {
        let Some(request) = archive_get::request(&self.session, name)? else {
            return Err(Failure::new(ErrorKind::ParamInvalid, "no file of an archive has such a name"));
        };
        let got = self.fetcher.get(request, destination.as_ref(), context).await?;
        let (outcome, text) = archive_get::conclude(name, got, stop_at_gap, context)?;
        context.info(&text);
        Ok((outcome, text))
    }
}

/// Keeps the warnings of one request, which belong into the log of the command that asked.
#[derive(Debug)]
struct Heard {
    inner: Arc<dyn Reporter>,
    warnings: Mutex<Vec<String>>,
}

impl Reporter for Heard {
    fn message(&self, level: Level, worker: usize, text: &str) {
        self.inner.message(level, worker, text);
        if level == Level::Warn {
            self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
        }
    }

    fn progress(&self, progress: Progress) {
        self.inner.progress(progress);
    }
}
