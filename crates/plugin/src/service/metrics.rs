//! The Metrics service: figures of the cluster's own archive, published by the instance manager with its own.
//!
//! A scrape never waits for the store: it gets what was last read, and a reading in the background follows when that is a
//! minute old. What is not known has no sample; only the states are always told. Each signal stands for itself (faults.md
//! KG25): a good backup says nothing about WAL.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgbr_config::Command;
use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::format::BackupType;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::cluster::Cluster;
use crate::instance::source;
use crate::instance::surroundings::{Surroundings, blocking};
use crate::proto::metrics as proto;
use crate::status::Failure;
use crate::upkeep::facts::last_wal_everywhere;
use crate::upkeep::is_primary;
use crate::upkeep::pending::Pending;
use crate::upkeep::reading::{Contents, Reading};
use crate::upkeep::stanza_status::backup_bytes;

/// How old a reading may be before another begins.
const FRESH: Duration = Duration::from_secs(60);

/// How long a scrape waits for the first reading; CloudNativePG gives up on all plugins after five seconds.
const FIRST_MAX: Duration = Duration::from_secs(2);

/// A figure: name after the prefix, help, names of its labels.
struct Figure {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
}

// What pgbackrest_exporter has too keeps its name and meaning.

const REPO_STATUS: Figure = Figure {
    name: "pgbackrest_repo_status",
    help: "0 with a backup, 1 without a stanza, 2 without a backup, 3 without an info file, 99 when it did not answer",
    labels: &["stanza", "repo_key", "cipher"],
};

const BACKUP_COUNT: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_backup_count",
    help: "Complete backups in the repository",
    labels: &["stanza", "repo_key", "backup_type"],
};

const FIRST_POINT: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_first_recoverability_point",
    help: "End of the oldest backup, seconds since the Unix epoch",
    labels: &[],
};

const LAST_BACKUP: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_last_available_backup_timestamp",
    help: "End of the newest backup, seconds since the Unix epoch",
    labels: &[],
};

const LAST_FAILED: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_last_failed_backup_timestamp",
    help: "When a backup of this instance last failed, seconds since the Unix epoch",
    labels: &[],
};

const LAST_WAL: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_last_wal_timestamp",
    help: "When the newest WAL segment that is in every repository was archived, seconds since the Unix epoch",
    labels: &[],
};

const BACKUP_BYTES: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_repo_backup_bytes",
    help: "What the backups take in the repository, without WAL",
    labels: &["stanza", "repo_key"],
};

const ERROR_CODE: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_repo_error_code",
    help: "0 when the repository could be read, else pgBackRest's number of the error: 95 is a wrong key",
    labels: &["stanza", "repo_key"],
};

const MISSING_WAL: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_missing_wal_files",
    help: "WAL segments that backups or recovery need and that the repository lacks; told by the primary",
    labels: &["repo_key"],
};

const NEXT_EXPIRY: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_next_expiry_timestamp",
    help: "When retention by age removes something next, seconds since the Unix epoch; told by the primary",
    labels: &["repo_key"],
};

const LAST_VERIFY: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_last_good_verification_timestamp",
    help: "When everything in the repository last had its checksums, seconds since the Unix epoch; told by the primary",
    labels: &["repo_key"],
};

const DAMAGED: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_repo_damaged",
    help: "1 when the last verification of the repository found damage, else 0; told by the primary",
    labels: &["repo_key"],
};

const STANZA_STATUS: Figure = Figure {
    name: "pgbackrest_stanza_status",
    help: "0 with a backup and WAL in every repository, 2 without a backup, 3 without WAL, 99 when a repository did not answer",
    labels: &["stanza"],
};

const WAITING: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_waiting_wal_files",
    help: "WAL files of this instance that are finished and not archived",
    labels: &[],
};

const OLDEST_WAITING: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_oldest_waiting_wal_age_seconds",
    help: "How long the oldest WAL file of this instance has been waiting to be archived; 0 when none waits",
    labels: &[],
};

const LAST_FAILED_WAL: Figure = Figure {
    name: "pgbackrest_cnpg_opera_com_last_failed_archive_timestamp",
    help: "When this instance last could not archive a WAL file, seconds since the Unix epoch",
    labels: &[],
};

const FIGURES: [&Figure; 16] = [
    &STANZA_STATUS,
    &REPO_STATUS,
    &BACKUP_COUNT,
    &BACKUP_BYTES,
    &ERROR_CODE,
    &MISSING_WAL,
    &NEXT_EXPIRY,
    &LAST_VERIFY,
    &DAMAGED,
    &FIRST_POINT,
    &LAST_BACKUP,
    &LAST_FAILED,
    &LAST_WAL,
    &WAITING,
    &OLDEST_WAITING,
    &LAST_FAILED_WAL,
];

