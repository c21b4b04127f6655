//! BK14: what an interrupted backup left is used where it can be, never believed, and never mixed with another.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use pgbr_repo::command::backup::BackupOptions;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::filter::Compression;
use pgbr_repo::format::manifest::PageChecksums;
use pgbr_repo::format::{BackupLabel, BackupType, CompressType, path};
use pgbr_repo::progress::{Context, Level};
use pgbr_repo::storage::{Storage, StorageExt, StoragePath};
use tokio_util::sync::CancellationToken;

use crate::fake::{Moment, Server};
use crate::stage::{Stage, memory};

/// A stage with a full backup that was told to end when all files were copied; what it left, by name.
async fn interrupted(options: impl Fn(&Stage) -> BackupOptions) -> (Stage, BackupLabel) {
    let mut stage = Stage::new(memory()).await;
    let whole = stage.context.clone();
    let cancel = CancellationToken::new();
    stage.context = Context { cancel: cancel.clone(), ..whole.clone() };
    let server = Server::new(&stage.data).at(|moment| {
        if moment == Moment::Copied {
            cancel.cancel();
        }
    });
    let error = stage.backup(&server, &options(&stage)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Term, "{error}");
    drop(server);
    stage.context = whole;
    let left = stage.objects().await.into_iter().find(|name| name.ends_with("backup.manifest.copy")).unwrap();
    let label = BackupLabel::parse(left.split('/').next().unwrap()).unwrap();
    (stage, label)
}

/// Ends the backup and compares it with the data directory.
async fn finished(stage: &Stage, options: &BackupOptions) -> BackupLabel {
    let label = stage.backup(&Server::new(&stage.data), options).await.unwrap().label;
    let mut content = stage.content(&label).await;
    content.remove("pg_data/backup_label").unwrap();
    assert_eq!(content, stage.data.files());
    assert_eq!(stage.listed().await, [label]);
    let others = stage.objects().await.into_iter().filter(|name| name.starts_with("20")).collect::<Vec<_>>();
    assert!(others.iter().all(|name| name.starts_with(&label.to_string())), "{others:?}");
    label
}

fn resumed(stage: &Stage) -> usize {
    stage.log.lines(Level::Detail).iter().filter(|line| line.starts_with("checksum resumed file ")).count()
}

