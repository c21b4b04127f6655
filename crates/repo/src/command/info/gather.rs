//! Gathers the report: which stanzas there are, what each repository has of them, and the sum of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Passphrase;
use crate::format::{BackupLabel, BackupType, Stanza, path};
use crate::progress::{Context, Progress};
use crate::repository::{RepoIndex, Repository};
use crate::storage::{ListOptions, Storage, StorageExt};

use super::archive_range::Generations;
use super::load::{Loaded, Present, load};
use super::report::{
    BackupReport, Cipher, InfoReport, RepositoryReport, RepositoryStatus, RunningBackup, StanzaContent, StanzaReport,
    Status,
};

/// What is reported as a stanza when the repositories could not be listed.
const INVALID: &str = "[invalid]";

/// A repository to report on.
#[derive(Debug)]
pub struct InfoSource {
    /// Its number.
    pub index: RepoIndex,
    /// Where its objects live, or why that cannot be opened.
    pub storage: Result<Arc<dyn Storage>>,
    /// The user's passphrase, in an encrypted repository.
    pub passphrase: Option<Passphrase>,
}

impl InfoSource {
    fn cipher(&self) -> Cipher {
        if self.passphrase.is_some() { Cipher::Aes256Cbc } else { Cipher::None }
    }
}

/// What to report on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every stanza that a repository has.
    All,
    /// One stanza.
    Stanza(Stanza),
    /// One backup of a stanza, with what its manifest says. A text that is no label is a backup that is not there.
    Backup(Stanza, String),
}

impl Selection {
    fn stanza(&self) -> Option<&Stanza> {
        match self {
            Selection::All => None,
            Selection::Stanza(stanza) | Selection::Backup(stanza, _) => Some(stanza),
        }
    }

    fn backup(&self) -> Option<&str> {
        match self {
            Selection::All | Selection::Stanza(_) => None,
            Selection::Backup(_, label) => Some(label),
        }
    }
}

/// How to report.
#[derive(Debug, Clone)]
pub struct InfoOptions {
    /// What to report on.
    pub selection: Selection,
    /// Only backups of this type.
    pub backup_type: Option<BackupType>,
    /// Only names, and how far running commands are: no info file is read.
    pub progress_only: bool,
}

/// What a command does that may run beside this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// A backup or expire.
    Backup,
    /// A restore.
    Restore,
}

/// Tells whether a command runs, and how far it is (a total of 0 bytes when it does not say). Only the caller knows:
/// commands that run are no fact of the repository.
pub type Activities<'a> = &'a (dyn Fn(&Stanza, RepoIndex, Activity) -> Option<Progress> + Sync);

/// Reports on the repositories.
///
/// What goes wrong in a repository or with a stanza is part of the report.
///
/// # Errors
/// [`crate::error::ErrorKind::Term`] when the command was asked to stop.
pub async fn info(
    sources: &[InfoSource],
    options: &InfoOptions,
    activities: Activities<'_>,
    context: &Context,
) -> Result<InfoReport> {
    let mut gathering = Gathering {
        sources,
        options,
        activities,
        context,
        stanzas: BTreeMap::new(),
        failures: Vec::new(),
        backup_found: false,
    };
    for (at, source) in sources.iter().enumerate() {
        context.check_cancelled()?;
        let outcome = gathering.look_into(at, source).await;
        gathering.failures.push(outcome.err());
    }
    gathering.tell_failures();
    gathering.tell_missing_backup();
    gathering.report().await
}

/// A stanza while its repositories are read.
struct Collected {
    /// By the position of the repository.
    repositories: Vec<Loaded>,
    running_backups: Vec<RunningBackup>,
    running_restore: Option<Progress>,
}

impl Collected {
    fn new(repositories: usize) -> Self {
        Self {
            repositories: std::iter::repeat_with(|| Loaded::Unread).take(repositories).collect(),
            running_backups: Vec::new(),
            running_restore: None,
        }
    }
}

struct Gathering<'a> {
    sources: &'a [InfoSource],
    options: &'a InfoOptions,
    activities: Activities<'a>,
    context: &'a Context,
    stanzas: BTreeMap<String, Collected>,
    /// Why a repository could not be asked for its stanzas, by position.
    failures: Vec<Option<Error>>,
    /// Whether a repository has the backup that was asked for.
    backup_found: bool,
}

