//! `archive-get`

use std::fs;
use std::path::Path;
use std::time::Duration;

use pgbr_config::opt;
use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::command::archive::coming::{self, Announced, Coming, Next};
use pgbr_repo::command::archive::get::{GetRequest, Got, get};
use pgbr_repo::command::archive::get_ahead::{self, GetAhead, GetAheadOptions, Round};
use pgbr_repo::command::archive::spool::{OK, Spool, Status};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::postgres::{ControlFile, WalFileName, WalSegmentName, WalSegmentSize};
use pgbr_repo::progress::Context;
use pgbr_repo::resident::protocol::Work;

use super::wal_path;
use crate::background;
use crate::exit::{Failure, Outcome};
use crate::lock::{LockType, Locks, is_there};
use crate::resident;
use crate::session::Session;
use crate::waiting::Waiting;

/// What `recovery-stop-on-error` makes of every error: PostgreSQL takes an exit code of `restore_command` up to 125 for
/// "there is no such file", ends recovery and opens the cluster; above, it stops (`RestoreArchivedFile` in its
/// `xlogarchive.c`).
const RECOVERY_STOP: u8 = 200;

/// How long the background half stays at most: as long as archive.info is believed.
const LIFE_MAX: Duration = Duration::from_secs(60);

/// How long a background half may take until it says what it fetches.
const START_MAX: Duration = Duration::from_millis(200);

/// Fetches one file.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let stop = session.options().boolean(opt::RECOVERY_STOP_ON_ERROR);
    fetch(session).await.map_err(|failure| if stop { Failure { code: RECOVERY_STOP, ..failure } } else { failure })
}

async fn fetch(session: &Session) -> Result<Outcome, Failure> {
    let (name, destination) = match session.parsed.parameters.as_slice() {
        [name, destination] => (name, destination),
        [] => return Err(Failure::new(ErrorKind::ParamRequired, "WAL segment to get required")),
        [_] => return Err(Failure::new(ErrorKind::ParamRequired, "path to copy WAL segment required")),
        _ => return Err(Failure::new(ErrorKind::ParamInvalid, "extra parameters found")),
    };
    let destination = wal_path::resolve(session, destination)?;
    let name = name.rsplit('/').next().unwrap_or(name);
    let Some(request) = request(session, name)? else {
        // Nothing is archived under such a name.
        session.context.info(not_found(name));
        return Ok(Outcome::Missing);
    };
    let work = Work::Get {
        name: name.to_owned(),
        destination: destination.display().to_string(),
        stop_at_gap: session.options().boolean(opt::RECOVERY_STOP_ON_ERROR),
    };
    if let Some(outcome) = resident::ask(session, work).await? {
        return Ok(outcome);
    }
    match request.name {
        WalFileName::Segment(segment) if session.options().boolean(opt::ARCHIVE_ASYNC) => {
            fetch_ahead(session, segment, request, &destination).await
        }
        _ => fetch_now(session, request, &destination).await,
    }
}

/// The request for a file; `None` for a name that no file of an archive has.
pub fn request(session: &Session, name: &str) -> Result<Option<GetRequest>, Failure> {
    let control = control_of_recovery(session)?;
    let Ok(name) = WalFileName::parse(name) else { return Ok(None) };
    Ok(Some(GetRequest {
        name,
        cluster: ClusterIdentity { version: control.version(), system_id: control.system_id() },
        segment_size: control.wal_segment_size(),
    }))
}

fn not_found(name: &str) -> String {
    format!("unable to find {name} in the archive")
}

/// What became of a request, and the words for it.
pub fn conclude(name: &str, got: Got, stop_at_gap: bool, context: &Context) -> Result<(Outcome, String), Failure> {
    match got {
        Got::Found { repository, archive_id } => {
            Ok((Outcome::Done, format!("found {name} in the {repository}: {archive_id} archive")))
        }
        Got::Missing { later } => {
            if let (Some(first), Some(last)) = (later.first(), later.last()) {
                let gap = format!(
                    "gap in the archive: {name} is missing but {} later segment(s) are present, {first} to {last}",
                    later.len()
                );
                if stop_at_gap {
                    return Err(Failure::new(ErrorKind::FileMissing, gap));
                }
                context.warn(gap);
            }
            Ok((Outcome::Missing, not_found(name)))
        }
    }
}

/// pg_control of the data directory, unless it is that of a restore whose `backup_label` was taken away: WAL would make an
/// inconsistent cluster of it.
fn control_of_recovery(session: &Session) -> Result<ControlFile, Failure> {
    let pg_path = session.require_pg_path()?;
    let control = session.control_file(&pg_path)?;
    if control.checkpoint() == ControlFile::INVALID_CHECKPOINT && !is_there(&pg_path.join("backup_label"))? {
        return Err(Failure::new(
            ErrorKind::Format,
            "pg_control from backup is not valid without backup_label\nHINT: was the backup_label file removed?",
        ));
    }
    Ok(control)
}

