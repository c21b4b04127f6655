//! The Metrics service: figures of the cluster's own archive, published by the instance manager with its own.
//!
//! A scrape never waits for the store: it gets what was last read, and a reading in the background follows when that is a
//! minute old. What is not known has no sample; only the reachability is always told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgbr_config::Command;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::BackupType;
use pgbr_repo::repository::Repository;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::backup::Facts;
use crate::cluster::Cluster;
use crate::instance::source;
use crate::instance::surroundings::Surroundings;
use crate::proto::metrics as proto;
use crate::status::Failure;

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
    help: "0 when the repository answered at the last reading, 1 when it did not",
    labels: &["stanza", "repo_key"],
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
    help: "When the newest WAL segment was archived, seconds since the Unix epoch",
    labels: &[],
};

const FIGURES: [&Figure; 6] = [&REPO_STATUS, &BACKUP_COUNT, &FIRST_POINT, &LAST_BACKUP, &LAST_FAILED, &LAST_WAL];

/// The service.
#[derive(Debug, Clone)]
pub struct Metrics {
    surroundings: Arc<Surroundings>,
    facts: Arc<Mutex<Facts>>,
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
    pub fn new(surroundings: Arc<Surroundings>, facts: Arc<Mutex<Facts>>) -> Self {
        Self { surroundings, facts, state: Arc::default() }
    }

    async fn samples(&self, definition: &[u8]) -> Result<Vec<proto::CollectMetric>, Failure> {
        let cluster = self.surroundings.cluster(definition)?;
        let is_first = self.begin(cluster);
        if let Some(reading) = is_first {
            // A reading that takes longer goes on.
            drop(tokio::time::timeout(FIRST_MAX, reading).await);
        }
        let mut samples = self.state.lock().unwrap_or_else(PoisonError::into_inner).samples.clone();
        let failed = self.facts.lock().unwrap_or_else(PoisonError::into_inner).last_failed_s;
        samples.extend(failed.map(|at_s| sample(&LAST_FAILED, at_s, &[])));
        Ok(samples)
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
            state.samples = read.unwrap_or_default();
            state.read = Some(Instant::now());
            state.reading = false;
        });
        is_first.then_some(reading)
    }

    async fn read(&self, cluster: &Cluster) -> Result<Vec<proto::CollectMetric>, Failure> {
        let place = self.surroundings.place(&source::own_source(cluster)?, cluster).await?;
        let settings = self.surroundings.settings(Command::Info, &place)?;
        let repositories = self.surroundings.repositories(&settings, &place.stanza)?;
        let mut samples = Vec::new();
        let mut ends = Vec::new();
        let mut last_wal = None;
        for repository in &repositories {
            let labels = [place.stanza.to_string(), repository.index().number().to_string()];
            let read = self.read_one(repository).await;
            samples.push(sample(&REPO_STATUS, i64::from(read.is_err()), &labels));
            let Ok(read) = read else { continue };
            for kind in [BackupType::Full, BackupType::Differential, BackupType::Incremental] {
                let count = read.backups.iter().filter(|(other, _)| *other == kind).count();
                let [stanza, number] = labels.clone();
                let labels = [stanza, number, kind.name().to_owned()];
                samples.push(sample(&BACKUP_COUNT, i64::try_from(count).unwrap_or(i64::MAX), &labels));
            }
            ends.extend(read.backups.iter().map(|(_, end_s)| *end_s));
            last_wal = last_wal.max(read.last_wal_s);
        }
        samples.extend(ends.iter().min().map(|end_s| sample(&FIRST_POINT, *end_s, &[])));
        samples.extend(ends.iter().max().map(|end_s| sample(&LAST_BACKUP, *end_s, &[])));
        samples.extend(last_wal.map(|at_s| sample(&LAST_WAL, at_s, &[])));
        Ok(samples)
    }

    async fn read_one(&self, repository: &Repository) -> Result<Read, Failure> {
        let context = self.surroundings.context(Command::Info, 1, "info", CancellationToken::new());
        let missing = |kind| kind == ErrorKind::FileMissing;
        let mut read = Read::default();
        match repository.backup_info(&context).await {
            Ok(info) => {
                let backups = info.backups().iter();
                read.backups = backups.map(|backup| (backup.backup_type(), backup.timestamp_stop_s)).collect();
            }
            Err(error) if missing(error.kind()) => {}
            Err(error) => return Err(error.into()),
        }
        match repository.archive_info(&context).await {
            Ok(info) => {
                let archive = repository.archive(&info, info.current_archive_id())?;
                if let Some(last) = archive.wal_directories().await?.into_iter().max() {
                    let segments = archive.segments_of(last).await?;
                    read.last_wal_s = segments.iter().map(|segment| segment.modified_s).max();
                }
            }
            Err(error) if missing(error.kind()) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(read)
    }
}

/// What one repository says.
#[derive(Debug, Default)]
struct Read {
    backups: Vec<(BackupType, i64)>,
    last_wal_s: Option<i64>,
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
        for figure in FIGURES {
            assert!(figure.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", figure.name);
        }
    }
}
