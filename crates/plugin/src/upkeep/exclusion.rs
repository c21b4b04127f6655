//! Only one of all pods backs up or expires in a repository of a stanza: who holds its Lease (design: who excludes whom).
//!
//! The Leases are renewed while the work runs. One that is lost cancels it, well before another may begin. Where the pods
//! may not touch Leases there is no protection against other pods, and the callers do less: see [`Guard::is_protected`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use pgbr_repo::command::expire::Permit;
use pgbr_repo::error::{Error, ErrorKind};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ids::stanza_lease;
use crate::instance::surroundings::{Place, Surroundings};
use crate::lease::{Lease, Step};
use crate::operator::objects::ObjectError;
use crate::status::Failure;

/// The longest pause between two looks at a Lease that somebody else has.
const LOOK_MAX: Duration = Duration::from_secs(3);

/// Who may work in these repositories, until it is dropped.
#[derive(Debug)]
pub struct Guard {
    /// Within the process.
    _local: OwnedMutexGuard<()>,
    /// Ends the renewal.
    _renewal: Option<DropGuard>,
    names: Vec<String>,
    lost: Arc<AtomicBool>,
    surroundings: Arc<Surroundings>,
}

impl Guard {
    /// Whether other pods are kept out. If not, only the primary may back up, and expire only after that.
    pub fn is_protected(&self) -> bool {
        self._renewal.is_some()
    }

    /// Whether another pod may have begun, so that what was done counts for nothing.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Asks the API server once more, before something that cannot be taken back.
    ///
    /// # Errors
    /// [`Failure::Busy`] when another pod holds a Lease; [`Failure::Unavailable`] when it cannot be told.
    pub async fn confirm(&self) -> Result<(), Failure> {
        if !self.is_protected() {
            return Ok(());
        }
        for name in &self.names {
            let lease = lease(&self.surroundings, name).await?;
            match lease.is_mine().await {
                Ok(true) if !self.is_lost() => {}
                Ok(_) => return Err(lost()),
                Err(error) => return Err(Failure::Unavailable(error.to_string())),
            }
        }
        Ok(())
    }
}

/// How long a look at the Leases is enough: the engine asks before every batch of removals.
const CONFIRMED: Duration = Duration::from_secs(1);

/// The Leases as the engine's word on whether it may still remove.
#[derive(Debug)]
pub struct Fence {
    guard: Arc<Guard>,
    confirmed: tokio::sync::Mutex<Option<Instant>>,
}

impl Fence {
    /// Over the Leases of `guard`.
    pub fn new(guard: Arc<Guard>) -> Arc<Self> {
        Arc::new(Self { guard, confirmed: tokio::sync::Mutex::default() })
    }
}

impl Permit for Fence {
    fn confirm(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let mut confirmed = self.confirmed.lock().await;
            if self.guard.is_lost() || confirmed.is_none_or(|at| at.elapsed() >= CONFIRMED) {
                let failed = |failure: Failure| Error::new(ErrorKind::LockAcquire, failure.text());
                self.guard.confirm().await.map_err(failed)?;
                *confirmed = Some(Instant::now());
            }
            Ok(())
        })
    }
}

/// What is told when a Lease was lost.
pub fn lost() -> Failure {
    Failure::Busy("[050]: the Lease of the repository is held by another pod: the work was given up".to_owned())
}

