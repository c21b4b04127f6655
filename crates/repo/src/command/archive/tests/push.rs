//! What may be acknowledged, and what is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use super::world::{
    MIB, SEGMENT, World, damage, encode, info_paths, kind, memory, only_object, other_cluster, other_version,
    segment_of, storage, wal_objects,
};
use crate::command::archive::WalSource;
use crate::command::archive::get::Got;
use crate::command::archive::push::{PushOptions, push};
use crate::error::ErrorKind;
use crate::format::CompressType;
use crate::storage::fault::{Call, Fault, FaultStorage, KeyPattern, Phase, Rule, When};
use crate::storage::watched::Watched;
use crate::storage::{ErrorClass, Storage, StorageExt};

#[tokio::test(start_paused = true)]
async fn pu02_the_same_file_again_is_a_success_with_a_warning() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    let source = world.segment(SEGMENT, 1);
    assert!(world.push(&repository, &source, CompressType::Gz).await.unwrap().warnings.is_empty());
    let again = world.push(&repository, &source, CompressType::Gz).await.unwrap();
    assert!(again.warnings[0].contains("already exists in the repo1 archive with the same checksum"));
    assert_eq!(wal_objects(&memory).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pu03_the_same_content_is_recognised_under_another_compression_and_passphrase() {
    for (pass, types) in
        [(None, [CompressType::Gz, CompressType::Zst]), (Some("geheim"), [CompressType::Lz4, CompressType::Bz2])]
    {
        let world = World::new();
        let memory = memory();
        let repository = [world.stanza(1, &storage(&memory), pass).await];
        let source = world.segment(SEGMENT, 1);
        for compress in types {
            world.push(&repository, &source, compress).await.unwrap();
        }
        assert!(only_object(&memory).as_str().ends_with(types[0].extension()), "the first object is kept");
        assert!(matches!(world.get(&repository, SEGMENT).await, Ok(Got::Found { .. })));
        assert!(world.delivered() == Some(fs::read(&source.path).unwrap()));
    }
}

#[tokio::test]
async fn pu04_a_history_file_is_never_replaced() {
    for pass in [None, Some("geheim")] {
        let world = World::new();
        let memory = memory();
        let repository = [world.stanza(1, &storage(&memory), pass).await];
        for name in ["00000002.history", "00000001000000000000000A.00000028.backup"] {
            let first = world.file(name, b"1\t0/A000000\tfirst\n");
            world.push(&repository, &first, CompressType::Gz).await.unwrap();
            world.push(&repository, &first, CompressType::Gz).await.unwrap();
            let second = world.file(name, b"1\t0/B000000\tsecond\n");
            assert_eq!(kind(world.push(&repository, &second, CompressType::Gz).await), ErrorKind::ArchiveDuplicate);
            world.get(&repository, name).await.unwrap();
            assert_eq!(world.delivered().unwrap(), b"1\t0/A000000\tfirst\n");
        }
    }
}

#[tokio::test]
async fn pu05_ge11_a_partial_segment_is_another_file() {
    let partial_name = format!("{SEGMENT}.partial");
    for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0]] {
        let world = World::new();
        let memory = memory();
        let repository = [world.stanza(1, &storage(&memory), None).await];
        let whole = world.segment(SEGMENT, 1);
        let partial = world.file(&partial_name, &world.segment_bytes(SEGMENT, 2, MIB));
        let other = world.folder.path().join("other");
        fs::create_dir(&other).unwrap();
        let other = other.join(&partial_name);
        fs::write(&other, world.segment_bytes(SEGMENT, 3, MIB)).unwrap();
        let sources = [&whole, &partial, &WalSource::new(&other).unwrap()];
        let mut refused = 0;
        for number in order {
            match world.push(&repository, sources[number], CompressType::Zst).await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ArchiveDuplicate);
                    assert!(number == 2, "only the second .partial is refused");
                    refused += 1;
                }
            }
        }
        assert_eq!((refused, wal_objects(&memory).len()), (1, 2));
        for (name, source) in [(SEGMENT, &whole), (partial_name.as_str(), &partial)] {
            world.get(&repository, name).await.unwrap();
            assert!(world.delivered() == Some(fs::read(&source.path).unwrap()), "{name}");
        }
    }
    // Neither stands in for the other.
    for (pushed, asked) in [(SEGMENT, partial_name.as_str()), (partial_name.as_str(), SEGMENT)] {
        let world = World::new();
        let memory = memory();
        let repository = [world.stanza(1, &storage(&memory), None).await];
        let source = world.file(pushed, &world.segment_bytes(SEGMENT, 1, MIB));
        world.push(&repository, &source, CompressType::None).await.unwrap();
        assert_eq!(world.get(&repository, asked).await.unwrap(), Got::Missing { later: Vec::new() });
        assert_eq!(world.delivered(), None);
    }
}

