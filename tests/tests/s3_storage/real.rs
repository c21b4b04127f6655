//! Against the real server: what a repository does all day.

use bytes::Bytes;
use pgbr_repo::storage::s3::{PART_SIZE_BYTES_MIN, S3Endpoint, UriStyle};
use pgbr_repo::storage::{
    ByteRange, Condition, Durability, EntryKind, ErrorClass, ListOptions, Storage, UploadId, UploadPart,
};
use pgbr_testkit::s3::{Fault, Rule, S3Operation};

use crate::{open, path, put, read, read_range, real_server};

#[tokio::test]
async fn objects_are_written_read_listed_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let (server, options) = real_server(root.path());
    let storage = open(&options);
    for name in ["archive/demo/archive.info", "archive/demo/15-1/a b+c%é&d", "backup/x"] {
        let info = put(&storage, name, name.as_bytes()).await.unwrap();
        assert_eq!(info.size_bytes, name.len() as u64);
        assert_eq!(read(&storage, name).await.unwrap(), name.as_bytes());
        assert_eq!(storage.info(&path(name)).await.unwrap().version, info.version);
    }
    assert!(root.path().join("bucket/repo/archive/demo/archive.info").is_file());
    let page = storage.list_page(&path("archive/demo"), &ListOptions::default(), None).await.unwrap();
    let mut names: Vec<_> = page.entries.iter().map(|entry| (entry.name.as_str(), entry.kind.clone())).collect();
    names.sort_by_key(|(name, _)| *name);
    assert_eq!(names, [("15-1", EntryKind::Directory), ("archive.info", EntryKind::Object)]);
    let all = ListOptions { recurse: true, name_prefix: None };
    let page = storage.list_page(&path("archive"), &all, None).await.unwrap();
    assert_eq!(page.entries.len(), 2);
    let some = ListOptions { recurse: false, name_prefix: Some("archive.".to_owned()) };
    let page = storage.list_page(&path("archive/demo"), &some, None).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    assert!(storage.list_page(&path("nothing"), &all, None).await.unwrap().entries.is_empty());

    storage.remove(&path("backup/x")).await.unwrap();
    storage.remove(&path("backup/x")).await.unwrap();
    assert!(storage.info(&path("backup/x")).await.unwrap_err().is_missing());
    storage.remove(&path("archive/demo/archive.info/below")).await.unwrap();
    assert!(storage.info(&path("archive/demo/archive.info/below")).await.unwrap_err().is_missing());
    assert!(read(&storage, "archive/demo/archive.info/below").await.unwrap_err().is_missing());
    assert!(read(&storage, "backup/x").await.unwrap_err().is_missing());
    storage.remove_tree(&path("archive")).await.unwrap();
    storage.remove_tree(&path("archive")).await.unwrap();
    assert!(storage.list_page(&path("archive"), &all, None).await.unwrap().entries.is_empty());
    assert_eq!(server.count(S3Operation::DeleteObjects), 1);
}

#[tokio::test]
async fn ranges_are_exact_and_pinned() {
    let root = tempfile::tempdir().unwrap();
    let (_server, options) = real_server(root.path());
    let storage = open(&options);
    let info = put(&storage, "a", b"0123456789").await.unwrap();
    put(&storage, "empty", b"").await.unwrap();
    let range = |offset, length| ByteRange { offset, length };
    for (asked, expected) in [
        (range(0, Some(10)), "0123456789"),
        (range(3, Some(4)), "3456"),
        (range(3, None), "3456789"),
        (range(9, Some(1)), "9"),
        (range(5, Some(0)), ""),
        (range(10, None), ""),
        (range(10, Some(0)), ""),
    ] {
        let bytes = read_range(&storage, "a", asked, info.version.as_ref()).await;
        assert_eq!(bytes.unwrap(), expected.as_bytes(), "{asked:?}");
    }
    assert_eq!(read(&storage, "empty").await.unwrap(), b"");
    for asked in [range(11, None), range(11, Some(1)), range(8, Some(3)), range(u64::MAX, Some(2)), range(11, Some(0))]
    {
        let error = read_range(&storage, "a", asked, None).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Permanent, "{asked:?}: {error}");
    }
    put(&storage, "a", b"9876543210").await.unwrap();
    for asked in [ByteRange::ALL, range(3, Some(4)), range(10, None)] {
        let error = read_range(&storage, "a", asked, info.version.as_ref()).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Conflict, "{asked:?}: {error}");
    }
}

