//! What the role beside the operator counts about itself: no name of a Cluster, namespace or Archive is among it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Kinds of requests that are counted apart; further ones are counted together.
const KINDS_MAX: usize = 64;

/// The method of a request that no service has.
const UNKNOWN: &str = "unknown";

/// Unimplemented, as gRPC numbers it.
const UNIMPLEMENTED: i32 = 12;

/// Counters and states of one process.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: Mutex<BTreeMap<(String, i32), u64>>,
    reconcile_errors: AtomicU64,
    watch_restarts: AtomicU64,
    /// This process watches Archives, and has not seen all of them yet.
    is_catching_up: AtomicBool,
}

impl Tally {
    /// A request was answered with this gRPC code.
    pub fn answered(&self, path: &str, code: i32) {
        let method = if code == UNIMPLEMENTED { UNKNOWN } else { path };
        let mut requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind = (method.to_owned(), code);
        if requests.len() >= KINDS_MAX && !requests.contains_key(&kind) {
            kind = (UNKNOWN.to_owned(), code);
        }
        let count = requests.entry(kind).or_default();
        *count = count.saturating_add(1);
    }

    /// Something that follows from an object could not be done.
    pub fn reconcile_failed(&self) {
        self.0.reconcile_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The watch begins, or begins anew after it was lost.
    pub fn watch_began(&self) {
        self.0.is_catching_up.store(true, Ordering::SeqCst);
    }

    /// Every Archive that there was has been seen.
    pub fn watch_caught_up(&self) {
        self.0.is_catching_up.store(false, Ordering::SeqCst);
    }

    /// The watch was lost, and goes on.
    pub fn watch_lost(&self) {
        self.0.watch_restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the process has seen every Archive, or leaves that to another.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        !self.0.is_catching_up.load(Ordering::SeqCst)
    }

    /// All of it in the text form of Prometheus.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from(
            "# HELP pgbackrest_operator_requests_total Requests of CloudNativePG that were answered, by gRPC code.\n\
             # TYPE pgbackrest_operator_requests_total counter\n",
        );
        let requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((method, code), count) in requests {
            // A method's path is one of ours, and has nothing to escape.
            let _infallible =
                writeln!(text, "pgbackrest_operator_requests_total{{method=\"{method}\",code=\"{code}\"}} {count}");
        }
        let counters = [
            ("reconcile_errors_total", "What follows from an object could not be done.", &self.0.reconcile_errors),
            ("watch_restarts_total", "The watch of Archives was lost and begun anew.", &self.0.watch_restarts),
        ];
        for (name, help, counter) in counters {
            let count = counter.load(Ordering::Relaxed);
            let name = format!("pgbackrest_operator_{name}");
            let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {count}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec21_what_is_counted_is_bounded_and_names_nobody() {
        let tally = Tally::default();
        tally.answered("/cnpgi.reconciler.v1.ReconcilerHooks/Pre", 0);
        tally.answered("/cnpgi.reconciler.v1.ReconcilerHooks/Pre", 0);
        tally.answered("/x\"} 1\ncanary/Method", UNIMPLEMENTED);
        for number in 0..1000 {
            tally.answered(&format!("/a/{number}"), 9);
        }
        let text = tally.text();
        let line = "requests_total{method=\"/cnpgi.reconciler.v1.ReconcilerHooks/Pre\",code=\"0\"} 2\n";
        assert!(text.contains(line) && !text.contains("canary"), "{text}");
        assert!(text.lines().count() < KINDS_MAX + 12, "{}", text.lines().count());
    }

    #[test]
    fn a_process_that_watches_nothing_waits_for_nothing() {
        let tally = Tally::default();
        assert!(tally.is_caught_up());
        tally.watch_began();
        assert!(!tally.is_caught_up());
        tally.watch_caught_up();
        assert!(tally.is_caught_up());
    }
}
