//! Single facts about damaged repositories.

use std::fs;
use std::sync::{Arc, Mutex};

use pgbr_repo::command::verify::{BackupStatus, FaultKind, Restorable, VerifyReport, render_json, render_text, verify};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::repository::Repository;
use pgbr_repo::storage::fault::{Call, Fault, KeyPattern, Phase, Rule, When};
use pgbr_repo::storage::{ErrorClass, FaultStorage};
use pgbr_testkit::pgbr;

use super::world::{World, options};

const BUNDLES: &str = "2.60-pg18-zst-aes-bundle-block";

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn with_rules(world: &World, rules: Vec<Rule>) -> (Repository, Arc<FaultStorage>) {
    let faults = Mutex::new(None);
    let repository = world.through(|inner| {
        let storage = Arc::new(FaultStorage::new(inner, 1));
        storage.set_rules(rules);
        *faults.lock().unwrap() = Some(Arc::clone(&storage));
        storage
    });
    (repository, faults.into_inner().unwrap().unwrap())
}

fn failing(path: &str, class: ErrorClass) -> Rule {
    Rule {
        call: Some(Call::Read),
        key: KeyPattern::Contains(path.to_owned()),
        when: When::Always,
        fault: Fault::Fail(class, Phase::Before),
    }
}

#[test]
fn what_cannot_be_read_is_neither_missing_nor_whole() {
    block_on(async {
        let world = World::of(BUNDLES).await;
        for class in [ErrorClass::Denied, ErrorClass::Transient] {
            let (repository, _) = with_rules(&world, vec![failing("F/bundle/", class)]);
            let report = verify(&repository, &options(None), &world.context).await.unwrap();
            assert!(report.is_error());
            assert!(report.damage.iter().all(|damage| damage.fault.kind == FaultKind::Unreadable), "{report:#?}");
            assert!(report.unreadable().count() > 0);
            for backup in &report.backups {
                assert_eq!(backup.restorable, Restorable::Unknown, "{backup:#?}");
                assert_eq!(backup.faults.missing, 0);
            }
            assert!(render_json(&report).contains("\"restorable\":null"));
        }
        // A store that is gone is given up, not asked for every object.
        let (repository, faults) = with_rules(&world, vec![failing("archive/demo/18-1/0", ErrorClass::Transient)]);
        let outcome = verify(&repository, &options(None), &world.context).await;
        assert!(faults.requests_of(Call::Read) < 100, "{:?}", faults.requests());
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Command);
        }
    });
}

#[test]
fn no_object_is_read_twice() {
    block_on(async {
        for name in [BUNDLES, "2.60-pg15to18-zst-bundle-upgrade", "2.45-pg15-none"] {
            let world = World::of(name).await;
            let (repository, faults) = with_rules(&world, Vec::new());
            let report = verify(&repository, &options(None), &world.context).await.unwrap();
            assert!(!report.is_error());
            let objects = super::damage::Objects::of(&world.sample.repo()).count();
            let reads = faults.requests_of(Call::Read);
            // One more for the map of each file with an object of its own that is stored as blocks.
            assert!(reads <= objects.all + objects.blocks, "{name}: {reads} reads of {objects:?}");
        }
    });
}

#[test]
fn wal_that_a_backup_needs_is_an_error_and_other_gaps_are_not() {
    block_on(async {
        let world = World::of(BUNDLES).await;
        let labels = world.labels();
        let needed = world.segments(&labels[1])[0];
        let folder = world.sample.repo().join("archive/demo/18-1").join(needed.first16());
        let gone = |segment: String| {
            let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            let file = entries
                .into_iter()
                .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{segment}-")));
            let file = file.unwrap();
            let content = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            (file, content)
        };
        let (file, content) = gone(needed.to_string());
        let report = world.verify().await;
        let broken: Vec<_> = report.backups.iter().filter(|backup| backup.restorable == Restorable::No).collect();
        assert_eq!(broken.len(), 1, "{report:#?}");
        assert_eq!(broken[0].wal_missing, [needed]);
        assert!(report.damage.is_empty() && report.is_error());
        let text = render_text(&report, false).unwrap();
        assert!(text.contains(&format!("cannot be restored: WAL segment {needed} is missing or damaged")), "{text}");
        fs::write(file, content).unwrap();
        let last = world.sample.repo().join("archive/demo/18-1").join(needed.first16());
        let needed: Vec<String> =
            labels.iter().flat_map(|label| world.segments(label)).map(|it| it.to_string()).collect();
        let mut others: Vec<String> =
            fs::read_dir(last).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        others.retain(|name| name.contains('-') && !needed.iter().any(|needed| name.starts_with(needed.as_str())));
        others.sort();
        drop(gone(others.last().unwrap()[..24].to_owned()));
        let report = world.verify().await;
        assert!(!report.is_error(), "{report:#?}");
    });
}

