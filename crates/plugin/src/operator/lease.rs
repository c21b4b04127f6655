//! Which of several processes works in the background: the one that holds a Lease.
//!
//! The services are served by all of them, lease or not. A Lease is judged by how long this process has seen it
//! unchanged, never by the times in it: clocks differ.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use pgbr_repo::clock::{Clock, SystemClock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::objects::within;
use crate::log::Log;

/// The Lease of this plugin. The original's was `5e3f9a6c.cnpg.io`, and that of its first versions was barman's too.
pub const LEASE_NAME: &str = "operator.pgbackrest.cnpg.opera.com";

/// A Lease that nobody renewed for this long is free.
const HOLD_TIME: Duration = Duration::from_secs(15);

/// How often it is renewed or looked at.
const LOOK_TIME: Duration = Duration::from_secs(3);

/// A holder that could not renew for this long stops its work, well before another may begin.
const GIVE_UP_TIME: Duration = Duration::from_secs(10);

/// What to do with a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is ours, or free: write it.
    Take,
    /// Another holds it.
    Wait,
}

/// Decides about a Lease that has not changed for `unchanged`.
fn step(spec: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Step {
    match spec.and_then(|spec| spec.holder_identity.as_deref()) {
        None | Some("") => Step::Take,
        Some(holder) if holder == me => Step::Take,
        Some(_) => {
            let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|it| u64::try_from(it).ok());
            let hold = seconds.map_or(HOLD_TIME, Duration::from_secs);
            if unchanged >= hold { Step::Take } else { Step::Wait }
        }
    }
}

/// Runs `work` while this process holds the Lease, and stops it when it does not. Ends with the shutdown.
pub async fn while_leading<W, F>(
    client: Client,
    namespace: &str,
    me: &str,
    log: Log,
    shutdown: CancellationToken,
    work: W,
) where
    W: Fn(CancellationToken) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let mut seen: Option<(String, Instant)> = None;
    let mut renewed = Instant::now();
    let mut working: Option<CancellationToken> = None;
    while !shutdown.is_cancelled() {
        match attempt(&api, me, &mut seen).await {
            Ok(Step::Take) => {
                renewed = Instant::now();
                if working.is_none() {
                    log.info("this process works in the background", &[]);
                    let stop = shutdown.child_token();
                    tokio::spawn(work(stop.clone()));
                    working = Some(stop);
                }
            }
            Ok(Step::Wait) => stop(&mut working, &log),
            Err(error) => {
                log.debug("the lease was not renewed", &[("error", error.to_string().into())]);
                if renewed.elapsed() >= GIVE_UP_TIME {
                    stop(&mut working, &log);
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(LOOK_TIME) => {}
        }
    }
    if working.is_some() {
        release(&api, me).await;
    }
}

fn stop(working: &mut Option<CancellationToken>, log: &Log) {
    if let Some(stop) = working.take() {
        stop.cancel();
        log.info("another process works in the background", &[]);
    }
}

/// Looks at the Lease and takes or renews it if it may.
async fn attempt(
    api: &Api<Lease>,
    me: &str,
    seen: &mut Option<(String, Instant)>,
) -> Result<Step, super::objects::ObjectError> {
    let present = within(format!("get leases '{LEASE_NAME}'"), api.get_opt(LEASE_NAME)).await?;
    let version = present.as_ref().and_then(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
    let since = match seen {
        Some((known, since)) if *known == version => *since,
        _ => {
            let now = Instant::now();
            *seen = Some((version, now));
            now
        }
    };
    let spec = present.as_ref().and_then(|lease| lease.spec.as_ref());
    if step(spec, me, since.elapsed()) == Step::Wait {
        return Ok(Step::Wait);
    }
    let lease = held(present.as_ref(), me);
    let parameters = PostParams::default();
    // The version in it makes a second taker's write a conflict.
    let written = match present {
        None => within(format!("create leases '{LEASE_NAME}'"), api.create(&parameters, &lease)).await,
        Some(_) => within(format!("update leases '{LEASE_NAME}'"), api.replace(LEASE_NAME, &parameters, &lease)).await,
    };
    written.map(|_| Step::Take)
}

fn held(present: Option<&Lease>, me: &str) -> Lease {
    let now = Timestamp::from_millisecond(SystemClock.now_ms()).ok().map(MicroTime);
    let before = present.and_then(|lease| lease.spec.as_ref());
    let is_mine = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(me));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
    Lease {
        metadata: match present {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() },
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(me.to_owned()),
            lease_duration_seconds: i32::try_from(HOLD_TIME.as_secs()).ok(),
            acquire_time: if is_mine { before.and_then(|spec| spec.acquire_time.clone()) } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(if is_mine { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }),
    }
}

/// Leaves the Lease to the next one at once.
async fn release(api: &Api<Lease>, me: &str) {
    let Ok(Some(mut lease)) = within(String::new(), api.get_opt(LEASE_NAME)).await else { return };
    let Some(spec) = &mut lease.spec else { return };
    if spec.holder_identity.as_deref() == Some(me) {
        spec.holder_identity = None;
        // If this fails the Lease is free a little later.
        let _late = within(String::new(), api.replace(LEASE_NAME, &PostParams::default(), &lease)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_it_is_ours_free_or_forsaken() {
        let spec = |holder: Option<&str>, seconds| LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        };
        let short = Duration::from_secs(1);
        assert_eq!(step(None, "me", short), Step::Take);
        assert_eq!(step(Some(&spec(None, None)), "me", short), Step::Take);
        assert_eq!(step(Some(&spec(Some("me"), Some(15))), "me", short), Step::Take);
        assert_eq!(step(Some(&spec(Some("you"), Some(15))), "me", Duration::from_secs(14)), Step::Wait);
        assert_eq!(step(Some(&spec(Some("you"), Some(15))), "me", Duration::from_secs(15)), Step::Take);
        assert_eq!(step(Some(&spec(Some("you"), Some(-1))), "me", Duration::from_secs(14)), Step::Wait);
    }
}
