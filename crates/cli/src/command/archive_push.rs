//! `archive-push`

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_config::engine::archive::push_options;
use pgbr_config::{Command, opt};
use pgbr_repo::command::archive::push::{PushOptions, Pushed, push};
use pgbr_repo::command::archive::push_ahead::{self, PushAheadOptions, Round};
use pgbr_repo::command::archive::spool::{FileIdentity, Spool, Status};
use pgbr_repo::command::archive::{WalSource, measure_queue};
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::repository::WritableRepository;
use pgbr_repo::resident::protocol::Work;

use super::wal_path;
use crate::background;
use crate::exit::{Failure, Outcome};
use crate::fingerprint;
use crate::lock::{LockType, Locks};
use crate::resident;
use crate::session::Session;
use crate::waiting::Waiting;

/// How long the background half stays at most: its options are as old as it is.
const LIFE_MAX: Duration = Duration::from_secs(300);

/// Archives one file.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let [parameter] = session.parsed.parameters.as_slice() else {
        return Err(Failure::new(ErrorKind::ParamRequired, "WAL segment to push required"));
    };
    session.test_stop()?;
    let source = WalSource::new(&wal_path::resolve(session, parameter)?)?;
    let asynchronous = session.options().boolean(opt::ARCHIVE_ASYNC);
    if let Some(limit_bytes) = session.options().size_bytes(opt::ARCHIVE_PUSH_QUEUE_MAX)
        && !asynchronous
        && is_queue_full(&source, limit_bytes)?
    {
        session.context.warn(push_ahead::dropped(&source.name.to_string(), limit_bytes));
        return Ok(Outcome::Done);
    }
    if let Some(outcome) = resident::ask(session, Work::Push { path: source.path.display().to_string() }).await? {
        return Ok(outcome);
    }
    if asynchronous {
        return wait_for_push(session, &source).await;
    }
    for warning in &push_now(session, &source).await?.warnings {
        session.context.warn(warning);
    }
    session.context.info(format!("pushed WAL file '{}' to the archive", source.name));
    Ok(Outcome::Done)
}

async fn push_now(session: &Session, source: &WalSource) -> Result<Pushed, Failure> {
    Ok(push(&session.writable_repositories()?, source, &push_options(session.options())?, &session.context).await?)
}

fn is_queue_full(source: &WalSource, limit_bytes: u64) -> Result<bool, Failure> {
    let Some(directory) = source.path.parent() else { return Ok(false) };
    Ok(measure_queue(directory)?.waiting_bytes > limit_bytes)
}

/// The half that PostgreSQL waits for: until the background half has noted what became of the file.
async fn wait_for_push(session: &Session, source: &WalSource) -> Result<Outcome, Failure> {
    require_pg_path(session)?;
    let spool = Spool::push(&session.spool_path()?, &session.stanza()?);
    let name = source.name.to_string();
    let mut waiting = Waiting::new(session.options().require(opt::ARCHIVE_TIMEOUT)?);
    let mut started = false;
    loop {
        match spool.status_or_tidy(&name, &session.context)? {
            Some(Status::Done { code, warning }) => {
                return acknowledge(session, source, &spool, code, warning).await;
            }
            // At first it may be that of an earlier try, which the background half is about to repeat.
            Some(Status::Failed { code, message }) if waiting.began() => return Err(Failure { code, message }),
            _ => {}
        }
        if !started && let Some(locks) = session.try_lock(&[LockType::Archive])? {
            // Here and not in the background, where nobody would hear of a spool that cannot be written.
            spool.create()?;
            spool.clear_errors(&name)?;
            drop(locks);
            let directory = source.path.parent().unwrap_or(Path::new("/"));
            background::start(session, &[directory.display().to_string()])?;
            started = true;
        }
        if !waiting.more().await {
            return Err(Failure::new(
                ErrorKind::ArchiveTimeout,
                format!(
                    "unable to push WAL file '{name}' to the archive asynchronously after {} second(s)\n\
                     HINT: check '{}' for errors.",
                    waiting.limit().as_secs_f64(),
                    session.background_log().display()
                ),
            ));
        }
    }
}

