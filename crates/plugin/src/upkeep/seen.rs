//! What this process has seen: the newest definition of its Cluster, and how archiving and backups ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgbr_repo::clock::{Clock, SystemClock};
use tokio::sync::Notify;

use super::verified::Verified;
use crate::cluster::Cluster;

/// Labels that are remembered; with more, all are forgotten: their objects stay.
const LABELS_MAX: usize = 10_000;

/// Shared by the services, which note, and the upkeep, which looks.
#[derive(Debug, Default)]
pub struct Seen {
    state: Mutex<Sight>,
    changed: Notify,
}

/// What was seen until now.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// The Cluster as the last request had it.
    pub cluster: Option<Cluster>,
    /// The last WAL file that was archived by this process.
    pub archived: Option<Noted>,
    /// The last failure to archive.
    pub archive_failure: Option<Noted>,
    /// Whether the last try to archive was that failure.
    pub archiving_fails: bool,
    /// The last failure of a backup.
    pub backup_failure: Option<Noted>,
    /// How retention went last: `None` before the first time, with the reason when it failed.
    pub retention: Option<Result<(), String>>,
    /// Whether this pod may use Leases; `None` before it tried.
    pub has_leases: Option<bool>,
    /// Labels that this process saw expire.
    pub expired: BTreeSet<String>,
    /// What the last round found out about each repository of this cluster's stanza.
    pub expected: Vec<Expected>,
    /// How verifications of the repositories went, by their numbers; `None` before that is known.
    pub verified: Option<BTreeMap<u32, Verified>>,
    /// How many backups ended, well or not.
    pub backups_ended: u64,
}

/// What metrics tell of the outlook of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The repository.
    pub number: u32,
    /// How many segments are missing.
    pub missing_wal: Option<u64>,
    /// When something expires next, in seconds since the Unix epoch, where that is a moment.
    pub next_expiry_s: Option<i64>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// When, in seconds since the Unix epoch.
    pub at_s: i64,
    /// What: the name of a file, or why something failed.
    pub text: String,
}

impl Noted {
    fn now(text: &str) -> Self {
        Self { at_s: SystemClock.now_s(), text: text.to_owned() }
    }
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Sight> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen until now.
    pub fn sight(&self) -> Sight {
        self.lock().clone()
    }

    /// A request came with this definition.
    pub fn cluster(&self, cluster: &Cluster) {
        let mut state = self.lock();
        if state.cluster.as_ref() != Some(cluster) {
            state.cluster = Some(cluster.clone());
        }
    }

    /// A WAL file was archived, or not, for the reason that is given. Its path may be given.
    pub fn archived(&self, file: &str, failure: Option<&str>) {
        let file = file.rsplit('/').next().unwrap_or(file);
        let mut state = self.lock();
        let is_first = state.archived.is_none() && state.archive_failure.is_none();
        let is_change = is_first || state.archiving_fails != failure.is_some();
        state.archiving_fails = failure.is_some();
        match failure {
            None => state.archived = Some(Noted::now(file)),
            Some(failure) => state.archive_failure = Some(Noted::now(&format!("{file}: {failure}"))),
        }
        if is_change {
            self.changed.notify_one();
        }
    }

    /// A backup ended; with the reason when it failed.
    pub fn backup_ended(&self, failure: Option<&str>) {
        let mut state = self.lock();
        state.backups_ended = state.backups_ended.saturating_add(1);
        if let Some(failure) = failure {
            state.backup_failure = Some(Noted::now(failure));
        }
        self.changed.notify_one();
    }

    /// Retention was applied, or not, for the reason that is given.
    pub fn retention(&self, failure: Option<&str>) {
        let outcome = failure.map_or(Ok(()), |failure| Err(failure.to_owned()));
        let mut state = self.lock();
        if state.retention.as_ref() != Some(&outcome) {
            state.retention = Some(outcome);
            self.changed.notify_one();
        }
    }

    /// The API server let this pod use Leases, or said that it may not.
    pub fn leases_denied(&self, is_denied: bool) {
        self.lock().has_leases = Some(!is_denied);
    }

    /// This was found out about the repositories.
    pub fn expected(&self, expected: Vec<Expected>) {
        self.lock().expected = expected;
    }

    /// Verifications went like this; `None` when another pod knows better.
    pub fn verified(&self, verified: Option<&BTreeMap<u32, Verified>>) {
        let mut state = self.lock();
        if state.verified.as_ref() != verified {
            state.verified = verified.cloned();
            self.changed.notify_one();
        }
    }

    /// These backups were expired by this process.
    pub fn expired(&self, labels: BTreeSet<String>) {
        let mut state = self.lock();
        if state.expired.len() > LABELS_MAX {
            state.expired.clear();
        }
        state.expired.extend(labels);
        self.changed.notify_one();
    }

    /// Waits until there is something that should be told soon.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