#[test]
fn a_listed_backup_without_a_manifest_is_an_error_and_a_leftover_is_none() {
    block_on(async {
        let world = World::of("2.60-pg15to18-zst-bundle-upgrade").await;
        let label = world.labels()[2];
        let folder = world.sample.repo().join("backup/demo").join(label.as_str());
        for name in ["backup.manifest", "backup.manifest.copy"] {
            fs::remove_file(folder.join(name)).unwrap();
        }
        let report = world.verify().await;
        assert_eq!(status(&report, label.as_str()), (BackupStatus::ManifestMissing, Restorable::No));
        assert!(report.is_error());
        // The newest that is not listed may be one that runs; an older one was left behind.
        let leftover = world.sample.repo().join("backup/demo/20260101-000000F");
        fs::rename(&folder, &leftover).unwrap();
        fs::create_dir(world.sample.repo().join("backup/demo/20991231-000000F")).unwrap();
        let report = world.verify().await;
        assert_eq!(status(&report, "20260101-000000F").0, BackupStatus::ManifestMissing);
        assert_eq!(status(&report, "20991231-000000F").0, BackupStatus::InProgress);
        let text = render_text(&report, true).unwrap();
        assert!(text.contains("backup: 20991231-000000F, status: in-progress, total files checked: 0"), "{text}");
    });
}

fn status(report: &VerifyReport, label: &str) -> (BackupStatus, Restorable) {
    let backup = report.backups.iter().find(|backup| backup.label.as_str() == label).unwrap();
    (backup.status, backup.restorable)
}

/// Nothing but the checksum of its name tells that a segment which is stored as it is has another content.
#[test]
fn os11_wal_that_is_not_compressed_is_compared_with_its_name() {
    block_on(async {
        let world = World::of("2.45-pg15-none").await;
        let label = world.labels()[0];
        let needed = world.segments(&label)[0];
        let folder = format!("archive/demo/15-1/{}", needed.first16());
        let names = fs::read_dir(world.sample.repo().join(&folder)).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let name = names.find(|name| name.starts_with(&format!("{needed}-"))).unwrap();
        let path = world.sample.repo().join(&folder).join(&name);
        let mut content = fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(&path, content).unwrap();
        let report = world.verify().await;
        let damage: Vec<_> =
            report.damage.iter().map(|damage| (damage.object.to_string(), damage.fault.kind)).collect();
        assert_eq!(damage, [(format!("{folder}/{name}"), FaultKind::Checksum)], "{report:#?}");
        assert_eq!(status(&report, label.as_str()).1, Restorable::No, "{report:#?}");
    });
}

#[test]
fn damage_that_does_not_reach_the_content_is_told_as_such() {
    block_on(async {
        let world = World::of("2.60-pg15-gz-tablespace").await;
        let label = world.labels()[0];
        let file = world.sample.repo().join(format!("backup/demo/{label}/pg_data/PG_VERSION.gz"));
        let mut content = fs::read(&file).unwrap();
        // The time in the header of gzip.
        content[5] ^= 1;
        fs::write(&file, content).unwrap();
        let report = world.verify().await;
        assert_eq!(status(&report, label.as_str()), (BackupStatus::Invalid, Restorable::Yes), "{report:#?}");
        world.restore(label).await.unwrap();
        let text = render_text(&report, false).unwrap();
        assert!(text.contains("    checksum invalid: 1\n    can be restored"), "{text}");
    });
}

#[test]
fn the_command_prints_json_and_ends_well_on_damage() {
    let world = block_on(World::of("2.60-pg13-lz4-bundle-block"));
    let label = world.labels()[0];
    fs::remove_file(world.sample.repo().join(format!("backup/demo/{label}/bundle/1"))).unwrap();
    let arguments = ["verify", "--output=json", "--log-level-console=off", "--log-level-file=off"];
    let outcome = pgbr::engine().run(&world.sample.conf(), &arguments).unwrap().success().unwrap();
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["status"], "error");
    assert_eq!(report["damage"][0]["object"], format!("backup/demo/{label}/bundle/1"));
    assert_eq!(report["damage"][0]["kind"], "missing");
    assert_eq!(report["backup"][0]["restorable"], false);
}

