use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::io::Errno;
use tempfile::TempDir;

use crate::storage::{Condition, Durability, ErrorClass, LimitStorage, StorageExt, Uploader, conformance};

use super::step::Step;
use super::*;

fn path(text: &str) -> StoragePath {
    StoragePath::parse(text).unwrap()
}

/// A directory with the repository `repo` in it.
fn repository() -> (TempDir, LocalStorage) {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(directory.path().join("repo"));
    (directory, storage)
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes() {
    let (_directory, storage) = repository();
    conformance::run(Arc::new(storage.clone()), &path("root/below")).await.unwrap();
    let limited = LimitStorage::new(Arc::new(storage), 3);
    conformance::run(Arc::new(limited), &StoragePath::root()).await.unwrap();
}

#[tokio::test]
async fn modes_do_not_depend_on_the_umask() {
    let (directory, storage) = repository();
    let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let outcome = storage.write_all(&path("a/b/object"), Bytes::new()).await;
    let upload = storage.upload_create(&path("a/c/object"), Durability::Now).await;
    rustix::process::umask(old);
    outcome.unwrap();
    upload.unwrap();
    let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().mode() & 0o7777;
    for name in ["repo", "repo/a", "repo/a/b", "repo/a/c"] {
        assert_eq!(mode(name), 0o750, "{name}");
    }
    assert_eq!(mode("repo/a/b/object"), 0o640);
    let temporary = files(&directory.path().join("repo/a/c"));
    assert_eq!(mode(&format!("repo/a/c/{}", temporary[0])), 0o640);
}

#[tokio::test]
async fn hi04_links_do_not_lead_out_of_the_repository() {
    let (directory, storage) = repository();
    storage.write_all(&path("a/object"), Bytes::from_static(b"inside")).await.unwrap();
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, directory.path().join("repo/a/link")).unwrap();
    symlink(outside.join("secret"), directory.path().join("repo/a/file")).unwrap();

    let class = |outcome: Result<(), StorageError>| outcome.unwrap_err().class();
    for name in ["a/link/secret", "a/file"] {
        assert_eq!(class(storage.read_all(&path(name), 100).await.map(drop)), ErrorClass::Permanent, "{name}");
    }
    let link = path("a/link/new");
    assert_eq!(class(storage.write_all(&link, Bytes::new()).await.map(drop)), ErrorClass::Permanent);
    assert_eq!(class(storage.info(&link).await.map(drop)), ErrorClass::Permanent);
    assert_eq!(class(storage.remove(&path("a/link/secret")).await), ErrorClass::Permanent);
    assert_eq!(class(storage.remove_tree(&path("a/link")).await), ErrorClass::Permanent);
    let listed = storage.list_all(&path("a/link"), &ListOptions::default()).await;
    assert_eq!(class(listed.map(drop)), ErrorClass::Permanent);

    // A write replaces a link, a removal of the tree removes it; neither touches what it points to.
    storage.write_all(&path("a/file"), Bytes::from_static(b"mine")).await.unwrap();
    storage.remove_tree(&path("a")).await.unwrap();
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(files(&outside), ["secret"]);
    assert!(files(&directory.path().join("repo")).is_empty());
}

#[tokio::test]
async fn a_repository_behind_a_link_is_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("real")).unwrap();
    symlink(directory.path().join("real"), directory.path().join("link")).unwrap();
    let storage = LocalStorage::new(directory.path().join("link"));
    storage.write_all(&path("a"), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(fs::read(directory.path().join("real/a")).unwrap(), b"x");
}