/// The service.
#[derive(Debug, Clone)]
pub struct Metrics {
    surroundings: Arc<Surroundings>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    samples: Vec<proto::CollectMetric>,
    read: Option<Instant>,
    reading: bool,
}

impl Metrics {
    /// Nothing is read yet.
    pub fn new(surroundings: Arc<Surroundings>) -> Self {
        Self { surroundings, state: Arc::default() }
    }

    async fn samples(&self, definition: &[u8]) -> Result<Vec<proto::CollectMetric>, Failure> {
        let cluster = self.surroundings.cluster(definition)?;
        let is_primary = is_primary(&cluster, &self.surroundings);
        if source::own_source(&cluster).is_err() {
            // A pod whose Cluster names no Archive has nothing to tell.
            return Ok(Vec::new());
        }
        let is_first = self.begin(cluster);
        if let Some(reading) = is_first {
            // A reading that takes longer goes on.
            drop(tokio::time::timeout(FIRST_MAX, reading).await);
        }
        let mut samples = self.state.lock().unwrap_or_else(PoisonError::into_inner).samples.clone();
        samples.extend(self.of_instance(is_primary).await);
        Ok(samples)
    }

    /// What this pod knows without any repository: it is told now, not as of the last reading.
    async fn of_instance(&self, is_primary: bool) -> Vec<proto::CollectMetric> {
        let sight = self.surroundings.seen.sight();
        let failures = [(&LAST_FAILED, sight.backup_failure), (&LAST_FAILED_WAL, sight.archive_failure)];
        let failures = failures.into_iter().filter_map(|(figure, failure)| Some(sample(figure, failure?.at_s, &[])));
        let mut samples: Vec<proto::CollectMetric> = failures.collect();
        // A pod that was the primary before knows nothing new.
        for expected in sight.expected.iter().filter(|_| is_primary) {
            let labels = [expected.number.to_string()];
            let missing = expected.missing_wal.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
            samples.extend(missing.map(|count| sample(&MISSING_WAL, count, &labels)));
            samples.extend(expected.next_expiry_s.map(|at_s| sample(&NEXT_EXPIRY, at_s, &labels)));
        }
        for (number, verified) in sight.verified.iter().flatten().filter(|_| is_primary) {
            let labels = [number.to_string()];
            samples.extend(verified.good_s.map(|at_s| sample(&LAST_VERIFY, at_s, &labels)));
            // Before the first one that came to an end nothing is known.
            samples.extend(verified.done_s.map(|_| sample(&DAMAGED, i64::from(verified.damage.is_some()), &labels)));
        }
        let wal = self.surroundings.pod.wal_directory();
        if let Ok(pending) = blocking(move || Pending::of(&wal)).await {
            let since_s = pending.oldest.map(|(since_s, _)| since_s);
            let age_s = since_s.map_or(0, |since_s| SystemClock.now_s().saturating_sub(since_s).max(0));
            samples.push(sample(&WAITING, i64::try_from(pending.files).unwrap_or(i64::MAX), &[]));
            samples.push(sample(&OLDEST_WAITING, age_s, &[]));
        }
        samples
    }

    /// Begins a reading when the last one is old, and gives it when it is the first.
    fn begin(&self, cluster: Cluster) -> Option<tokio::task::JoinHandle<()>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.reading || state.read.is_some_and(|read| read.elapsed() < FRESH) {
            return None;
        }
        state.reading = true;
        let is_first = state.read.is_none();
        drop(state);
        let this = self.clone();
        let reading = tokio::spawn(async move {
            let read = this.read(&cluster).await;
            let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
            // An Archive or a Secret that cannot be read leaves nothing to read the repositories with.
            state.samples =
                read.unwrap_or_else(|_| vec![sample(&STANZA_STATUS, 99, std::slice::from_ref(&cluster.name))]);
            state.read = Some(Instant::now());
            state.reading = false;
        });
        is_first.then_some(reading)
    }

    async fn read(&self, cluster: &Cluster) -> Result<Vec<proto::CollectMetric>, Failure> {
        let place = self.surroundings.place(&source::own_source(cluster)?, cluster).await?;
        let settings = self.surroundings.settings(Command::Info, &place)?;
        let repositories = self.surroundings.repositories(&settings, &place.stanza)?;
        let context = self.surroundings.context(&settings, Command::Info, 1, "info", CancellationToken::new());
        let reading = Reading::of(&repositories, &context).await;
        Ok(samples_of(&reading, place.stanza.as_str()))
    }
}

