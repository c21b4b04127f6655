//! Ends of a command between any two changes of the repository: the original goes on from there, and so does ours.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::command::control;
use pgbr_repo::command::stanza::{StanzaCluster, create, delete, upgrade};
use pgbr_repo::error::Result;
use pgbr_repo::filter::{Codecs, Passphrase};
use pgbr_repo::format::Stanza;
use pgbr_repo::progress::{Context, Silent};
use pgbr_repo::repository::{Change, RepoIndex, Repository, WritableRepository};
use pgbr_repo::storage::{FaultStorage, LocalStorage, Storage};
use pgbr_repo::transfer::Budget;
use pgbr_testkit::canary;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::running::Running;
use pgbr_testkit::{pgbr, stock, user};

use crate::both::{Both, Clusters, Side};

const PASS: &str = canary::PASSPHRASE;

fn context() -> Context {
    Context {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        budget: Budget::new(1024 * 1024),
        codecs: Codecs::new(1),
        cancel: Default::default(),
        reporter: Arc::new(Silent),
    }
}

fn cluster(data: &Path) -> StanzaCluster {
    let control = control::read(data, None).unwrap();
    StanzaCluster {
        version: control.version(),
        system_id: control.system_id(),
        catalog_version: control.catalog_version(),
    }
}

/// The engine's command of one step, over a storage.
#[derive(Debug, Clone, Copy)]
enum Step {
    Create,
    Upgrade,
    Delete,
    SaveArchiveInfo,
    SaveBackupInfo,
}

impl Step {
    async fn run(self, storage: Arc<dyn Storage>, clusters: &Clusters) -> Result<()> {
        let passphrase = Passphrase::new(PASS.as_bytes()).unwrap();
        let stanza = Stanza::parse("demo").unwrap();
        let repository = Repository::new(RepoIndex::new(1).unwrap(), stanza, storage, Some(passphrase));
        let repository = WritableRepository::new(repository);
        let all = std::slice::from_ref(&repository);
        match self {
            Self::Create => create::create(all, cluster(&clusters.old), &context()).await,
            Self::Upgrade => upgrade::upgrade(all, cluster(&clusters.new), &context()).await,
            Self::Delete => delete::look(&repository).await?.remove(&context()).await,
            Self::SaveArchiveInfo => repository.update_archive_info(&context(), |_| Ok(Change::Write)).await.map(drop),
            Self::SaveBackupInfo => repository.update_backup_info(&context(), |_| Ok(Change::Write)).await.map(drop),
        }
    }

    /// The same by a command line.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Create => &["stanza-create", "--no-online"],
            Self::Upgrade => &["stanza-upgrade", "--no-online"],
            Self::Delete => &["stanza-delete"],
            // Whoever saves next: a backup writes both files.
            Self::SaveArchiveInfo | Self::SaveBackupInfo => &["backup", "--no-online", "--type=full"],
        }
    }
}

