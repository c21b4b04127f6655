//! What happens to hosts from outside: promotions, rivals, clocks that are set, people who tidy up.

use std::sync::atomic::Ordering;

use pgbr_repo::postgres::Lsn;

use super::{HOSTS, Run};
use crate::cluster::{Branch, Wal};

impl Run {
    pub(super) fn branch_of(&self, number: usize) -> Option<Branch> {
        self.hosts[number].hands.wal.lock().unwrap().as_ref().map(|wal| wal.branch)
    }

    /// A host becomes primary: on a timeline of its own, or with `rival` on the newest one although that is taken.
    pub(super) fn promote(&mut self, number: usize, rival: bool) {
        let place =
            self.hosts.iter().filter_map(|host| host.hands.wal.lock().unwrap().as_ref().map(|wal| wal.number)).max();
        let begin = place.unwrap_or(4).max(4);
        if !rival || self.timeline < 2 {
            self.timeline += 1;
        }
        self.branches += 1;
        let branch = Branch { id: self.branches + (begin << 16), timeline: self.timeline, begin };
        let mut wal = Wal { branch, number: begin, pending: Default::default() };
        if branch.timeline > 1 {
            wal.pending.push_back(branch.history_name());
        }
        self.trace.add(format!("host{number} is promoted: {branch:?}"));
        let hands = &self.hosts[number].hands;
        hands.data.control(branch.timeline, Lsn(begin << 20), self.time.now_ms());
        *hands.wal.lock().unwrap() = Some(wal);
    }

    /// Things of the world: a fail-over, a clock that is set, a standby that follows again.
    pub(super) fn happen(&mut self) {
        let number = self.dice.below(HOSTS);
        let is_idle = self.hosts[number].archiver.is_none() && self.hosts[number].command.is_none();
        match self.dice.below(4) {
            0 if is_idle && self.branch_of(number).is_none() => {
                let rival = self.weather.rivals && self.dice.chance(600);
                self.promote(number, rival);
            }
            1 if is_idle && self.primaries().len() > 1 => self.demote(number),
            2 if self.weather.jumps => {
                let jump_ms = i64::try_from(self.dice.below(600_000)).unwrap() - 300_000;
                self.trace.add(format!("the clock of host{number} jumps to {jump_ms} ms"));
                self.hosts[number].clock.skew_ms.store(jump_ms, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    /// A person makes a primary follow again, or when it is the last one, leave its timeline.
    pub(super) fn demote(&mut self, number: usize) {
        if self.branch_of(number).is_none() {
            return;
        }
        if self.primaries().len() == 1 {
            return self.promote(number, false);
        }
        self.trace.add(format!("host{number} follows"));
        *self.hosts[number].hands.wal.lock().unwrap() = None;
    }

    pub(super) fn primaries(&self) -> Vec<usize> {
        (0..HOSTS).filter(|number| self.branch_of(*number).is_some()).collect()
    }

    /// Of those that share a timeline all but the one whose WAL is in the archive.
    pub(super) fn lost_rivals(&self) -> Vec<usize> {
        let mut lost = Vec::new();
        for number in 0..HOSTS {
            let Some(branch) = self.branch_of(number) else { continue };
            let rivals: Vec<usize> = (0..HOSTS)
                .filter(|other| self.branch_of(*other).is_some_and(|other| other.timeline == branch.timeline))
                .collect();
            let acknowledged = |number: &usize| {
                let branch = self.branch_of(*number).map_or(0, |branch| branch.id);
                self.model.acknowledged.values().filter(|winner| **winner == branch).count()
            };
            let best = rivals.iter().max_by_key(|number| (acknowledged(number), HOSTS - **number));
            if best != Some(&number) {
                lost.push(number);
            }
        }
        lost
    }
}
