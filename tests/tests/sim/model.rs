//! What the hosts were told, and whether the repository keeps to it (faults.md, invariants).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use pgbr_repo::format::{ArchiveInfo, BackupInfo, BackupLabel};
use pgbr_repo::postgres::{WalFileName, WalSegmentName};
use pgbr_repo::storage::{ListOptions, Storage, StorageExt, StoragePath};

use crate::cluster;
use crate::host::{Hands, KEPT};

/// The files of a data directory, with content.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
pub(crate) struct Model {
    /// Who had the content that was acknowledged under each name.
    pub(crate) acknowledged: BTreeMap<String, u64>,
    /// Everybody who ever offered a content under a name.
    pub(crate) offered: BTreeMap<String, BTreeSet<u64>>,
    /// Backups whose command succeeded.
    pub(crate) backups: BTreeMap<BackupLabel, Arc<Files>>,
    /// What a run of `expire` was allowed to remove: it may be gone, and nothing else may be.
    expirable: BTreeMap<String, u64>,
    expirable_backups: BTreeMap<BackupLabel, Arc<Files>>,
    /// The data directories of all backups that were begun.
    pub(crate) begun: Vec<Arc<Files>>,
    /// Every label that was ever listed.
    labels: BTreeSet<BackupLabel>,
}

impl Model {
    /// INV-02: one name, one content.
    pub(crate) fn acknowledge(&mut self, name: &str, branch: u64) {
        let before = self.acknowledged.insert(name.to_owned(), branch);
        assert!(
            before.is_none_or(|before| before == branch),
            "INV-02: {name} was acknowledged with the content of branch {before:?} and then of {branch}"
        );
    }

    /// INV-03: what was delivered is one of the contents that were offered, and the acknowledged one where there is one.
    pub(crate) fn delivered(&self, name: &str, known_before: bool, delivered: Option<&[u8]>) {
        let Some(delivered) = delivered else {
            let is_expirable = self.expirable.contains_key(name);
            assert!(!known_before || is_expirable, "INV-03: {name} was acknowledged and is called missing");
            return;
        };
        let offered = self.offered.get(name).cloned().unwrap_or_default();
        let found = offered.iter().find(|branch| cluster::content(name, **branch) == delivered);
        let found = found.unwrap_or_else(|| panic!("INV-03: {name} was delivered with a content that nobody offered"));
        let acknowledged = self.acknowledged.get(name).or(self.expirable.get(name));
        if known_before {
            assert_eq!(acknowledged, Some(found), "INV-03: {name} was delivered with another content");
        }
    }

    /// INV-06: what a run of `expire` that begins now may remove: backups but the newest [`KEPT`], and of WAL what is
    /// before all that these need, by name.
    pub(crate) async fn begin_expire(&mut self, auditor: &Hands) {
        let mut complete = auditor.complete_backups().await;
        complete.sort_unstable_by_key(|(label, _)| std::cmp::Reverse(*label));
        complete.truncate(KEPT as usize);
        let Some(first) = complete.iter().map(|(_, first)| *first).min() else { return };
        if complete.len() < KEPT as usize {
            return;
        }
        for label in self.backups.keys().copied().collect::<Vec<_>>() {
            if !complete.iter().any(|(kept, _)| *kept == label) {
                let files = self.backups.remove(&label).expect("it was listed");
                self.expirable_backups.insert(label, files);
            }
        }
        for (name, branch) in self.acknowledged.clone() {
            let may_go = match WalFileName::parse(&name).unwrap() {
                WalFileName::History(timeline) => timeline < first.timeline(),
                other => other.segment().is_some_and(|segment| segment < first),
            };
            if may_go {
                self.acknowledged.remove(&name);
                self.expirable.insert(name, branch);
            }
        }
    }

    /// INV-11: a label that succeeds is new.
    pub(crate) fn finished(&mut self, label: BackupLabel, files: Arc<Files>) {
        let before = self.backups.insert(label, files);
        assert!(before.is_none(), "INV-11: {label} was given twice");
        self.labels.insert(label);
    }

