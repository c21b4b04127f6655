//! The WAL service: what `archive_command` and `restore_command` of the pod lead to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgbr_config::Command;
use pgbr_repo::command::archive::WalSource;
use pgbr_repo::command::archive::get::{self, GetRequest, Got};
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::postgres::{ControlFile, WalFileName};
use pgbr_repo::progress::Context;
use pgbr_repo::repository::Repository;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::wal_ready::make_ready;
use crate::cluster::Cluster;
use crate::instance::residents::{Fetching, Residents, identity_of};
use crate::instance::restored::is_there;
use crate::instance::source::{self, Situation};
use crate::instance::surroundings::{Surroundings, blocking};
use crate::instance::{TEMPORARY, marker};
use crate::parameters;
use crate::proto::wal as proto;
use crate::status::Failure;

/// The longest wait for a file to be archived. PostgreSQL's archiver waits behind it; the work goes on and the next request
/// joins it.
const ARCHIVE_MAX: Duration = Duration::from_secs(300);

/// How long a member of a running cluster waits for a store: it can stream instead, but not before it has an answer.
const MEMBER_WAIT_MAX: Duration = Duration::from_secs(15);

/// How long a designated primary waits: it may have nothing to stream from.
const FOLLOWING_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long the first recovery waits for a store that does not answer: PostgreSQL would take an error for the end of WAL and
/// promote the cluster as it is then.
const BOOTSTRAP_WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// The first and the longest pause between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// The service.
#[derive(Debug, Clone)]
pub struct Wal {
    surroundings: Arc<Surroundings>,
    residents: Arc<Residents>,
    next_temporary: Arc<AtomicU64>,
}

impl Wal {
    /// The service over the engines of the process.
    pub fn new(surroundings: Arc<Surroundings>, residents: Arc<Residents>) -> Self {
        Self { surroundings, residents, next_temporary: Arc::default() }
    }

    // Archive --------------------------------------------------------------------------------------------------------

    /// Archives a file: success means that every repository has it.
    async fn archive_file(&self, request: proto::WalArchiveRequest) -> Result<(), Failure> {
        let cluster = self.surroundings.cluster(&request.cluster_definition)?;
        let own = source::own_source(&cluster)?;
        let path = self.wal_path(&request.source_file_name)?;
        let file = WalSource::new(&path)?;
        let place = self.surroundings.place(&own, &cluster).await?;
        let pushing = self.residents.pushing(&place).await?;
        let checks = self.wants_empty_check(&cluster, request.check_empty_wal_archive).await?;
        make_ready(&self.surroundings, &cluster, &place, &pushing, checks).await?;
        let started = Instant::now();
        match tokio::time::timeout(ARCHIVE_MAX, pushing.pusher.push(&file)).await {
            Ok(Ok(pushed)) => {
                for warning in pushed.warnings {
                    self.surroundings.log.warn(&warning, &[("walName", file.name.to_string().into())]);
                }
            }
            Ok(Err(error)) => {
                // The stanza may be gone: it is looked for again before the next file.
                *pushing.ready.lock().await = false;
                return Err(error.into());
            }
            Err(_) => {
                return Err(Failure::Late(format!(
                    "{} was not archived within {} s; the work goes on",
                    file.name,
                    ARCHIVE_MAX.as_secs()
                )));
            }
        }
        // Before the answer: with the marker there the next check would find this very file.
        let pgdata = self.surroundings.pod.pgdata.clone();
        blocking(move || {
            forget_pages(&path);
            marker::remove(&pgdata)
        })
        .await?;
        let elapsed = format!("{:?}", started.elapsed());
        self.surroundings.log.info(
            "Archived WAL file",
            &[("walName", file.name.to_string().into()), ("elapsedWalTime", elapsed.into())],
        );
        Ok(())
    }

    /// The file of the request, which is always one of the pod's own WAL directory: only its name counts.
    fn wal_path(&self, name: &str) -> Result<PathBuf, Failure> {
        match Path::new(name).file_name() {
            Some(base) => Ok(self.surroundings.pod.wal_directory().join(base)),
            None => Err(Failure::Invalid(format!("source_file_name: '{}' names no file", name.escape_debug()))),
        }
    }

