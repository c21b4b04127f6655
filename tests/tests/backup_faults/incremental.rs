//! What goes wrong on top of a prior backup.

use std::fs;

use pgbr_repo::command::backup::BackupOptions;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::manifest::{PageChecksums, PageRange};
use pgbr_repo::format::{BackupLabel, BackupType, path};
use pgbr_repo::progress::Level;
use pgbr_repo::storage::StorageExt;

use crate::fake::{Moment, Server, noise, sample};
use crate::stage::{Stage, local, memory, verifies};

/// The forms in which files are stored.
const FORMS: [&str; 3] = ["whole", "bundled", "blocks"];

fn options(stage: &Stage, form: &str, backup_type: BackupType) -> BackupOptions {
    match form {
        "blocks" => stage.blocks(backup_type),
        _ => BackupOptions { backup_type, ..stage.options(form == "bundled") },
    }
}

async fn full(stage: &Stage, form: &str) -> BackupLabel {
    for number in [100, 101, 102, 104] {
        let content = fs::read(stage.data.file(&format!("base/1/{number}"))).unwrap();
        stage.data.write_aged(&format!("base/1/{number}"), &content, 1000);
    }
    stage.backup(&Server::new(&stage.data), &options(stage, form, BackupType::Full)).await.unwrap().label
}

/// Files that changed since the prior backup change again while they are copied: they vanish, shrink, become empty and
/// grow.
#[tokio::test(flavor = "multi_thread")]
async fn bk01_bk02_bk03_files_that_change_under_an_incremental_backup() {
    for form in FORMS {
        for left in [0_usize, 4_000, 8192, 20_000] {
            let (dir, stage) = local().await;
            full(&stage, form).await;
            for (number, pages) in [(100, 1), (101, 3), (102, 100), (104, 9)] {
                stage.data.write_aged(&format!("base/1/{number}"), &noise(number + 7, pages * 8192), 500);
            }
            let mut expected = stage.data.files();
            let server = Server::new(&stage.data).at(|moment| {
                if moment == Moment::Scanned {
                    fs::remove_file(stage.data.file("base/1/100")).unwrap();
                    for number in [101, 102] {
                        let file = fs::File::options().write(true).open(stage.data.file(&format!("base/1/{number}")));
                        file.unwrap().set_len(left as u64).unwrap();
                    }
                    stage.data.write("base/1/104", &noise(111, 12 * 8192));
                }
            });
            let label = stage.backup(&server, &options(&stage, form, BackupType::Incremental)).await.unwrap().label;
            expected.remove("pg_data/base/1/100");
            for number in [101, 102] {
                expected.get_mut(&format!("pg_data/base/1/{number}")).unwrap().resize(left, 0);
            }
            expected.insert("pg_data/base/1/104".into(), noise(111, 9 * 8192));
            let mut found = stage.content(&label).await;
            assert!(found.remove("pg_data/backup_label").is_some());
            assert_eq!(found, expected, "{form}, {left} bytes left");
            verifies(dir.path());

            // The next one has to cope with what is recorded of them.
            for number in [101, 102, 104] {
                stage.data.write_aged(&format!("base/1/{number}"), &noise(number + 9, 5 * 8192), 100);
            }
            let next = options(&stage, form, BackupType::Incremental);
            let label = stage.backup(&Server::new(&stage.data), &next).await.unwrap().label;
            let mut found = stage.content(&label).await;
            found.remove("pg_data/backup_label");
            assert_eq!(found, stage.data.files(), "{form}, {left} bytes left");
            verifies(dir.path());
        }
    }
}

