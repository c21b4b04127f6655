//! Blocking threads of which somebody knows: none of them outlives the work that began it.
//!
//! A future that is dropped does not stop the thread that it waited for: it may go on to read, compress and write for a
//! while, with memory that is taken for free. So every blocking thread of the engine is begun by [`spawn_blocking`], which
//! counts it among the [`Workers`] of the task it is begun in. Whoever gives up futures asks [`Workers::idle`] before it
//! says that its work has ended. What has not begun yet when its future is dropped never begins.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

tokio::task_local! {
    /// Who counts the threads that this task begins.
    static WORKERS: Workers;
}

/// The blocking threads that were begun within some work, and within what that work is a part of.
#[derive(Debug, Clone)]
pub(crate) struct Workers(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    running: watch::Sender<usize>,
    outer: Option<Workers>,
}

impl Workers {
    /// Nobody works yet. Those who will are counted by the workers of the task that asks, too.
    pub(crate) fn new() -> Self {
        let outer = WORKERS.try_with(Workers::clone).ok();
        Self(Arc::new(Counted { running: watch::Sender::new(0), outer }))
    }

    /// Counts the threads that `work` begins.
    pub(crate) fn count<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        WORKERS.scope(self.clone(), work)
    }

    /// Waits until none of them runs, for at most `wait_max`. Answers whether none does.
    pub(crate) async fn idle(&self, wait_max: Duration) -> bool {
        let mut running = self.0.running.subscribe();
        if *running.borrow() == 0 {
            return true;
        }
        // The sender lives as long as `self`.
        tokio::time::timeout(wait_max, running.wait_for(|running| *running == 0)).await.is_ok()
    }

    fn change(&self, change: impl Fn(&mut usize) + Copy) {
        self.0.running.send_modify(change);
        if let Some(outer) = &self.0.outer {
            outer.change(change);
        }
    }
}

/// One thread at work.
#[derive(Debug)]
struct Working(Workers);

impl Working {
    fn begin(workers: &Workers) -> Self {
        workers.change(|running| *running = running.saturating_add(1));
        Self(workers.clone())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.change(|running| *running = running.saturating_sub(1));
    }
}

/// Work on a blocking thread. Dropped, it never begins where it has not begun yet; else it runs to its end, which
/// [`Workers::idle`] waits for.
#[derive(Debug)]
pub(crate) struct Worker<T>(JoinHandle<Done<T>>);

/// A result on its way to who waits for it. Where nobody does any more, it is dropped before the thread counts as idle.
#[derive(Debug)]
struct Done<T> {
    result: T,
    _working: Option<Working>,
}

impl<T> Future for Worker<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_ok(|done| done.result)
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `work` on a blocking thread, counted by the [`Workers`] of this task.
pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Worker<T> {
    let working = WORKERS.try_with(Working::begin).ok();
    Worker(tokio::task::spawn_blocking(move || {
        let working = working;
        Done { result: work(), _working: working }
    }))
}

/// For a task of its own: it begins threads as this one does.
pub(crate) fn same_workers<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    match WORKERS.try_with(Workers::clone) {
        Ok(workers) => Either::Left(workers.count(work)),
        Err(_) => Either::Right(work),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use futures_util::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// Says when it is dropped.
    struct Seen(Arc<AtomicUsize>);

    impl Drop for Seen {
        fn drop(&mut self) {
            // Whoever does not wait for this sees it too late.
            thread::sleep(Duration::from_millis(20));
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Counts when it begins, when it ends and when its result is dropped.
    fn slow(steps: &Arc<AtomicUsize>) -> impl FnOnce() -> Seen + Send + 'static {
        let steps = Arc::clone(steps);
        move || {
            steps.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(100));
            steps.fetch_add(1, Ordering::SeqCst);
            Seen(steps)
        }
    }

    async fn begun(steps: &AtomicUsize) {
        while steps.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn idle_waits_for_what_nobody_waits_for_and_for_what_it_leaves() {
        let (workers, steps) = (Workers::new(), Arc::new(AtomicUsize::new(0)));
        workers
            .count(async {
                let worker = spawn_blocking(slow(&steps));
                begun(&steps).await;
                assert!(worker.now_or_never().is_none());
            })
            .await;
        assert!(workers.idle(LONG).await);
        assert_eq!(steps.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_thread_counts_within_all_that_it_is_a_part_of_and_a_task_of_its_own_too() {
        let (outer, steps) = (Workers::new(), Arc::new(AtomicUsize::new(0)));
        outer
            .count(async {
                let inner = Workers::new();
                let slow = slow(&steps);
                let working = async move { drop(spawn_blocking(slow).await) };
                let task = async {
                    let task = tokio::spawn(same_workers(working));
                    begun(&steps).await;
                    task.abort();
                };
                inner.count(task).await;
                assert!(!inner.idle(Duration::from_millis(1)).await);
            })
            .await;
        assert!(outer.idle(LONG).await);
        assert_eq!(steps.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_panic_and_what_never_began_leave_nobody_at_work() {
        let workers = Workers::new();
        workers.count(async { assert!(spawn_blocking(|| panic!("a mistake of ours")).await.is_err()) }).await;
        assert!(workers.idle(LONG).await);
    }

    #[test]
    fn what_is_dropped_before_it_began_never_begins() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        let (workers, steps) = (Workers::new(), Arc::new(AtomicUsize::new(0)));
        runtime.block_on(workers.count(async {
            let first = spawn_blocking(slow(&steps));
            begun(&steps).await;
            drop(spawn_blocking(slow(&steps)));
            drop(first.await.unwrap());
        }));
        assert!(runtime.block_on(workers.idle(LONG)));
        assert_eq!(steps.load(Ordering::SeqCst), 3);
    }
}
