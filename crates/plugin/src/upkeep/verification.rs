//! Verification on a timer, where it is wanted: everything in the repositories against its checksums, so that damage is found
//! before the day on which a restore needs what is damaged.
//!
//! It only reads and keeps nobody out: what expires meanwhile is no damage. When it was done last is in the stanza's status, so
//! that a new pod goes on where another stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgbr_config::{Command, engine, opt};
use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::command::verify::{VerifyOptions, VerifyReport, verify};
use pgbr_repo::error::Error;
use pgbr_repo::format::Stanza;
use pgbr_repo::progress::Context;
use pgbr_repo::repository::Repository;
use tokio::time::{Duration, Instant};

use super::verified::Verified;
use super::{Round, round_of_primary};
use crate::instance::surroundings::{Place, Surroundings, blocking};
use crate::resource::{Repository as RepositoryFields, StanzaStatus};
use crate::settings::Settings;
use crate::status::Failure;

/// How often it is looked whether the time has come.
const LOOK: Duration = Duration::from_secs(60);

/// The engine's verification on a thread of its own: it is one that cannot move from one thread to another.
async fn run(repository: Repository, options: VerifyOptions, context: Context) -> Result<VerifyReport, Error> {
    let runtime = tokio::runtime::Handle::current();
    blocking(move || runtime.block_on(verify(&repository, &options, &context))).await
}

/// Where a repository is: what was found in one is nothing about another of the same number.
#[derive(Debug, PartialEq, Eq)]
struct Location {
    stanza: Stanza,
    bucket: String,
    path: String,
    endpoint: Option<String>,
}

impl Location {
    fn all(place: &Place) -> Vec<Self> {
        let of = |repository: &RepositoryFields| Self {
            stanza: place.stanza.clone(),
            bucket: repository.bucket.clone(),
            path: repository.destination_path.clone(),
            endpoint: repository.endpoint_url.clone(),
        };
        place.archive.spec.configuration.repositories.iter().map(of).collect()
    }
}

/// Verifies the repositories now and then.
#[derive(Debug)]
pub struct Verification {
    surroundings: Arc<Surroundings>,
    interval: Duration,
    verified: Option<BTreeMap<u32, Verified>>,
    /// When a repository was tried in vain.
    tried: BTreeMap<u32, Instant>,
    /// Where the repositories were when that was found; empty before anything was.
    locations: Vec<Location>,
}

impl Verification {
    /// So often; nothing is verified yet.
    pub fn new(surroundings: Arc<Surroundings>, interval: Duration) -> Self {
        Self { surroundings, interval, verified: None, tried: BTreeMap::new(), locations: Vec::new() }
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
                // Another pod goes on with it, and its word counts from now on.
                self.verified = None;
                self.locations.clear();
                self.surroundings.seen.verified(None);
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
        let locations = Location::all(&place);
        let is_there = |number: u32| repositories.iter().any(|repository| repository.index().number() == number);
        let moved = |number: u32| {
            let at = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
            !self.locations.is_empty() && self.locations.get(at) != locations.get(at)
        };
        verified.retain(|number, _| is_there(*number) && !moved(*number));
        self.locations = locations;
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
            surroundings.seen.verified(Some(&verified));
        }
        surroundings.seen.verified(Some(&verified));
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
