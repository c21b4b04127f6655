//! RS19 and OS11 of the faults: on damaged repositories the backups that `verify` calls restorable are those that can be
//! restored, and the objects that it names are those that are damaged.
//!
//! `VERIFY_DAMAGE_CASES` is the number of repositories (of each sample in turn), `VERIFY_DAMAGE_SEED` where the seeds
//! begin, `VERIFY_DAMAGE_STOCK` of how many cases the original restores one too.

use std::collections::BTreeSet;
use std::env;

use pgbr_repo::command::verify::{FaultKind, Restorable, VerifyReport};
use pgbr_repo::format::{BackupLabel, WalObjectName};
use pgbr_testkit::samples::Sample;
use pgbr_testkit::{stock, user};

use super::damage::{Class, Dice, Done, Kind, Objects};
use super::world::World;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn rs19_os11_verify_agrees_with_restore_on_damaged_repositories() {
    let cases = number("VERIFY_DAMAGE_CASES", 14);
    let seed = number("VERIFY_DAMAGE_SEED", 1);
    let stock_every = number("VERIFY_DAMAGE_STOCK", 0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let samples = Sample::ALL.len() as u64;
    let mut broken_backups = 0;
    let mut damaged_objects = 0;
    for (at, sample) in (0..samples).zip(Sample::ALL) {
        runtime.block_on(async {
            let world = World::of(sample.name()).await;
            let whole = world.verify().await;
            assert!(!whole.is_error(), "{}: {whole:#?}", sample.name());
            let mut objects = Objects::of(&world.sample.repo());
            for case in (0..cases).filter(|case| case % samples == at) {
                let mut dice = Dice::new(seed + case);
                let count = 1 + dice.below(3);
                let done: Vec<Done> = (0..count).flat_map(|_| objects.damage(&mut dice)).collect();
                let what = format!("{} seed {}: {done:#?}", sample.name(), seed + case);
                let report = world.verify().await;
                broken_backups += agrees_with_restore(&world, &report, &what).await;
                damaged_objects += names_what_is_damaged(&world, &objects, &done, &report, &what).await;
                if stock_every > 0 && case % stock_every == 0 {
                    agrees_with_stock(&world, &report, &what);
                }
                objects.mend();
            }
        });
    }
    println!("{cases} repositories, {damaged_objects} damaged objects, {broken_backups} broken backups");
    assert!(broken_backups > 0 && damaged_objects > 0, "nothing was damaged");
}

/// What the report says of a backup of which backup.info told before the damage.
fn restorable(report: &VerifyReport, label: &BackupLabel) -> Restorable {
    let found = report.backups.iter().find(|backup| backup.label == *label);
    match found {
        Some(backup) => backup.restorable,
        // Without info files nothing can be restored.
        None => Restorable::No,
    }
}

async fn agrees_with_restore(world: &World, report: &VerifyReport, what: &str) -> u64 {
    let mut broken = 0;
    for label in world.labels() {
        let restored = world.restore(label).await;
        let mut wal = Vec::new();
        for segment in world.segments(&label) {
            if !world.fetches(&label, segment).await {
                wal.push(segment);
            }
        }
        let expected = if restored.is_ok() && wal.is_empty() { Restorable::Yes } else { Restorable::No };
        broken += u64::from(expected == Restorable::No);
        assert_eq!(
            restorable(report, &label),
            expected,
            "{what}\n{label}: restore {restored:?}, wal not fetched {wal:?}\n{report:#?}"
        );
        if let Some(backup) = report.backups.iter().find(|backup| backup.label == label)
            && backup.files_total > 0
        {
            assert_eq!(backup.wal_missing, wal, "{what}\n{label}");
        }
    }
    broken
}

async fn names_what_is_damaged(
    world: &World,
    objects: &Objects,
    done: &[Done],
    report: &VerifyReport,
    what: &str,
) -> u64 {
    let damaged: BTreeSet<String> = objects.damaged().into_iter().collect();
    let duplicated: BTreeSet<&str> =
        done.iter().filter(|done| done.kind == Kind::Duplicate).map(|done| done.path.as_str()).collect();
    let named: BTreeSet<String> = report.damage.iter().map(|damage| damage.object.to_string()).collect();
    for name in &named {
        // The second object of a segment has not the checksum of its name either.
        let is_added = duplicated
            .iter()
            .any(|path| path.rsplit_once('-').unwrap().0 == name.rsplit_once('-').map_or("", |(segment, _)| segment));
        assert!(damaged.contains(name) || is_added, "{what}\n{name} is not damaged\n{report:#?}");
    }
    for path in &damaged {
        let kinds: Vec<Kind> = done.iter().filter(|done| done.path == *path).map(|done| done.kind).collect();
        if is_named_for_sure(world, report, path, &kinds).await {
            assert!(named.contains(path), "{what}\n{path} is damaged and not named\n{report:#?}");
        }
    }
    for path in duplicated {
        let id = path.split('/').nth(2).unwrap();
        let archive = report.archives.iter().find(|archive| archive.id.to_string() == id);
        // Nothing is listed without info files, and one deletion leaves no duplicate.
        if let Some(archive) = archive.filter(|_| !damaged.contains(path)) {
            assert!(archive.duplicates >= 2, "{what}\n{path}: {report:#?}");
        }
    }
    damaged.len() as u64
}

/// Whether the damage can be seen by anybody.
async fn is_named_for_sure(world: &World, report: &VerifyReport, path: &str, kinds: &[Kind]) -> bool {
    let class = Class::of(path).unwrap();
    if class == Class::Info {
        return true;
    }
    if !report.obstacles.is_empty() {
        return false;
    }
    let is_deleted = !world.sample.repo().join(path).try_exists().unwrap();
    match class {
        Class::Info => true,
        Class::Manifest => true,
        // What is gone is not listed; what has no checksum can be another text.
        Class::ArchiveSmall => false,
        Class::Wal if is_deleted => false,
        Class::Wal => {
            let object = WalObjectName::parse(path.rsplit('/').next().unwrap()).unwrap();
            let id = path.split('/').nth(2).unwrap();
            let generation =
                world.info.history().generations().iter().find(|it| it.archive_id().to_string() == id).unwrap();
            let cluster = pgbr_repo::command::archive::ClusterIdentity {
                version: generation.version,
                system_id: generation.system_id,
            };
            !world.fetches_for(cluster, object.segment).await && !kinds.contains(&Kind::Duplicate)
        }
        Class::Bundle if kinds == [Kind::Append] => false,
        Class::Bundle | Class::Blocks | Class::File => {
            // Nobody knows what belongs to a backup without a manifest.
            let label = path.split('/').nth(2).unwrap();
            let backup = report.backups.iter().find(|backup| backup.label.as_str() == label).unwrap();
            backup.files_total > 0
        }
    }
}

/// The original restores what we say it can, and nothing else. Its archive-get delivers damaged segments, so WAL is left
/// out.
fn agrees_with_stock(world: &World, report: &VerifyReport, what: &str) {
    for label in world.labels() {
        let found = report.backups.iter().find(|backup| backup.label == label);
        let files = found.filter(|backup| {
            backup.restorable == Restorable::Yes
                || backup.reasons.iter().all(|reason| reason.starts_with("WAL segment"))
        });
        world.next_target();
        user::own(&world.sample.repo()).unwrap();
        let [lock, spool, log] = world.sample.local_paths();
        let arguments = [
            "restore",
            &lock,
            &spool,
            &log,
            "--type=immediate",
            "--job-retry=0",
            &format!("--set={label}"),
            &format!("--pg1-path={}", world.data().display()),
            &format!("--tablespace-map-all={}", world.tablespace().display()),
        ];
        let outcome = stock::newest().engine.run(&world.sample.conf(), &arguments).unwrap();
        assert_eq!(outcome.exit_code == Some(0), files.is_some(), "{what}\n{label}: {}\n{report:#?}", outcome.text());
    }
}

#[test]
fn os11_one_damaged_object_of_each_class_is_named_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::of("2.60-pg13-lz4-bundle-block").await;
        let root = world.sample.repo();
        let full = world.labels()[0];
        let wal = report_path(&root, "archive/demo/13-1/0000000100000000", '-');
        for (path, kind) in [
            ("archive/demo/archive.info".to_owned(), FaultKind::Other),
            ("backup/demo/backup.info.copy".to_owned(), FaultKind::Other),
            (format!("backup/demo/{full}/backup.manifest"), FaultKind::Other),
            (format!("backup/demo/{full}/bundle/1"), FaultKind::Checksum),
            (wal, FaultKind::Other),
        ] {
            let file = root.join(&path);
            let content = std::fs::read(&file).unwrap();
            let mut changed = content.clone();
            let middle = changed.len() / 2;
            changed[middle] ^= 4;
            std::fs::write(&file, changed).unwrap();
            let report = world.verify().await;
            let named: Vec<String> = report.damage.iter().map(|damage| damage.object.to_string()).collect();
            assert_eq!(named.as_slice(), std::slice::from_ref(&path), "{report:#?}");
            // A flipped bit in a text or in a compressed stream is often seen before its checksum is.
            let found = report.damage[0].fault.kind;
            assert!(found == kind || kind == FaultKind::Other, "{path}: {found:?}");
            assert!(report.is_error());
            std::fs::write(&file, content).unwrap();
        }
    });
}

/// The first file of a folder whose name has `mark`.
fn report_path(root: &std::path::Path, folder: &str, mark: char) -> String {
    let mut names: Vec<String> = std::fs::read_dir(root.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(mark))
        .collect();
    names.sort();
    format!("{folder}/{}", names[0])
}