async fn fetch_now(session: &Session, request: GetRequest, destination: &Path) -> Result<Outcome, Failure> {
    let stop_at_gap = session.options().boolean(opt::RECOVERY_STOP_ON_ERROR);
    let got = get(&session.repositories()?, request, destination, &session.context).await?;
    let (outcome, text) = conclude(&request.name.to_string(), got, stop_at_gap, &session.context)?;
    session.context.info(text);
    Ok(outcome)
}

/// The half that PostgreSQL waits for: takes the segment from the spool, and has it filled before it is empty.
async fn fetch_ahead(
    session: &Session,
    segment: WalSegmentName,
    request: GetRequest,
    destination: &Path,
) -> Result<Outcome, Failure> {
    let spool = Spool::get(&session.spool_path()?, &session.stanza()?);
    let name = segment.to_string();
    let queue_max_bytes = session.options().size_bytes(opt::ARCHIVE_GET_QUEUE_MAX).unwrap_or(0);
    let mut waiting = Waiting::new(session.options().require(opt::ARCHIVE_TIMEOUT)?);
    let mut started: Option<Waiting> = None;
    loop {
        let first = !waiting.began();
        // Before the segment: what is not on its way any more has come.
        let ahead = Announced::of(&spool);
        let retry_missing = first && session.options().boolean(opt::ARCHIVE_MISSING_RETRY);
        // Looked for before its marker: the marker with the warnings is there before the segment.
        let found = is_there(&spool.path(&name))? && usable(session, &spool, segment, request)?;
        match spool.status_or_tidy(&name, &session.context)? {
            Some(Status::Done { warning, .. }) => {
                spool.remove(&format!("{name}{OK}"))?;
                if let Some(warning) = warning.filter(|_| found || !retry_missing) {
                    session.context.warn(warning);
                }
                if !found && !retry_missing {
                    // PostgreSQL takes it for the end of WAL, so the repositories themselves are asked.
                    return fetch_now(session, request, destination).await;
                }
            }
            Some(Status::Failed { code, message }) if !first => return Err(Failure { code, message }),
            _ => {}
        }
        if found {
            if ahead.is_some() {
                coming::take(&spool, segment);
            }
            deliver(&spool.path(&name), destination)?;
            session.context.info(format!("found {name} in the archive asynchronously"));
        }
        let enough = found
            && (ahead.is_some_and(|ahead| ahead.follows(segment))
                || get_ahead::is_half_full(&spool.list()?, request.segment_size, queue_max_bytes));
        let on_its_way = !found && ahead.is_some_and(|ahead| ahead.brings(segment, request.segment_size));
        if started.is_none() && !enough && !on_its_way {
            let next = if found { segment.next(request.segment_size) } else { Some(segment) };
            if let Some(next) = next
                && start(session, &spool, &name, next, request, queue_max_bytes)?
            {
                started = Some(Waiting::new(START_MAX));
            }
        }
        if found {
            return Ok(Outcome::Done);
        }
        // Nobody is about to bring it: another's background half works on something else, or ours is gone.
        let is_starting = started.as_ref().is_some_and(|started| !started.is_over());
        if !first && !on_its_way && !is_starting && !session.owns_lock(LockType::Archive)? {
            return fetch_now(session, request, destination).await;
        }
        if !(if on_its_way { waiting.more_at(background::LOOK_EVERY).await } else { waiting.more().await }) {
            return Err(Failure::new(
                ErrorKind::ArchiveTimeout,
                format!(
                    "unable to get WAL file '{name}' from the archive asynchronously after {} second(s)\n\
                     HINT: check '{}' for errors.",
                    waiting.limit().as_secs_f64(),
                    session.background_log().display()
                ),
            ));
        }
    }
}

/// Whether the file of the spool is the segment; one that is not is removed (faults.md GE07).
fn usable(session: &Session, spool: &Spool, segment: WalSegmentName, request: GetRequest) -> Result<bool, Failure> {
    let name = segment.to_string();
    match get_ahead::check_segment(&spool.path(&name), segment, request.cluster, request.segment_size) {
        Ok(()) => Ok(true),
        Err(error) => {
            session.context.warn(format!("fetched again: {}", error.message()));
            spool.remove(&name)?;
            Ok(false)
        }
    }
}

/// Moves the file to its destination; where that is another file system, copies it.
fn deliver(from: &Path, destination: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            ErrorKind::FileMove,
            format!("unable to move '{}' to '{}': {error}", from.display(), destination.display()),
        )
    };
    match fs::rename(from, destination) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            get_ahead::copy(from, destination)?;
            fs::remove_file(from).map_err(failed)
        }
        moved => moved.map_err(failed),
    }
}