#[tokio::test]
async fn os32_an_acknowledged_write_is_synced_in_this_order() {
    let (_directory, storage) = repository();
    let steps = || std::mem::take(&mut *storage.inner.steps.taken.lock().unwrap());
    storage.write_all(&path("archive/demo/object"), Bytes::from_static(b"bytes")).await.unwrap();
    let taken = steps();
    let at = |step, name: &str| {
        let position = taken.iter().position(|(taken, on)| *taken == step && on.starts_with(name));
        position.unwrap_or_else(|| panic!("no {step:?} of {name} in {taken:?}"))
    };
    let durable = at(Step::SyncFile, "object.");
    let placed = at(Step::Place, "object");
    assert!(at(Step::Write, "object.") < durable && durable < placed);
    assert!(placed < at(Step::SyncDirectory, "object"));
    for name in ["archive", "demo"] {
        let synced = at(Step::SyncDirectory, &format!("parent of {name}"));
        assert!(at(Step::MakeDirectory, name) < synced && synced < placed);
    }
    assert_eq!(taken.last().unwrap().0, Step::SyncDirectory);

    // An upload ends in the same steps; its directories are known by now.
    let mut uploader =
        Uploader::new(Arc::new(storage.clone()), path("archive/demo/large"), Condition::None, Durability::Now);
    uploader.write(&vec![1; PART_BYTES + 1]).await.unwrap();
    uploader.finish().await.unwrap();
    let ends: Vec<_> = steps().into_iter().map(|(step, _)| step).filter(|step| *step != Step::Write).collect();
    assert_eq!(ends, [Step::SyncFile, Step::Place, Step::SyncDirectory]);
}

#[tokio::test]
async fn os32_a_directory_that_another_writer_made_is_synced_too() {
    let (directory, storage) = repository();
    fs::create_dir_all(directory.path().join("repo/archive/demo")).unwrap();
    storage.write_all(&path("archive/demo/object"), Bytes::new()).await.unwrap();
    let taken = storage.inner.steps.taken.lock().unwrap();
    for name in ["parent of archive", "parent of demo"] {
        assert!(taken.contains(&(Step::SyncDirectory, name.to_owned())), "{taken:?}");
    }
}

#[tokio::test]
async fn os32_deferred_writes_are_synced_by_one_flush() {
    let (_directory, storage) = repository();
    for number in 0..10 {
        let name = path(&format!("backup/{number}/object"));
        storage.put(&name, Bytes::from_static(b"x"), Condition::None, Durability::Deferred).await.unwrap();
    }
    let steps = || std::mem::take(&mut *storage.inner.steps.taken.lock().unwrap());
    let is_sync = |step: &Step| matches!(step, Step::SyncFile | Step::SyncDirectory | Step::SyncFileSystem);
    assert!(!steps().iter().any(|(step, _)| is_sync(step)));
    storage.flush().await.unwrap();
    assert_eq!(steps(), [(Step::SyncFileSystem, String::new())]);
}