#[tokio::test]
async fn uploads_appear_whole_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let (_server, options) = real_server(root.path());
    let storage = open(&options);
    let at = path("backup/large");
    let parts = [Bytes::from(vec![1; PART_SIZE_BYTES_MIN]), Bytes::from_static(b"the end")];
    let upload = storage.upload_create(&at, Durability::Now).await.unwrap();
    let mut tags = Vec::new();
    let mut offset = 0;
    for (number, body) in (1..).zip(&parts) {
        let part = UploadPart { number, offset, body: body.clone() };
        offset += body.len() as u64;
        // Sent twice: only one may count.
        storage.upload_part(&at, &upload, part.clone()).await.unwrap();
        tags.push(storage.upload_part(&at, &upload, part).await.unwrap());
    }
    assert!(storage.info(&at).await.unwrap_err().is_missing());
    let info = storage.upload_complete(&at, &upload, &tags, Condition::None).await.unwrap();
    assert_eq!(info.size_bytes, offset);
    assert_eq!(read(&storage, "backup/large").await.unwrap(), parts.concat());

    let other = storage.upload_create(&path("backup/other"), Durability::Now).await.unwrap();
    storage.upload_abort(&path("backup/other"), &other).await.unwrap();
    assert!(storage.info(&path("backup/other")).await.unwrap_err().is_missing());
    let unknown = UploadId("00000000-0000-0000-0000-000000000000".to_owned());
    for over in [unknown, other, upload] {
        let error = storage.upload_complete(&at, &over, &tags, Condition::None).await.unwrap_err();
        assert!(error.is_missing(), "{error}");
        storage.upload_abort(&at, &over).await.unwrap();
    }
}

#[tokio::test]
async fn os29_old_uploads_below_the_directory_are_given_up() {
    let root = tempfile::tempdir().unwrap();
    let (server, options) = real_server(root.path());
    let storage = open(&options);
    let far_future_s = 4_000_000_000;
    storage.upload_create(&path("backup/demo/a"), Durability::Now).await.unwrap();
    storage.upload_create(&path("backup/demo/b & c"), Durability::Now).await.unwrap();
    let other = storage.upload_create(&path("backup/demonstration"), Durability::Now).await.unwrap();
    assert_eq!(storage.remove_stale_uploads(&path("backup/demo"), 0).await.unwrap(), 0);
    assert_eq!(storage.remove_stale_uploads(&path("backup/demo"), far_future_s).await.unwrap(), 2);
    assert_eq!(storage.remove_stale_uploads(&path("backup/demo"), far_future_s).await.unwrap(), 0);
    let part = UploadPart { number: 1, offset: 0, body: Bytes::from_static(b"alive") };
    storage.upload_part(&path("backup/demonstration"), &other, part).await.unwrap();
    // A store that cannot list them is left to its own rules.
    server.inject(Rule::next(1, S3Operation::ListMultipartUploads, Fault::error(501, "NotImplemented")));
    assert_eq!(storage.remove_stale_uploads(&path("backup"), far_future_s).await.unwrap(), 0);
}

#[tokio::test]
async fn os35_conditions_are_used_only_when_the_store_proved_them() {
    let root = tempfile::tempdir().unwrap();
    let (_server, options) = real_server(root.path());
    let storage = open(&options);
    assert!(!storage.capabilities().conditional_put);
    assert!(storage.probe_conditional_put(&path("probe")).await.unwrap());
    assert!(storage.capabilities().conditional_put);
    assert!(storage.info(&path("probe")).await.unwrap_err().is_missing());
    let body = Bytes::from_static(b"a");
    let at = path("a");
    let first = storage.put(&at, body.clone(), Condition::Absent, Durability::Now).await.unwrap();
    let again = storage.put(&at, body.clone(), Condition::Absent, Durability::Now).await.unwrap_err();
    assert_eq!(again.class(), ErrorClass::Conflict);
    let version = Condition::Version(first.version.unwrap());
    storage.put(&at, Bytes::from_static(b"b"), version.clone(), Durability::Now).await.unwrap();
    let stale = storage.put(&at, body, version, Durability::Now).await.unwrap_err();
    assert_eq!(stale.class(), ErrorClass::Conflict);
}