impl Gathering<'_> {
    /// Reads what one repository has. An error is one of the repository as a whole.
    async fn look_into(&mut self, at: usize, source: &InfoSource) -> Result<()> {
        let storage = source.storage.as_ref().map_err(Clone::clone)?;
        let backup = match &self.options.selection {
            Selection::Backup(stanza, text) => find_backup(storage.as_ref(), stanza, text).await?,
            _ => None,
        };
        self.backup_found |= backup.is_some();
        let listed = storage.list_all(&path::backup_root(), &ListOptions::default()).await?;
        let mut names: Vec<String> = listed.into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        let Some(stanza) = self.options.selection.stanza() else {
            for name in &names {
                match Stanza::parse(name) {
                    Ok(stanza) => self.read_stanza(at, source, storage, &stanza, backup).await,
                    Err(error) => {
                        let error = Error::new(ErrorKind::Format, error.to_string());
                        self.set(name, at, Loaded::Failed(error));
                    }
                }
            }
            return Ok(());
        };
        if names.iter().any(|name| name == stanza.as_str()) {
            self.read_stanza(at, source, storage, stanza, backup).await;
        } else {
            self.set(stanza.as_str(), at, Loaded::Absent);
        }
        Ok(())
    }

    async fn read_stanza(
        &mut self,
        at: usize,
        source: &InfoSource,
        storage: &Arc<dyn Storage>,
        stanza: &Stanza,
        backup: Option<BackupLabel>,
    ) {
        let loaded = if self.options.progress_only {
            Loaded::Unread
        } else {
            let passphrase = source.passphrase.clone();
            let repository = Repository::new(source.index, stanza.clone(), Arc::clone(storage), passphrase);
            load(repository, backup, self.context).await
        };
        // A stanza without data has no running commands, even if its locks are held.
        let is_running = matches!(loaded, Loaded::Present(_)) || self.options.progress_only;
        self.set(stanza.as_str(), at, loaded);
        if is_running {
            self.read_activities(source.index, stanza);
        }
    }

    fn read_activities(&mut self, index: RepoIndex, stanza: &Stanza) {
        let backup = (self.activities)(stanza, index, Activity::Backup);
        let restore = (self.activities)(stanza, index, Activity::Restore);
        let collected = self.collected(stanza.as_str());
        collected.running_backups.extend(backup.map(|progress| RunningBackup { repository: index, progress }));
        if let Some(progress) = restore {
            // One restore holds the locks of all repositories and tells each of them the same; the original adds that up.
            let sum = collected.running_restore.get_or_insert_default();
            sum.done_bytes = sum.done_bytes.saturating_add(progress.done_bytes);
            sum.total_bytes = sum.total_bytes.saturating_add(progress.total_bytes);
        }
    }

    fn collected(&mut self, name: &str) -> &mut Collected {
        let repositories = self.sources.len();
        self.stanzas.entry(name.to_owned()).or_insert_with(|| Collected::new(repositories))
    }

    fn set(&mut self, name: &str, at: usize, loaded: Loaded) {
        if let Some(place) = self.collected(name).repositories.get_mut(at) {
            *place = loaded;
        }
    }

    /// A repository that could not be asked is told with every stanza; without any, with one that is made up for it.
    fn tell_failures(&mut self) {
        let failures = std::mem::take(&mut self.failures);
        if failures.iter().all(Option::is_none) {
            return;
        }
        if self.stanzas.is_empty() {
            let name = self.options.selection.stanza().map_or(INVALID, Stanza::as_str).to_owned();
            self.collected(&name);
        }
        for collected in self.stanzas.values_mut() {
            for (place, failure) in collected.repositories.iter_mut().zip(&failures) {
                if let Some(error) = failure {
                    *place = Loaded::Failed(error.clone());
                }
            }
        }
    }

    /// A backup that is in no repository is told once for the stanza, errors before it.
    fn tell_missing_backup(&mut self) {
        if self.backup_found || !matches!(self.options.selection, Selection::Backup(..)) {
            return;
        }
        for place in self.stanzas.values_mut().flat_map(|collected| &mut collected.repositories) {
            if matches!(place, Loaded::Present(_) | Loaded::Unread) {
                *place = Loaded::BackupMissing;
            }
        }
    }

    async fn report(self) -> Result<InfoReport> {
        let mut stanzas = Vec::with_capacity(self.stanzas.len());
        for (name, collected) in self.stanzas {
            self.context.check_cancelled()?;
            let (status, content) = if self.options.progress_only {
                (Status::over(collected.repositories.iter().map(progress_status)), None)
            } else {
                let (status, content) = sum_up(self.sources, collected.repositories, self.options).await;
                (status, Some(content))
            };
            let Collected { running_backups, running_restore, .. } = collected;
            stanzas.push(StanzaReport { name, status, running_backups, running_restore, content });
        }
        Ok(InfoReport { stanzas })
    }
}

