//! archive.info of every repository for a process that archives many files: read again after a minute, and at once when a
//! file does not fit what it says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::candidates::PushTargets;
use super::push::{self, PushOptions, Pushed};
use super::{ClusterIdentity, WalSource};
use crate::error::{ErrorKind, Result};
use crate::progress::Context;
use crate::repository::WritableRepository;

/// How long archive.info is believed.
const FRESH: Duration = Duration::from_secs(60);

/// Repositories with what their archive.info said.
#[derive(Debug)]
pub struct Targets {
    repositories: Vec<WritableRepository>,
    loaded: Mutex<Option<Loaded>>,
}

#[derive(Debug, Clone)]
struct Loaded {
    at: Instant,
    cluster: Option<ClusterIdentity>,
    targets: Arc<PushTargets>,
}

impl Targets {
    /// Nothing is read yet.
    pub fn new(repositories: Vec<WritableRepository>) -> Self {
        Self { repositories, loaded: Mutex::new(None) }
    }

    /// Archives a file; see [`push::push`]. When it does not fit, archive.info is read again and the file tried once more.
    ///
    /// # Errors
    /// As for [`push::push`].
    pub async fn push(&self, source: &WalSource, options: &PushOptions, context: &Context) -> Result<Pushed> {
        let asked = Instant::now();
        let loaded = self.load(options.cluster, context, None).await?;
        match push::push_to(&loaded.targets, source, options, context).await {
            Err(error) if loaded.at < asked && may_be_outdated(error.kind()) => {
                let again = self.load(options.cluster, context, Some(asked)).await?;
                push::push_to(&again.targets, source, options, context).await
            }
            pushed => pushed,
        }
    }

    /// What was loaded, or what is loaded now: one caller asks the repositories, the others wait for it.
    async fn load(
        &self,
        cluster: Option<ClusterIdentity>,
        context: &Context,
        not_before: Option<Instant>,
    ) -> Result<Loaded> {
        let mut state = self.loaded.lock().await;
        if let Some(loaded) = state.as_ref()
            && loaded.cluster == cluster
            && loaded.at.elapsed() < FRESH
            && not_before.is_none_or(|instant| loaded.at >= instant)
        {
            return Ok(loaded.clone());
        }
        // The time before the question: what changes while it is answered is found one minute after that.
        let at = Instant::now();
        let targets = Arc::new(PushTargets::load(&self.repositories, cluster, context).await?);
        let loaded = Loaded { at, cluster, targets };
        // A repository that could not be read is asked again by the next file.
        *state = loaded.targets.is_complete().then(|| loaded.clone());
        Ok(loaded)
    }
}

/// Errors that an archive.info read since may not have.
fn may_be_outdated(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ArchiveMismatch | ErrorKind::RepoInvalid | ErrorKind::Command | ErrorKind::Crypto)
}