#[tokio::test]
async fn pu06_np03_wal_of_another_cluster_or_version_is_refused() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    let stranger = world.file(SEGMENT, &segment_of(other_cluster(world.cluster), SEGMENT, 1, MIB));
    let error = world.push(&repository, &stranger, CompressType::None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArchiveMismatch);
    for id in [world.cluster.system_id, other_cluster(world.cluster).system_id] {
        assert!(error.message().contains(&id.to_string()), "{}", error.message());
    }
    // The data directory is another cluster's although the file is this stanza's.
    let source = world.segment(SEGMENT, 1);
    for cluster in [other_cluster(world.cluster), other_version(world.cluster)] {
        let options = PushOptions { cluster: Some(cluster), ..world.options(CompressType::None) };
        let error = push(&repository, &source, &options, &world.context).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RepoInvalid);
        assert!(error.message().contains("ArchiveMismatchError"), "{}", error.message());
    }
    assert!(wal_objects(&memory).is_empty());
}

#[tokio::test]
async fn pu06_pu16_a_stanza_of_a_later_generation_refuses_the_former_one() {
    let world = World::new();
    let memory = memory();
    let repository = world.stanza(1, &storage(&memory), None).await;
    world.upgrade(&repository, other_version(world.cluster)).await;
    let source = world.segment(SEGMENT, 1);
    let pushed = world.push(&[repository], &source, CompressType::None).await;
    assert_eq!(kind(pushed), ErrorKind::RepoInvalid);
    assert!(wal_objects(&memory).is_empty());
}

/// The file changes after it was hashed: here when the upload begins, and the first of its bytes have been read again.
#[tokio::test]
async fn pu07_a_large_file_that_changes_between_its_two_reads_is_not_stored() {
    for truncate in [false, true] {
        let world = World::new();
        let memory = memory();
        drop(world.stanza(1, &storage(&memory), None).await);
        let size_bytes = 32 * MIB;
        let source = world.file(SEGMENT, &world.segment_bytes(SEGMENT, 1, size_bytes));
        let path = source.path.clone();
        let changing = Watched::storage(storage(&memory), move |call, _| {
            if call == Call::UploadCreate {
                let mut content = fs::read(&path).unwrap();
                if truncate {
                    content.truncate(size_bytes / 2);
                } else {
                    content[size_bytes - 1] ^= 1;
                }
                fs::write(&path, content).unwrap();
            }
            std::future::ready(())
        });
        let repository = [world.open(1, &changing, None)];
        let error = world.push(&repository, &source, CompressType::Lz4).await.unwrap_err();
        assert!(error.message().contains("FileReadError] '"), "{}", error.message());
        assert!(wal_objects(&memory).is_empty());
        assert_eq!(memory.unfinished_uploads(), 0);
    }
}

#[tokio::test]
async fn pu07_pu19_np03_a_file_of_the_wrong_size_is_refused() {
    for compress in [CompressType::None, CompressType::Gz, CompressType::Zst] {
        let world = World::new();
        let memory = memory();
        let repository = [world.stanza(1, &storage(&memory), None).await];
        let whole = world.segment_bytes(SEGMENT, 1, MIB);
        let mut torn = whole.clone();
        torn[..8].fill(0xff);
        let long = [&whole[..], b"x"].concat();
        let short_page = whole[..20].to_vec();
        let cases: [(&str, Vec<u8>, ErrorKind); 7] = [
            ("short", whole[..MIB - 1].to_vec(), ErrorKind::FileRead),
            ("half", whole[..MIB / 2].to_vec(), ErrorKind::FileRead),
            ("long", long, ErrorKind::FileRead),
            ("zero length", Vec::new(), ErrorKind::Format),
            ("all zero", vec![0; MIB], ErrorKind::Format),
            ("torn header", torn, ErrorKind::Format),
            ("less than a header", short_page, ErrorKind::Format),
        ];
        for (what, content, expected) in cases {
            let source = world.file(SEGMENT, &content);
            let error = world.push(&repository, &source, compress).await.unwrap_err();
            assert_eq!(error.kind(), expected, "{what}: {}", error.message());
            let size = format!("{} bytes", content.len());
            assert!(error.message().contains(SEGMENT) && error.message().contains(&size), "{}", error.message());
        }
        assert!(wal_objects(&memory).is_empty());
    }
}