/// The backup `text` of a stanza, if this repository has its manifest.
async fn find_backup(storage: &dyn Storage, stanza: &Stanza, text: &str) -> Result<Option<BackupLabel>> {
    let Ok(label) = BackupLabel::parse(text) else { return Ok(None) };
    Ok(storage.exists(&path::manifest(stanza, &label)).await?.then_some(label))
}

/// Without a look into info files a stanza is missing only where it was asked for by name.
fn progress_status(loaded: &Loaded) -> Status {
    match loaded {
        Loaded::Unread | Loaded::Present(_) => Status::Ok,
        Loaded::Absent => Status::MissingStanzaPath,
        Loaded::NoData => Status::MissingStanzaData,
        Loaded::BackupMissing => Status::BackupMissing,
        Loaded::Failed(_) => Status::Other,
    }
}

async fn sum_up(sources: &[InfoSource], loaded: Vec<Loaded>, options: &InfoOptions) -> (Status, StanzaContent) {
    let current = loaded.iter().find_map(Loaded::present).map(Present::current);
    let mut generations = Generations::default();
    let mut repositories = Vec::with_capacity(sources.len());
    let mut backups = Vec::new();
    let mut is_mismatch = false;
    for (source, loaded) in sources.iter().zip(loaded) {
        let status = match loaded {
            Loaded::Unread | Loaded::Absent => RepositoryStatus::MissingStanzaPath,
            Loaded::NoData => RepositoryStatus::MissingStanzaData,
            Loaded::BackupMissing => RepositoryStatus::BackupMissing,
            Loaded::Failed(error) => RepositoryStatus::Other(error),
            Loaded::Present(present) => match generations.add(&present).await {
                Err(error) => RepositoryStatus::Other(error),
                Ok(()) => {
                    is_mismatch |= current != Some(present.current());
                    let is_empty = present.backup_info.backups().is_empty();
                    backups.push(present.into_backups(options.selection.backup()));
                    if is_empty { RepositoryStatus::NoBackups } else { RepositoryStatus::Ok }
                }
            },
        };
        repositories.push(RepositoryReport { index: source.index, cipher: source.cipher(), status });
    }
    let status = match is_mismatch {
        true => Status::DatabaseMismatch,
        false => Status::over(repositories.iter().map(|repository| repository.status.status())),
    };
    let mut backups = by_stop_time(backups);
    backups.retain(|backup| options.backup_type.is_none_or(|wanted| backup.entry.backup_type() == wanted));
    let Generations { generations, archives } = generations;
    (status, StanzaContent { repositories, generations, archives, backups, current })
}

/// Merges the backups of the repositories by the time at which they ended. Within a repository they stay in the order
/// of their labels, as in the original.
fn by_stop_time(repositories: Vec<Vec<BackupReport>>) -> Vec<BackupReport> {
    let mut queues: Vec<_> = repositories.into_iter().map(|backups| backups.into_iter().peekable()).collect();
    let mut merged = Vec::new();
    loop {
        let next = queues
            .iter_mut()
            .enumerate()
            .filter_map(|(at, queue)| Some((queue.peek()?.entry.timestamp_stop_s, at)))
            .min();
        match next.and_then(|(_, at)| queues.get_mut(at)?.next()) {
            Some(backup) => merged.push(backup),
            None => return merged,
        }
    }
}
