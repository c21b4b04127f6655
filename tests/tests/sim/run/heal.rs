//! The end of all trouble, after which everything has to work by itself (INV-14).

use std::sync::atomic::Ordering;

use super::{HOSTS, Run, STEPS_MAX};
use crate::model::nothing_is_left_over;

impl Run {
    /// INV-14, TC08: when nothing goes wrong any more, all WAL is archived and a backup succeeds, without a person.
    pub(super) async fn heal(&mut self) {
        self.weather = self.weather.calm();
        for host in &self.hosts {
            host.fault.heal();
            assert!(!host.doomed);
            host.clock.skew_ms.store(0, Ordering::SeqCst);
        }
        self.trace.add("all is healed".to_owned());
        let rivals = self.lost_rivals();
        rivals.into_iter().for_each(|number| self.demote(number));
        // Clocks that were ahead have left a label that the time must reach.
        self.pass(400_000).await;
        for number in self.primaries() {
            for _ in 0..50 {
                let has_more =
                    self.hosts[number].hands.wal.lock().unwrap().as_ref().is_some_and(|wal| !wal.pending.is_empty());
                if !has_more {
                    break;
                }
                self.begin_push(number);
                self.finish().await;
            }
            let left = self.hosts[number].hands.wal.lock().unwrap().as_ref().map_or(0, |wal| wal.pending.len());
            assert_eq!(left, 0, "INV-14: host{number} cannot archive");
        }
        for number in self.primaries() {
            let before = self.model.backups.len();
            self.begin_backup(number);
            self.finish().await;
            let is_made = self.model.backups.len() > before;
            let newest = self.model.newest_label();
            assert!(is_made, "INV-14: host{number} cannot be backed up; the newest backup is {newest:?}");
        }
        // The newest one that was not finished might still be at work, so expire leaves it to the next backup.
        self.begin_expire(0).await;
        self.finish().await;
        nothing_is_left_over(&self.auditor).await;
    }

    /// Lets everything that runs come to its end; the archivers go on meanwhile.
    pub(super) async fn finish(&mut self) {
        for _ in 0..STEPS_MAX {
            self.turnstile.still().await;
            self.reap().await;
            if !self.is_busy() {
                return;
            }
            for number in 0..HOSTS {
                let host = &self.hosts[number];
                let has_more = host.hands.wal.lock().unwrap().as_ref().is_some_and(|wal| !wal.pending.is_empty());
                if host.archiver.is_none() && has_more {
                    self.begin_push(number);
                }
            }
            self.step(true).await;
        }
        panic!("INV-14: no end within {STEPS_MAX} steps");
    }
}
