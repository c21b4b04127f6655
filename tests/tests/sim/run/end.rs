//! Commands end: what they say is noted, and held against what is known.

use pgbr_repo::error::{Error, ErrorKind, Result};

use super::{Done, HOSTS, Run, Running, What};
use crate::cluster;
use crate::model::info_files_are_readable;

impl Run {
    /// Takes the results of what has ended.
    pub(super) async fn reap(&mut self) {
        for number in 0..HOSTS {
            let host = &mut self.hosts[number];
            let mut ended = Vec::new();
            for place in [&mut host.archiver, &mut host.command] {
                if place.as_ref().is_some_and(|running| running.task.is_finished()) {
                    ended.extend(place.take());
                }
            }
            for Running { what, task } in ended {
                let result = task.await.unwrap_or_else(|panic| panic!("a {} panicked: {panic}", what.name()));
                self.ended(number, what, result);
                info_files_are_readable(&*self.store).await;
            }
        }
    }

    pub(super) fn ended(&mut self, number: usize, what: What, result: Result<Done>) {
        let end = result.as_ref().map_or_else(|error| error.kind().class_name(), |_| "ok");
        *self.tally.entry(format!("{} {end}", what.name())).or_default() += 1;
        self.trace.add(format!("host{number} {}: {end}", what.name()));
        match (what, result) {
            (What::Push { name, branch, path }, Ok(_)) => {
                self.model.acknowledge(&name, branch);
                drop(std::fs::remove_file(path));
                let mut guard = self.hosts[number].hands.wal.lock().unwrap();
                if let Some(wal) = guard.as_mut().filter(|wal| wal.branch.id == branch) {
                    assert_eq!(wal.pending.pop_front(), Some(name));
                }
            }
            (What::Get { name, known }, Ok(Done::Got(delivered))) => {
                self.model.delivered(&name, known, delivered.as_deref());
            }
            (What::Backup { files }, Ok(Done::Backup(label))) => self.model.finished(label, files),
            (What::Restore { label, path, files }, Ok(_)) => {
                assert!(cluster::files(&path) == *files, "INV-04: {label} was restored with another content");
            }
            (What::Info { known }, Ok(Done::Listed(Some(listed)))) => {
                for label in known.into_iter().filter(|label| self.model.backups.contains_key(label)) {
                    assert!(listed.contains(&label), "INV-05: {label} is not in info");
                }
            }
            (What::Restore { label, path, .. }, Err(error)) => {
                // EX12: what expires meanwhile may be missed, not mixed up.
                if self.model.backups.contains_key(&label) || error.kind() != ErrorKind::FileMissing {
                    self.permitted("restore", &error);
                }
                let startable = path.join("global/pg_control").try_exists().unwrap();
                assert!(!startable, "INV-09: a restore that failed can be started: {error}");
            }
            (What::Push { name, branch, .. }, Err(error)) if error.kind() == ErrorKind::ArchiveDuplicate => {
                let others = self.model.offered[&name].iter().any(|other| *other != branch);
                assert!(others, "nobody else has offered {name}: {error}");
                self.yield_to_rival(number, &name, branch);
            }
            (what, Err(error)) => self.permitted(what.name(), &error),
            (_, Ok(_)) => {}
        }
    }

    /// PostgreSQL tries again; when another content is acknowledged, a person must decide, and makes this host follow.
    pub(super) fn yield_to_rival(&mut self, number: usize, name: &str, branch: u64) {
        let is_lost = self.model.acknowledged.get(name).is_some_and(|winner| *winner != branch);
        if is_lost || self.dice.chance(300) {
            self.demote(number);
        }
    }

    /// INV-12: no error without a cause, and none that says that the program itself is wrong.
    pub(super) fn permitted(&mut self, what: &str, error: &Error) {
        let kind = error.kind();
        assert!(
            !matches!(kind, ErrorKind::Assert | ErrorKind::Unknown),
            "INV-12: {what} ended with {}: {error}",
            kind.class_name()
        );
        let waits_for_wal = what == "backup" && kind == ErrorKind::ArchiveTimeout;
        if self.weather.is_calm() && !waits_for_wal {
            panic!("INV-12: {what} failed although nothing was wrong: {} {error}", kind.class_name());
        }
    }
}
