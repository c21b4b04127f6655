//! Verification on a timer, where it is wanted: everything in the repositories against its checksums, so that damage is found
//! before the day on which a restore needs what is damaged.
//!
//! It only reads and keeps nobody out: what expires meanwhile is no damage. When it was done last is in the stanza's status, so
//! that a new pod goes on where another stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use pgbr_config::{Command, engine, opt};
use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::command::verify::{VerifyOptions, VerifyReport, verify};
use pgbr_repo::error::Error;
use pgbr_repo::progress::Context;
use pgbr_repo::repository::Repository;
use tokio::time::{Duration, Instant};

use super::stanza_status::{error_text, time};
use super::{Round, round_of_primary};
use crate::instance::surroundings::{Place, Surroundings, blocking};
use crate::resource::{StanzaStatus, VerificationStatus, shortened};
use crate::settings::Settings;
use crate::status::Failure;

/// How often it is looked whether the time has come.
const LOOK: Duration = Duration::from_secs(60);

/// When what failed is tried again, unless its time comes before.
const RETRY: Duration = Duration::from_secs(60 * 60);

/// How verifications of a repository went. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// When everything was read last.
    pub done_s: Option<i64>,
    /// When all of it was as it was stored.
    pub good_s: Option<i64>,
    /// What was not, the last time.
    pub damage: Option<String>,
    /// Why a later try did not come to an end.
    pub error: Option<String>,
}

impl Verified {
    /// As it is in a status.
    fn of(status: &VerificationStatus) -> Self {
        let seconds = |text: &Option<String>| Some(text.as_ref()?.parse::<Timestamp>().ok()?.as_second());
        Self {
            done_s: seconds(&status.last_verification_time),
            good_s: seconds(&status.last_successful_verification_time),
            damage: status.damage.clone(),
            error: status.error.clone(),
        }
    }

    /// For a status.
    pub(super) fn status(&self, number: u32) -> VerificationStatus {
        VerificationStatus {
            number: i32::try_from(number).unwrap_or(i32::MAX),
            last_verification_time: self.done_s.and_then(time),
            last_successful_verification_time: self.good_s.and_then(time),
            damage: self.damage.clone(),
            error: self.error.clone(),
        }
    }

    /// After one more, which ended now.
    fn after(&self, outcome: Result<VerifyReport, Error>, now_s: i64) -> Self {
        let error = |text: &str| Self { error: Some(shortened(text)), ..self.clone() };
        let report = match outcome {
            Ok(report) => report,
            Err(failure) => return error(&error_text(&failure)),
        };
        let is_empty = report.archives.is_empty() && report.backups.is_empty();
        if let (true, Some(obstacle), None) = (is_empty, report.obstacles.first(), self.done_s) {
            // There is no stanza yet, or nothing in it.
            return error(obstacle.trim());
        }
        let damaged = report.damage.len() - report.unreadable().count();
        match report.unreadable().next() {
            // Damage that was found counts although more may be there.
            Some(first) if damaged == 0 => {
                let count = report.unreadable().count();
                error(&format!(
                    "{count} object(s) could not be read, the first is {}: {}",
                    first.object, first.fault.detail
                ))
            }
            _ if report.is_error() => {
                Self { done_s: Some(now_s), good_s: self.good_s, damage: Some(damage(&report)), error: None }
            }
            _ => Self { done_s: Some(now_s), good_s: Some(now_s), damage: None, error: None },
        }
    }

    /// Whether it is to be verified now; `tried` is how long ago it was tried in vain.
    fn is_due(&self, interval: Duration, tried: Option<Duration>, now_s: i64) -> bool {
        let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
        // A time in the future is no reason never to look again.
        let is_old = self.done_s.is_none_or(|done_s| done_s > now_s || now_s.saturating_sub(done_s) >= seconds);
        is_old && tried.is_none_or(|ago| ago >= RETRY.min(interval))
    }
}

/// The engine's verification on a thread of its own: it is one that cannot move from one thread to another.
async fn run(repository: Repository, options: VerifyOptions, context: Context) -> Result<VerifyReport, Error> {
    let runtime = tokio::runtime::Handle::current();
    blocking(move || runtime.block_on(verify(&repository, &options, &context))).await
}

/// What is wrong, for a person: the whole is in the log.
fn damage(report: &VerifyReport) -> String {
    let backups: Vec<String> =
        report.backups.iter().filter(|backup| backup.is_error()).map(|backup| backup.label.to_string()).collect();
    let mut parts = report.obstacles.iter().map(|obstacle| obstacle.trim().to_owned()).collect::<Vec<_>>();
    if let Some(first) = report.damage.first() {
        let detail = if first.fault.detail.is_empty() { first.fault.kind.name() } else { first.fault.detail.as_str() };
        parts.push(format!("{} object(s) are damaged, the first is {}: {detail}", report.damage.len(), first.object));
    }
    if !backups.is_empty() {
        parts.push(format!("backups that are not good: {}", backups.join(", ")));
    }
    if parts.is_empty() {
        parts.push("what is stored does not fit together: see the log".to_owned());
    }
    shortened(&parts.join("; "))
}

/// Verifies the repositories now and then.
#[derive(Debug)]
pub struct Verification {
    surroundings: Arc<Surroundings>,
    interval: Duration,
    verified: Option<BTreeMap<u32, Verified>>,
    /// When a repository was tried in vain.
    tried: BTreeMap<u32, Instant>,
}

impl Verification {
    /// So often; nothing is verified yet.
    pub fn new(surroundings: Arc<Surroundings>, interval: Duration) -> Self {
        Self { surroundings, interval, verified: None, tried: BTreeMap::new() }
    }