#[tokio::test]
async fn host_style_with_a_storage_host_signs_for_the_endpoint() {
    let root = tempfile::tempdir().unwrap();
    let (server, mut options) = real_server(root.path());
    options.uri_style = UriStyle::Host;
    options.endpoint = S3Endpoint::parse("localhost").unwrap();
    options.storage_host = Some(S3Endpoint::parse("https://127.0.0.1:1").unwrap());
    options.storage_port = Some(server.port());
    let storage = open(&options);
    put(&storage, "a", b"content").await.unwrap();
    assert_eq!(read(&storage, "a").await.unwrap(), b"content");
    assert_eq!(server.last_request(S3Operation::GetObject).unwrap().headers["host"], "bucket.localhost");
}

#[tokio::test]
async fn sec01_a_wrong_secret_is_denied_and_shown_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let (_server, mut options) = real_server(root.path());
    options.credentials = crate::options("localhost", crate::KEY, crate::SECRET).credentials;
    let storage = open(&options);
    let error = put(&storage, "a", b"content").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied, "{error}");
    crate::assert_clean(&error);
}

#[tokio::test]
async fn a_missing_bucket_is_not_a_missing_object() {
    let root = tempfile::tempdir().unwrap();
    let (_server, mut options) = real_server(root.path());
    options.bucket = "elsewhere".to_owned();
    let storage = open(&options);
    let error = storage.list_page(&path("archive"), &ListOptions::default(), None).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Permanent, "{error}");
}

#[tokio::test]
async fn connections_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let (_server, options) = real_server(root.path());
    let storage = open(&options);
    put(&storage, "a", b"content").await.unwrap();
    let started = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(read(&storage, "a").await.unwrap(), b"content");
    }
    assert!(started.elapsed().as_secs() < 5, "{:?} for 50 reads", started.elapsed());
}

#[tokio::test]
async fn os07_bodies_cut_by_the_server_are_noticed() {
    let root = tempfile::tempdir().unwrap();
    let (server, options) = real_server(root.path());
    let storage = open(&options);
    let content = vec![7; 300_000];
    put(&storage, "a", &content).await.unwrap();
    for cut in [0, 1, 150_000, 299_999] {
        for fault in [Fault::CutBody(cut), Fault::ResetBody(cut)] {
            server.inject(Rule::next(1, S3Operation::GetObject, fault.clone()));
            let error = read(&storage, "a").await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Transient, "{fault:?}: {error}");
        }
    }
    assert_eq!(read(&storage, "a").await.unwrap(), content);
}

#[tokio::test]
async fn os01_a_store_that_asks_to_wait_is_throttled() {
    let root = tempfile::tempdir().unwrap();
    let (server, options) = real_server(root.path());
    let storage = open(&options);
    put(&storage, "a", b"content").await.unwrap();
    for operation in [S3Operation::PutObject, S3Operation::GetObject, S3Operation::DeleteObject] {
        server.inject(Rule::next(1, operation, Fault::slow_down(7)));
        let error = match operation {
            S3Operation::PutObject => put(&storage, "a", b"content").await.unwrap_err(),
            S3Operation::GetObject => read(&storage, "a").await.unwrap_err(),
            _ => storage.remove(&path("a")).await.unwrap_err(),
        };
        assert_eq!(error.class(), ErrorClass::Throttled, "{error}");
        assert_eq!(error.retry_after().map(|wait| wait.as_secs()), Some(7));
        // One request for one call: retrying is not done here.
    }
    assert_eq!(server.count(S3Operation::GetObject), 1);
}