    /// Whether the archive has to be empty. Older operators leave it to us.
    async fn wants_empty_check(&self, cluster: &Cluster, asked: Option<bool>) -> Result<bool, Failure> {
        if let Some(asked) = asked {
            return Ok(asked);
        }
        if source::skips_empty_check(cluster) {
            return Ok(false);
        }
        let pgdata = self.surroundings.pod.pgdata.clone();
        Ok(blocking(move || marker::is_there(&pgdata)).await?)
    }

    // Restore --------------------------------------------------------------------------------------------------------

    /// Fetches a file. What may pass is waited out here, as long as the situation allows: the caller cannot tell an outage
    /// from the end of WAL.
    async fn restore_file(&self, request: proto::WalRestoreRequest) -> Result<(), Failure> {
        let cluster = self.surroundings.cluster(&request.cluster_definition)?;
        let (origin, situation) = source::restore_source(&cluster, &self.surroundings.pod.name)?;
        let name = WalFileName::parse(&request.source_wal_name)
            .map_err(|error| Failure::Invalid(format!("source_wal_name: {error}")))?;
        let destination = self.destination(&request.destination_file_name)?;
        let wanted = Wanted {
            origin,
            name,
            rewind: request.mode() == proto::wal_restore_request::Mode::Rewind,
            partial: situation == Situation::Following && source::awaits_promotion(&cluster),
            may_lack_stanza: situation == Situation::Member,
        };
        let patience = match situation {
            Situation::Bootstrap => BOOTSTRAP_WAIT_MAX,
            Situation::Following => FOLLOWING_WAIT_MAX,
            Situation::Member => MEMBER_WAIT_MAX,
        };
        let deadline = Instant::now() + patience;
        let (mut pause, pause_max) = PAUSE;
        loop {
            let failure =
                match tokio::time::timeout_at(deadline, self.restore_once(&cluster, &wanted, &destination)).await {
                    Ok(Ok(())) => {
                        self.surroundings.log.info("Restored WAL file", &[("walName", name.to_string().into())]);
                        return Ok(());
                    }
                    Ok(Err(failure)) => failure,
                    Err(_) => Failure::Late(format!("no answer about {name} within {} s", patience.as_secs())),
                };
            let waits = match situation {
                // Every error but these would end the recovery too early.
                Situation::Bootstrap => !matches!(failure, Failure::Missing(_) | Failure::Invalid(_)),
                Situation::Following | Situation::Member => failure.may_pass(),
            };
            if !waits || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            self.surroundings.log.warn(
                "WAL file cannot be fetched now, trying again",
                &[("walName", name.to_string().into()), ("reason", failure.text().into())],
            );
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(pause_max);
        }
    }

    /// One try: into a file of its own, which gets its name when it is whole. A try that nobody waits for any more can then
    /// not put an old segment where PostgreSQL expects another.
    async fn restore_once(&self, cluster: &Cluster, wanted: &Wanted, destination: &Path) -> Result<(), Failure> {
        let place = self.surroundings.place(&wanted.origin, cluster).await?;
        let settings = self.surroundings.settings(Command::ArchiveGet, &place)?;
        let control = self.control_of_recovery(&settings).await?;
        let fetching = self.residents.fetching(&place, settings, &control).await?;
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = destination.with_file_name(format!("{TEMPORARY}{}-{number}", wanted.name));
        let (this, wanted, file) = (self.clone(), wanted.clone(), temporary.clone());
        let destination = destination.to_owned();
        let abandoned = CancellationToken::new();
        let waiting = abandoned.clone().drop_guard();
        let work = tokio::spawn(async move {
            let got = this.fetch(&fetching, &wanted, &control, &file).await;
            let found = matches!(got, Ok(Got::Found { .. })) && !abandoned.is_cancelled();
            let placed = blocking(move || if found { place_file(&file, &destination) } else { discard(&file) }).await;
            match (got?, placed) {
                (Got::Found { .. }, placed) => Ok(placed?),
                (Got::Missing { later }, _) => Err(missing(wanted.name, &later)),
            }
        });
        let done = work.await.map_err(|panic| Failure::Unavailable(format!("a worker failed: {panic}")))?;
        drop(waiting);
        done
    }

