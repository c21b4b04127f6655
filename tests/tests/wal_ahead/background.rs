//! `archive-async` (repository-behaviour.md §2.5, §3.3): the spool is shared with the original, in both directions.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pgbr_testkit::engine::Engine;
use pgbr_testkit::process::Outcome;
use pgbr_testkit::s3::{Fault, Rule, S3Server};
use pgbr_testkit::wait::until;
use pgbr_testkit::{stock, user};

use crate::wal_site::{MISSING, Site, assert_code, files_below, into_s3, ours};

const ASYNC: &[&str] = &["--archive-async"];
const WAIT: Duration = Duration::from_secs(60);

impl Site {
    /// A stanza whose segments are all ready to be archived.
    fn ready() -> Self {
        let site = Self::with_stanza(1);
        site.mark_ready();
        site
    }

    fn mark_ready(&self) {
        let status = self.status_directory();
        for entry in fs::read_dir(&status).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for name in &self.segments {
            user::write_file(&status.join(format!("{name}.ready")), "").unwrap();
        }
    }

    fn status_directory(&self) -> PathBuf {
        self.data.join("pg_wal/archive_status")
    }

    fn spool(&self, direction: &str) -> PathBuf {
        self.folder.path().join("backrest/spool/archive/demo").join(direction)
    }

    fn markers(&self, direction: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.spool(direction)) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Pushes as PostgreSQL does: after success it renames the marker.
    fn archive(&self, engine: &Engine, name: &str) -> Outcome {
        let outcome = self.push(engine, name, ASYNC);
        if outcome.exit_code == Some(0) {
            let status = self.status_directory();
            fs::rename(status.join(format!("{name}.ready")), status.join(format!("{name}.done"))).unwrap();
        }
        outcome
    }

    fn lock(&self) -> PathBuf {
        self.folder.path().join("backrest/lock/demo-archive-1.lock")
    }

    /// Whether nobody holds the lock, as the kernel says: to try it would be in the way of the others.
    fn is_free(&self) -> bool {
        let Ok(file) = fs::symlink_metadata(self.lock()) else { return true };
        let inode = format!(":{} ", file.ino());
        !fs::read_to_string("/proc/locks").unwrap().contains(&inode)
    }
}

/// One of the engines archives the first segment, its background half the others; the other engine goes on with the spool.
#[test]
fn the_original_goes_on_with_our_spool_and_the_reverse() {
    for ours_first in [true, false] {
        let site = Site::ready();
        let original = &stock::newest().engine;
        let (first, second) = if ours_first { (ours(), original) } else { (original, ours()) };
        assert_code(&site.archive(first, &site.segments[0]), 0);
        let markers: Vec<String> = site.segments.iter().map(|name| format!("{name}.ok")).collect();
        until(WAIT, "all were pushed ahead", || site.markers("out") == markers);
        for marker in &markers {
            assert_eq!(fs::read_to_string(site.spool("out").join(marker)).unwrap(), "", "{marker}");
        }
        assert_eq!(site.objects().len(), site.segments.len());
        for name in &site.segments[1..] {
            assert_code(&site.archive(second, name), 0);
        }
        assert_eq!(site.objects().len(), site.segments.len(), "nothing is stored twice");
        // A new segment, which neither has pushed: the idle one of ours must not be in the way of the original.
        let next = site.segments[2].clone();
        fs::remove_file(site.objects().last().unwrap()).unwrap();
        fs::rename(
            site.status_directory().join(format!("{next}.done")),
            site.status_directory().join(format!("{next}.ready")),
        )
        .unwrap();
        fs::remove_file(site.spool("out").join(format!("{next}.ok"))).unwrap_or(());
        assert_code(&site.archive(second, &next), 0);
        assert_eq!(site.objects().len(), site.segments.len());
        for name in &site.segments {
            let (outcome, delivered) = site.get(second, name, &[]);
            assert_code(&outcome, 0);
            assert!(delivered == Some(fs::read(site.wal(name)).unwrap()), "{name}");
        }
    }
}