#[tokio::test]
async fn pu19_an_empty_segment_is_refused_without_a_look_at_headers_too() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    let source = world.file(SEGMENT, b"");
    let options = PushOptions { header_check: false, ..world.options(CompressType::None) };
    assert_eq!(kind(push(&repository, &source, &options, &world.context).await), ErrorKind::Format);
    assert!(wal_objects(&memory).is_empty());
}

/// A crash after any number of changes to the store, and then the same push again.
#[tokio::test(start_paused = true)]
async fn pu08_a_crash_at_any_write_leaves_nothing_or_the_whole_object() {
    for compress in [CompressType::None, CompressType::Zst] {
        for crash_after in 0..12 {
            let world = World::new();
            let memory = memory();
            drop(world.stanza(1, &storage(&memory), None).await);
            let fault = Arc::new(FaultStorage::new(storage(&memory), crash_after));
            fault.crash_after(crash_after);
            let source = world.segment(SEGMENT, 1);
            let crashing = [world.open(1, &(Arc::clone(&fault) as Arc<dyn Storage>), None)];
            let first = world.push(&crashing, &source, compress).await;
            let healthy = [world.open(1, &storage(&memory), None)];
            let got = world.get(&healthy, SEGMENT).await.unwrap();
            match got {
                Got::Found { .. } => assert!(world.delivered() == Some(fs::read(&source.path).unwrap())),
                Got::Missing { .. } => assert!(first.is_err(), "acknowledged and not there"),
            }
            world.push(&healthy, &source, compress).await.unwrap();
            assert_eq!(wal_objects(&memory).len(), 1);
        }
    }
}

/// The store has done what it was asked, and the answer is lost; or it did not.
#[tokio::test(start_paused = true)]
async fn pu08_a_lost_answer_is_not_an_acknowledgement() {
    for call in [Call::ListPage, Call::Put, Call::UploadCreate, Call::UploadPart, Call::UploadComplete] {
        for phase in [Phase::Before, Phase::After] {
            let world = World::new();
            let memory = memory();
            drop(world.stanza(1, &storage(&memory), None).await);
            let fault = Arc::new(FaultStorage::new(storage(&memory), 1));
            fault.set_rules(vec![Rule::new(call, When::Nth(1), Fault::Fail(ErrorClass::Transient, phase))]);
            let repository = [world.open(1, &(Arc::clone(&fault) as Arc<dyn Storage>), None)];
            let source = world.segment(SEGMENT, 1);
            let first = world.push(&repository, &source, CompressType::None).await;
            assert!(first.is_err() || fault.requests_of(call) == 0, "{call:?} {phase:?}");
            world.push(&repository, &source, CompressType::None).await.unwrap();
            only_object(&memory);
        }
    }
}