    async fn fetch(
        &self,
        fetching: &Fetching,
        wanted: &Wanted,
        control: &ControlFile,
        file: &Path,
    ) -> Result<Got, Failure> {
        let request =
            GetRequest { name: wanted.name, cluster: identity_of(control), segment_size: control.wal_segment_size() };
        let context = self.surroundings.context(
            &fetching.settings,
            Command::ArchiveGet,
            1,
            "archive-get",
            CancellationToken::new(),
        );
        let got = match wanted.rewind {
            // pg_rewind walks backwards and wants this very file from the repository: nothing is fetched ahead, nothing
            // known from before counts.
            true => get::get(&fetching.repositories, request, file, &context).await,
            false => fetching.fetcher.get(request, file, &context).await,
        };
        let got = match got {
            Err(error) if error.kind() == ErrorKind::RepoInvalid && wanted.may_lack_stanza => {
                match lacks_stanza(&fetching.repositories, &context).await {
                    true => Got::Missing { later: Vec::new() },
                    false => return Err(error.into()),
                }
            }
            got => got?,
        };
        let WalFileName::Segment(segment) = wanted.name else { return Ok(got) };
        match &got {
            // PostgreSQL never asks for what a demoted primary left as a part of a segment.
            Got::Missing { later } if wanted.partial && later.is_empty() => {
                let request = GetRequest { name: WalFileName::Partial(segment), ..request };
                Ok(get::get(&fetching.repositories, request, file, &context).await?)
            }
            _ => Ok(got),
        }
    }

    /// pg_control of the data directory, unless it is that of a restore whose `backup_label` was taken away: WAL would make
    /// an inconsistent cluster of it.
    async fn control_of_recovery(&self, settings: &crate::settings::Settings) -> Result<ControlFile, Failure> {
        let control = self.surroundings.control_file(settings).await?;
        let label = self.surroundings.pod.pgdata.join("backup_label");
        if control.checkpoint() == ControlFile::INVALID_CHECKPOINT && !is_there(&label)? {
            let error = Error::new(ErrorKind::Format, "pg_control from backup is not valid without backup_label");
            return Err(error.hint("was the backup_label file removed?").into());
        }
        Ok(control)
    }

    /// Where the file goes: always into the pod's own data directory.
    fn destination(&self, name: &str) -> Result<PathBuf, Failure> {
        let refused =
            |problem: &str| Failure::Invalid(format!("destination_file_name: '{}' {problem}", name.escape_debug()));
        let path = self.surroundings.pod.pgdata.join(name);
        let has_parent = path.components().any(|part| part == std::path::Component::ParentDir);
        match path.strip_prefix(&self.surroundings.pod.pgdata) {
            Ok(below) if !has_parent && below.components().count() > 0 => Ok(path),
            _ => Err(refused("is not in the data directory")),
        }
    }

    // Status ---------------------------------------------------------------------------------------------------------

    /// The first and the last segment of the cluster's own archive.
    async fn range(&self, definition: &[u8]) -> Result<proto::WalStatusResult, Failure> {
        let cluster = self.surroundings.cluster(definition)?;
        let place = self.surroundings.place(&source::own_source(&cluster)?, &cluster).await?;
        let settings = self.surroundings.settings(Command::Info, &place)?;
        let context = self.surroundings.context(&settings, Command::Info, 1, "info", CancellationToken::new());
        let repositories = self.surroundings.repositories(&settings, &place.stanza)?;
        let Some(repository) = repositories.first() else {
            return Err(Failure::Precondition("no repository is configured".to_owned()));
        };
        let info = repository.archive_info(&context).await?;
        let archive = repository.archive(&info, info.current_archive_id())?;
        let directories = archive.wal_directories().await?;
        let mut result = proto::WalStatusResult::default();
        if let (Some(first), Some(last)) = (directories.iter().min(), directories.iter().max()) {
            let name = |segments: Vec<pgbr_repo::repository::ArchivedSegment>, last: bool| {
                let names = segments.into_iter().map(|segment| segment.name.segment);
                if last { names.max() } else { names.min() }.map(|name| name.to_string()).unwrap_or_default()
            };
            result.first_wal = name(archive.segments_of(*first).await?, false);
            result.last_wal = name(archive.segments_of(*last).await?, true);
        }
        Ok(result)
    }

    /// Tells what a request ended with, and answers the caller.
    fn answer<T>(&self, what: &str, file: &str, result: Result<T, Failure>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|failure| {
            let fields = [("walName", file.into()), ("error", failure.text().into())];
            match &failure {
                // The end of WAL is no failure.
                Failure::Missing(_) => self.surroundings.log.info(what, &fields),
                _ => self.surroundings.log.error(what, &fields),
            }
            failure.into()
        })
    }
}