#[test]
fn the_background_half_stays_and_holds_no_lock_while_it_waits() {
    let site = Site::ready();
    let ready = |name: &str| site.status_directory().join(format!("{name}.ready"));
    for name in &site.segments[1..] {
        fs::remove_file(ready(name)).unwrap();
    }
    assert_code(&site.archive(ours(), &site.segments[0]), 0);
    until(WAIT, "the lock is free", || site.is_free());
    // Without a command: the process that stayed sees it.
    user::write_file(&ready(&site.segments[1]), "").unwrap();
    let second = format!("{}.ok", site.segments[1]);
    until(WAIT, "the next one was pushed", || site.markers("out").contains(&second));
    assert_eq!(site.markers("out"), [second], "the acknowledged one was tidied away");
    assert_code(&site.archive(ours(), &site.segments[1]), 0);
    // A command that needs every lock is not kept waiting.
    until(WAIT, "the lock is free again", || site.is_free());
    assert_code(&stock::newest().engine.run(&site.conf, &["--no-online", "stanza-create"]).unwrap(), 0);
}

/// Markers of an earlier life of the data directory or the repository: the original believes them, and would let PostgreSQL
/// remove WAL that is nowhere.
#[test]
fn pu09_a_marker_without_proof_is_only_a_hint() {
    let site = Site::ready();
    let out = site.spool("out");
    user::create_dir(&out).unwrap();
    for name in &site.segments {
        user::write_file(&out.join(format!("{name}.ok")), "").unwrap();
    }
    assert_code(&site.archive(ours(), &site.segments[0]), 0);
    assert_eq!(site.objects().len(), 1, "the segment is in the archive");
    // Skipped by a person, which is an order.
    user::write_file(&out.join(format!("{}.ok", site.segments[1])), "45\nno good").unwrap();
    let skipped = site.push(ours(), &site.segments[1], ASYNC);
    assert_code(&skipped, 0);
    assert!(skipped.text().contains("was not pushed due to error [45] and was manually skipped: no good"));
    assert_eq!(site.objects().len(), 1);
}

