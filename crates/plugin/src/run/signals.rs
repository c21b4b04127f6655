//! The signals that end a process.

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::log::Log;

/// Runs a role. A signal asks it to end, in its own time; a second one ends it at once, without an outcome.
pub(super) async fn until_told_twice<T>(
    role: impl Future<Output = T>,
    shutdown: &CancellationToken,
    log: &Log,
) -> Option<T> {
    tokio::pin!(role);
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers a signal ends the process as it does any other.
        return Some(role.await);
    };
    let mut told = false;
    loop {
        let name = tokio::select! {
            outcome = &mut role => return Some(outcome),
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        let action = if told { "ending at once" } else { "shutting down" };
        log.info(action, &[("signal", Value::from(name))]);
        if told {
            return None;
        }
        told = true;
        shutdown.cancel();
    }
}
