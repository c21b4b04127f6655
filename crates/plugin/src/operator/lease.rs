//! Which of several processes works in the background: the one that holds a Lease.
//!
//! The services are served by all of them, lease or not.

use std::time::Duration;

use kube::Client;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease::{Lease, Step};
use crate::log::Log;

/// The Lease of this plugin. The original's was `5e3f9a6c.cnpg.io`, and that of its first versions was barman's too.
pub const LEASE_NAME: &str = "operator.pgbackrest.cnpg.opera.com";

/// A Lease that nobody renewed for this long is free.
const HOLD_TIME: Duration = Duration::from_secs(15);

/// How often it is renewed or looked at.
const LOOK_TIME: Duration = Duration::from_secs(3);

/// A holder that could not renew for this long stops its work, well before another may begin.
const GIVE_UP_TIME: Duration = Duration::from_secs(10);

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
    let mut lease = Lease::new(client, namespace, LEASE_NAME, me, HOLD_TIME);
    let mut renewed = Instant::now();
    let mut working: Option<CancellationToken> = None;
    while !shutdown.is_cancelled() {
        match lease.attempt().await {
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
        lease.release().await;
    }
}

fn stop(working: &mut Option<CancellationToken>, log: &Log) {
    if let Some(stop) = working.take() {
        stop.cancel();
        log.info("another process works in the background", &[]);
    }
}
