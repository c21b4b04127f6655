//! Repositories and settings drawn from a seed.
//!
//! What is drawn is what real use leaves: sets of backups over several clusters and timelines, WAL with gaps,
//! interrupted backups, interrupted expires. Ages keep half a day from every limit that retention can draw, so that two
//! runs a second apart decide alike.

use std::collections::BTreeMap;

use pgbr_repo::format::{BackupLabel, BackupType, HistoryId};
use pgbr_repo::postgres::{Timeline, WalSegmentName};

use crate::seed::Seed;
use pgbr_testkit::world::{Backup, NewBackup, World, history_id, label};

const DAY_S: i64 = 24 * 60 * 60;

/// A repository, and how `expire` is to be run on it.
pub(crate) struct Case {
    pub(crate) world: World,
    /// Of the configuration file.
    pub(crate) options: Vec<(&'static str, String)>,
    pub(crate) arguments: Vec<String>,
}

/// The case of a seed at this time.
pub(crate) fn case(number: u64, now_s: i64) -> Case {
    let mut seed = Seed::new(number);
    let mut story = Story::new(&mut seed, now_s);
    let events = story.seed.range(1, 16);
    for event in 0..events {
        story.event(events - event);
    }
    story.expected_disorder();
    let Story { world, wal, .. } = story;
    let options = options(&mut seed);
    let arguments = arguments(&mut seed, &world, &wal);
    Case { world, options, arguments }
}

fn options(seed: &mut Seed) -> Vec<(&'static str, String)> {
    let mut options = Vec::new();
    let by_age = seed.chance(30);
    if by_age {
        options.push(("repo1-retention-full-type", "time".to_owned()));
    }
    if seed.chance(85) {
        let count = if by_age { seed.range(1, 40) } else { seed.range(1, 4) };
        options.push(("repo1-retention-full", count.to_string()));
    }
    if seed.chance(40) {
        options.push(("repo1-retention-diff", seed.range(1, 4).to_string()));
    }
    if seed.chance(55) {
        let kind = *seed.pick(&["full", "diff", "incr"]);
        options.push(("repo1-retention-archive-type", kind.to_owned()));
    }
    if seed.chance(60) {
        options.push(("repo1-retention-archive", seed.range(1, 5).to_string()));
    }
    if seed.chance(45) {
        let days = *seed.pick(&[0, 1, 7, 30, 400, 800]);
        options.push(("repo1-retention-history", days.to_string()));
    }
    if seed.chance(30) {
        options.push(("checksum-page-error", "n".to_owned()));
    }
    if seed.chance(20) {
        options.push(("repo1-symlink", "n".to_owned()));
    }
    options
}

fn arguments(seed: &mut Seed, world: &World, wal: &[WalSegmentName]) -> Vec<String> {
    let mut arguments = Vec::new();
    let labels: Vec<BackupLabel> = world.backups.keys().copied().collect();
    if seed.chance(20) {
        let label = *seed.pick(&labels);
        let label = if seed.chance(10) { "20010203-040506F".to_owned() } else { label.to_string() };
        arguments.push(format!("--set={label}"));
    } else if seed.chance(12) {
        arguments.push("--oldest".to_owned());
    }
    if seed.chance(15) && !wal.is_empty() {
        arguments.push(format!("--archive-expire-before={}", seed.pick(wal)));
    }
    if seed.chance(15) {
        arguments.push("--dry-run".to_owned());
    }
    arguments
}

/// What happened to a stanza, event by event.
struct Story<'a> {
    seed: &'a mut Seed,
    now_s: i64,
    world: World,
    cluster: HistoryId,
    /// Where the WAL of the current cluster is.
    at: WalSegmentName,
    segments_per_log: u32,
    /// All WAL of all clusters, in the order written.
    wal: Vec<WalSegmentName>,
    newest_of: BTreeMap<HistoryId, Backup>,
    newest_full_of: BTreeMap<HistoryId, Backup>,
}

impl<'a> Story<'a> {
    fn new(seed: &'a mut Seed, now_s: i64) -> Self {
        let segments_per_log = *seed.pick(&[4, 4, 16, 256]);
        let log = *seed.pick(&[0, 1, 0xFE, 0x1_0000]);
        let at = WalSegmentName::new(Timeline::new(seed.range(1, 2)).unwrap(), log, 1);
        let world = World::new();
        let (newest_of, newest_full_of) = (BTreeMap::new(), BTreeMap::new());
        let cluster = history_id(1);
        Self { seed, now_s, world, cluster, at, segments_per_log, wal: Vec::new(), newest_of, newest_full_of }
    }

    /// Something happens, with this many events left. Each event has a day or some of its own.
    fn event(&mut self, left: u32) {
        if self.seed.chance(8) && left > 1 {
            self.cluster = self.world.upgrade();
            self.at = WalSegmentName::new(Timeline::new(1).unwrap(), 0, 1);
        }
        for _ in 0..self.seed.range(0, 6) {
            self.write_segment(true);
        }
        if self.seed.chance(15) {
            self.promote();
        }
        let days = i64::from(left) * 4 - i64::from(self.seed.range(0, 3));
        let start_s = self.now_s - days * DAY_S + DAY_S / 2 - i64::from(self.seed.range(0, 7000));
        self.backup(start_s);
        for _ in 0..self.seed.range(0, 2) {
            self.write_segment(true);
        }
    }