/// Starts the background half, unless there is one; tells whether it did.
fn start(
    session: &Session,
    spool: &Spool,
    name: &str,
    next: WalSegmentName,
    request: GetRequest,
    queue_max_bytes: u64,
) -> Result<bool, Failure> {
    let Some(locks) = session.try_lock(&[LockType::Archive])? else { return Ok(false) };
    spool.create()?;
    let plan = get_ahead::plan_queue(next, request.segment_size, queue_max_bytes, &spool.list()?);
    plan.remove.iter().try_for_each(|file| spool.remove(file))?;
    spool.clear_errors(name)?;
    drop(locks);
    if plan.need.is_empty() {
        return Ok(false);
    }
    let need: Vec<String> = plan.need.iter().map(ToString::to_string).collect();
    background::start(session, &need)?;
    Ok(true)
}

/// The background half: fetches the segments that it was started for, and those behind them as long as they are taken. It
/// holds the lock while it fetches and not while it waits, so that nobody waits for it; when another takes over, it goes.
pub async fn run_background(session: &Session) -> Result<Outcome, Failure> {
    background::detach();
    let mut locks = session.lock(&[LockType::Archive])?;
    let spool = Spool::get(&session.spool_path()?, &session.stanza()?);
    let mut life = Waiting::new(LIFE_MAX);
    let mut queue = match Queue::open(session, &spool).await {
        Ok(queue) => queue,
        Err(failure) => return Err(noted(&spool, failure)),
    };
    loop {
        let round = queue.round(session).await.map_err(|failure| noted(&spool, failure))?;
        // What is missing, or went wrong, is looked at by the next command that asks for it, which starts a new process.
        if round == Round::Ended || life.is_over() {
            return Ok(Outcome::Done);
        }
        locks.leave();
        match queue.next_work(session, &mut life).await? {
            Some(taken) => locks = taken,
            None => {
                background::remove_lock_file(session)?;
                return Ok(Outcome::Done);
            }
        }
    }
}

/// The failure, after it was left for who waits.
fn noted(spool: &Spool, failure: Failure) -> Failure {
    match spool.write_error(None, failure.code, &failure.message) {
        Ok(()) => failure,
        Err(error) => error.into(),
    }
}

/// The segments that the background half works on.
struct Queue<'a> {
    spool: &'a Spool,
    ahead: GetAhead<'a>,
    /// `None` while another that waits has it: then this one does not stay.
    coming: Option<Coming>,
    segments: Vec<WalSegmentName>,
    segment_size: WalSegmentSize,
    max_bytes: u64,
}

impl<'a> Queue<'a> {
    async fn open(session: &Session, spool: &'a Spool) -> Result<Self, Failure> {
        let names = session.parsed.parameters.iter().map(|name| {
            WalSegmentName::parse(name).map_err(|error| Failure::new(ErrorKind::ParamInvalid, error.to_string()))
        });
        let segments = names.collect::<Result<Vec<_>, _>>()?;
        let coming = Coming::hold(spool)?;
        if let (Some(coming), Some(first), Some(last)) = (&coming, segments.first(), segments.last()) {
            coming.announce(Some(*first), *last)?;
        }
        let control = session.control_file(&session.require_pg_path()?)?;
        let options = GetAheadOptions {
            cluster: ClusterIdentity { version: control.version(), system_id: control.system_id() },
            segment_size: control.wal_segment_size(),
            workers: session.workers(),
        };
        let ahead = GetAhead::open(&session.repositories()?, spool, options, &session.context).await?;
        let max_bytes = session.options().size_bytes(opt::ARCHIVE_GET_QUEUE_MAX).unwrap_or(0);
        Ok(Self { spool, ahead, coming, segments, segment_size: options.segment_size, max_bytes })
    }

    async fn round(&mut self, session: &Session) -> Result<Round, Failure> {
        Ok(self.ahead.round(&self.segments, self.coming.as_ref(), &session.context).await?)
    }

    /// Waits until segments were taken and takes the lock for those that follow; `None` when none was for a while, or
    /// somebody else sees to the queue.
    async fn next_work(&mut self, session: &Session, life: &mut Waiting) -> Result<Option<Locks>, Failure> {
        let Some(last) = self.segments.last().copied() else { return Ok(None) };
        let mut idle = Waiting::new(background::IDLE_MAX);
        while self.coming.is_some() && !life.is_over() && !session.context.cancel.is_cancelled() {
            match self.plan(last)? {
                Next::Leave => return Ok(None),
                Next::Fetch(_) => break,
                Next::Wait if !idle.more_at(background::LOOK_EVERY).await => return Ok(None),
                Next::Wait => {}
            }
        }
        let Some(locks) = session.try_lock(&[LockType::Archive])? else { return Ok(None) };
        // Anew: until now somebody else may have held it and made the queue his own.
        let Next::Fetch(need) = self.plan(last)? else { return Ok(None) };
        self.segments = need;
        Ok(Some(locks))
    }

    fn plan(&self, last: WalSegmentName) -> Result<Next, Failure> {
        // In this order: who takes a segment says so before.
        let actual = self.spool.list()?;
        let taken = coming::taken(self.spool);
        Ok(coming::plan_next(last, taken, self.segment_size, self.max_bytes, &actual))
    }
}
