//! Commands begin: which one, on which host, and what is noted of it.

use std::sync::Arc;

use pgbr_repo::command::info::{InfoOptions, InfoSource, RepositoryStatus, Selection, info};
use pgbr_repo::error::Result;
use pgbr_repo::format::{BackupLabel, BackupType, CompressType, Stanza};
use pgbr_repo::repository::RepoIndex;

use super::{Done, HOSTS, Run, Running, What};
use crate::cluster;
use crate::host::Hands;

impl Run {
    /// Begins a command or an archiver on some host.
    pub(super) async fn begin_something(&mut self) -> bool {
        let number = self.dice.below(HOSTS);
        if self.hosts[number].archiver.is_none() && self.dice.chance(600) {
            return self.begin_push(number);
        }
        if self.hosts[number].command.is_some() {
            return false;
        }
        match self.dice.below(12) {
            0..4 => self.begin_backup(number),
            4..7 => self.begin_get(number),
            7..9 => self.begin_restore(number),
            9 => self.begin_expire(number).await,
            _ => self.begin_info(number),
        }
        true
    }

    /// The primary archives what is complete, in order; when nothing is, it completes a segment.
    pub(super) fn begin_push(&mut self, number: usize) -> bool {
        let host = &mut self.hosts[number];
        let mut guard = host.hands.wal.lock().unwrap();
        let Some(wal) = guard.as_mut() else { return false };
        if wal.pending.is_empty() {
            wal.switch();
        }
        let (name, branch) = (wal.pending[0].clone(), wal.branch.id);
        drop(guard);
        let bytes = cluster::content(&name, branch);
        let path = host.hands.data.wal_file(&name, &bytes);
        let compress = [CompressType::None, CompressType::Zst, CompressType::Lz4][self.dice.below(3)];
        self.model.offered.entry(name.clone()).or_default().insert(branch);
        let (hands, source) = (host.hands.clone(), path.clone());
        let task = tokio::spawn(async move { hands.push(source, compress).await.map(|()| Done::Pushed) });
        self.trace.add(format!("host{number} pushes {name} of branch {branch}"));
        host.archiver = Some(Running { what: What::Push { name, branch, path }, task });
        true
    }

    pub(super) fn begin_get(&mut self, number: usize) {
        let mut names = self.model.names();
        names.push("00000001000000000000FFFF".replace("FFFF", "00FE"));
        let name = self.dice.pick(&names).unwrap().clone();
        let known = self.model.acknowledged.contains_key(&name);
        let destination = self.scratch.join(format!("RECOVERYXLOG{number}"));
        let hands = self.hosts[number].hands.clone();
        let asked = name.clone();
        let task = tokio::spawn(async move { hands.get(&asked, &destination).await.map(Done::Got) });
        self.trace.add(format!("host{number} gets {name}"));
        self.hosts[number].command = Some(Running { what: What::Get { name, known }, task });
    }

    /// A backup of a primary whose timeline nobody else has; one at a time in the stanza, as its lock sees to.
    pub(super) fn begin_backup(&mut self, number: usize) {
        let Some(branch) = self.branch_of(number) else { return };
        let rivals = (0..HOSTS).filter_map(|host| self.branch_of(host));
        if rivals.filter(|rival| rival.timeline == branch.timeline).count() > 1 {
            return;
        }
        if self.is_locked() {
            return;
        }
        let now_ms = self.time.now_ms();
        let host = &mut self.hosts[number];
        host.hands.data.change(&mut self.dice, now_ms);
        let files = Arc::new(cluster::files(&host.hands.data.path));
        self.model.begun.push(Arc::clone(&files));
        let bundled = self.dice.chance(500);
        let compress = [CompressType::None, CompressType::Zst, CompressType::Gz][self.dice.below(3)];
        let hands = host.hands.clone();
        let task = tokio::spawn(async move {
            let made = Box::pin(hands.backup(BackupType::Full, bundled, compress)).await;
            made.map(Done::Backup)
        });
        self.trace.add(format!("host{number} backs up"));
        host.command = Some(Running { what: What::Backup { files }, task });
    }

    /// Whether somewhere a command runs that takes the lock of the stanza.
    pub(super) fn is_locked(&self) -> bool {
        let mut running = self.hosts.iter().filter_map(|host| host.command.as_ref());
        running.any(|running| matches!(running.what, What::Backup { .. } | What::Expire))
    }

    pub(super) async fn begin_expire(&mut self, number: usize) {
        if self.is_locked() {
            return;
        }
        Box::pin(self.model.begin_expire(&self.auditor)).await;
        let hands = self.hosts[number].hands.clone();
        let task = tokio::spawn(async move { Box::pin(hands.expire()).await.map(|()| Done::Expired) });
        self.trace.add(format!("host{number} expires"));
        self.hosts[number].command = Some(Running { what: What::Expire, task });
    }

    pub(super) fn begin_restore(&mut self, number: usize) {
        let labels: Vec<BackupLabel> = self.model.backups.keys().copied().collect();
        let Some(label) = self.dice.pick(&labels).copied() else { return };
        let path = self.scratch.join(format!("restored{number}"));
        let files = Arc::clone(&self.model.backups[&label]);
        let hands = self.hosts[number].hands.clone();
        let target = path.clone();
        let task = tokio::spawn(async move { Box::pin(hands.restore(label, &target)).await.map(|()| Done::Restored) });
        self.trace.add(format!("host{number} restores {label}"));
        self.hosts[number].command = Some(Running { what: What::Restore { label, path, files }, task });
    }

    pub(super) fn begin_info(&mut self, number: usize) {
        let known = self.model.backups.keys().copied().collect();
        let hands = self.hosts[number].hands.clone();
        let task = tokio::spawn(async move { listed(&hands).await.map(Done::Listed) });
        self.trace.add(format!("host{number} asks for info"));
        self.hosts[number].command = Some(Running { what: What::Info { known }, task });
    }
}

/// The labels that `info` shows, or `None` when it says that it could not look.
async fn listed(hands: &Hands) -> Result<Option<Vec<BackupLabel>>> {
    let source = InfoSource {
        index: RepoIndex::new(1).unwrap(),
        storage: Ok(Arc::clone(hands.repository.storage())),
        passphrase: None,
    };
    let selection = Selection::Stanza(Stanza::parse("demo").unwrap());
    let options = InfoOptions { selection, backup_type: None, progress_only: false };
    let report = Box::pin(info(&[source], &options, &|_, _, _| None, &hands.context)).await?;
    let Some(content) = report.stanzas.first().and_then(|stanza| stanza.content.as_ref()) else { return Ok(None) };
    match content.repositories.first().map(|repository| &repository.status) {
        Some(RepositoryStatus::Ok) => Ok(Some(content.backups.iter().map(|backup| backup.entry.label).collect())),
        Some(RepositoryStatus::NoBackups) => Ok(Some(Vec::new())),
        Some(RepositoryStatus::Other(_)) | None => Ok(None),
        Some(other) => panic!("INV-03: the stanza is there, and info says {other:?}"),
    }
}