/// Pushed ahead, then changed before PostgreSQL asks: the acknowledgement is about the file as it is.
#[test]
fn np02_a_file_that_changed_after_it_was_pushed_ahead_is_refused() {
    let site = Site::ready();
    assert_code(&site.archive(ours(), &site.segments[0]), 0);
    let second = site.segments[1].clone();
    until(WAIT, "it was pushed ahead", || site.markers("out").contains(&format!("{second}.ok")));
    let mut bytes = fs::read(site.wal(&second)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    user::write_file(&site.wal(&second), &bytes).unwrap();
    assert_code(&site.push(ours(), &second, ASYNC), 45);
}

#[test]
fn pu10_pu12_errors_reach_the_command_with_their_code() {
    let mut site = Site::ready();
    // No repository: the error of all files. It is gone when the next try succeeds.
    let repo = site.folder.path().join("backrest/repo");
    site.conf.global("repo1-path", "/nonexistent/repository").unwrap();
    assert_code(&site.push(ours(), &site.segments[2], ASYNC), 103);
    assert!(site.markers("out").contains(&"global.error".to_owned()), "{:?}", site.markers("out"));
    site.conf.global("repo1-path", &repo.display().to_string()).unwrap();
    // A poisoned segment in front of a good one.
    let (first, second) = (site.segments[0].clone(), site.segments[1].clone());
    let whole = fs::read(site.wal(&first)).unwrap();
    user::write_file(&site.wal(&first), &whole[..4096]).unwrap();
    for _ in 0..2 {
        let failed = site.push(ours(), &first, ASYNC);
        assert_code(&failed, 42);
        assert!(failed.text().contains(&first), "{}", failed.text());
        assert!(!site.markers("out").contains(&format!("{first}.ok")));
    }
    user::write_file(&site.wal(&first), &whole).unwrap();
    assert_code(&site.archive(ours(), &first), 0);
    assert_code(&site.archive(ours(), &second), 0);
    assert!(!site.markers("out").contains(&"global.error".to_owned()), "{:?}", site.markers("out"));
    // A spool that cannot be written is said at once.
    site.conf.global("spool-path", "/proc/nowhere").unwrap();
    assert_code(&site.push(ours(), &site.segments[0], ASYNC), 47);
}

#[test]
fn pu11_a_queue_that_is_too_long_is_dropped_with_a_warning_of_the_original() {
    let mut site = Site::ready();
    site.conf.global("archive-push-queue-max", "2MiB").unwrap();
    let name = site.segments[0].clone();
    let dropped = site.push(ours(), &name, ASYNC);
    assert_code(&dropped, 0);
    let warning = format!("dropped WAL file '{name}' because archive queue exceeded 2MB");
    assert!(dropped.text().contains(&warning), "{}", dropped.text());
    assert_eq!(fs::read_to_string(site.spool("out").join(format!("{name}.ok"))).unwrap(), format!("0\n{warning}"));
    assert!(site.objects().is_empty());
}

/// The queue of `archive-get`, filled by one and emptied by the other.
#[test]
fn segments_fetched_ahead_by_one_are_delivered_by_the_other() {
    let mut site = Site::with_stanza(1);
    for name in &site.segments {
        assert_code(&site.push(ours(), name, &[]), 0);
    }
    site.conf.global("archive-get-queue-max", "2MiB").unwrap();
    let original = &stock::newest().engine;
    for (first, second) in [(ours(), original), (original, ours())] {
        if let Err(error) = fs::remove_dir_all(site.spool("in")) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
        let content = |name: &str| Some(fs::read(site.wal(name)).unwrap());
        let (outcome, delivered) = site.get(first, &site.segments[0], ASYNC);
        assert_code(&outcome, 0);
        assert!(delivered == content(&site.segments[0]));
        until(WAIT, "the next was fetched", || site.markers("in").contains(&site.segments[1]));
        let (outcome, delivered) = site.get(second, &site.segments[1], ASYNC);
        assert_code(&outcome, 0);
        assert!(outcome.text().contains("asynchronously"), "{}", outcome.text());
        assert!(delivered == content(&site.segments[1]));
        assert!(!site.markers("in").contains(&site.segments[1]), "it was moved");
        let (outcome, delivered) = site.get(second, &site.segments[2], ASYNC);
        assert_code(&outcome, 0);
        assert!(delivered == content(&site.segments[2]));
        // Behind the end.
        let (outcome, delivered) = site.get(first, "0000000100000000000000F0", ASYNC);
        assert_code(&outcome, MISSING);
        assert_eq!(delivered, None);
        until(WAIT, "nobody fetches", || site.is_free());
    }
}

/// What an earlier recovery, another cluster or a power failure left in the spool.
#[test]
fn ge06_ge07_ge13_what_lies_in_the_spool_is_checked() {
    let site = Site::with_stanza(1);
    let (first, second) = (site.segments[0].clone(), site.segments[1].clone());
    assert_code(&site.push(ours(), &first, &[]), 0);
    let spool = site.spool("in");
    user::create_dir(&spool).unwrap();
    // Another segment, half a segment and zeros under its name, and a marker that says that there is none.
    let whole = fs::read(site.wal(&first)).unwrap();
    for wrong in [fs::read(site.wal(&second)).unwrap(), whole[..4096].to_vec(), vec![0; whole.len()]] {
        user::write_file(&spool.join(&first), wrong).unwrap();
        user::write_file(&spool.join(format!("{first}.ok")), "").unwrap();
        let (outcome, delivered) = site.get(ours(), &first, ASYNC);
        assert_code(&outcome, 0);
        assert!(delivered.as_ref() == Some(&whole));
        until(WAIT, "nobody fetches", || site.is_free());
    }
    // A marker of the past is asked about again, even when it is not to be retried.
    user::write_file(&spool.join(format!("{first}.ok")), "").unwrap();
    let (outcome, _) = site.get(ours(), &first, &["--archive-async", "--no-archive-missing-retry"]);
    assert_code(&outcome, 0);
    // While somebody else's background half holds the lock (here nobody's, for ever), the segment is fetched at once.
    until(WAIT, "nobody fetches", || site.is_free());
    for name in [&first, &format!("{first}.ok")] {
        fs::remove_file(spool.join(name)).unwrap_or(());
    }
    user::write_file(&site.lock(), "{\"execId\":\"1-2\",\"pid\":1}").unwrap();
    let held = fs::File::open(site.lock()).unwrap();
    held.lock().unwrap();
    let begun = Instant::now();
    let (outcome, delivered) = site.get(ours(), &first, ASYNC);
    assert_code(&outcome, 0);
    assert!(delivered.as_ref() == Some(&whole));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

impl Site {
    /// Segments of a WAL that goes on and on, in the archive.
    fn archive_many(&self, count: u32) -> Vec<String> {
        let header = fs::read(self.wal(self.first())).unwrap();
        let names: Vec<String> = (0x20..0x20 + count).map(|number| format!("0000000100000000{number:08X}")).collect();
        for (number, name) in (0x20_u64..).zip(&names) {
            let mut bytes = header.clone();
            bytes[8..16].copy_from_slice(&(number << 20).to_le_bytes());
            user::write_file(&self.wal(name), bytes).unwrap();
            assert_code(&self.push(ours(), name, &[]), 0);
        }
        names
    }

    /// Fetches a segment through the queue, whole.
    #[track_caller]
    fn get_ahead(&self, engine: &Engine, name: &str) -> Outcome {
        if engine.name() != ours().name() {
            // Alone too, commands of the original that follow each other at once now and then hold the lock together: one of
            // them locks the file that another has just removed.
            self.settle();
        }
        let (outcome, delivered) = self.get(engine, name, ASYNC);
        assert_code(&outcome, 0);
        assert!(delivered == Some(fs::read(self.wal(name)).unwrap()), "{name}");
        outcome
    }

    /// Waits until nobody works on the queue, nor is about to.
    #[track_caller]
    fn settle(&self) {
        let mut free = 0;
        until(WAIT, "nobody fetches", || {
            free = if self.is_free() { free + 1 } else { 0 };
            free == 5
        });
    }

    /// How many background halves of `archive-get` have written to the log.
    fn background_gets(&self) -> usize {
        let log = self.folder.path().join("backrest/log/demo-archive-get-async.log");
        let log = fs::read_to_string(log).unwrap_or_default();
        log.matches("archive-get:async command begin").count()
    }

    /// Whether a background half of ours lives that stays with its queue.
    fn somebody_stays(&self) -> bool {
        let path = self.folder.path().join("backrest/spool/archive/demo/in.ahead/coming");
        fs::File::open(path).is_ok_and(|file| file.try_lock_shared().is_err())
    }

    /// The one process that names this site's configuration.
    fn background_process(&self) -> String {
        let conf = self.conf.path().display().to_string();
        let named = |process: &fs::DirEntry| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&conf)
        };
        let all = fs::read_dir("/proc").unwrap().map(Result::unwrap).filter(named);
        let names: Vec<String> = all.map(|process| process.file_name().into_string().unwrap()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        names[0].clone()
    }

    fn with_queue_of(queue: &str) -> Self {
        let mut site = Self::with_stanza(1);
        site.conf.global("archive-get-queue-max", queue).unwrap().global("log-level-file", "info").unwrap();
        site
    }
}

/// One background half serves a whole recovery, holds no lock while it waits, and goes when nobody asks any more.
#[test]
fn one_background_half_stays_with_the_queue_and_goes_when_idle() {
    let site = Site::with_queue_of("4MiB");
    let names = site.archive_many(16);
    for (index, name) in names.iter().enumerate() {
        assert!(site.get_ahead(ours(), name).text().contains("asynchronously"), "{name}");
        if index == 0 {
            until(WAIT, "the queue is full", || site.markers("in") == names[1..5]);
            until(WAIT, "the lock is free", || site.is_free());
        }
        if index == 11 {
            // Up to here it has met no end.
            assert_eq!(site.background_gets(), 1);
        }
        if index == 6 {
            // A recovery that is busy for a while: without a command nothing more is fetched.
            until(WAIT, "the queue is full again", || site.markers("in") == names[7..11]);
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(site.markers("in"), names[7..11]);
            assert!(site.somebody_stays() && site.is_free());
        }
    }
    // Behind the end it is as ever.
    let (outcome, delivered) = site.get(ours(), "000000010000000000000030", ASYNC);
    assert_code(&outcome, MISSING);
    assert_eq!(delivered, None);
    site.get_ahead(ours(), &names[0]);
    until(WAIT, "it went", || !site.somebody_stays());
    assert!(fs::symlink_metadata(site.lock()).is_err(), "and took its lock file with it");
    // What it left is used, and a queue that nobody fills is filled.
    for name in &names[1..8] {
        site.get_ahead(ours(), name);
    }
}

/// While ours stays, the original takes from its queue, goes to another place of WAL, and comes back.
#[test]
fn the_original_is_served_by_the_queue_of_one_that_stays() {
    let site = Site::with_queue_of("4MiB");
    let names = site.archive_many(24);
    for release in [&stock::all()[0], stock::newest()] {
        let original = &release.engine;
        let begun = Instant::now();
        site.get_ahead(ours(), &names[0]);
        until(WAIT, "the queue is full", || site.markers("in").len() >= 3);
        assert!(site.somebody_stays());
        for name in &names[1..6] {
            site.get_ahead(original, name);
        }
        // Elsewhere: forward, back, and in turns with ours.
        for (index, engine) in [(16, original), (17, ours()), (18, original), (2, original), (3, ours()), (4, original)]
        {
            site.get_ahead(engine, &names[index]);
        }
        for (index, name) in names.iter().enumerate().skip(8) {
            site.get_ahead(if index % 2 == 0 { original } else { ours() }, name);
        }
        assert!(begun.elapsed() < WAIT, "{}: somebody waited for a lock", original.name());
        until(WAIT, "it went", || !site.somebody_stays());
    }
}

/// Killed with segments on their way, it has promised nothing that anybody waits for.
#[test]
fn ge08_a_killed_background_half_is_not_waited_for() {
    let site = Site::with_queue_of("4MiB");
    let names = site.archive_many(8);
    site.get_ahead(ours(), &names[0]);
    let coming = site.spool("in.ahead").join("coming");
    until(WAIT, "it stays", || site.somebody_stays());
    let process = site.background_process();
    assert!(std::process::Command::new("kill").args(["-KILL", &process]).status().unwrap().success());
    until(WAIT, "it is gone", || !site.somebody_stays());
    // As if it had been killed a moment earlier.
    user::write_file(&coming, format!("{}\n{}\n", names[1], names[7])).unwrap();
    fs::remove_dir_all(site.spool("in")).unwrap();
    user::create_dir(&site.spool("in")).unwrap();
    user::write_file(&site.spool("in").join(format!("{}.pgbackrest.tmp", names[1])), "half").unwrap();
    let begun = Instant::now();
    for name in &names[1..] {
        site.get_ahead(ours(), name);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Files in the spool that nobody of us wrote.
#[test]
fn hi16_sec24_forged_markers_acknowledge_nothing() {
    let site = Site::ready();
    let out = site.spool("out");
    for folder in out.ancestors().take(4).collect::<Vec<_>>().into_iter().rev() {
        user::create_dir(folder).ok();
    }
    let names = site.segments.clone();
    // Too large for any marker, empty where a code must be, a name of two lines, and one of a success.
    user::write_file(&out.join(format!("{}.ok", names[0])), "").unwrap();
    fs::OpenOptions::new().write(true).open(out.join(format!("{}.ok", names[0]))).unwrap().set_len(1 << 30).unwrap();
    user::write_file(&out.join(format!("{}.error", names[1])), "").unwrap();
    user::write_file(&out.join("0000\n0001.ok"), "").unwrap();
    user::write_file(&out.join(format!("{}.ok", names[2])), "").unwrap();
    for name in &names {
        // What is reported is tried again by PostgreSQL.
        let archived = (0..3).any(|_| site.archive(ours(), name).exit_code == Some(0));
        let stored = site.objects().iter().any(|path| path.to_string_lossy().contains(name));
        assert!(archived && stored, "{name}: archived {archived}, stored {stored}");
    }
}

/// A day without the repository, at the pace of a test: neither spool nor log grows with the tries, nothing says that it was
/// done, and no error is left when it is over.
#[test]
fn pu21_a_repository_that_is_away_for_long_leaves_no_markers_behind() {
    let store = user::scratch().unwrap();
    let server = S3Server::start(store.path()).unwrap();
    let bucket = server.create_bucket("bucket").unwrap();
    let mut site = Site::new(1);
    into_s3(&mut site, &server);
    site.mark_ready();
    site.conf.global("io-timeout", "100ms").unwrap();
    site.conf.global("log-level-file", "info").unwrap();
    server.inject(Rule::always(Fault::error(503, "ServiceUnavailable"), |_| true));
    let log = site.folder.path().join("backrest/log/demo-archive-push-async.log");
    let allowed: Vec<String> =
        site.segments.iter().map(String::as_str).chain(["global"]).map(|name| format!("{name}.error")).collect();
    let try_for = |times: usize| {
        for _ in 0..times {
            let outcome = site.push(ours(), site.first(), ASYNC);
            assert!(outcome.exit_code > Some(MISSING), "{}", outcome.text());
            assert!(outcome.text().contains("ServiceUnavailable"), "{}", outcome.text());
            let markers = site.markers("out");
            assert!(markers.iter().all(|marker| allowed.contains(marker)), "{markers:?}");
        }
        fs::metadata(&log).unwrap().len()
    };
    let early_bytes = try_for(2);
    let late_bytes = try_for(8);
    assert!(late_bytes - early_bytes < 8 * 8192, "{} bytes of log", late_bytes - early_bytes);
    server.heal();
    for name in &site.segments {
        assert_code(&site.archive(ours(), name), 0);
    }
    let mut stored = Vec::new();
    files_below(&bucket.join("r/archive/demo/15-1"), &mut stored);
    assert_eq!(stored.len(), site.segments.len());
    // In the order in which PostgreSQL wrote them.
    stored.sort();
    let times: Vec<_> = stored.iter().map(|path| fs::metadata(path).unwrap().modified().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    until(WAIT, "no error is left", || site.markers("out").iter().all(|marker| !marker.ends_with(".error")));
}
