//! Work on one file that several may wait for, and that goes on when nobody does.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};

/// Why the work was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Somebody waits for it.
    Asked,
    /// Somebody will.
    Ahead,
}

/// What became of the work; shared by all who wait.
pub(super) type Outcome<T> = std::result::Result<T, Arc<Error>>;

/// The work on one file.
#[derive(Debug)]
pub(super) struct Job<T> {
    pub(super) reason: Reason,
    number: u64,
    done: watch::Receiver<Option<Outcome<T>>>,
}

impl<T: Clone> Job<T> {
    /// Whether it has ended.
    pub(super) fn is_done(&self) -> bool {
        self.done.borrow().is_some()
    }

    /// Waits for its end.
    pub(super) async fn outcome(&self) -> Outcome<T> {
        let mut done = self.done.clone();
        match done.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(lost())),
            // The task has ended without a word.
            Err(_) => Err(lost()),
        }
    }
}

fn lost() -> Arc<Error> {
    Arc::new(Error::new(ErrorKind::Unknown, "a worker failed"))
}

/// The error for one of those who waited.
pub(super) fn shared(error: &Error) -> Error {
    Error::new(error.kind(), error.message())
}

/// Jobs by the name of their file.
#[derive(Debug)]
pub(super) struct Jobs<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    jobs: BTreeMap<String, Arc<Job<T>>>,
    next_number: u64,
}

impl<T: Clone + Send + Sync + 'static> Jobs<T> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { jobs: BTreeMap::new(), next_number: 0 }) }
    }

    /// The job of this name, which is begun if there is none.
    pub(super) fn join<F>(&self, name: &str, reason: Reason, work: impl FnOnce() -> F) -> Arc<Job<T>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut state = self.state();
        if let Some(job) = state.jobs.get(name) {
            return Arc::clone(job);
        }
        let (sender, done) = watch::channel(None);
        let work = work();
        // The work goes on when the one who asked is gone.
        drop(tokio::spawn(async move {
            let outcome = work.await.map_err(Arc::new);
            drop(sender.send(Some(outcome)));
        }));
        let job = Arc::new(Job { reason, number: state.next_number, done });
        state.next_number += 1;
        state.jobs.insert(name.to_owned(), Arc::clone(&job));
        job
    }

    /// Forgets this very job; a later one of the same name stays.
    pub(super) fn forget(&self, name: &str, job: &Job<T>) {
        let mut state = self.state();
        if state.jobs.get(name).is_some_and(|other| other.number == job.number) {
            state.jobs.remove(name);
        }
    }

    /// Takes out the jobs that are not to be kept.
    pub(super) fn retain(&self, keep: impl Fn(&str, &Job<T>) -> bool) -> Vec<String> {
        let mut state = self.state();
        let gone: Vec<String> =
            state.jobs.iter().filter(|(name, job)| !keep(name, job)).map(|(name, _)| name.clone()).collect();
        for name in &gone {
            state.jobs.remove(name);
        }
        gone
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.state().jobs.contains_key(name)
    }

    /// How many there are, and how many of them still run.
    pub(super) fn count(&self) -> (usize, usize) {
        let state = self.state();
        (state.jobs.len(), state.jobs.values().filter(|job| !job.is_done()).count())
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