/// Objects that are valid, but not in this place.
#[test]
fn cr04_swapped_and_renamed_objects_are_found() {
    block_on(async {
        let world = World::of(BUNDLES).await;
        let labels = world.labels();
        let backups = world.sample.repo().join("backup/demo");
        // A backup under the name of another one.
        let (full, last) = (backups.join(labels[0].as_str()), backups.join(labels[2].as_str()));
        let aside = backups.join("aside");
        for (from, to) in [(&full, &aside), (&last, &full), (&aside, &last)] {
            fs::rename(from, to).unwrap();
        }
        let report = world.verify().await;
        for label in &labels {
            assert_eq!(status(&report, label.as_str()).1, Restorable::No, "{report:#?}");
            assert!(world.restore(*label).await.is_err(), "{label}");
        }
        for (from, to) in [(&full, &aside), (&last, &full), (&aside, &last)] {
            fs::rename(from, to).unwrap();
        }
        // A copy that is another backup's is damage of its own, and no way out where the manifest is damaged.
        let [manifest, copy] = ["backup.manifest", "backup.manifest.copy"].map(|name| last.join(name));
        let whole = [&manifest, &copy].map(|path| fs::read(path).unwrap());
        fs::copy(full.join("backup.manifest"), &copy).unwrap();
        fs::write(&manifest, b"").unwrap();
        let report = world.verify().await;
        let named: Vec<&str> = report.damage.iter().map(|damage| damage.object.as_str()).collect();
        let places =
            ["backup.manifest", "backup.manifest.copy"].map(|name| format!("backup/demo/{}/{name}", labels[2]));
        assert_eq!(named, places, "{report:#?}");
        assert_eq!(status(&report, labels[2].as_str()).1, Restorable::No, "{report:#?}");
        assert!(world.restore(labels[2]).await.is_err());
        for (path, content) in [&manifest, &copy].into_iter().zip(whole) {
            fs::write(path, content).unwrap();
        }
        // Info files of another cluster, whole and encrypted with the same passphrase.
        let other = World::of("2.45-pg15-zst-aes-bundle").await;
        for name in ["archive.info", "archive.info.copy"] {
            let foreign = other.sample.repo().join("archive/demo").join(name);
            fs::copy(foreign, world.sample.repo().join("archive/demo").join(name)).unwrap();
        }
        let report = world.verify().await;
        assert!(
            report.is_error() && report.obstacles[0].starts_with("backup info file and archive info file do not match"),
            "{report:#?}"
        );
    });
}

/// A map that is not as it was stored may ask for blocks of earlier backups that are whole, and not those that it wants.
#[test]
fn rs19_a_damaged_map_is_judged_as_restore_judges_it() {
    block_on(async {
        let world = World::of("2.60-pg13-lz4-bundle-block").await;
        let labels = world.labels();
        let last = *labels.last().unwrap();
        let manifest = world.repository.manifest(&last, None, &world.context).await.unwrap();
        // The longest map that this backup stores has the most blocks of earlier ones.
        let rows = manifest.files().iter().filter(|row| row.reference.is_none());
        let row = rows.max_by_key(|row| row.block_incr.map_or(0, |block| block.map_size_bytes)).unwrap();
        let (bundle, map_bytes) = (row.bundle.unwrap(), row.block_incr.unwrap().map_size_bytes);
        let object = format!("backup/demo/{last}/bundle/{}", bundle.id.number());
        let path = world.sample.repo().join(&object);
        let whole = fs::read(&path).unwrap();
        let map_end = bundle.offset_bytes + row.size_repo_bytes;
        let mut unlike = 0;
        for place in (map_end - map_bytes..map_end).step_by(usize::try_from(map_bytes / 12 + 1).unwrap()) {
            let mut damaged = whole.clone();
            damaged[usize::try_from(place).unwrap()] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            let report = world.verify().await;
            let restored = world.restore(last).await;
            let expected = if restored.is_ok() { Restorable::Yes } else { Restorable::No };
            assert_eq!(status(&report, last.as_str()).1, expected, "byte {place}: {restored:?}\n{report:#?}");
            let named: Vec<&str> = report.damage.iter().map(|damage| damage.object.as_str()).collect();
            assert_eq!(named, [&object], "byte {place}: {report:#?}");
            unlike += u32::from(report.damage[0].fault.detail == "other bytes are stored" && restored.is_err());
        }
        assert!(unlike > 0, "no damage was in what the map wants of earlier backups");
    });
}

/// A crash between the two writes of an info file: the main file counts, and nothing is damaged.
#[test]
fn in03_an_older_copy_is_no_damage() {
    block_on(async {
        let world = World::of("2.60-pg15to18-zst-bundle-upgrade").await;
        let copy = world.sample.repo().join("backup/demo/backup.info.copy");
        let mut older = world.info.clone();
        older.remove(&world.labels()[2]).unwrap();
        fs::write(copy, older.write()).unwrap();
        let report = world.verify().await;
        assert!(!report.is_error(), "{report:#?}");
        assert_eq!(report.backups.len(), 3);
        assert!(report.backups.iter().all(|backup| backup.is_listed));
    });
}