/// The figures of what the repositories said. Those that are not known are left out.
fn samples_of(reading: &Reading, stanza: &str) -> Vec<proto::CollectMetric> {
    let stanza = stanza.to_owned();
    let mut samples = vec![sample(&STANZA_STATUS, stanza_status(reading), std::slice::from_ref(&stanza))];
    for repository in &reading.repositories {
        let number = repository.number.to_string();
        let cipher = if repository.is_encrypted { "aes-256-cbc" } else { "none" };
        let labels = [stanza.clone(), number.clone(), cipher.to_owned()];
        samples.push(sample(&REPO_STATUS, repository_status(&repository.outcome), &labels));
        let code = repository.outcome.as_ref().err().map_or(0, |error| i64::from(error.kind().code()));
        samples.push(sample(&ERROR_CODE, code, &[stanza.clone(), number.clone()]));
        let Ok(contents) = &repository.outcome else { continue };
        samples.push(sample(&BACKUP_BYTES, backup_bytes(contents), &[stanza.clone(), number.clone()]));
        for kind in [BackupType::Full, BackupType::Differential, BackupType::Incremental] {
            let count = contents.backups().iter().filter(|backup| backup.backup_type() == kind).count();
            let labels = [stanza.clone(), number.clone(), kind.name().to_owned()];
            samples.push(sample(&BACKUP_COUNT, i64::try_from(count).unwrap_or(i64::MAX), &labels));
        }
    }
    let ends = || reading.backups().map(|backup| backup.timestamp_stop_s);
    samples.extend(ends().min().map(|end_s| sample(&FIRST_POINT, end_s, &[])));
    samples.extend(ends().max().map(|end_s| sample(&LAST_BACKUP, end_s, &[])));
    samples.extend(last_wal_everywhere(reading).map(|(_, at_s)| sample(&LAST_WAL, *at_s, &[])));
    samples
}

/// The exporter's numbers for a repository, which are those of `info`.
fn repository_status<E>(outcome: &Result<Contents, E>) -> i64 {
    match outcome.as_ref().map(|contents| (contents.backups.as_deref(), contents.system_id)) {
        Err(_) => 99,
        Ok((None, None)) => 1,
        Ok((None, Some(_)) | (Some(_), None)) => 3,
        Ok((Some([]), Some(_))) => 2,
        Ok((Some(_), Some(_))) => 0,
    }
}

/// The exporter's numbers for a stanza.
fn stanza_status(reading: &Reading) -> i64 {
    match reading {
        reading if reading.repositories.iter().any(|repository| repository.outcome.is_err()) => 99,
        reading if reading.backups().next().is_none() => 2,
        reading if last_wal_everywhere(reading).is_none() => 3,
        _ => 0,
    }
}

fn sample(figure: &Figure, value: i64, labels: &[String]) -> proto::CollectMetric {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the protocol has no integers; seconds and counts are far below 2^53"
    )]
    let value = value as f64;
    proto::CollectMetric { fq_name: figure.name.to_owned(), value, variable_labels: labels.to_vec() }
}

