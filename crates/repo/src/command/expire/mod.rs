//! `expire`: removes backups and WAL that are not to be kept any longer (repository-behaviour.md §6).
//!
//! ```text
//! backup.info, archive.info, rules -> plan
//!   -> backup.info saved -> what goes is announced -> manifests, newest first -> directories -> WAL -> manifest history -> left-overs
//! ```
//!
//! Everything is decided before anything is changed. At each step every backup that is listed is whole, with its WAL; what
//! a crash leaves is not listed, and goes with the next run. Each repository is judged by its own rules, and one that
//! fails does not keep the others from being done.

mod archive;
mod backups;
mod forecast;
mod history;
mod leftovers;
mod needed;
mod options;
mod permit;
mod remover;
mod retention;
mod tally;
mod wal_retention;

use crate::error::{Error, ErrorKind, Result};
use crate::format::BackupInfo;
use crate::progress::{Context, Scope};
use crate::repository::{Change as InfoChange, Purpose, Reconciled, Repository, WritableRepository};

use archive::WalPlan;
use backups::Change;
pub use forecast::{ExpiryTime, NextExpiry, next_expiry};
use history::{HistoryLimit, HistoryPlan};
pub use jiff::tz::TimeZone;
pub use needed::needed_wal;
pub use options::{ExpireRequest, ExpiredBackups, FullUnit, RepositoryRules, Retention, WalRetention};
pub use permit::Permit;
use remover::Remover;
use retention::BackupPlan;
pub use retention::HOLD;
use tally::Tally;

/// How often a run begins again because somebody else changed backup.info under it.
const ROUNDS_MAX: u32 = 3;

/// Expires in each repository by its own rules. Nothing else may write to their stanza meanwhile but `archive-push`.
///
/// # Errors
/// [`ErrorKind::Command`] when something failed in one or more of the repositories; each failure was reported.
/// [`ErrorKind::Term`] when the command is to stop. The [`Permit`]'s, as any other failure.
pub async fn expire(
    targets: &[(WritableRepository, RepositoryRules)],
    request: &ExpireRequest,
    context: &Context,
) -> Result<()> {
    let scope = Scope::new(context);
    scope.run(expire_all(targets, request, scope.context())).await
}

async fn expire_all(
    targets: &[(WritableRepository, RepositoryRules)],
    request: &ExpireRequest,
    context: &Context,
) -> Result<()> {
    let mut errors = 0_usize;
    let mut found = false;
    for (place, (repository, rules)) in targets.iter().enumerate() {
        let is_last_hope = !found && place + 1 == targets.len();
        match (Run { repository, rules, request, context, is_last_hope }).expire().await {
            Ok(was_found) => found |= was_found,
            Err(error) if error.kind() == ErrorKind::Term => return Err(error),
            Err(error) => {
                errors += 1;
                context.reporter.failure(error.kind(), &format!("{}: {error}", repository.index()));
            }
        }
    }
    if errors > 0 {
        let message = format!("expire command encountered {errors} error(s), check the log file for details");
        return Err(Error::new(ErrorKind::Command, message));
    }
    Ok(())
}

/// One repository.
#[derive(Clone, Copy)]
struct Run<'a> {
    repository: &'a WritableRepository,
    rules: &'a RepositoryRules,
    request: &'a ExpireRequest,
    context: &'a Context,
    /// A backup that was asked for and is not here is nowhere.
    is_last_hope: bool,
}

/// What is decided for one repository.
struct Plan {
    reconciled: Reconciled,
    backups: BackupPlan,
    wal: WalPlan,
    history: Option<HistoryPlan>,
}