    /// Writes the segment at the current place, unless it is lost, and goes on to the next.
    fn write_segment(&mut self, may_be_lost: bool) -> WalSegmentName {
        let segment = self.at;
        if !may_be_lost || !self.seed.chance(12) {
            let extension = *self.seed.pick(&["", ".gz", ".zst"]);
            let name = format!("{}/{segment}-{}{extension}", segment.first16(), self.seed.checksum());
            self.world.add_wal(self.cluster, name);
        }
        self.wal.push(segment);
        let (mut log, mut number) = (segment.log(), segment.segment() + 1);
        if number == self.segments_per_log {
            (log, number) = (log + 1, 0);
        }
        if self.seed.chance(4) {
            log += self.seed.range(1, 3);
        }
        self.at = WalSegmentName::new(segment.timeline(), log, number);
        segment
    }

    fn promote(&mut self) {
        if self.seed.chance(50) {
            let name = format!("{}/{}.partial-{}.gz", self.at.first16(), self.at, self.seed.checksum());
            self.world.add_wal(self.cluster, name);
        }
        let timeline = Timeline::new(self.at.timeline().number() + self.seed.range(1, 2)).unwrap();
        self.world.add_wal(self.cluster, timeline.history_file_name());
        self.at = WalSegmentName::new(timeline, self.at.log(), self.at.segment());
    }

    fn new_backup(&mut self, start_s: i64) -> (BackupLabel, Option<Backup>) {
        let wanted = *self.seed.pick(&[BackupType::Full, BackupType::Differential, BackupType::Incremental]);
        let prior = match wanted {
            BackupType::Full => None,
            BackupType::Differential => self.newest_full_of.get(&self.cluster),
            BackupType::Incremental => self.newest_of.get(&self.cluster),
        };
        (label(start_s, prior.map(Backup::label), wanted), prior.cloned())
    }

    fn backup(&mut self, start_s: i64) {
        let (label, prior) = self.new_backup(start_s);
        let wal = (!self.seed.chance(8)).then(|| {
            let start = self.write_segment(false);
            let stop = (0..self.seed.range(0, 2)).map(|_| self.write_segment(false)).last().unwrap_or(start);
            (start, stop)
        });
        if let Some((start, _)) = wal {
            self.world.add_wal(self.cluster, format!("{}/{start}.00000028.backup", start.first16()));
        }
        let backup = self.world.add(NewBackup {
            label,
            prior: prior.as_ref(),
            start_s,
            stop_s: start_s + i64::from(self.seed.range(1, 7000)),
            wal,
            history_id: self.cluster,
            page_error: self.seed.chance(6),
        });
        self.world.history.insert(label);
        if prior.is_none() {
            self.newest_full_of.insert(self.cluster, backup.clone());
        }
        self.newest_of.insert(self.cluster, backup);
    }

    /// What interrupted commands and earlier expires leave.
    fn expected_disorder(&mut self) {
        let labels: Vec<BackupLabel> = self.world.backups.keys().copied().collect();
        let info = self.world.backup_info();
        let newest = *labels.last().unwrap();
        let unneeded: Vec<BackupLabel> =
            labels.iter().filter(|label| **label != newest && info.dependents(label).is_empty()).copied().collect();
        if self.seed.chance(10) && !unneeded.is_empty() {
            self.world.lost.insert(*self.seed.pick(&unneeded));
        } else if self.seed.chance(12) {
            let label = *self.seed.pick(&labels);
            self.world.unlisted.extend(info.dependents(&label));
            self.world.unlisted.insert(label);
        }
        if self.seed.chance(20) {
            let start_s = self.now_s - i64::from(self.seed.range(30, 40_000));
            let with_copy = self.seed.chance(60);
            self.unfinished(start_s, with_copy);
        }
        if self.seed.chance(15) {
            let start_s = self.now_s - i64::from(self.seed.range(100, 300)) * DAY_S;
            let with_copy = self.seed.chance(40);
            self.unfinished(start_s, with_copy);
        }
        for _ in 0..self.seed.range(0, 4) {
            let days = self.seed.range(1, 1500);
            let start_s = self.now_s - i64::from(days) * DAY_S + DAY_S / 2;
            self.world.history.insert(label(start_s, None, BackupType::Full));
        }
        if self.seed.chance(10) {
            let id = self.world.archive_id(self.cluster);
            self.world.archives.entry(id).or_default().insert("0000000100000000/unknown".to_owned());
        }
    }

    fn unfinished(&mut self, start_s: i64, with_copy: bool) {
        let (label, prior) = self.new_backup(start_s);
        // Nothing is built on a backup that is newer.
        let prior = prior.filter(|prior| prior.entry.timestamp_stop_s < start_s);
        if prior.is_none() && label.backup_type() != BackupType::Full {
            return;
        }
        let (stop_s, wal, page_error) = (0, None, false);
        let history_id = self.cluster;
        self.world.add_unfinished(
            NewBackup { label, prior: prior.as_ref(), start_s, stop_s, wal, history_id, page_error },
            with_copy,
        );
    }
}