fn definitions() -> Vec<proto::Metric> {
    let gauge = Some(proto::MetricType { r#type: proto::metric_type::Type::Gauge.into() });
    let definition = |figure: &&Figure| proto::Metric {
        fq_name: figure.name.to_owned(),
        help: figure.help.to_owned(),
        variable_labels: figure.labels.iter().map(|label| (*label).to_owned()).collect(),
        const_labels: BTreeMap::new(),
        value_type: gauge,
    };
    FIGURES.iter().map(definition).collect()
}

#[tonic::async_trait]
impl proto::metrics_server::Metrics for Metrics {
    async fn get_capabilities(
        &self,
        _request: Request<proto::MetricsCapabilitiesRequest>,
    ) -> Result<Response<proto::MetricsCapabilitiesResult>, Status> {
        use proto::metrics_capability::{Rpc, Type, rpc};
        let capability =
            proto::MetricsCapability { r#type: Some(Type::Rpc(Rpc { r#type: rpc::Type::Metrics.into() })) };
        Ok(Response::new(proto::MetricsCapabilitiesResult { capabilities: vec![capability] }))
    }

    async fn define(
        &self,
        _request: Request<proto::DefineMetricsRequest>,
    ) -> Result<Response<proto::DefineMetricsResult>, Status> {
        Ok(Response::new(proto::DefineMetricsResult { metrics: definitions() }))
    }

    async fn collect(
        &self,
        request: Request<proto::CollectMetricsRequest>,
    ) -> Result<Response<proto::CollectMetricsResult>, Status> {
        let metrics = self.samples(&request.into_inner().cluster_definition).await?;
        Ok(Response::new(proto::CollectMetricsResult { metrics }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn c39_every_figure_has_a_type_and_a_name_of_its_own() {
        let definitions = definitions();
        let names: BTreeSet<&str> = definitions.iter().map(|metric| metric.fq_name.as_str()).collect();
        assert_eq!(names.len(), definitions.len());
        assert!(definitions.iter().all(|metric| metric.value_type.is_some() && !metric.help.is_empty()));
        let samples = samples_of(&Reading::default(), "demo");
        for sample in &samples {
            let definition = definitions.iter().find(|metric| metric.fq_name == sample.fq_name).unwrap();
            assert_eq!(definition.variable_labels.len(), sample.variable_labels.len(), "{}", sample.fq_name);
        }
        for figure in FIGURES {
            assert!(figure.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", figure.name);
        }
    }

    #[test]
    fn kg25_nothing_is_healthy_without_a_backup_without_wal_or_without_an_answer() {
        use crate::upkeep::reading::RepositoryReading;
        use pgbr_repo::error::{Error, ErrorKind};
        let status = |outcomes: Vec<Result<Contents, Error>>| {
            let repositories = outcomes.into_iter().zip(1..).map(|(outcome, number)| RepositoryReading {
                number,
                is_encrypted: false,
                outcome,
            });
            stanza_status(&Reading { repositories: repositories.collect() })
        };
        let wal = || Contents { last_wal: Some(("0".repeat(24), 1)), ..Contents::default() };
        assert_eq!(status(vec![Ok(Contents::default())]), 2);
        assert_eq!(status(vec![Ok(wal())]), 2);
        assert_eq!(status(vec![Ok(wal()), Err(Error::new(ErrorKind::Service, "no"))]), 99);
        assert_eq!(status(vec![]), 2);
    }

    /// From the repository's side, whatever became of who should archive.
    #[test]
    fn np10_the_time_of_the_last_wal_is_that_of_the_repository_that_has_the_least() {
        use crate::upkeep::reading::RepositoryReading;
        let last_wal = |last: &[Option<i64>]| {
            let repositories = last.iter().zip(1..).map(|(at_s, number)| {
                let last_wal = at_s.map(|at_s| (format!("{at_s:024}"), at_s));
                RepositoryReading {
                    number,
                    is_encrypted: false,
                    outcome: Ok(Contents { last_wal, ..Contents::default() }),
                }
            });
            let samples = samples_of(&Reading { repositories: repositories.collect() }, "demo");
            samples.into_iter().find(|sample| sample.fq_name == LAST_WAL.name).map(|sample| sample.value)
        };
        assert_eq!(last_wal(&[Some(1_700_000_000)]), Some(1_700_000_000.0));
        assert_eq!(last_wal(&[Some(1_800_000_000), Some(1_700_000_000)]), Some(1_700_000_000.0));
        assert_eq!(last_wal(&[Some(1_800_000_000), None]), None);
    }

    /// The numbers of `info` and the labels of the exporter's `backrest_repo_metrics.go`.
    #[test]
    fn a_repositorys_status_is_told_as_the_exporter_tells_it() {
        use pgbr_repo::postgres::SystemId;
        let contents = |backups, system_id| Ok::<_, ()>(Contents { backups, system_id, ..Contents::default() });
        let system = Some(SystemId(7));
        assert_eq!(repository_status(&Err(())), 99);
        assert_eq!(repository_status(&contents(None, None)), 1);
        assert_eq!(repository_status(&contents(Some(Vec::new()), system)), 2);
        assert_eq!(repository_status(&contents(None, system)), 3);
        assert_eq!(repository_status(&contents(Some(Vec::new()), None)), 3);
        let labels: BTreeSet<&str> = REPO_STATUS.labels.iter().copied().collect();
        assert_eq!(labels, BTreeSet::from(["cipher", "repo_key", "stanza"]));
        assert_eq!(STANZA_STATUS.labels, ["stanza"]);
    }

    /// The dashboard and the alerts ask for figures that there are, and the alerts for every one that somebody must know.
    #[test]
    fn kg25_the_dashboard_and_the_alerts_ask_for_what_there_is() {
        let (dashboard, alerts) = (
            include_str!("../../../../manifests/monitoring/dashboard.json"),
            include_str!("../../../../manifests/monitoring/alerts.yaml"),
        );
        serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
        let asked = |text: &'static str| {
            let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
            words.filter(|word| word.starts_with("pgbackrest_")).collect::<BTreeSet<&str>>()
        };
        let known: BTreeSet<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        assert!(asked(dashboard).is_subset(&known), "{:?}", asked(dashboard).difference(&known));
        assert!(asked(alerts).is_subset(&known), "{:?}", asked(alerts).difference(&known));
        for needed in
            [&STANZA_STATUS, &REPO_STATUS, &LAST_BACKUP, &LAST_FAILED, &OLDEST_WAITING, &MISSING_WAL, &DAMAGED]
        {
            assert!(asked(alerts).contains(needed.name), "no alert about {}", needed.name);
        }
        assert_eq!(asked(dashboard), known, "the dashboard shows everything");
    }
}