impl Run<'_> {
    /// The answer is whether the backup that was asked for is here.
    async fn expire(self) -> Result<bool> {
        let plan = self.planned_and_saved().await?;
        for (level, text) in &plan.backups.messages {
            self.context.reporter.message(*level, 0, text);
        }
        self.carry_out(&plan).await?;
        Ok(plan.backups.found)
    }

    /// Plans, and takes the expired backups out of backup.info.
    async fn planned_and_saved(self) -> Result<Plan> {
        for _ in 1..ROUNDS_MAX {
            let plan = self.plan().await?;
            if self.request.dry_run || self.save(&plan).await? {
                return Ok(plan);
            }
            self.context.warn(format!("{}: backup.info was changed by somebody else: reading it again", self.index()));
        }
        let plan = self.plan().await?;
        match self.save(&plan).await? {
            true => Ok(plan),
            false => Err(Error::new(ErrorKind::BackupMismatch, "backup.info is changed by somebody else all the time")
                .hint("is another backup or expire of this stanza running on another host?")),
        }
    }

    async fn plan(self) -> Result<Plan> {
        let now_s = self.context.clock.now_s();
        let asked = match &self.request.backups {
            ExpiredBackups::Set(label) => Some(label),
            _ => None,
        };
        let reconciled = self.repository.reconciled(Purpose::Expire { asked }, self.context).await?;
        let retention = &self.rules.retention;
        let mut backups = retention::plan(self.repository.index(), &reconciled.info, self.request, retention, now_s)?;
        if let (Some(label), false, true) = (asked, backups.found, self.is_last_hope) {
            let text =
                format!("backup {label} does not exist\nHINT: run the info command and confirm the backup is listed");
            backups.messages.push((crate::progress::Level::Warn, text));
        }
        let wal = archive::plan(self.repository, &backups, self.request, self.context).await?;
        let days = retention.history_days;
        let history = match days.map(|days| HistoryLimit::new(now_s, days, &self.request.time_zone)).transpose()? {
            Some(limit) => Some(history::plan(self.repository, limit, &backups.remaining, self.context).await?),
            None => None,
        };
        Ok(Plan { reconciled, backups, wal, history })
    }

    /// Writes backup.info without the expired backups; `false` when it is not any more what the plan was made from.
    async fn save(self, plan: &Plan) -> Result<bool> {
        if plan.backups.expired.is_empty() && !plan.reconciled.is_changed() {
            return Ok(true);
        }
        self.request.confirm().await?;
        let remaining = &plan.backups.remaining;
        let mut holds = false;
        let change = |now: &mut BackupInfo| {
            self.context.check_cancelled()?;
            plan.reconciled.apply(now);
            holds = *now == plan.reconciled.info;
            if !holds {
                return Ok(InfoChange::Nothing);
            }
            now.clone_from(remaining);
            Ok(InfoChange::Write)
        };
        self.repository.update_backup_info(self.context, change).await?;
        Ok(holds)
    }

    async fn carry_out(self, plan: &Plan) -> Result<()> {
        let mut remover = Remover::new(self.repository, self.request);
        let remaining = &plan.backups.remaining;
        let change = Change {
            known: &plan.reconciled.directories,
            before: &plan.reconciled.info,
            refused: &plan.reconciled.refused,
            remaining,
            expired: &plan.backups.expired,
            asked: match &self.request.backups {
                ExpiredBackups::Set(label) => Some(label),
                _ => None,
            },
        };
        self.announce(plan, &change).await?;
        let gone = backups::remove_manifests(&change, &mut remover, self.context).await?;
        if let (true, false, Some(newest)) =
            (plan.backups.newest_goes, self.request.dry_run, remaining.backups().last())
        {
            self.repository.link_latest(&newest.label, self.rules.symlinks, self.context).await;
        }
        backups::remove_directories(&change, &gone, &mut remover, self.context).await?;
        archive::remove(&plan.wal, plan.backups.by_age, &self.rules.path, &mut remover, self.context).await?;
        if let Some(history) = &plan.history {
            history.remove(remaining, &mut remover, self.context).await?;
        }
        archive::warn_of_page_errors(self.repository, remaining, self.context);
        if !self.request.dry_run {
            self.request.confirm().await?;
            leftovers::remove(self.repository, self.context).await;
        }
        remover.finish()
    }

    /// Says how much goes, and by which rules, before the first of it does.
    async fn announce(self, plan: &Plan, change: &Change<'_>) -> Result<()> {
        let mut tally = Tally::default();
        backups::count(self.repository, change, &mut tally, self.context).await?;
        plan.wal.count(&mut tally);
        if let Some(history) = &plan.history {
            history.count(&mut tally);
        }
        if !tally.is_empty() {
            let policy = tally::policy(self.index(), self.request, self.rules);
            self.context.announce(format!("{}: to remove: {tally} ({policy})", self.index()));
        }
        Ok(())
    }

    fn index(self) -> crate::repository::RepoIndex {
        Repository::index(self.repository)
    }
}
