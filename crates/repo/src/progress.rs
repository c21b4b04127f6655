//! What a running command needs from its caller: time, randomness, a budget of memory, a way to stop it, and an ear
//! for what it reports.

use std::fmt::Debug;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Random};
use crate::error::{Error, ErrorKind};
use crate::filter::Codecs;
use crate::transfer::Budget;
use crate::workers::{Workers, spawn_blocking};

/// How long a command that ends waits for threads that it has told to stop: one may be in a call of the system.
const STOP_WAIT_MAX: Duration = Duration::from_secs(30);

/// How important a message is; the levels of pgBackRest's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something a person should look at.
    Warn,
    /// What the command did.
    Info,
    /// What it did file by file.
    Detail,
    /// For the developer.
    Debug,
}

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Receives what a command reports. Called from any thread; must not block for long.
pub trait Reporter: Debug + Send + Sync {
    /// A message by worker `worker` (0 is the command itself, as in the original's `P00`).
    fn message(&self, level: Level, worker: usize, text: &str);

    /// A failure that does not end the command at once, by its kind.
    fn failure(&self, kind: ErrorKind, text: &str) {
        self.message(Level::Error, 0, &format!("[{:03}]: {text}", kind.code()));
    }

    /// What the command is about to do and cannot undo. The log of a command has it as a detail, since scripts match the
    /// original's lines above that.
    fn announce(&self, text: &str) {
        self.message(Level::Detail, 0, text);
    }

    /// How far the command is.
    fn progress(&self, progress: Progress);
}

/// Reports to nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn message(&self, _level: Level, _worker: usize, _text: &str) {}
    fn progress(&self, _progress: Progress) {}
}

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The clock of labels and timestamps.
    pub clock: Arc<dyn Clock>,
    /// Salts and passphrases.
    pub random: Arc<dyn Random>,
    /// Bytes in flight, for the whole process.
    pub budget: Budget,
    /// States of encoders and decoders, kept between files.
    pub codecs: Codecs,
    /// Stops the command at the next safe point.
    pub cancel: CancellationToken,
    /// Hears what the command does.
    pub reporter: Arc<dyn Reporter>,
}

impl Context {
    /// Reports a warning of the command itself.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.reporter.message(Level::Warn, 0, text.as_ref());
    }

    /// Reports what the command itself did.
    pub fn info(&self, text: impl AsRef<str>) {
        self.reporter.message(Level::Info, 0, text.as_ref());
    }

    /// Reports a detail of the command itself.
    pub fn detail(&self, text: impl AsRef<str>) {
        self.reporter.message(Level::Detail, 0, text.as_ref());
    }

    /// Announces what cannot be undone.
    pub fn announce(&self, text: impl AsRef<str>) {
        self.reporter.announce(text.as_ref());
    }

    /// Fails when the command was asked to stop.
    ///
    /// # Errors
    /// [`ErrorKind::Term`].
    pub fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
    }
}

/// The life of a command, or of a part of it: it ends when every thread that was begun in it has ended. One that fails
/// drops transfers that run, whose threads would read, compress and write on, with memory that counts as free.
#[derive(Debug)]
pub(crate) struct Scope {
    context: Context,
    workers: Workers,
}

impl Scope {
    /// A scope within `context`.
    pub(crate) fn new(context: &Context) -> Self {
        let context = Context { cancel: context.cancel.child_token(), ..context.clone() };
        Self { context, workers: Workers::new() }
    }

    /// The context of what runs in the scope: it is to stop when the scope ends.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Runs `work`, and returns when no thread is left of it.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let stop = self.context.cancel.clone().drop_guard();
        let ended = AssertUnwindSafe(self.workers.count(Box::pin(work))).catch_unwind().await;
        drop(stop);
        if !self.workers.idle(STOP_WAIT_MAX).await {
            self.context.warn("a thread does not end: it may still read or write");
        }
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Runs `work` on a blocking thread.
///
/// # Errors
/// Its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(worker_failed)?
}