#[tokio::test]
async fn os33_a_full_disk_leaves_what_was_there() {
    let (directory, storage) = repository();
    let object = path("a/object");
    storage.write_all(&object, Bytes::from_static(b"old")).await.unwrap();
    for (step, errno) in [(Step::Write, Errno::NOSPC), (Step::Write, Errno::DQUOT), (Step::SyncFile, Errno::NOSPC)] {
        *storage.inner.steps.fail.lock().unwrap() = Some((step, errno));
        let error = storage.write_all(&object, Bytes::from_static(b"new")).await.unwrap_err();
        assert_eq!((error.class(), error.location()), (ErrorClass::NoSpace, "a/object"));
        let mut uploader = Uploader::new(Arc::new(storage.clone()), object.clone(), Condition::None, Durability::Now);
        let outcome = match uploader.write(&vec![1; 3 * PART_BYTES]).await {
            Ok(()) => uploader.finish().await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(outcome.unwrap_err().class(), ErrorClass::NoSpace);
        assert_eq!(files(&directory.path().join("repo/a")), ["object"]);
        assert_eq!(storage.read_all(&object, 100).await.unwrap(), "old");
    }
    *storage.inner.steps.fail.lock().unwrap() = None;
    storage.write_all(&object, Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(storage.read_all(&object, 100).await.unwrap(), "new");
}

#[tokio::test]
async fn os32_a_failed_sync_is_not_answered_by_a_later_one() {
    let (directory, storage) = repository();
    let object = path("object");
    let upload = storage.upload_create(&object, Durability::Now).await.unwrap();
    let part = UploadPart { number: 1, offset: 0, body: Bytes::from_static(b"bytes") };
    let tag = storage.upload_part(&object, &upload, part).await.unwrap();
    *storage.inner.steps.fail.lock().unwrap() = Some((Step::SyncFile, Errno::IO));
    let error = storage.upload_complete(&object, &upload, std::slice::from_ref(&tag), Condition::None).await;
    assert_eq!(error.unwrap_err().class(), ErrorClass::Permanent);
    *storage.inner.steps.fail.lock().unwrap() = None;
    let error = storage.upload_complete(&object, &upload, &[tag], Condition::None).await;
    assert_eq!(error.unwrap_err().class(), ErrorClass::Missing);
    assert!(files(&directory.path().join("repo")).is_empty());
}

#[tokio::test]
async fn an_upload_with_missing_bytes_is_not_completed() {
    let (_directory, storage) = repository();
    let object = path("object");
    let upload = storage.upload_create(&object, Durability::Now).await.unwrap();
    let part = |number, offset| UploadPart { number, offset, body: Bytes::from_static(b"12345") };
    let first = storage.upload_part(&object, &upload, part(1, 0)).await.unwrap();
    let gap = storage.upload_part(&object, &upload, part(2, 6)).await.unwrap();
    for tags in [vec![first.clone()], vec![first, gap.clone()], vec![gap], Vec::new()] {
        let error = storage.upload_complete(&object, &upload, &tags, Condition::None).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Permanent);
    }
    for unknown in ["", "now/", "now/../../etc/passwd", "now/object", "later/x"] {
        let upload = UploadId(unknown.to_owned());
        let error = storage.upload_part(&object, &upload, part(1, 0)).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Missing, "{unknown}");
    }
}

#[tokio::test]
async fn os29_only_our_old_temporary_files_are_removed() {
    let (directory, storage) = repository();
    storage.upload_create(&path("a/b/object"), Durability::Now).await.unwrap();
    let below = directory.path().join("repo/a/b");
    fs::write(below.join("backup.info.pgbackrest.tmp"), "stock's own").unwrap();
    fs::write(below.join("object"), "an object").unwrap();
    assert_eq!(files(&below).len(), 3);
    let listed = storage.list_all(&path("a/b"), &ListOptions::default()).await.unwrap();
    assert_eq!(listed.iter().map(|entry| &*entry.name).collect::<Vec<_>>(), ["backup.info.pgbackrest.tmp", "object"]);
    assert_eq!(storage.remove_stale_uploads(&StoragePath::root(), 1_000).await.unwrap(), 0);
    assert_eq!(storage.remove_stale_uploads(&StoragePath::root(), i64::MAX).await.unwrap(), 1);
    assert_eq!(files(&below), ["backup.info.pgbackrest.tmp", "object"]);
}

#[tokio::test]
async fn os17_no_permission_is_not_missing() {
    if rustix::process::geteuid().is_root() {
        // Root may read everything; the class of the error number is tested beside its table.
        return;
    }
    let (directory, storage) = repository();
    storage.write_all(&path("a/object"), Bytes::new()).await.unwrap();
    let closed = directory.path().join("repo/a");
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    let outcome = storage.exists(&path("a/object")).await;
    fs::set_permissions(&closed, Permissions::from_mode(0o750)).unwrap();
    assert_eq!(outcome.unwrap_err().class(), ErrorClass::Denied);
}

#[tokio::test]
async fn a_file_written_in_place_while_it_is_read_is_a_conflict() {
    let (directory, storage) = repository();
    storage.write_all(&path("object"), Bytes::from(vec![1; 3 * PIECE_BYTES])).await.unwrap();
    let opened = storage.read(&path("object"), ByteRange::ALL, None).await.unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(directory.path().join("repo/object"), vec![2; 3 * PIECE_BYTES]).unwrap();
    let pieces: Vec<_> = futures_util::StreamExt::collect(opened.body).await;
    assert_eq!(pieces.into_iter().find_map(Result::err).unwrap().class(), ErrorClass::Conflict);

    let opened = storage.read(&path("object"), ByteRange::ALL, None).await.unwrap();
    fs::write(directory.path().join("repo/object"), vec![2; PIECE_BYTES + 1]).unwrap();
    let pieces: Vec<_> = futures_util::StreamExt::collect(opened.body).await;
    assert_eq!(pieces.into_iter().find_map(Result::err).unwrap().class(), ErrorClass::Transient);
}