/// A file that is written back as it was, after the listing, is found in the prior backup, however it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn bk03_a_file_that_is_what_it_was_stays_a_reference() {
    for form in FORMS {
        let stage = Stage::new(memory()).await;
        let first = full(&stage, form).await;
        for number in [101, 102] {
            let content = fs::read(stage.data.file(&format!("base/1/{number}"))).unwrap();
            stage.data.write_aged(&format!("base/1/{number}"), &content, 10);
        }
        let next = options(&stage, form, BackupType::Incremental);
        let label = stage.backup(&Server::new(&stage.data), &next).await.unwrap().label;
        let manifest = stage.manifest(&label).await;
        for name in ["pg_data/base/1/101", "pg_data/base/1/102", "pg_data/global/pg_control"] {
            assert_eq!(manifest.stored_in(manifest.file(name.as_bytes()).unwrap()), first, "{form}: {name}");
        }
        let objects = stage.objects().await;
        let own: Vec<_> =
            objects.iter().filter(|name| name.starts_with(label.as_str()) && !name.ends_with('/')).collect();
        assert!(!own.iter().any(|name| name.contains("base/1/") || name.contains("bundle/")), "{form}: {own:?}");
        stage.content(&label).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk07_page_errors_stay_with_the_files_that_are_referenced() {
    let stage = Stage::new(memory()).await;
    let valid = sample("pg15-relation.pages");
    let mut damaged = valid.clone();
    damaged[4000] ^= 1;
    stage.data.write_aged("base/1/200", &damaged, 1000);
    stage.data.write_aged("base/1/201", &damaged, 1000);
    let checked = |backup_type| {
        let mut options = options(&stage, "blocks", backup_type);
        options.pages.check = Some(true);
        options
    };
    stage.backup(&Server::new(&stage.data), &checked(BackupType::Full)).await.unwrap();
    // Repaired: its errors are gone. What stays as it was keeps its own.
    stage.data.write_aged("base/1/201", &valid, 10);
    let outcome = stage.backup(&Server::new(&stage.data), &checked(BackupType::Incremental)).await.unwrap();
    assert!(outcome.has_page_errors);
    let manifest = stage.manifest(&outcome.label).await;
    let of = |name: &str| manifest.file(name.as_bytes()).unwrap().page_checksums.clone();
    assert_eq!(of("pg_data/base/1/200"), PageChecksums::Errors(Box::new([PageRange { first: 0, last: 0 }])));
    assert_eq!(of("pg_data/base/1/201"), PageChecksums::Valid);
}

/// The prior backup is removed while the new one runs: from the repository, and from backup.info as well.
#[tokio::test(flavor = "multi_thread")]
async fn bk16_a_backup_whose_prior_was_removed_is_not_listed() {
    for unlisted in [false, true] {
        let stage = Stage::new(memory()).await;
        let first = full(&stage, "bundled").await;
        stage.data.write("base/1/101", &noise(5, 8192));
        let runtime = tokio::runtime::Handle::current();
        let removed = async || {
            if unlisted {
                let mut info = stage.repository.backup_info(&stage.context).await.unwrap();
                info.remove(&first).unwrap();
                stage.repository.save_backup_info(&info, &stage.context).await.unwrap();
            } else {
                stage.storage().remove(&path::manifest(stage.repository.stanza(), &first)).await.unwrap();
            }
        };
        let server = Server::new(&stage.data).at(|moment| {
            if moment == Moment::Copied {
                tokio::task::block_in_place(|| runtime.block_on(removed()));
            }
        });
        let next = options(&stage, "bundled", BackupType::Incremental);
        let error = stage.backup(&server, &next).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BackupSetInvalid, "{error}");
        assert!(error.message().contains(first.as_str()), "{error}");
        let still: Vec<BackupLabel> = if unlisted { vec![] } else { vec![first] };
        assert_eq!(stage.listed().await, still);
    }
}