/// A file that is asked for.
#[derive(Debug, Clone)]
struct Wanted {
    origin: parameters::Source,
    name: WalFileName,
    /// For pg_rewind.
    rewind: bool,
    /// The part of the segment will do where the whole one is not there.
    partial: bool,
    /// The first WAL file makes the stanza: before that there is no WAL.
    may_lack_stanza: bool,
}

fn missing(name: WalFileName, later: &[pgbr_repo::postgres::WalSegmentName]) -> Failure {
    let gap = match (later.first(), later.last()) {
        (Some(first), Some(last)) => {
            format!("; this is a gap: {} later segment(s) are there, {first} to {last}", later.len())
        }
        _ => String::new(),
    };
    Failure::Missing(format!("unable to find {name} in the archive{gap}"))
}

/// Whether every repository said that the stanza is not there.
async fn lacks_stanza(repositories: &[Repository], context: &Context) -> bool {
    for repository in repositories {
        match repository.archive_info(context).await {
            Err(error) if error.kind() == ErrorKind::FileMissing => {}
            _ => return false,
        }
    }
    true
}

/// Gives the pages of an archived file back: they count as memory of the pod, and nobody reads them again. Blocking.
fn forget_pages(path: &Path) {
    // It may be gone already: PostgreSQL is free to recycle it.
    if let Ok(file) = std::fs::File::open(path) {
        let _advised = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

/// Gives the file its name, durably. Blocking.
fn place_file(from: &Path, to: &Path) -> Result<(), Error> {
    let failed = |error: &std::io::Error| {
        Error::new(ErrorKind::FileMove, format!("unable to move '{}' to '{}': {error}", from.display(), to.display()))
    };
    let file = std::fs::File::open(from).map_err(|error| failed(&error))?;
    file.sync_all().map_err(|error| failed(&error))?;
    std::fs::rename(from, to).map_err(|error| failed(&error))
}

/// Removes what nobody waits for. Blocking.
fn discard(file: &Path) -> Result<(), Error> {
    // It is not there unless the try was abandoned, and goes with the next start at the latest.
    drop(std::fs::remove_file(file));
    Ok(())
}

#[tonic::async_trait]
impl proto::wal_server::Wal for Wal {
    async fn get_capabilities(
        &self,
        _request: Request<proto::WalCapabilitiesRequest>,
    ) -> Result<Response<proto::WalCapabilitiesResult>, Status> {
        use proto::wal_capability::{Rpc, Type, rpc};
        let capability =
            |kind: rpc::Type| proto::WalCapability { r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })) };
        let kinds = [rpc::Type::ArchiveWal, rpc::Type::RestoreWal, rpc::Type::Status];
        Ok(Response::new(proto::WalCapabilitiesResult { capabilities: kinds.map(capability).into() }))
    }

    async fn archive(
        &self,
        request: Request<proto::WalArchiveRequest>,
    ) -> Result<Response<proto::WalArchiveResult>, Status> {
        let _working = self.surroundings.work();
        let request = request.into_inner();
        let file = request.source_file_name.clone();
        let archived = self.archive_file(request).await.map(|()| proto::WalArchiveResult {});
        self.surroundings.seen.archived(&file, archived.as_ref().err().map(Failure::text).as_deref());
        self.answer("Failed to archive WAL file", &file, archived)
    }

    async fn restore(
        &self,
        request: Request<proto::WalRestoreRequest>,
    ) -> Result<Response<proto::WalRestoreResult>, Status> {
        let _working = self.surroundings.work();
        let request = request.into_inner();
        let file = request.source_wal_name.clone();
        let restored = self.restore_file(request).await.map(|()| proto::WalRestoreResult {});
        self.answer("WAL file was not restored", &file, restored)
    }

    async fn status(
        &self,
        request: Request<proto::WalStatusRequest>,
    ) -> Result<Response<proto::WalStatusResult>, Status> {
        let range = self.range(&request.into_inner().cluster_definition).await;
        self.answer("Failed to tell the range of WAL", "", range)
    }

    async fn set_first_required(
        &self,
        _request: Request<proto::SetFirstRequiredRequest>,
    ) -> Result<Response<proto::SetFirstRequiredResult>, Status> {
        Err(Status::unimplemented("WAL is expired by the retention of the Archive"))
    }
}