#[tokio::test]
async fn what_is_no_file_is_no_object() {
    let (directory, storage) = repository();
    storage.write_all(&path("a/object"), Bytes::new()).await.unwrap();
    let fifo = directory.path().join("repo/a/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    for name in ["a", "a/fifo"] {
        let error = storage.read(&path(name), ByteRange::ALL, None).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Permanent, "{name}");
    }
    assert_eq!(storage.remove(&path("a")).await.unwrap_err().class(), ErrorClass::Permanent);
    storage.remove_tree(&path("a")).await.unwrap();
}

#[tokio::test]
async fn np01_a_file_in_the_place_of_a_directory_is_not_an_empty_one() {
    let (directory, storage) = repository();
    storage.write_all(&path("archive"), Bytes::from_static(b"moved away")).await.unwrap();
    let below = path("archive/demo");
    let object = path("archive/demo/archive.info");
    for recurse in [false, true] {
        let options = ListOptions { recurse, ..ListOptions::default() };
        for listed in [&path("archive"), &below] {
            let error = storage.list_all(listed, &options).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Permanent, "{error}");
            assert!(error.to_string().contains("a file stands where a directory is expected"), "{error}");
        }
    }
    let classes = [
        storage.exists(&object).await.unwrap_err().class(),
        storage.read_all(&object, 10).await.unwrap_err().class(),
        storage.write_all(&object, Bytes::new()).await.unwrap_err().class(),
        storage.remove(&object).await.unwrap_err().class(),
        storage.remove_tree(&below).await.unwrap_err().class(),
        storage.remove_stale_uploads(&below, i64::MAX).await.unwrap_err().class(),
    ];
    assert_eq!(classes, [ErrorClass::Permanent; 6]);
    // The repository directory itself, too.
    let inside = LocalStorage::new(directory.path().join("repo/archive"));
    assert_eq!(inside.exists(&path("x")).await.unwrap_err().class(), ErrorClass::Permanent);
    assert_eq!(inside.list_all(&path("x"), &ListOptions::default()).await.unwrap_err().class(), ErrorClass::Permanent);
    assert_eq!(storage.read_all(&path("archive"), 10).await.unwrap(), "moved away");
}

#[tokio::test]
async fn a_large_tree_is_listed_in_pages() {
    let (directory, storage) = repository();
    let mut expected = Vec::new();
    for outer in 0..6 {
        for inner in ["", "/x", "/x/y", "/z"] {
            let below = format!("{outer}{inner}");
            fs::create_dir_all(directory.path().join("repo").join(&below)).unwrap();
            for file in 0..1_000 {
                let name = format!("{below}/f{file:04}");
                fs::write(directory.path().join("repo").join(&name), "").unwrap();
                expected.push(name);
            }
        }
    }
    expected.sort();
    let options = ListOptions { recurse: true, name_prefix: None };
    let (mut found, mut pages, mut token) = (Vec::new(), 0, None);
    loop {
        let page = storage.list_page(&StoragePath::root(), &options, token).await.unwrap();
        found.extend(page.entries.into_iter().map(|entry| entry.name));
        pages += 1;
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    found.sort();
    assert_eq!(pages, 3);
    assert!(found == expected, "{} of {} names", found.len(), expected.len());
}

#[tokio::test]
async fn a_name_that_is_not_text_is_reported_and_removed() {
    use std::os::unix::ffi::OsStrExt;
    let (directory, storage) = repository();
    storage.write_all(&path("a/object"), Bytes::new()).await.unwrap();
    fs::write(directory.path().join("repo/a").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
    let error = storage.list_all(&path("a"), &ListOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
    storage.remove_tree(&path("a")).await.unwrap();
    assert!(!storage.exists(&path("a")).await.unwrap());
}