/// A prior map that is cut off, not there, or other bytes: all blocks are stored anew, and a warning names the place.
#[tokio::test(flavor = "multi_thread")]
async fn bk18_without_its_prior_map_a_file_is_stored_anew() {
    for damage in ["missing", "short", "other bytes", "another size"] {
        let stage = Stage::new(memory()).await;
        // Larger than a bundle takes, so that nothing else is in its object.
        stage.data.write_aged("base/1/300", &noise(1, 50 * 8192), 1000);
        let first = full(&stage, "blocks").await;
        let manifest = stage.manifest(&first).await;
        let file = manifest.file(b"pg_data/base/1/300").unwrap();
        let place = stage.repository.block_map_place(&manifest, file).unwrap();
        let object = stage.storage().read_all(&place.object, 1 << 20).await.unwrap();
        let start = usize::try_from(place.offset).unwrap();
        match damage {
            "missing" => stage.storage().remove(&place.object).await.unwrap(),
            "short" => {
                let short = object.slice(..object.len() - 3);
                stage.storage().write_all(&place.object, short).await.unwrap();
            }
            "other bytes" => {
                let mut other = object.to_vec();
                other[start..].fill(0xff);
                stage.storage().write_all(&place.object, other.into()).await.unwrap();
            }
            _ => {
                // Whole, but of a file with fewer blocks.
                let other = [&object[..start], &[0, 1, 0x83, 0x80, 0x04], &object[start + 5..]].concat();
                stage.storage().write_all(&place.object, other.into()).await.unwrap();
            }
        }
        stage.data.write_aged("base/1/300", &noise(2, 51 * 8192), 10);
        let next = options(&stage, "blocks", BackupType::Incremental);
        let label = stage.backup(&Server::new(&stage.data), &next).await.unwrap().label;
        let warned = stage.log.lines(Level::Warn);
        let names_it = |line: &&String| line.contains(place.object.as_str()) && line.contains("base/1/300");
        assert_eq!(warned.iter().filter(names_it).count(), 1, "{damage}: {warned:?}");
        let mut found = stage.content(&label).await;
        found.remove("pg_data/backup_label");
        assert_eq!(found, stage.data.files(), "{damage}");
    }
}

/// A store that does not answer is not one that lacks the map.
#[tokio::test(flavor = "multi_thread")]
async fn bk18_a_prior_map_that_cannot_be_asked_for_ends_the_backup() {
    use pgbr_repo::storage::fault::{Call, Fault, KeyPattern, Phase, Rule, When};
    use pgbr_repo::storage::{ErrorClass, FaultStorage, Storage};
    let store = std::sync::Arc::new(FaultStorage::new(memory(), 1));
    let stage = Stage::new(std::sync::Arc::clone(&store) as std::sync::Arc<dyn Storage>).await;
    let first = full(&stage, "blocks").await;
    stage.data.write_aged("base/1/102", &noise(3, 100 * 8192), 10);
    for class in [ErrorClass::Transient, ErrorClass::Denied, ErrorClass::Throttled] {
        let fault = Fault::Fail(class, Phase::Before);
        store.add_rule(Rule::new(Call::Read, When::Always, fault).on(KeyPattern::Contains(".pgbi".to_owned())));
        let next = options(&stage, "blocks", BackupType::Incremental);
        stage.backup(&Server::new(&stage.data), &next).await.unwrap_err();
        assert_eq!(stage.listed().await, [first]);
        store.heal();
    }
}

/// The original left a map without blocks when a file was cut to nothing while it was copied (pgbackrest#2829). Ours
/// stores none, and goes on from such a file.
#[tokio::test(flavor = "multi_thread")]
async fn bk19_a_file_that_was_cut_to_nothing_has_no_map_and_comes_back() {
    let (dir, stage) = local().await;
    full(&stage, "blocks").await;
    stage.data.write_aged("base/1/102", &noise(3, 90 * 8192), 500);
    let server = Server::new(&stage.data).at(|moment| {
        if moment == Moment::Scanned {
            fs::File::options().write(true).open(stage.data.file("base/1/102")).unwrap().set_len(0).unwrap();
        }
    });
    let next = options(&stage, "blocks", BackupType::Incremental);
    let label = stage.backup(&server, &next).await.unwrap().label;
    let manifest = stage.manifest(&label).await;
    let file = manifest.file(b"pg_data/base/1/102").unwrap();
    assert_eq!((file.size_bytes, file.size_repo_bytes, file.is_block_incremental()), (0, 0, false));
    for (size, age_s) in [(80 * 8192, 100), (80 * 8192 + 1, 50), (8191, 40), (81 * 8192, 30)] {
        stage.data.write_aged("base/1/102", &noise(4, size), age_s);
        let label = stage.backup(&Server::new(&stage.data), &next).await.unwrap().label;
        let mut found = stage.content(&label).await;
        found.remove("pg_data/backup_label");
        assert_eq!(found, stage.data.files(), "{size}");
    }
    verifies(dir.path());
}