/// A repository in which the step ended after so many changes; whether it had more to do.
fn interrupted(side: &mut Side, step: Step, changes: u64, clusters: &Clusters) -> bool {
    let original = &stock::newest().engine;
    if !matches!(step, Step::Create) {
        original.ok(&side.conf, Step::Create.arguments()).unwrap();
    }
    if matches!(step, Step::Delete) {
        original.ok(&side.conf, &["backup", "--no-online", "--type=full"]).unwrap();
        side.write("lock/demo.stop", "");
    }
    if matches!(step, Step::Upgrade) {
        side.conf.local("pg1-path", clusters.new.to_str().unwrap()).unwrap();
    }
    let crashing = Arc::new(FaultStorage::new(Arc::new(LocalStorage::new(side.path("repo"))), 1));
    crashing.crash_after(changes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(step.run(crashing.clone(), clusters));
    assert_eq!(outcome.is_err(), crashing.has_crashed(), "{outcome:?}");
    user::own(&side.path("repo")).unwrap();
    crashing.has_crashed()
}

fn prepared(clusters: &Clusters, name: &str) -> Both {
    let mut both = clusters.both(name);
    both.each(|side| {
        for (option, value) in [
            ("repo1-cipher-type", "aes-256-cbc"),
            ("repo1-cipher-pass", PASS),
            ("compress-type", "none"),
            ("repo1-bundle", "y"),
        ] {
            side.conf.global(option, value).unwrap();
        }
    });
    both
}

#[test]
fn in03_in09_in10_whoever_comes_after_a_crash_goes_on() {
    let clusters = small_clusters();
    for step in [Step::Create, Step::Upgrade, Step::SaveArchiveInfo, Step::SaveBackupInfo, Step::Delete] {
        let mut points = 0;
        // Of a removal the beginning and every 50th object.
        for changes in (0..12).chain((12..5_000).step_by(50)) {
            let mut both = prepared(&clusters, &format!("{step:?}-{changes}"));
            let crashed = interrupted(&mut both.stock, step, changes, &clusters);
            interrupted(&mut both.ours, step, changes, &clusters);
            points += u64::from(crashed);
            let original = both.stock.run(step.arguments());
            // Between archive.info and backup.info of a new stanza the original asks for help, ours does not.
            let half = matches!(step, Step::Create) && (1..3).contains(&changes);
            assert_eq!(original.code, if half { 55 } else { 0 }, "{step:?} after {changes}: {:?}", original.lines);
            let ours = both.ours.run(step.arguments());
            assert_eq!(ours.code, 0, "{step:?} after {changes}: {:?}", ours.lines);
            if matches!(step, Step::Delete) {
                for side in [&both.stock, &both.ours] {
                    assert!(!side.path("repo/archive/demo").is_dir() && !side.path("repo/backup/demo").is_dir());
                }
            } else {
                stock::newest().engine.ok(&both.ours.conf, &["stanza-create", "--no-online"]).unwrap();
                stock::newest().engine.ok(&both.ours.conf, &["info"]).unwrap();
            }
            if !crashed {
                break;
            }
        }
        let least = if matches!(step, Step::SaveArchiveInfo | Step::SaveBackupInfo) { 2 } else { 4 };
        assert!(points >= least, "{step:?} has only {points} points to end at");
    }
}

/// Clusters with few files: what the stanza commands and an offline backup look at.
fn small_clusters() -> Clusters {
    let clusters = Clusters::new();
    for data in [&clusters.old, &clusters.new] {
        for entry in std::fs::read_dir(data.join("base")).unwrap() {
            let database = entry.unwrap().path();
            let mut files: Vec<_> = std::fs::read_dir(&database).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            for file in files.into_iter().skip(8).filter(|file| !file.ends_with("PG_VERSION")) {
                std::fs::remove_file(file).unwrap();
            }
        }
    }
    clusters
}

/// The same sequence of numbers in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// How many steps; more of them with `PGBR_ALTERNATE_STEPS`.
fn steps() -> u64 {
    std::env::var("PGBR_ALTERNATE_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(24)
}

#[test]
fn in13_ours_and_the_original_take_turns_with_kills_in_between() {
    let clusters = small_clusters();
    let mut both = prepared(&clusters, "turns");
    let side = &mut both.ours;
    side.conf.global("repo1-retention-full", "2").unwrap();
    let engines = [pgbr::engine(), stock::newest().engine.clone()];
    stock::newest().engine.ok(&side.conf, &["stanza-create", "--no-online"]).unwrap();
    let mut dice = Dice(0x5eed);
    let mut killed = 0;
    for step in 0..steps() {
        let engine = &engines[usize::try_from(dice.roll(2)).unwrap()];
        let arguments: &[&str] = match dice.roll(8) {
            0..=3 => &["backup", "--no-online", "--type=full"],
            4 => &["stanza-create", "--no-online"],
            5 => {
                let other = side.conf.clone();
                let data = if dice.roll(2) == 0 { &clusters.old } else { &clusters.new };
                side.conf = other;
                side.conf.local("pg1-path", data.to_str().unwrap()).unwrap();
                &["stanza-upgrade", "--no-online"]
            }
            // What only one of them has so far.
            _ if engine.name() != "pgbr" => &["expire"],
            _ => &["stanza-upgrade", "--no-online"],
        };
        if dice.roll(3) == 0 {
            let running = Running::start(&mut engine.command(&side.conf, arguments)).unwrap();
            std::thread::sleep(Duration::from_millis(dice.roll(150)));
            running.kill();
            killed += 1;
        } else {
            run_to_the_end(engine, side, arguments, step);
        }
        agree(&engines, side, step);
    }
    assert!(killed > 0);
    // Whatever was left half done is finished, and every backup can be restored by both.
    run_to_the_end(&engines[0], side, &["stanza-upgrade", "--no-online"], steps());
    run_to_the_end(&engines[1], side, &["backup", "--no-online", "--type=full"], steps());
    restores(&engines, side);
}

/// A command may refuse, but only for reasons that a person can follow up: another cluster before its upgrade.
fn run_to_the_end(engine: &Engine, side: &Side, arguments: &[&str], step: u64) {
    // Children of a killed original hold its lock for a moment.
    for _ in 0..100 {
        let outcome = engine.run(&side.conf, arguments).unwrap();
        match outcome.exit_code {
            Some(50) => std::thread::sleep(Duration::from_millis(100)),
            Some(0 | 28 | 51) => return,
            _ => panic!("step {step}, {} {arguments:?}: {}", engine.name(), outcome.text()),
        }
    }
    panic!("step {step}: the lock is never free");
}

/// Both see the same, and nothing is damaged.
fn agree(engines: &[Engine; 2], side: &Side, step: u64) {
    let unlocked = |engine: &Engine| {
        for _ in 0..100 {
            let info = engine.ok(&side.conf, &["info", "--output=json", "--log-level-console=off"]).unwrap().stdout;
            if !info.contains("\"held\":true") {
                return info;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("step {step}: a lock is held for ever");
    };
    assert_eq!(unlocked(&engines[0]), unlocked(&engines[1]), "step {step}");
    let verified = engines[1].ok(&side.conf, &["verify", "--output=text"]).unwrap().text();
    // Between the two files of an upgrade the original says this, and the next stanza-upgrade ends it.
    let half_upgraded = verified.contains("backup info file and archive info file do not match");
    assert!(half_upgraded || !verified.contains("status: error"), "step {step}: {verified}");
}

fn restores(engines: &[Engine; 2], side: &Side) {
    let info = engines[1].ok(&side.conf, &["info", "--output=json", "--log-level-console=off"]).unwrap().stdout;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let backups = info[0]["backup"].as_array().unwrap();
    assert!(!backups.is_empty());
    for backup in backups {
        let set = format!("--set={}", backup["label"].as_str().unwrap());
        let trees = engines.each_ref().map(|engine| {
            let target = side.path(&format!("restored-{}-{}", engine.name().len(), backup["label"].as_str().unwrap()));
            user::create_dir(&target).unwrap();
            let path = format!("--pg1-path={}", target.display());
            engine.ok(&side.conf, &["restore", "--type=none", &set, &path]).unwrap();
            tree(&target)
        });
        assert!(trees[0] == trees[1], "{set}: the restored trees differ");
        assert!(trees[0].contains_key("global/pg_control"));
    }
}

fn tree(root: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                // The restored settings carry the command line of who restored.
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if name != "postgresql.auto.conf" {
                    files.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    files
}
