//! An expire of the upkeep: under the Leases of its repositories, with what they list before and after.

use std::sync::Arc;

use pgbr_repo::command::expire::{ExpireRequest, RepositoryRules, expire};
use pgbr_repo::progress::Context;
use pgbr_repo::repository::WritableRepository;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use super::exclusion::{Fence, Guard, exclusion, lost};
use super::reading::Reading;
use super::{Round, look};
use crate::instance::surroundings::{Place, Surroundings};
use crate::status::Failure;

/// How long a Lease that somebody holds is waited for beyond the time after which a forsaken one is free.
const PATIENCE: Duration = Duration::from_secs(10);

/// The repositories with their rules.
pub(super) type Targets = [(WritableRepository, RepositoryRules)];

/// Nobody else backs up or expires in the repositories, until it is dropped.
#[derive(Debug)]
pub(super) struct Alone {
    guard: Guard,
    /// What they list now.
    pub(super) before: Reading,
}

impl Alone {
    /// Takes the Leases and looks. `None` when other pods cannot be kept out or work there.
    ///
    /// # Errors
    /// Those of the repositories, and when the archive is another cluster's.
    pub(super) async fn begin(
        surroundings: &Arc<Surroundings>,
        round: &Round,
        place: &Place,
        targets: &Targets,
        cancel: &CancellationToken,
    ) -> Result<Option<Self>, Failure> {
        let numbers: Vec<u32> = targets.iter().map(|(repository, _)| repository.index().number()).collect();
        let patience = surroundings.pod.lease_hold + PATIENCE;
        let guard = match exclusion(surroundings, place, &numbers, patience, cancel).await {
            Ok(guard) if guard.is_protected() => guard,
            Ok(_) | Err(Failure::Busy(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        // Under the Lease, and so the last word on whose repositories these are and what they list.
        let (_, before) = look(surroundings, round).await?;
        Ok(Some(Self { guard, before }))
    }

    /// Expires, and notes which backups went; what the repositories list after it.
    ///
    /// # Errors
    /// Those of the repositories and of `expire`; [`Failure::Busy`] when a Lease was lost.
    pub(super) async fn expire(
        self,
        surroundings: &Arc<Surroundings>,
        round: &Round,
        targets: &Targets,
        request: &ExpireRequest,
        context: &Context,
    ) -> Result<Reading, Failure> {
        let guard = Arc::new(self.guard);
        let request = ExpireRequest { permit: Some(Fence::new(Arc::clone(&guard))), ..request.clone() };
        let expired = expire(targets, &request, context).await;
        if guard.is_lost() {
            return Err(lost());
        }
        let (_, after) = look(surroundings, round).await?;
        // A repository that stopped answering has not lost its backups.
        if let (Some(before), Some(after)) = (self.before.complete_labels(), after.complete_labels()) {
            surroundings.note_expired(before.difference(&after).cloned().collect());
        }
        expired?;
        Ok(after)
    }
}