/// The error of a thread that came to no end: it panicked, or the process ends.
#[expect(clippy::needless_pass_by_value, reason = "it is mapped over results")]
pub(crate) fn worker_failed(end: JoinError) -> Error {
    Error::new(ErrorKind::Unknown, format!("a worker failed: {end}"))
}

/// The error of a command that was asked to stop.
pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Term, "terminated before it was done")
}

/// A size as messages show it: rounded to one decimal, which is left out when it is zero, in the largest unit below it
/// (pgBackRest's `strSizeFormat`).
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KB", "MB", "GB"];
    let exponent = (bytes.max(1).ilog2() / 10).min(3);
    let unit = 1_u64 << (exponent * 10);
    let hundredths = u128::from(bytes) * 100 / u128::from(unit);
    let tenths = hundredths / 10 + u128::from(hundredths % 10 >= 5);
    let name = UNITS.get(usize::try_from(exponent).unwrap_or(3)).unwrap_or(&"GB");
    match tenths % 10 {
        0 => format!("{}{name}", tenths / 10),
        tenth => format!("{}.{tenth}{name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::clock::{SystemClock, SystemRandom};
    use crate::transfer::run_jobs;

    fn context() -> Context {
        Context {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            budget: Budget::new(1 << 20),
            codecs: Codecs::new(1),
            cancel: CancellationToken::new(),
            reporter: Arc::new(Silent),
        }
    }

    /// Threads that end when they are told to, and what does the telling: a failure, a signal, a panic.
    #[tokio::test]
    async fn no_thread_outlives_its_scope_and_the_reason_of_the_end_is_kept() {
        for reason in ["failure", "signal", "panic"] {
            let (context, live) = (context(), Arc::new(AtomicUsize::new(0)));
            let scope = Scope::new(&context);
            let (context, scope, live) = (&context, &scope, &live);
            let job = |_: usize, place: usize| async move {
                if place == 1 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    match reason {
                        "failure" => return Err(Error::new(ErrorKind::FileRead, "damaged")),
                        "signal" => context.cancel.cancel(),
                        _ => panic!("a mistake of ours"),
                    }
                }
                let (live, cancel) = (Arc::clone(live), scope.context().cancel.clone());
                let working = move || {
                    live.fetch_add(1, Ordering::SeqCst);
                    while !cancel.is_cancelled() {
                        thread::sleep(Duration::from_millis(10));
                    }
                    thread::sleep(Duration::from_millis(50));
                    live.fetch_sub(1, Ordering::SeqCst);
                };
                spawn_blocking(working).await.map_err(|_| cancelled())
            };
            let jobs = run_jobs(0..3, 3, job, |_, ()| Ok(()));
            let stopped = scope.context().cancel.cancelled();
            let work = async {
                tokio::select! {
                    biased;
                    () = stopped => Err(cancelled()),
                    done = jobs => done,
                }
            };
            let ended = AssertUnwindSafe(scope.run(work)).catch_unwind().await;
            assert_eq!(live.load(Ordering::SeqCst), 0, "{reason}");
            match (reason, ended) {
                ("failure", Ok(Err(error))) => assert_eq!(error.kind(), ErrorKind::FileRead),
                ("signal", Ok(Err(error))) => assert_eq!(error.kind(), ErrorKind::Term),
                ("panic", Err(_)) => {}
                (_, ended) => panic!("{reason}: {:?}", ended.ok()),
            }
            assert_eq!(context.cancel.is_cancelled(), reason == "signal");
        }
    }

    #[test]
    fn sizes_read_as_the_original_prints_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KB"),
            (2200, "2.1KB"),
            (1024 * 1024 - 1, "1024KB"),
            (24_858_624, "23.7MB"),
            (5 * 1024 * 1024 * 1024 * 1024, "5120GB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
