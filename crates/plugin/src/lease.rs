//! Leases: who of several processes does something.
//!
//! A Lease is judged by how long this process has seen it unchanged, never by the times in it: clocks differ. Every write
//! carries the version that was read, so of two that take it at once one has a conflict.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use pgbr_repo::clock::{Clock, SystemClock};
use tokio::time::Instant;

use crate::operator::objects::{ObjectError, within};

/// What became of a try to take or renew a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is ours now.
    Take,
    /// Another holds it.
    Wait,
}

/// One Lease, as this process sees it.
pub struct Lease {
    api: Api<Object>,
    name: String,
    me: String,
    hold: Duration,
    seen: Option<(String, Instant)>,
}

impl Lease {
    /// The Lease of this name, for a holder who says that it is free when it was not renewed for `hold`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, me: &str, hold: Duration) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), me: me.to_owned(), hold, seen: None }
    }

    /// Looks at the Lease and takes or renews it if it may.
    ///
    /// # Errors
    /// [`ObjectError`] when the API server refused or did not answer: nothing is known then.
    pub async fn attempt(&mut self) -> Result<Step, ObjectError> {
        let present = within(self.what("get"), self.api.get_opt(&self.name)).await?;
        let version = present.as_ref().and_then(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
        let since = match &self.seen {
            Some((known, since)) if *known == version => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((version, now));
                now
            }
        };
        let spec = present.as_ref().and_then(|lease| lease.spec.as_ref());
        if step(spec, &self.me, since.elapsed(), self.hold) == Step::Wait {
            return Ok(Step::Wait);
        }
        let lease = self.held(present.as_ref());
        let parameters = PostParams::default();
        let written = match present {
            None => within(self.what("create"), self.api.create(&parameters, &lease)).await,
            Some(_) => within(self.what("update"), self.api.replace(&self.name, &parameters, &lease)).await,
        };
        written.map(|_| Step::Take)
    }

    /// Whether the API server says that this process holds it now.
    ///
    /// # Errors
    /// [`ObjectError`] when it does not say.
    pub async fn is_mine(&self) -> Result<bool, ObjectError> {
        let present = within(self.what("get"), self.api.get_opt(&self.name)).await?;
        let holder = present.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
        Ok(holder.as_deref() == Some(self.me.as_str()))
    }

    /// Leaves the Lease to the next one at once. If this fails it is free a little later.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = within(String::new(), self.api.get_opt(&self.name)).await else { return };
        let Some(spec) = &mut lease.spec else { return };
        if spec.holder_identity.as_deref() == Some(self.me.as_str()) {
            spec.holder_identity = None;
            let _late = within(String::new(), self.api.replace(&self.name, &PostParams::default(), &lease)).await;
        }
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} leases '{}'", self.name)
    }

    fn held(&self, present: Option<&Object>) -> Object {
        let now = Timestamp::from_millisecond(SystemClock.now_ms()).ok().map(MicroTime);
        let before = present.and_then(|lease| lease.spec.as_ref());
        let is_mine = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(self.me.as_str()));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        Object {
            metadata: match present {
                Some(lease) => lease.metadata.clone(),
                None => ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: i32::try_from(self.hold.as_secs()).ok(),
                acquire_time: if is_mine { before.and_then(|spec| spec.acquire_time.clone()) } else { now.clone() },
                renew_time: now,
                lease_transitions: Some(if is_mine { transitions } else { transitions.saturating_add(1) }),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Decides about a Lease that has not changed for `unchanged`; `hold` is how long one lasts that does not say it.
fn step(spec: Option<&LeaseSpec>, me: &str, unchanged: Duration, hold: Duration) -> Step {
    match spec.and_then(|spec| spec.holder_identity.as_deref()) {
        None | Some("") => Step::Take,
        Some(holder) if holder == me => Step::Take,
        Some(_) => {
            let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|it| u64::try_from(it).ok());
            let hold = seconds.filter(|seconds| *seconds > 0).map_or(hold, Duration::from_secs);
            if unchanged >= hold { Step::Take } else { Step::Wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec24_a_lease_is_taken_when_it_is_ours_free_or_forsaken_whoever_wrote_it() {
        let spec = |holder: Option<&str>, seconds| LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        };
        let (short, hold) = (Duration::from_secs(1), Duration::from_secs(15));
        let decide = |spec: Option<&LeaseSpec>, unchanged| step(spec, "me", unchanged, hold);
        assert_eq!(decide(None, short), Step::Take);
        assert_eq!(decide(Some(&spec(None, None)), short), Step::Take);
        assert_eq!(decide(Some(&spec(Some("me"), Some(15))), short), Step::Take);
        assert_eq!(decide(Some(&spec(Some("you"), Some(15))), Duration::from_secs(14)), Step::Wait);
        assert_eq!(decide(Some(&spec(Some("you"), Some(15))), Duration::from_secs(15)), Step::Take);
        // Nonsense, or nothing, is no permission: it lasts as long as ours.
        for seconds in [Some(-1), Some(0), None] {
            assert_eq!(decide(Some(&spec(Some("you"), seconds)), Duration::from_secs(14)), Step::Wait, "{seconds:?}");
            assert_eq!(decide(Some(&spec(Some("you"), seconds)), hold), Step::Take, "{seconds:?}");
        }
    }
}