/// Believes a marker that is proved to be about this file and these repositories, and one that somebody has set by hand to
/// skip the file. Any other, such as one of the original's, is a hint: the repositories are asked (faults.md PU09).
async fn acknowledge(
    session: &Session,
    source: &WalSource,
    spool: &Spool,
    code: u8,
    warning: Option<String>,
) -> Result<Outcome, Failure> {
    let name = source.name.to_string();
    if code != 0 {
        session.context.warn(format!(
            "WAL segment '{name}' was not pushed due to error [{code}] and was manually skipped: {}",
            warning.unwrap_or_default()
        ));
        return Ok(Outcome::Done);
    }
    let proof = fingerprint::of_archive(session, Command::ArchivePush)?;
    let proved = FileIdentity::of(&source.path).is_ok_and(|file| spool.is_proved(&name, &proof, &file));
    let is_dropped = warning.as_ref().is_some_and(|text| is_dropped_now(session, source, text));
    if let Some(warning) = &warning {
        session.context.warn(warning);
    }
    if !proved && !is_dropped {
        let options = PushOptions { mode_check: false, ..push_options(session.options())? };
        let pushed = push(&session.writable_repositories()?, source, &options, &session.context).await?;
        pushed.warnings.iter().for_each(|text| session.context.warn(text));
    }
    session.context.info(format!("pushed WAL file '{name}' to the archive asynchronously"));
    Ok(Outcome::Done)
}

/// Whether a marker says that the file was given up, and it would be given up now.
fn is_dropped_now(session: &Session, source: &WalSource, text: &str) -> bool {
    session.options().size_bytes(opt::ARCHIVE_PUSH_QUEUE_MAX).is_some_and(|limit_bytes| {
        text == push_ahead::dropped(&source.name.to_string(), limit_bytes)
            && is_queue_full(source, limit_bytes).unwrap_or(false)
    })
}

fn require_pg_path(session: &Session) -> Result<PathBuf, Failure> {
    session.pg_path().ok_or_else(|| {
        Failure::new(ErrorKind::OptionRequired, "'archive-push' command in async mode requires option 'pg1-path'")
    })
}

/// The background half. It holds the lock while it works and not while it waits, so that nobody waits for it: commands of
/// the original, and those that need the lock for themselves. When another background half takes over, it goes.
pub async fn run_background(session: &Session) -> Result<Outcome, Failure> {
    background::detach();
    let [directory] = session.parsed.parameters.as_slice() else {
        return Err(Failure::new(ErrorKind::ParamRequired, "WAL path to push required"));
    };
    let directory = PathBuf::from(directory);
    let spool = Spool::push(&session.spool_path()?, &session.stanza()?);
    let repositories = session.writable_repositories()?;
    let mut life = Waiting::new(LIFE_MAX);
    let mut locks = session.lock(&[LockType::Archive])?;
    loop {
        let round = push_round(session, &repositories, &spool, &directory).await;
        if let Err(failure) = &round {
            spool.write_error(None, failure.code, &failure.message)?;
        }
        let round = round?;
        // A failure is looked at by the next command, which starts a new process.
        if round == Round::Failed || life.is_over() {
            return Ok(Outcome::Done);
        }
        locks.leave();
        match next_work(session, &spool, &directory, &mut life).await? {
            Some(taken) => locks = taken,
            None => {
                background::remove_lock_file(session)?;
                return Ok(Outcome::Done);
            }
        }
    }
}

async fn push_round(
    session: &Session,
    repositories: &[WritableRepository],
    spool: &Spool,
    directory: &Path,
) -> Result<Round, Failure> {
    session.test_stop()?;
    let options = session.options();
    let ahead = PushAheadOptions {
        push: push_options(session.options())?,
        wal_directory: directory.to_owned(),
        workers: session.workers(),
        queue_max_bytes: options.size_bytes(opt::ARCHIVE_PUSH_QUEUE_MAX),
        batch_max_bytes: options.size_bytes(opt::ARCHIVE_PUSH_BATCH_SIZE).unwrap_or(u64::MAX),
        proof: fingerprint::of_archive(session, Command::ArchivePush)?,
    };
    Ok(push_ahead::round(repositories, spool, &ahead, &session.context).await?)
}

/// Waits for files that are ready and takes the lock for them; `None` when none came for a while, or somebody else has
/// taken it.
async fn next_work(
    session: &Session,
    spool: &Spool,
    directory: &Path,
    life: &mut Waiting,
) -> Result<Option<Locks>, Failure> {
    let mut idle = Waiting::new(background::IDLE_MAX);
    while !life.is_over() {
        if session.context.cancel.is_cancelled() || session.test_stop().is_err() {
            return Ok(None);
        }
        let (watched, wal) = (spool.clone(), directory.to_owned());
        let looked = tokio::task::spawn_blocking(move || push_ahead::waiting(&watched, &wal)).await;
        let files = looked.map_err(|panic| Error::new(ErrorKind::Unknown, format!("a worker failed: {panic}")))??;
        if !files.is_empty() {
            return session.try_lock(&[LockType::Archive]);
        }
        if !idle.more_at(background::LOOK_EVERY).await {
            return Ok(None);
        }
    }
    Ok(None)
}
