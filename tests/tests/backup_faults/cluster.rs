//! The files change while they are copied, or cannot be copied.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use pgbr_repo::command::backup::{BackupOptions, PageOptions};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::manifest::{PageChecksums, PageRange};
use pgbr_repo::postgres::page::PageHeaderCheck;
use pgbr_repo::progress::Level;
use pgbr_repo::storage::Storage;

use crate::fake::{Moment, Server, noise, sample};
use crate::stage::{Stage, local, memory, verifies};

/// Runs `change` between listing and copying, and gives the content before it and that of the backup.
macro_rules! changed_after_scan {
    ($stage:expr, $bundled:expr, $change:expr) => {{
        let before = $stage.data.files();
        let server = Server::new(&$stage.data).at(|moment| {
            if moment == Moment::Scanned {
                $change;
            }
        });
        let outcome = $stage.backup(&server, &$stage.options($bundled)).await.unwrap();
        let mut after = $stage.content(&outcome.label).await;
        assert!(after.remove("pg_data/backup_label").is_some());
        (before, after, outcome)
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn bk01_a_file_that_vanishes_is_left_out_and_its_neighbours_are_whole() {
    for bundled in [false, true] {
        let (dir, stage) = local().await;
        let change = || {
            for number in [100, 102, 104] {
                fs::remove_file(stage.data.file(&format!("base/1/{number}"))).unwrap();
            }
        };
        let (mut before, after, _) = changed_after_scan!(stage, bundled, change());
        for number in [100, 102, 104] {
            before.remove(&format!("pg_data/base/1/{number}"));
        }
        assert_eq!(after, before);
        assert!(!stage.objects().await.iter().any(|name| name.ends_with("base/1/102")));
        assert!(stage.log.lines(Level::Detail).iter().any(|line| line.starts_with("skip file removed by database ")));
        verifies(dir.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk02_a_file_that_grows_is_stored_as_it_was_listed() {
    for bundled in [false, true] {
        let (dir, stage) = local().await;
        let append = |name: &str| {
            let mut file = fs::File::options().append(true).open(stage.data.file(name)).unwrap();
            file.write_all(&noise(9, 50_000)).unwrap();
        };
        let change = || ["base/1/101", "base/1/102", "postgresql.conf"].map(append);
        let (mut before, after, _) = changed_after_scan!(stage, bundled, change());
        // What WAL does not repair is read to its end.
        before.insert("pg_data/postgresql.conf".into(), fs::read(stage.data.file("postgresql.conf")).unwrap());
        assert_eq!(after, before);
        verifies(dir.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk03_a_file_that_shrinks_has_its_true_size() {
    for bundled in [false, true] {
        for left in [0_usize, 4_000, 8192] {
            let (dir, stage) = local().await;
            let cut = |number: u32| {
                let file = fs::File::options().write(true).open(stage.data.file(&format!("base/1/{number}"))).unwrap();
                file.set_len(left as u64).unwrap();
            };
            let change = || [101, 102, 104].map(cut);
            let (mut before, after, outcome) = changed_after_scan!(stage, bundled, change());
            for number in [101, 102, 104] {
                before.get_mut(&format!("pg_data/base/1/{number}")).unwrap().truncate(left);
            }
            assert_eq!(after, before, "{left} bytes left, bundled: {bundled}");
            let manifest = stage.manifest(&outcome.label).await;
            let file = manifest.file(b"pg_data/base/1/102").unwrap();
            assert_eq!((file.size_bytes, file.size_original_bytes), (left as u64, 100 * 8192));
            verifies(dir.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk04_sec18_what_is_no_file_any_more_ends_the_backup_and_nothing_outside_is_read() {
    let canary = b"the secret of somebody else";
    for kind in ["link", "directory", "fifo", "parent"] {
        let storage = memory();
        let stage = Stage::new(Arc::clone(&storage) as Arc<dyn Storage>).await;
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("101"), canary).unwrap();
        let server = Server::new(&stage.data).at(|moment| {
            if moment != Moment::Scanned {
                return;
            }
            let path = stage.data.file("base/1/101");
            match kind {
                "parent" => {
                    fs::remove_dir_all(stage.data.file("base/1")).unwrap();
                    symlink(outside.path(), stage.data.file("base/1")).unwrap();
                    return;
                }
                _ => fs::remove_file(&path).unwrap(),
            }
            match kind {
                "link" => symlink(outside.path().join("101"), &path).unwrap(),
                "directory" => fs::create_dir(&path).unwrap(),
                _ => assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()),
            }
        });
        let error = stage.backup(&server, &stage.options(true)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileOpen, "{kind}: {error}");
        assert!(error.message().contains("base/1"), "{error}");
        assert_eq!(stage.listed().await, []);
        let holds = |bytes: &[u8]| bytes.windows(canary.len()).any(|window| window == canary);
        assert!(!storage.objects().values().any(|body| holds(body)), "{kind}: the secret was stored");
    }
}

fn pages(stage: &Stage, end_at_error: bool) -> BackupOptions {
    let pages = PageOptions { check: Some(true), header_check: PageHeaderCheck::Upper, end_at_error };
    BackupOptions { pages, ..stage.options(true) }
}

/// A stage whose relations are real, but for the flipped bits.
async fn with_damaged_pages(pages: &[usize]) -> Stage {
    let stage = Stage::new(memory()).await;
    let mut relation = sample("pg15-relation.pages");
    for number in [100, 101, 102, 104] {
        stage.data.write(&format!("base/1/{number}"), &relation);
    }
    for page in pages {
        relation[page * 8192 + 4000] ^= 1;
    }
    stage.data.write("base/1/101", &relation);
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn bk07_invalid_pages_are_recorded_or_end_the_backup() {
    let stage = with_damaged_pages(&[0]).await;
    let error = stage.backup(&Server::new(&stage.data), &pages(&stage, true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checksum, "{error}");
    assert_eq!(stage.listed().await, []);

    let outcome = stage.backup(&Server::new(&stage.data), &pages(&stage, false)).await.unwrap();
    assert!(outcome.has_page_errors);
    let manifest = stage.manifest(&outcome.label).await;
    let checked = |name: &str| manifest.file(name.as_bytes()).unwrap().page_checksums.clone();
    assert_eq!(checked("pg_data/base/1/101"), PageChecksums::Errors(Box::new([PageRange { first: 0, last: 0 }])));
    assert_eq!(checked("pg_data/base/1/100"), PageChecksums::Valid);
    assert_eq!(checked("pg_data/base/1/103"), PageChecksums::Valid);
    assert_eq!(checked("pg_data/base/1/PG_VERSION"), PageChecksums::NotChecked);
    let info = stage.repository.backup_info(&stage.context).await.unwrap();
    assert_eq!(info.backup(&outcome.label).unwrap().error, Some(true));
    let path = stage.data.file("base/1/101");
    let warning = format!("invalid page checksum found in file {} at page 0", path.display());
    let warnings = stage.log.lines(Level::Warn);
    assert!(warnings.contains(&warning), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bk07_sound_pages_are_no_error() {
    let stage = with_damaged_pages(&[]).await;
    let outcome = stage.backup(&Server::new(&stage.data), &pages(&stage, true)).await.unwrap();
    assert!(!outcome.has_page_errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn bk22_odd_names_are_stored_or_refused_by_name() {
    let (dir, stage) = local().await;
    let long = "x".repeat(255);
    for name in ["a=b", "[s]", "#c", "b\\s", "q\"t", " lead", "tab\there", "=", &long] {
        stage.data.write(&format!("base/1/{name}"), name.as_bytes());
    }
    let outcome = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap();
    let content = stage.content(&outcome.label).await;
    assert_eq!(content["pg_data/base/1/a=b"], b"a=b");
    assert_eq!(content.len(), stage.data.files().len() + 1);
    verifies(dir.path());

    let raw = stage.data.file("base/1").join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    fs::write(&raw, "raw").unwrap();
    let outcome = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap();
    assert!(stage.manifest(&outcome.label).await.file(b"pg_data/base/1/\xff\xfe").is_some());
    let error = stage.backup(&Server::new(&stage.data), &stage.options(false)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format, "{error}");
    assert!(error.message().contains("pg_data/base/1/"), "{error}");

    fs::remove_file(&raw).unwrap();
    stage.data.write("base/1/new\nline", b"");
    let error = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format, "{error}");
    assert!(error.message().contains("new\\nline"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bk23_a_link_into_the_data_directory_is_refused() {
    let stage = Stage::new(memory()).await;
    symlink("base", stage.data.file("loop")).unwrap();
    let error = stage.backup(&Server::new(&stage.data), &stage.options(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LinkDestination, "{error}");
    assert_eq!(stage.listed().await, []);
}

/// As the server writes the file: in place, never cut off.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bk27_a_torn_control_file_is_read_again_and_copied_last() {
    for bundled in [false, true] {
        let stage = Stage::new(memory()).await;
        let whole = sample("pg15-16mib.pg_control");
        let mut torn = whole.clone();
        torn[100] ^= 1;
        let server = Server::new(&stage.data).at(|moment| {
            if moment != Moment::Scanned {
                return;
            }
            overwrite(&stage.data.file("global/pg_control"), &torn);
            let (path, whole) = (stage.data.file("global/pg_control"), whole.clone());
            let mut other = torn.clone();
            std::thread::spawn(move || {
                // Wrong in another way each time, as bytes in flight are.
                for flip in 0..20 {
                    other[200] = flip;
                    overwrite(&path, &other);
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                overwrite(&path, &whole);
            });
        });
        let outcome = stage.backup(&server, &stage.options(bundled)).await.unwrap();
        let stored = &stage.content(&outcome.label).await["pg_data/global/pg_control"];
        assert_eq!(stored.len(), 8192);
        assert_eq!(stored[..512], whole[..512]);
        let copied = stage.log.lines(Level::Detail);
        let last = copied.iter().rfind(|line| line.starts_with("backup file ")).unwrap();
        assert!(last.contains("global/pg_control"), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk24_a_control_file_that_stays_wrong_ends_the_backup() {
    let stage = Stage::new(memory()).await;
    let server = Server::new(&stage.data).at(|moment| {
        if moment == Moment::Scanned {
            stage.data.write("global/pg_control", &[7; 8192]);
        }
    });
    let error = stage.backup(&server, &stage.options(true)).await.unwrap_err();
    assert!(error.message().contains("pg_control"), "{error}");
    assert_eq!(stage.listed().await, []);
}