/// Takes the Leases of these repositories, waiting up to `patience` for others. `cancel` is cancelled when one is lost.
///
/// # Errors
/// [`Failure::Busy`] when somebody else works there for longer than that; [`Failure::Unavailable`] when the API server does
/// not answer.
pub async fn exclusion(
    surroundings: &Arc<Surroundings>,
    place: &Place,
    repositories: &[u32],
    patience: Duration,
    cancel: &CancellationToken,
) -> Result<Guard, Failure> {
    let deadline = Instant::now() + patience;
    let busy = |who: &str| Failure::Busy(format!("[050]: {who} works in the repository: wait until it has ended"));
    let local = tokio::time::timeout_at(deadline, Arc::clone(&surroundings.exclusion).lock_owned()).await;
    let local = local.map_err(|_| busy("another backup or expire of this pod"))?;
    let names: Vec<String> =
        repositories.iter().map(|number| stanza_lease(&place.archive.name, place.stanza.as_str(), *number)).collect();
    let mut leases = Vec::new();
    for name in &names {
        leases.push(lease(surroundings, name).await?);
    }
    let hold = surroundings.pod.lease_hold;
    loop {
        let failure = match take_all(&mut leases).await {
            Ok(Step::Take) => break,
            Ok(Step::Wait) => busy("another pod"),
            Err(error) if error.code() == Some(409) => busy("another pod"),
            Err(error) if is_denied(&error) => {
                surroundings.seen.leases_denied(true);
                let fields = [("error", error.to_string().into())];
                surroundings.log.warn("The pods have no right to Leases: other pods are not kept out", &fields);
                let lost = Arc::default();
                return Ok(Guard {
                    _local: local,
                    _renewal: None,
                    names,
                    lost,
                    surroundings: Arc::clone(surroundings),
                });
            }
            Err(error) => Failure::Unavailable(error.to_string()),
        };
        if Instant::now() + look(hold) >= deadline {
            for lease in &leases {
                lease.release().await;
            }
            return Err(failure);
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Failure::Unavailable("the sidecar is ending".to_owned())),
            () = tokio::time::sleep(look(hold)) => {}
        }
    }
    surroundings.seen.leases_denied(false);
    let (end, lost) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let renewal = Renewal { leases, hold, end: end.clone(), work: cancel.clone(), lost: Arc::clone(&lost) };
    // The process stays until the Leases are given back.
    let working = surroundings.work();
    drop(tokio::spawn(async move {
        renewal.run().await;
        drop(working);
    }));
    let surroundings = Arc::clone(surroundings);
    Ok(Guard { _local: local, _renewal: Some(end.drop_guard()), names, lost, surroundings })
}

/// How often a Lease of this length is looked at that somebody else has.
fn look(hold: Duration) -> Duration {
    (hold / 12).clamp(Duration::from_millis(100), LOOK_MAX)
}

async fn lease(surroundings: &Surroundings, name: &str) -> Result<Lease, Failure> {
    let pod = &surroundings.pod;
    Ok(Lease::new(surroundings.credentials.client().await?, &pod.namespace, name, &pod.name, pod.lease_hold))
}

/// In the order of the repositories, so that two pods cannot wait for each other.
async fn take_all(leases: &mut [Lease]) -> Result<Step, ObjectError> {
    for lease in leases {
        match lease.attempt().await {
            Ok(Step::Take) => {}
            other => return other,
        }
    }
    Ok(Step::Take)
}

fn is_denied(error: &ObjectError) -> bool {
    matches!(error.code(), Some(401 | 403))
}

/// Keeps Leases while something works.
struct Renewal {
    leases: Vec<Lease>,
    hold: Duration,
    end: CancellationToken,
    work: CancellationToken,
    lost: Arc<AtomicBool>,
}

impl Renewal {
    async fn run(mut self) {
        let mut renewed = Instant::now();
        // Well before another may take it.
        let give_up = self.hold / 6 * 5;
        loop {
            tokio::select! {
                () = self.end.cancelled() => break,
                () = tokio::time::sleep(self.hold / 12) => {}
            }
            let taken =
                tokio::time::timeout(give_up.saturating_sub(renewed.elapsed()), take_all(&mut self.leases)).await;
            match taken {
                Ok(Ok(Step::Take)) => renewed = Instant::now(),
                Ok(Ok(Step::Wait)) => return self.lose(),
                Ok(Err(_)) | Err(_) if renewed.elapsed() >= give_up => return self.lose(),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        for lease in &self.leases {
            lease.release().await;
        }
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.work.cancel();
    }
}