#[tokio::test]
async fn pu14_an_unreachable_repository_is_named_and_the_other_one_gets_the_file() {
    let world = World::new();
    let (one, two) = (memory(), memory());
    let healthy = world.stanza(1, &storage(&one), None).await;
    drop(world.stanza(2, &storage(&two), Some("geheim")).await);
    for (rules, first_word) in [
        (vec![Rule::any(When::Always, Fault::Fail(ErrorClass::Transient, Phase::Before))], "archive.info"),
        (
            [Call::Put, Call::UploadCreate]
                .map(|call| Rule::new(call, When::Always, Fault::Fail(ErrorClass::Denied, Phase::Before)))
                .to_vec(),
            "0000000A-",
        ),
        (
            vec![Rule::new(Call::ListPage, When::Always, Fault::Fail(ErrorClass::Denied, Phase::Before))],
            "0000000100000000",
        ),
    ] {
        let fault = Arc::new(FaultStorage::new(storage(&two), 1));
        fault.set_rules(rules);
        let broken = world.open(2, &(Arc::clone(&fault) as Arc<dyn Storage>), Some("geheim"));
        let source = world.segment(SEGMENT, 1);
        let error = world.push(&[healthy.clone(), broken.clone()], &source, CompressType::Zst).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command);
        assert!(error.message().contains("repo2: [") && !error.message().contains("repo1: ["), "{}", error.message());
        assert!(error.message().contains(first_word), "{}", error.message());
        assert_eq!((wal_objects(&one).len(), wal_objects(&two).len()), (1, 0));
        // After healing the same call completes the second one.
        fault.heal();
        one.remove(&only_object(&one)).await.unwrap();
        world.push(&[healthy.clone(), broken], &source, CompressType::Zst).await.unwrap();
        assert_eq!((wal_objects(&one).len(), wal_objects(&two).len()), (1, 1));
        for memory in [&one, &two] {
            memory.remove(&only_object(memory)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn pu14_another_content_in_one_repository_stops_the_push_for_all() {
    let world = World::new();
    let (one, two) = (memory(), memory());
    let repositories = [world.stanza(1, &storage(&one), None).await, world.stanza(2, &storage(&two), None).await];
    world.push(&repositories[1..], &world.segment(SEGMENT, 1), CompressType::None).await.unwrap();
    let other = world.segment(SEGMENT, 2);
    let error = world.push(&repositories, &other, CompressType::None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArchiveDuplicate);
    assert!(wal_objects(&one).is_empty(), "a rival's content is not spread further");
}

#[tokio::test]
async fn pu15_without_a_usable_archive_info_nothing_is_acknowledged() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), Some("geheim")).await];
    let source = world.segment(SEGMENT, 1);
    let [main, copy] = info_paths();

    let wrong = [world.open(1, &storage(&memory), Some("falsch"))];
    assert_eq!(kind(world.push(&wrong, &source, CompressType::None).await), ErrorKind::RepoInvalid);
    let none = [world.open(1, &storage(&memory), None)];
    assert_eq!(kind(world.push(&none, &source, CompressType::None).await), ErrorKind::RepoInvalid);

    damage(&memory, &main, |bytes| bytes[40] ^= 1).await;
    damage(&memory, &copy, |bytes| bytes.truncate(30)).await;
    let error = world.push(&repository, &source, CompressType::None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RepoInvalid);
    assert!(
        error.message().contains("archive.info") && error.message().contains("archive.info.copy"),
        "{}",
        error.message()
    );

    memory.remove(&main).await.unwrap();
    memory.remove(&copy).await.unwrap();
    let error = world.push(&repository, &source, CompressType::None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RepoInvalid);
    assert!(error.message().contains("stanza-create"), "{}", error.message());
    assert!(memory.objects().is_empty(), "a stanza is never made by a push");
}

#[tokio::test]
async fn cr05_sec16_a_plain_archive_info_in_an_encrypted_repository_is_refused() {
    let world = World::new();
    let memory = memory();
    drop(world.stanza(1, &storage(&memory), None).await);
    let before = memory.objects();
    let repository = [world.open(1, &storage(&memory), Some("geheim"))];
    let pushed = world.push(&repository, &world.segment(SEGMENT, 1), CompressType::None).await.unwrap_err();
    assert_eq!(pushed.kind(), ErrorKind::RepoInvalid);
    assert!(pushed.message().contains("CryptoError"), "{}", pushed.message());
    assert_eq!(kind(world.get(&repository, SEGMENT).await), ErrorKind::RepoInvalid);
    assert_eq!(memory.objects(), before, "nothing is written again");
    // The info file is the right one, but says that the segments are not encrypted.
    let plain = memory.read_all(&info_paths()[0], MIB).await.unwrap();
    let sealed = encode(&world, &plain, CompressType::None, repository[0].passphrase());
    for path in info_paths() {
        memory.write_all(&path, sealed.clone()).await.unwrap();
    }
    let error = world.push(&repository, &world.segment(SEGMENT, 1), CompressType::None).await.unwrap_err();
    assert!(error.message().contains("CryptoError"), "{}", error.message());
    assert!(wal_objects(&memory).is_empty());
}

#[test]
fn pu17_only_names_that_postgresql_gives_are_taken() {
    for name in [
        "pg_wal/../000000010000000000000001/..",
        "pg_wal/00000001000000000000000a",
        "pg_wal/0000000100000000000000011",
        "pg_wal/00000001000000000000000",
        "pg_wal/000000010000000000000001\n",
        "pg_wal/000000010000000000000001.gz",
        "pg_wal/2.history",
        "pg_wal/000000000000000000000001",
        "pg_wal/00000002.history.partial",
        "pg_wal/",
        "..",
        "",
    ] {
        let error = WalSource::new(name.as_ref()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ParamInvalid, "{name:?}");
        assert!(!error.message().contains('\n'), "{name:?} does not break the log's lines");
    }
    assert!(WalSource::new("pg_wal/000000010000000000000001".as_ref()).is_ok());
}

