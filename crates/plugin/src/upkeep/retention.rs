//! Retention on a timer: backups expire although no new one is good, and never more of them than `expire` plans.
//!
//! It runs under the Leases of the repositories, not beside a backup, and not when nothing changed since the last time.

use std::collections::BTreeSet;
use std::sync::Arc;

use pgbr_config::engine::expire::{expire_request, expire_targets};
use pgbr_config::{Command, engine, opt};
use pgbr_repo::clock::{Random, SystemRandom};
use pgbr_repo::command::expire::{FullUnit, Retention as Rules};
use tokio::time::{Duration, Instant};

use super::alone::Alone;
use super::{Round, look, round_of_primary};
use crate::instance::surroundings::Surroundings;
use crate::settings::Settings;
use crate::status::Failure;

/// Applies the retention of the Archive now and then.
#[derive(Debug)]
pub struct Retention {
    surroundings: Arc<Surroundings>,
    /// What it was applied to last, when nothing but a change of it makes a difference.
    applied: Option<Applied>,
}

/// What decides about an expire that counts backups and looks at no clock.
#[derive(Debug, PartialEq)]
struct Applied {
    settings: Settings,
    labels: BTreeSet<String>,
}

/// What became of one try.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every backup is kept, or nothing changed.
    Nothing,
    /// It is not the time: somebody else works there, or nobody can be kept out.
    Later,
    /// It was applied.
    Done,
}

impl Retention {
    /// Nothing is applied yet.
    pub fn new(surroundings: Arc<Surroundings>) -> Self {
        Self { surroundings, applied: None }
    }

    /// Works until the shutdown.
    pub async fn run(mut self) {
        let shutdown = self.surroundings.shutdown.clone();
        loop {
            let pause = jittered(self.surroundings.pod.retention_interval);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(Instant::now() + pause) => {}
            }
            let Some(round) = round_of_primary(&self.surroundings) else { continue };
            let outcome = self.apply(&round).await;
            if shutdown.is_cancelled() {
                return;
            }
            self.note(&round, outcome).await;
        }
    }

    async fn note(&self, round: &Round, outcome: Result<Outcome, Failure>) {
        match outcome {
            Ok(Outcome::Nothing | Outcome::Later) => {}
            Ok(Outcome::Done) => self.surroundings.seen.retention(None),
            Err(failure) => {
                let note = format!("retention could not be applied: {}", failure.text());
                self.surroundings.seen.retention(Some(&failure.text()));
                self.surroundings.warn(&round.cluster, "RetentionFailed", note).await;
            }
        }
    }

    async fn apply(&mut self, round: &Round) -> Result<Outcome, Failure> {
        let surroundings = Arc::clone(&self.surroundings);
        let place = surroundings.place(&round.source, &round.cluster).await?;
        let settings = surroundings.settings(Command::Backup, &place)?;
        if !settings.options.boolean(opt::EXPIRE_AUTO) {
            return Ok(Outcome::Nothing);
        }
        let targets = expire_targets(&settings.options, &place.stanza, &|name| settings.variable(name))?;
        if !targets.iter().any(|(_, rules)| has_rules(&rules.retention)) {
            return Ok(Outcome::Nothing);
        }
        let (_, before) = look(&surroundings, round).await?;
        let labels: BTreeSet<String> = before.backups().map(|backup| backup.label.to_string()).collect();
        let now = Applied { settings: settings.clone(), labels };
        let looks_at_clock = targets.iter().any(|(_, rules)| counts_days(&rules.retention));
        if now.labels.is_empty() || (!looks_at_clock && self.applied.as_ref() == Some(&now)) {
            return Ok(Outcome::Nothing);
        }
        let request = expire_request(&settings.options)?;
        let cancel = surroundings.shutdown.child_token();
        let Some(alone) = Alone::begin(&surroundings, round, &place, &targets, &cancel).await? else {
            return Ok(Outcome::Later);
        };
        let workers = engine::workers(&settings.options);
        let context = surroundings.context(&settings, Command::Expire, workers, "pgbackrest expire", cancel.clone());
        let after = alone.expire(&surroundings, round, &targets, &request, &context).await?;
        let labels = after.backups().map(|backup| backup.label.to_string()).collect();
        self.applied = Some(Applied { settings, labels });
        Ok(Outcome::Done)
    }
}

/// Whether anything can expire.
pub fn has_rules(rules: &Rules) -> bool {
    rules.full.is_some() || rules.diff.is_some() || rules.wal.count.is_some() || rules.history_days.is_some()
}

/// Whether time alone can make something expire.
fn counts_days(rules: &Rules) -> bool {
    (rules.full.is_some() && rules.full_unit == FullUnit::Days) || rules.history_days.is_some()
}

/// The interval, a tenth more or less: clusters that were made together should not expire together.
fn jittered(interval: Duration) -> Duration {
    let mut byte = [128_u8];
    // Without random bytes all wait the same.
    drop(SystemRandom.fill(&mut byte));
    let [byte] = byte;
    interval.mul_f64(0.9 + 0.2 * f64::from(byte) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_varies_by_a_tenth() {
        for _ in 0..50 {
            let pause = jittered(Duration::from_secs(1000));
            assert!((900..=1101).contains(&pause.as_secs()), "{pause:?}");
        }
    }
}