    /// Everything that must hold of the repository, seen without faults.
    pub(crate) async fn audit(&mut self, auditor: &Hands, scratch: &Path) {
        for (name, branch) in &self.acknowledged {
            let got = auditor.get(name, &scratch.join("audit-wal")).await;
            let got = got.unwrap_or_else(|error| panic!("INV-01: {name} was acknowledged: {error}"));
            let got = got.unwrap_or_else(|| panic!("INV-01: {name} was acknowledged and is missing"));
            assert!(got == cluster::content(name, *branch), "INV-01: {name} has another content");
        }
        let info = auditor.repository.backup_info(&auditor.context).await;
        let info = info.unwrap_or_else(|error| panic!("INV-07: backup.info: {error}"));
        for label in self.backups.keys() {
            assert!(info.backup(label).is_some(), "INV-05: {label} succeeded and is not listed");
        }
        for entry in info.backups() {
            let label = entry.label;
            let target = scratch.join("audit-restore");
            let restored = auditor.restore(label, &target).await;
            restored.unwrap_or_else(|error| panic!("INV-04: {label} is listed and cannot be restored: {error}"));
            let files = cluster::files(&target);
            assert!(target.join("global/pg_control").is_file(), "INV-04: {label} without pg_control");
            match self.backups.get(&label).or(self.expirable_backups.get(&label)) {
                Some(expected) => assert_same(&files, expected, &label),
                // Its command failed after it was listed, or did not live to say so.
                None => assert!(
                    self.begun.iter().any(|begun| **begun == files),
                    "INV-04: {label} holds what no data directory ever held"
                ),
            }
            self.labels.insert(label);
            let (Some(first), Some(last)) = (entry.archive_start, entry.archive_stop) else {
                panic!("INV-04: {label} does not say which WAL it needs")
            };
            for segment in WalSegmentName::range(first, last, cluster::SIZE, 1000).unwrap() {
                let got = auditor.get(&segment.to_string(), &scratch.join("audit-wal")).await;
                let got = got.unwrap_or_else(|error| panic!("INV-04: {label} needs {segment}: {error}"));
                assert!(got.is_some(), "INV-04: {label} needs {segment}, which is missing");
            }
        }
        one_content_a_name(auditor).await;
    }

    /// Labels in the order in which they are given.
    pub(crate) fn newest_label(&self) -> Option<BackupLabel> {
        self.labels.iter().max().copied()
    }

    /// Names that it may be interesting to ask for.
    pub(crate) fn names(&self) -> Vec<String> {
        self.offered.keys().cloned().collect()
    }
}

fn assert_same(found: &Files, expected: &Files, label: &BackupLabel) {
    let names = |files: &Files| files.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(found), names(expected), "INV-04: {label} has other files");
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "INV-04: {label} has another {name}");
    }
}

/// INV-02 at the store: of an acknowledged name there is no second content (a name that nobody acknowledged may have
/// two while their writers withdraw, and after both have died).
async fn one_content_a_name(auditor: &Hands) {
    let archive = StoragePath::parse("archive/demo").unwrap();
    let all = ListOptions { recurse: true, name_prefix: None };
    for entry in auditor.repository.storage().list_all(&archive, &all).await.unwrap() {
        let name = entry.name.rsplit('/').next().unwrap();
        let is_ours = name.starts_with("archive.info")
            || WalFileName::parse(name).is_ok()
            || name.split_once('-').is_some_and(|(segment, _)| WalFileName::parse(segment).is_ok());
        assert!(is_ours, "something else is in the archive: {}", entry.name);
    }
}

/// INV-07: at every moment one of the two files of each kind can be read.
pub(crate) async fn info_files_are_readable(storage: &dyn Storage) {
    let mut readable = [false; 2];
    for suffix in ["", ".copy"] {
        for (kind, name) in ["archive/demo/archive.info", "backup/demo/backup.info"].into_iter().enumerate() {
            let path = StoragePath::parse(&format!("{name}{suffix}")).unwrap();
            let Some(bytes) = storage.read_all_optional(&path, 1 << 24).await.unwrap() else { continue };
            readable[kind] |= match kind {
                0 => ArchiveInfo::parse(&bytes).is_ok(),
                _ => BackupInfo::parse(&bytes).is_ok(),
            };
        }
    }
    assert_eq!(readable, [true; 2], "INV-07: archive.info, backup.info");
}

/// What a healthy repository has left when `expire` is done: nothing of what died on the way.
pub(crate) async fn nothing_is_left_over(auditor: &Hands) {
    let info = auditor.repository.backup_info(&auditor.context).await.unwrap();
    let stanza = StoragePath::parse("backup/demo").unwrap();
    for entry in auditor.repository.storage().list_all(&stanza, &ListOptions::default()).await.unwrap() {
        let name = entry.name.trim_end_matches('/');
        let is_known = name.starts_with("backup.") || name == "latest";
        let is_listed = BackupLabel::parse(name).is_ok_and(|label| info.backup(&label).is_some());
        assert!(is_known || is_listed, "INV-14: {name} is left over");
    }
}
