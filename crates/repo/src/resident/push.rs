//! [`Pusher`]: segments on their way into the archive, the asked one and those behind it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::job::{Jobs, Reason, shared};
use crate::command::archive::push::{PushOptions, Pushed};
use crate::command::archive::push_ahead::SETTLING;
use crate::command::archive::spool::FileIdentity;
use crate::command::archive::{Targets, WalSource, ready_files};
use crate::error::Result;
use crate::progress::{Context, blocking};
use crate::repository::WritableRepository;

/// Files that may be pushed before they are asked for. They hold no memory; this bounds what a restart would push again.
const AHEAD_MAX: usize = 64;

/// Settings of the engine's pushing half.
#[derive(Debug, Clone)]
pub struct PusherOptions {
    /// Of each push.
    pub push: PushOptions,
    /// How many files are pushed at once (`process-max`).
    pub workers: usize,
}

/// Pushes files, and those behind them.
#[derive(Debug)]
pub struct Pusher {
    targets: Targets,
    options: PusherOptions,
    context: Context,
    jobs: Jobs<Done>,
    /// The file that was asked for last: PostgreSQL may not have taken note of the answer yet.
    last: Mutex<String>,
}

/// A file that every repository has.
#[derive(Debug, Clone)]
struct Done {
    pushed: Pushed,
    /// Which file that was, where a later change would show.
    identity: Option<FileIdentity>,
}

impl Pusher {
    /// A pusher into `repositories`; nothing is sent yet.
    pub fn new(repositories: Vec<WritableRepository>, options: PusherOptions, context: Context) -> Arc<Self> {
        Arc::new(Self {
            targets: Targets::new(repositories),
            options,
            context,
            jobs: Jobs::new(),
            last: Mutex::default(),
        })
    }

    /// Archives a file: success is the acknowledgement that every repository has what the file holds now.
    ///
    /// # Errors
    /// As for [`push`](crate::command::archive::push::push).
    pub async fn push(self: &Arc<Self>, source: &WalSource) -> Result<Pushed> {
        let name = source.name.to_string();
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&name);
        let pushed = self.push_joined(&name, source).await;
        if let (Ok(_), Some(directory)) = (&pushed, source.path.parent()) {
            self.look_ahead(directory.to_owned());
        }
        pushed
    }

    async fn push_joined(self: &Arc<Self>, name: &str, source: &WalSource) -> Result<Pushed> {
        // What was done ahead, or for somebody else, is an answer or not; then the file is pushed for this request.
        for _ in 0..2 {
            let asked = !self.jobs.contains(name);
            let job = self.jobs.join(name, Reason::Asked, || self.work(source, Reason::Asked));
            if let Some(directory) = source.path.parent() {
                self.look_ahead(directory.to_owned());
            }
            let outcome = job.outcome().await;
            self.jobs.forget(name, &job);
            match outcome {
                Ok(done) if asked && job.reason == Reason::Asked => return Ok(done.pushed),
                Ok(done) if is_same(&done, source).await? => return Ok(done.pushed),
                // Nobody saw the error of what was done ahead, and it may be over.
                Err(error) if job.reason == Reason::Asked => return Err(shared(&error)),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(self.work(source, Reason::Asked).await?.pushed)
    }

    /// Files in work, and files pushed and not asked for yet.
    pub fn state(&self) -> (usize, usize) {
        let (all, running) = self.jobs.count();
        (running, all - running)
    }

    /// Begins with files that are ready, in the background; each that ends makes room for the next.
    fn look_ahead(self: &Arc<Self>, directory: PathBuf) {
        let pusher = Arc::clone(self);
        drop(tokio::spawn(async move {
            let wal = directory.clone();
            // A directory that cannot be listed is no reason to fail: what is asked for is pushed without it.
            let Ok(ready) = blocking(move || ready_files(&wal)).await else { return };
            pusher.jobs.retain(|name, job| {
                job.reason == Reason::Asked || !job.is_done() || ready.iter().any(|other| other == name)
            });
            pusher.fill(&directory, ready);
        }));
    }

    /// Keeps as many files in work as there are workers.
    fn fill(self: &Arc<Self>, directory: &Path, mut ready: Vec<String>) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ready.retain(|name| *name != last && !self.jobs.contains(name));
        // First those that PostgreSQL asks for next.
        ready.sort_unstable_by_key(|name| (*name < last, name.clone()));
        for name in ready {
            let (all, running) = self.jobs.count();
            if running >= self.options.workers || all >= AHEAD_MAX || self.context.cancel.is_cancelled() {
                break;
            }
            let Ok(source) = WalSource::new(&directory.join(&name)) else { continue };
            let job = self.jobs.join(&name, Reason::Ahead, || self.work(&source, Reason::Ahead));
            let (pusher, directory) = (Arc::clone(self), directory.to_owned());
            drop(tokio::spawn(async move {
                match job.outcome().await {
                    Ok(_) => pusher.look_ahead(directory),
                    // Who asks for it pushes it again and hears of it; what lies behind it can wait.
                    Err(_) => pusher.jobs.forget(&name, &job),
                }
            }));
        }
    }

    /// One file into every repository.
    fn work(
        self: &Arc<Self>,
        source: &WalSource,
        reason: Reason,
    ) -> impl Future<Output = Result<Done>> + Send + 'static {
        let (pusher, source) = (Arc::clone(self), source.clone());
        async move {
            let before = identity_of(&source.path).await?;
            let pushed = pusher.targets.push(&source, &pusher.options.push, &pusher.context).await?;
            let settled = || before.is_settled(i128::from(pusher.context.clock.now_ms()) * 1_000_000);
            if reason == Reason::Ahead && !settled() {
                // PostgreSQL has written to it a moment ago: a further change might not show yet.
                tokio::time::sleep(SETTLING).await;
            }
            let unchanged = settled() && identity_of(&source.path).await.is_ok_and(|after| after == before);
            Ok(Done { pushed, identity: unchanged.then_some(before) })
        }
    }
}

/// Whether the file is the one that was pushed: the same inode, not written to since.
async fn is_same(done: &Done, source: &WalSource) -> Result<bool> {
    Ok(done.identity == Some(identity_of(&source.path).await?))
}

async fn identity_of(path: &Path) -> Result<FileIdentity> {
    let path: PathBuf = path.to_owned();
    blocking(move || FileIdentity::of(&path)).await
}