fn stored(stage: &Stage, label: &BackupLabel, name: &str) -> StoragePath {
    path::backup(stage.repository.stanza(), label).join(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bk14_what_is_whole_is_used_again() {
    for bundled in [false, true] {
        let (stage, left) = interrupted(|stage| stage.options(bundled)).await;
        let label = finished(&stage, &stage.options(bundled)).await;
        assert_eq!(label, left);
        let warning = format!(
            "resumable backup {left} of same type exists -- invalid files will be removed then the backup will resume"
        );
        assert!(stage.log.lines(Level::Warn).contains(&warning));
        // pg_control is copied again, always; of a bundled backup only what is not in a bundle can be used.
        let expected = if bundled { 1 } else { 7 };
        assert_eq!(resumed(&stage), expected, "{:?}", stage.log.lines(Level::Detail));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk14_what_is_damaged_is_copied_again() {
    for damage in ["flipped", "cut", "gone"] {
        let (stage, left) = interrupted(|stage| stage.options(false)).await;
        let file = stored(&stage, &left, "pg_data/base/1/102");
        let mut bytes = stage.storage().read_all(&file, 1 << 20).await.unwrap().to_vec();
        match damage {
            "flipped" => bytes[70_000] ^= 1,
            "cut" => bytes.truncate(100),
            _ => {}
        }
        match damage {
            "gone" => stage.storage().remove(&file).await.unwrap(),
            _ => stage.storage().write_all(&file, bytes.into()).await.map(drop).unwrap(),
        }
        assert_eq!(finished(&stage, &stage.options(false)).await, left);
        let warnings = stage.log.lines(Level::Warn);
        let is_told =
            warnings.iter().any(|line| line.starts_with("resumed backup file pg_data/base/1/102 did not have"));
        assert_eq!(is_told, damage != "gone", "{warnings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk14_what_changed_since_is_copied_again_and_strangers_are_removed() {
    for delta in [false, true] {
        let (stage, left) = interrupted(|stage| stage.options(false)).await;
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let mut content = fs::read(stage.data.file("base/1/101")).unwrap();
        content[0] ^= 1;
        stage.data.write("base/1/101", &content);
        fs::File::options().write(true).open(stage.data.file("base/1/101")).unwrap().set_modified(old).unwrap();
        fs::remove_file(stage.data.file("base/1/104")).unwrap();
        let strangers = ["pg_data/base/1/999", "pg_data/base/1/102.gz", "other/file", "bundle/1"];
        for name in strangers {
            let bytes = Bytes::from_static(b"strange");
            stage.storage().write_all(&stored(&stage, &left, name), bytes).await.unwrap();
        }
        let mut options = stage.options(false);
        options.delta = delta;
        assert_eq!(finished(&stage, &options).await, left);
        for name in strangers.into_iter().chain(["pg_data/base/1/104"]) {
            assert!(!stage.storage().exists(&stored(&stage, &left, name)).await.unwrap(), "{name}");
        }
    }
}

/// The time of a file can be set: another size tells all the same.
#[tokio::test(flavor = "multi_thread")]
async fn bk14_a_file_of_another_size_is_copied_again_whatever_its_time_is() {
    for delta in [false, true] {
        let (stage, left) = interrupted(|stage| stage.options(false)).await;
        let path = stage.data.file("base/1/101");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let mut content = fs::read(&path).unwrap();
        content.extend_from_slice(&[7; 8192]);
        stage.data.write("base/1/101", &content);
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let options = BackupOptions { delta, ..stage.options(false) };
        assert_eq!(finished(&stage, &options).await, left);
        assert_eq!(resumed(&stage), 6, "{:?}", stage.log.lines(Level::Detail));
    }
}

/// The unfinished backup did not look at the pages, and this one is to.
#[tokio::test(flavor = "multi_thread")]
async fn bk14_a_file_whose_pages_were_not_checked_is_read_again() {
    let (stage, _) = interrupted(|stage| stage.options(false)).await;
    let mut options = stage.options(false);
    options.pages.check = Some(true);
    let label = finished(&stage, &options).await;
    let manifest = stage.manifest(&label).await;
    let of_pages: Vec<_> =
        manifest.files().iter().filter(|file| file.name().to_string().starts_with("pg_data/base/1/1")).collect();
    assert!(!of_pages.is_empty());
    for file in of_pages {
        assert_ne!(file.page_checksums, PageChecksums::NotChecked, "{}", file.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk14_what_cannot_be_used_is_removed_with_a_reason() {
    let gz = Compression::new(CompressType::Gz, 1).unwrap();
    for (change, reason) in [
        ("compression", "new compression 'gz' does not match resumable compression 'none'"),
        ("disabled", "resume is disabled"),
        ("damaged", "unable to read "),
        ("missing", "partially deleted by prior resume or invalid"),
        ("type", "resume only valid for full backup"),
    ] {
        let (stage, left) = interrupted(|stage| stage.options(false)).await;
        let copy = stored(&stage, &left, "backup.manifest.copy");
        let mut options = stage.options(false);
        match change {
            "compression" => options.compress = gz,
            "disabled" => options.resume = false,
            "damaged" => drop(stage.storage().write_all(&copy, Bytes::from_static(b"[backrest]\n")).await.unwrap()),
            "missing" => stage.storage().remove(&copy).await.unwrap(),
            _ => {}
        }
        if change == "type" {
            // A full one first, so that there is something to be based on; it takes the left-over up.
            let full = stage.backup(&Server::new(&stage.data), &options).await.unwrap().label;
            assert_eq!(full, left);
            continue;
        }
        let server = Server::new(&stage.data);
        let label = stage.backup(&server, &options).await.unwrap().label;
        assert_ne!(label, left, "{change}");
        let said = [stage.log.lines(Level::Warn), stage.log.lines(Level::Info)].concat();
        let expected = format!("backup '{left}' cannot be resumed: {reason}");
        assert!(said.iter().any(|line| line.starts_with(&expected)), "{change}: {said:?}");
        assert!(!stage.objects().await.iter().any(|name| name.starts_with(&left.to_string())), "{change}");
        assert_eq!(stage.listed().await, [label]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bk14_an_incremental_removes_an_unfinished_backup() {
    let stage = Stage::new(memory()).await;
    let full = stage.backup(&Server::new(&stage.data), &stage.options(false)).await.unwrap().label;
    let left = BackupLabel::parse("20990101-000000F").unwrap();
    let copy = stored(&stage, &left, "backup.manifest.copy");
    stage.storage().write_all(&copy, Bytes::from_static(b"")).await.unwrap();
    stage.data.write("base/1/100", b"changed");
    let options = BackupOptions { backup_type: BackupType::Incremental, ..stage.options(false) };
    let label = stage.backup(&Server::new(&stage.data), &options).await.unwrap().label;
    assert_eq!(stage.listed().await, [full, label]);
    assert!(!stage.storage().exists(&copy).await.unwrap());
}

/// The store does not answer: nothing is removed, and nothing is begun in its place.
#[tokio::test(flavor = "multi_thread")]
async fn bk14_what_cannot_be_looked_at_is_not_removed() {
    use pgbr_repo::storage::fault::{Call, Fault, KeyPattern, Phase, Rule, When};
    use pgbr_repo::storage::{ErrorClass, FaultStorage};
    let store = Arc::new(FaultStorage::new(memory(), 1));
    let stage = Stage::new(Arc::clone(&store) as Arc<dyn Storage>).await;
    let left = BackupLabel::parse("20260101-000000F").unwrap();
    let copy = stored(&stage, &left, "backup.manifest.copy");
    stage.storage().write_all(&copy, Bytes::from_static(b"something")).await.unwrap();
    let fault = Fault::Fail(ErrorClass::Transient, Phase::Before);
    store.add_rule(Rule::new(Call::Read, When::Always, fault).on(KeyPattern::Contains(left.to_string())));
    let error = stage.backup(&Server::new(&stage.data), &stage.options(false)).await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::FileMissing, "{error}");
    store.heal();
    assert!(stage.storage().exists(&copy).await.unwrap());
    assert_eq!(stage.listed().await, []);
}