#[tokio::test]
async fn pu17_only_a_regular_file_is_read() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    let canary = world.folder.path().join("canary");
    fs::write(&canary, world.segment_bytes(SEGMENT, 1, MIB)).unwrap();
    let path = world.wal_path(SEGMENT);
    for what in ["link", "directory", "fifo", "socket", "dangling link"] {
        let mut listener = None;
        match what {
            "link" => symlink(&canary, &path).unwrap(),
            "dangling link" => symlink("nowhere", &path).unwrap(),
            "directory" => fs::create_dir(&path).unwrap(),
            "fifo" => {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            _ => listener = Some(std::os::unix::net::UnixListener::bind(&path).unwrap()),
        }
        let source = WalSource::new(&path).unwrap();
        let error = world.push(&repository, &source, CompressType::None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ParamInvalid, "{what}: {}", error.message());
        drop(listener);
        drop(fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)));
    }
    let missing = WalSource::new(&path).unwrap();
    assert_eq!(kind(world.push(&repository, &missing, CompressType::None).await), ErrorKind::FileMissing);
    assert!(wal_objects(&memory).is_empty());
}

#[tokio::test]
async fn pu20_every_segment_size_is_archived_and_fetched() {
    // 1 GiB goes through the real program, with its memory measured.
    for size_bytes in [MIB, 2 * MIB, 16 * MIB, 32 * MIB, 64 * MIB] {
        let world = World::new();
        let memory = memory();
        let repository = [world.stanza(1, &storage(&memory), None).await];
        let name = "000000010000000100000003";
        let source = world.file(name, &world.segment_bytes(name, 1, size_bytes));
        world.push(&repository, &source, CompressType::Lz4).await.unwrap();
        let found = only_object(&memory);
        assert!(found.as_str().starts_with("archive/demo/15-1/0000000100000001/"), "{found}");
    }
}

#[tokio::test(start_paused = true)]
async fn pu22_np02_the_later_content_of_a_timeline_is_refused_and_the_first_one_stays() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    // The old primary goes on on timeline 1 while the new one is on 2.
    let new_primary = world.segment("00000002000000000000000A", 2);
    let old_primary = world.segment(SEGMENT, 1);
    world.push(&repository, &old_primary, CompressType::Zst).await.unwrap();
    world.push(&repository, &new_primary, CompressType::Zst).await.unwrap();
    let first = fs::read(&old_primary.path).unwrap();
    let diverged = world.segment(SEGMENT, 9);
    for _ in 0..2 {
        let error = world.push(&repository, &diverged, CompressType::Zst).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArchiveDuplicate);
        for content in [&first, &fs::read(&diverged.path).unwrap()] {
            let checksum = crate::filter::Digest::of(content).sha1.to_string();
            assert!(error.message().contains(&checksum), "both checksums are named: {}", error.message());
        }
    }
    assert_eq!(wal_objects(&memory).len(), 2);
    world.get(&repository, SEGMENT).await.unwrap();
    assert!(world.delivered() == Some(first));
}

/// Every configured repository has to be of the cluster of the data directory, and without one, of the same cluster.
#[tokio::test]
async fn pu06_repositories_of_two_clusters_do_not_share_a_push() {
    let world = World::new();
    let (one, two) = (memory(), memory());
    let first = world.stanza(1, &storage(&one), None).await;
    let second = world.stanza(2, &storage(&two), None).await;
    world.upgrade(&second, other_cluster(world.cluster)).await;
    let options = PushOptions { cluster: None, ..world.options(CompressType::None) };
    let source = world.segment(SEGMENT, 1);
    let error = push(&[first, second], &source, &options, &world.context).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command);
    assert!(error.message().contains("repo2: [ArchiveMismatchError]"), "{}", error.message());
    assert_eq!((wal_objects(&one).len(), wal_objects(&two).len()), (1, 0));
}

/// What a store answers wrongly is noticed before the acknowledgement.
#[tokio::test]
async fn pu08_a_store_that_forgets_what_it_took_is_noticed() {
    let world = World::new();
    let memory = memory();
    drop(world.stanza(1, &storage(&memory), None).await);
    let fault = Arc::new(FaultStorage::new(storage(&memory), 1));
    fault.set_rules(vec![Rule::new(
        Call::ListPage,
        When::Always,
        Fault::Hide(KeyPattern::Prefix("archive/demo/15-1/".to_owned())),
    )]);
    let repository = [world.open(1, &(fault as Arc<dyn Storage>), None)];
    let error = world.push(&repository, &world.segment(SEGMENT, 1), CompressType::None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command, "{}", error.message());
    assert!(error.message().contains("FileMissingError"));
}