    /// Works until the shutdown.
    pub async fn run(mut self) {
        let shutdown = self.surroundings.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.interval.min(LOOK)) => {}
            }
            let Some(round) = round_of_primary(&self.surroundings) else {
                // Another pod goes on with it, and its word counts when this one is the primary again.
                self.verified = None;
                continue;
            };
            if let Err(failure) = self.look(&round).await {
                let fields = [("archive", round.source.archive.as_str().into()), ("error", failure.text().into())];
                self.surroundings.log.warn("The repositories were not verified", &fields);
            }
        }
    }

    /// Verifies what is due.
    async fn look(&mut self, round: &Round) -> Result<(), Failure> {
        let surroundings = Arc::clone(&self.surroundings);
        let place = surroundings.place(&round.source, &round.cluster).await?;
        let settings = surroundings.settings(Command::Verify, &place)?;
        let repositories = surroundings.repositories(&settings, &place.stanza)?;
        let mut verified = match self.verified.take() {
            Some(verified) => verified,
            None => self.recorded(round, &place).await?,
        };
        verified.retain(|number, _| repositories.iter().any(|repository| repository.index().number() == *number));
        for repository in &repositories {
            let number = repository.index().number();
            let before = verified.get(&number).cloned().unwrap_or_default();
            let tried = self.tried.get(&number).map(Instant::elapsed);
            if !before.is_due(self.interval, tried, SystemClock.now_s()) {
                continue;
            }
            let outcome = self.verify(repository, &settings).await;
            if surroundings.shutdown.is_cancelled() {
                return Ok(());
            }
            let after = before.after(outcome, SystemClock.now_s());
            match after.done_s == before.done_s && after.error.is_some() {
                true => drop(self.tried.insert(number, Instant::now())),
                false => drop(self.tried.remove(&number)),
            }
            self.tell(round, number, &after).await;
            verified.insert(number, after);
            surroundings.seen.verified(&verified);
        }
        surroundings.seen.verified(&verified);
        self.verified = Some(verified);
        Ok(())
    }

    /// What is in the status of the cluster's stanza.
    async fn recorded(&self, round: &Round, place: &Place) -> Result<BTreeMap<u32, Verified>, Failure> {
        let archive = self.surroundings.credentials.fresh_archive(&place.archive.name).await?;
        let is_ours = |stanza: &StanzaStatus| {
            stanza.name == place.stanza.as_str() && stanza.cluster.as_deref() == Some(round.cluster.name.as_str())
        };
        let stanza = archive.status.into_iter().flat_map(|status| status.stanzas).find(is_ours);
        let verifications = stanza.into_iter().flat_map(|stanza| stanza.verifications);
        Ok(verifications.filter_map(|it| Some((u32::try_from(it.number).ok()?, Verified::of(&it)))).collect())
    }

    async fn verify(&self, repository: &Repository, settings: &Settings) -> Result<VerifyReport, Error> {
        let surroundings = &self.surroundings;
        let workers = engine::workers(&settings.options);
        let cancel = surroundings.shutdown.child_token();
        let context = surroundings.context(settings, Command::Verify, workers, "pgbackrest verify", cancel);
        let options = &settings.options;
        let index = options.repos().find(|index| u32::from(index.number()) == repository.index().number());
        let read_over = index.and_then(|index| options.repo(index).size_bytes(opt::REPO_STORAGE_READ_OVER));
        let read_over_bytes = read_over.unwrap_or(0);
        let options = VerifyOptions { set: None, workers, read_over_bytes };
        run(repository.clone(), options, context).await
    }

    async fn tell(&self, round: &Round, number: u32, verified: &Verified) {
        let fields = [("repository", number.into()), ("archive", round.source.archive.as_str().into())];
        match (&verified.damage, &verified.error) {
            (_, Some(error)) => {
                let [repository, archive] = fields;
                let fields = [repository, archive, ("error", error.as_str().into())];
                self.surroundings.log.warn("A repository could not be verified", &fields);
            }
            (Some(damage), None) => {
                let note = format!("repository {number} is damaged: {damage}");
                self.surroundings.warn(&round.cluster, "RepositoryDamaged", note).await;
            }
            (None, None) => {
                self.surroundings.log.info("A repository was verified: everything had its checksums", &fields);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbr_repo::error::ErrorKind;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn kg25_a_failed_try_is_no_verification_and_damage_stays_told() {
        let good = Verified { done_s: Some(10), good_s: Some(10), ..Verified::default() };
        let silent = good.after(Err(Error::new(ErrorKind::Service, "no answer")), 20);
        assert_eq!((silent.done_s, silent.good_s), (Some(10), Some(10)));
        assert!(silent.error.as_deref().is_some_and(|error| error.contains("no answer")));
        let damaged = Verified { done_s: Some(20), damage: Some("x".to_owned()), ..good };
        assert_eq!(damaged.after(Err(Error::new(ErrorKind::Service, "no")), 30).damage.as_deref(), Some("x"));
        // What a status keeps of it is all of it.
        assert_eq!(Verified::of(&damaged.status(1)), damaged);
    }

    #[test]
    fn it_is_due_after_the_interval_whatever_the_clock_did() {
        let at = |done_s: Option<i64>, tried: Option<u64>| {
            let verified = Verified { done_s, ..Verified::default() };
            verified.is_due(DAY, tried.map(Duration::from_secs), 1_000_000)
        };
        assert!(at(None, None) && at(Some(1_000_000 - 86_400), None) && at(Some(1_000_001), None));
        assert!(!at(Some(1_000_000 - 86_399), None) && !at(Some(1_000_000), None));
        assert!(!at(None, Some(3_599)) && at(None, Some(3_600)));
    }
}
