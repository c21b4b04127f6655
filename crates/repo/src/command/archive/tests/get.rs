//! What is delivered, and what "not there" means.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use bytes::Bytes;

use super::world::{
    MIB, SEGMENT, World, damage, encode, info_paths, kind, memory, only_object, other_cluster, storage, wal_objects,
};
use crate::command::archive::get::{GetRequest, Got, get};
use crate::error::ErrorKind;
use crate::filter::Digest;
use crate::format::{CompressType, Stanza, WalObjectName, path};
use crate::postgres::{WalFileName, WalSegmentName, WalSegmentSize};
use crate::repository::WritableRepository;
use crate::storage::fault::{Call, Fault, FaultStorage, KeyPattern, Phase, Rule, When};
use crate::storage::{ErrorClass, MemoryStorage, Storage, StorageExt, StoragePath};

/// Pushed once, in every form that there is.
async fn every_form() -> Vec<(World, Arc<MemoryStorage>, [WritableRepository; 1], Vec<u8>, String)> {
    let mut all = Vec::new();
    for compress in CompressType::ALL {
        for pass in [None, Some("geheim")] {
            let world = World::new();
            let memory = memory();
            let repository = [world.stanza(1, &storage(&memory), pass).await];
            let source = world.segment(SEGMENT, 1);
            world.push(&repository, &source, compress).await.unwrap();
            let content = fs::read(&source.path).unwrap();
            all.push((world, memory, repository, content, format!("{compress} {pass:?}")));
        }
    }
    all
}

#[tokio::test]
async fn ge01_a_flipped_bit_is_never_delivered() {
    for (world, memory, repository, content, form) in every_form().await {
        world.get(&repository, SEGMENT).await.unwrap();
        assert!(world.delivered() == Some(content), "{form}");
        let object = only_object(&memory);
        let whole = memory.read_all(&object, 2 * MIB).await.unwrap();
        for place in [0, 3, 20, 4096, whole.len() / 2, whole.len() - 20, whole.len() - 1] {
            damage(&memory, &object, |bytes| bytes[place] ^= 0x10).await;
            match world.get(&repository, SEGMENT).await {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::FileRead, "{form} {place}: {}", error.message());
                    assert!(error.message().contains(object.file_name()), "{}", error.message());
                    assert_eq!(world.delivered(), None, "{form} {place}");
                }
                // A bit that says nothing: in a gzip header, or in padding that no decoder looks at.
                Ok(_) => assert!(world.delivered() == Some(world.segment_bytes(SEGMENT, 1, MIB)), "{form} {place}"),
            }
            memory.write_all(&object, whole.clone()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn ge02_a_cut_segment_is_never_delivered_short() {
    for (world, memory, repository, _, form) in every_form().await {
        let object = only_object(&memory);
        let whole = memory.read_all(&object, 2 * MIB).await.unwrap();
        // Every 4 KiB would be the same code 256 times; these meet pieces, blocks, trailers and ends of frames.
        let near_end = (1..=40).map(|less| whole.len() - less);
        let cuts = (0..whole.len()).step_by(96 * 1024).chain([1, 8, 16, 17, 4096]).chain(near_end);
        for cut in cuts {
            memory.write_all(&object, whole.slice(..cut)).await.unwrap();
            let error = world.get(&repository, SEGMENT).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FileRead, "{form} cut at {cut}: {}", error.message());
            assert_eq!(world.delivered(), None, "{form} cut at {cut}");
        }
        // And bytes that nobody wrote.
        memory.write_all(&object, [&whole[..], &[0; 32]].concat().into()).await.unwrap();
        assert_eq!(kind(world.get(&repository, SEGMENT).await), ErrorKind::FileRead, "{form}");
        assert_eq!(world.delivered(), None);
    }
}

#[tokio::test]
async fn ge01_the_next_repository_helps() {
    let world = World::new();
    let (one, two) = (memory(), memory());
    let repositories =
        [world.stanza(1, &storage(&one), None).await, world.stanza(2, &storage(&two), Some("geheim")).await];
    let source = world.segment(SEGMENT, 1);
    world.push(&repositories, &source, CompressType::Lz4).await.unwrap();
    damage(&one, &only_object(&one), |bytes| bytes[MIB / 2] ^= 1).await;
    let Got::Found { repository, .. } = world.get(&repositories, SEGMENT).await.unwrap() else {
        panic!("the second repository has it");
    };
    assert_eq!(repository.number(), 2);
    assert!(world.delivered() == Some(fs::read(&source.path).unwrap()));
    assert!(world.heard.all().contains("Warn: repo1: ["), "{}", world.heard.all());
}

#[tokio::test]
async fn ge04_a_hole_is_told_from_the_end() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    let name = |number: u32| format!("0000000100000000{number:08X}");
    for number in [10, 11, 13, 14] {
        let source = world.segment(&name(number), 1);
        world.push(&repository, &source, CompressType::Zst).await.unwrap();
    }
    let later = vec![WalSegmentName::parse(&name(13)).unwrap(), WalSegmentName::parse(&name(14)).unwrap()];
    assert_eq!(world.get(&repository, &name(12)).await.unwrap(), Got::Missing { later });
    assert_eq!(world.get(&repository, &name(15)).await.unwrap(), Got::Missing { later: Vec::new() });
    // A segment before the timeline began was never on it.
    let history = world.file("00000002.history", b"1\t0/900000\tbefore segment 9\n");
    world.push(&repository, &history, CompressType::None).await.unwrap();
    let on_two = world.segment("00000002000000000000000B", 1);
    world.push(&repository, &on_two, CompressType::Zst).await.unwrap();
    assert_eq!(world.get(&repository, "000000020000000000000008").await.unwrap(), Got::Missing { later: Vec::new() });
    let Got::Missing { later } = world.get(&repository, "00000002000000000000000A").await.unwrap() else { panic!() };
    assert_eq!(later.len(), 1, "but after its begin it is a hole");
}

/// The last segment of a directory is missing and the next directory goes on (1 MiB segments: 4096 in a directory).
#[tokio::test]
async fn ge04_ge10_a_hole_at_the_end_of_a_directory_is_seen() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    let after = "000000010000000100000000";
    world.push(&repository, &world.segment(after, 1), CompressType::Zst).await.unwrap();
    let Got::Missing { later } = world.get(&repository, "000000010000000000000FFF").await.unwrap() else { panic!() };
    assert_eq!(later, [WalSegmentName::parse(after).unwrap()]);
}

#[tokio::test]
async fn ge05_of_two_contents_none_is_chosen() {
    let world = World::new();
    let (one, two) = (memory(), memory());
    let repositories = [world.stanza(1, &storage(&one), None).await, world.stanza(2, &storage(&two), None).await];
    world.push(&repositories[..1], &world.segment(SEGMENT, 1), CompressType::Zst).await.unwrap();
    world.push(&repositories[1..], &world.segment(SEGMENT, 2), CompressType::Zst).await.unwrap();
    let across = world.get(&repositories, SEGMENT).await.unwrap_err();
    assert_eq!(across.kind(), ErrorKind::ArchiveDuplicate);
    for memory in [&one, &two] {
        assert!(across.message().contains(only_object(memory).file_name()), "{}", across.message());
    }
    let (path, object) = (only_object(&two), two.read_all(&only_object(&two), 2 * MIB).await.unwrap());
    one.write_all(&path, object).await.unwrap();
    assert_eq!(kind(world.get(&repositories[..1], SEGMENT).await), ErrorKind::ArchiveDuplicate);
    assert_eq!(world.delivered(), None);
}

/// The same content twice is one content.
#[tokio::test]
async fn ge05_two_objects_of_one_content_are_no_conflict() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    let source = world.segment(SEGMENT, 1);
    world.push(&repository, &source, CompressType::None).await.unwrap();
    let plain = only_object(&memory);
    let content = fs::read(&source.path).unwrap();
    let packed = encode(&world, &content, CompressType::Gz, None);
    memory.write_all(&StoragePath::parse(&format!("{plain}.gz")).unwrap(), packed).await.unwrap();
    world.get(&repository, SEGMENT).await.unwrap();
    assert!(world.delivered() == Some(content));
}

/// Puts an object under the name that a plain content would have.
async fn plant(memory: &MemoryStorage, plain: &[u8], stored: Bytes, compress: CompressType) {
    let segment = WalSegmentName::parse(SEGMENT).unwrap();
    let name = WalObjectName { segment, partial: false, checksum: Digest::of(plain).sha1, compress };
    let id = crate::format::ArchiveId::parse("15-1").unwrap();
    memory.write_all(&path::wal_object(&Stanza::parse("demo").unwrap(), id, &name), stored).await.unwrap();
}

#[tokio::test]
async fn hi05_sec10_a_bomb_stops_at_the_size_of_a_segment() {
    for compress in [CompressType::Gz, CompressType::Lz4, CompressType::Zst, CompressType::Bz2] {
        let world = World::new();
        let memory = memory();
        let repository = [world.stanza(1, &storage(&memory), None).await];
        // The checksum is right: only the size is too large.
        let plain = vec![0; 256 * MIB];
        plant(&memory, &plain, encode(&world, &plain, compress, None), compress).await;
        let error = world.get(&repository, SEGMENT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileRead, "{compress}: {}", error.message());
        assert_eq!(world.delivered(), None);
        let object = only_object(&memory);
        memory.remove(&object).await.unwrap();
        // One byte too many is too many.
        let plain = vec![0; MIB + 1];
        plant(&memory, &plain, encode(&world, &plain, compress, None), compress).await;
        assert_eq!(kind(world.get(&repository, SEGMENT).await), ErrorKind::FileRead);
        assert_eq!(world.delivered(), None);
    }
}

#[tokio::test]
async fn hi05_a_short_segment_with_the_right_checksum_is_refused() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    let plain = vec![0; MIB / 2];
    plant(&memory, &plain, encode(&world, &plain, CompressType::Zst, None), CompressType::Zst).await;
    assert_eq!(kind(world.get(&repository, SEGMENT).await), ErrorKind::FileRead);
    assert_eq!(world.delivered(), None);
}

/// What each cause ends with. Only a complete look that found nothing is "not there".
#[tokio::test(start_paused = true)]
async fn ge16_np01_only_a_proven_absence_is_an_absence() {
    let fail = |call, class| Rule::new(call, When::Always, Fault::Fail(class, Phase::Before));
    let classes =
        [ErrorClass::Transient, ErrorClass::Throttled, ErrorClass::Denied, ErrorClass::Permanent, ErrorClass::Conflict];
    let mut causes: Vec<(String, Vec<Rule>)> = Vec::new();
    for class in classes {
        for call in [Call::Read, Call::ListPage] {
            causes.push((format!("{call:?} {class:?}"), vec![fail(call, class)]));
        }
    }
    causes.push(("info cut".to_owned(), vec![Rule::new(Call::Read, When::Always, Fault::EndBody { after_bytes: 9 })]));
    causes.push((
        "info broken".to_owned(),
        vec![Rule::new(Call::Read, When::Always, Fault::CutBody { after_bytes: Some(9) })],
    ));
    causes.push((
        "login page".to_owned(),
        vec![Rule::new(Call::Read, When::Always, Fault::Swap(Bytes::from_static(b"<html>please log in</html>")))],
    ));
    for (cause, rules) in causes {
        let world = World::new();
        let (one, two) = (memory(), memory());
        let fault = Arc::new(FaultStorage::new(storage(&one), 1));
        let healthy = world.stanza(2, &storage(&two), None).await;
        drop(world.stanza(1, &storage(&one), None).await);
        let broken = world.open(1, &(Arc::clone(&fault) as Arc<dyn Storage>), None);
        fault.set_rules(rules);
        // Alone, and beside a repository that is asked and has nothing.
        for repositories in [vec![broken.clone()], vec![broken.clone(), healthy.clone()]] {
            let error = world.get(&repositories, SEGMENT).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RepoInvalid, "{cause}: {}", error.message());
            assert!(error.message().contains("repo1: ["), "{cause}: {}", error.message());
            assert_eq!(world.delivered(), None);
        }
        // A repository that has it is enough.
        world.push(std::slice::from_ref(&healthy), &world.segment(SEGMENT, 1), CompressType::Zst).await.unwrap();
        assert!(matches!(world.get(&[broken, healthy], SEGMENT).await, Ok(Got::Found { .. })), "{cause}");
        assert!(world.delivered().is_some());
        assert!(world.heard.all().contains("repo1"), "{cause}: the broken one is named");
    }
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    for name in [SEGMENT, "00000002.history", "00000001000000000000000A.00000028.backup"] {
        assert_eq!(world.get(&repository, name).await.unwrap(), Got::Missing { later: Vec::new() });
    }
}

#[tokio::test]
async fn ge16_np01_an_object_that_cannot_be_read_is_not_missing() {
    for class in [ErrorClass::Transient, ErrorClass::Denied, ErrorClass::Missing] {
        let world = World::new();
        let memory = memory();
        let healthy = [world.stanza(1, &storage(&memory), None).await];
        world.push(&healthy, &world.segment(SEGMENT, 1), CompressType::Zst).await.unwrap();
        let fault = Arc::new(FaultStorage::new(storage(&memory), 1));
        let rule = Rule::new(Call::Read, When::Always, Fault::Fail(class, Phase::Before));
        fault.set_rules(vec![rule.on(KeyPattern::Prefix("archive/demo/15-1/".to_owned()))]);
        let repository = [world.open(1, &(fault as Arc<dyn Storage>), None)];
        // Missing, too: it was listed a moment ago, so it is not the end of WAL.
        assert_eq!(kind(world.get(&repository, SEGMENT).await), ErrorKind::FileRead, "{class:?}");
        assert_eq!(world.delivered(), None);
    }
}

#[tokio::test]
async fn ge16_a_stanza_of_another_cluster_is_an_error() {
    let world = World::new();
    let memory = memory();
    let repository = world.stanza(1, &storage(&memory), None).await;
    let request = GetRequest {
        name: WalFileName::parse(SEGMENT).unwrap(),
        cluster: other_cluster(world.cluster),
        segment_size: WalSegmentSize::MIN,
    };
    let got = get(&[(*repository).clone()], request, &world.destination(), &world.context).await;
    assert_eq!(kind(got), ErrorKind::RepoInvalid);
    for path in info_paths() {
        memory.remove(&path).await.unwrap();
    }
    assert_eq!(kind(world.get(&[repository], SEGMENT).await), ErrorKind::RepoInvalid, "no stanza is no answer");
}

/// A stanza that was upgraded and then went back to the cluster: WAL may be in either generation.
#[tokio::test]
async fn ge16_every_generation_of_the_cluster_is_looked_at() {
    let world = World::new();
    let memory = memory();
    let repository = world.stanza(1, &storage(&memory), None).await;
    let source = world.segment(SEGMENT, 1);
    world.push(std::slice::from_ref(&repository), &source, CompressType::Zst).await.unwrap();
    world.upgrade(&repository, super::world::other_version(world.cluster)).await;
    world.upgrade(&repository, world.cluster).await;
    let Got::Found { archive_id, .. } = world.get(&[repository], SEGMENT).await.unwrap() else { panic!() };
    assert_eq!(archive_id.to_string(), "15-1");
    assert!(world.delivered().is_some());
}

#[tokio::test]
async fn ge15_sec08_a_link_at_the_destination_is_replaced_and_not_written_through() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    world.push(&repository, &world.segment(SEGMENT, 1), CompressType::Zst).await.unwrap();
    let canary = world.folder.path().join("canary");
    fs::write(&canary, "untouched").unwrap();
    symlink(&canary, world.destination()).unwrap();
    symlink(&canary, world.wal_path("RECOVERYXLOG.pgbackrest.tmp")).unwrap();
    world.get(&repository, SEGMENT).await.unwrap();
    assert_eq!(fs::read_to_string(&canary).unwrap(), "untouched");
    assert!(fs::symlink_metadata(world.destination()).unwrap().is_file());
    assert!(world.delivered().is_some());
}

/// A destination that cannot be written is this machine's fault: no other repository is tried, nothing is left.
#[tokio::test]
async fn ge09_a_destination_that_cannot_be_written_is_an_error() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    world.push(&repository, &world.segment(SEGMENT, 1), CompressType::Zst).await.unwrap();
    let request = GetRequest {
        name: WalFileName::parse(SEGMENT).unwrap(),
        cluster: world.cluster,
        segment_size: WalSegmentSize::MIN,
    };
    let repositories = [(*repository[0]).clone()];
    let nowhere = world.folder.path().join("no/such/RECOVERYXLOG");
    assert_eq!(kind(get(&repositories, request, &nowhere, &world.context).await), ErrorKind::FileOpen);
    let directory = world.wal_path("archive_status");
    assert_eq!(kind(get(&repositories, request, &directory, &world.context).await), ErrorKind::FileMove);
    assert!(!world.wal_path("archive_status.pgbackrest.tmp").try_exists().unwrap());
}

/// Objects in a WAL directory that are no segments: leftovers, other tools' files, names that nearly fit.
#[tokio::test]
async fn ge16_what_is_no_segment_is_passed_over() {
    let world = World::new();
    let memory = memory();
    let repository = [world.stanza(1, &storage(&memory), None).await];
    world.push(&repository, &world.segment(SEGMENT, 1), CompressType::Zst).await.unwrap();
    let object = only_object(&memory);
    for name in [format!("{object}.pgbackrest.tmp"), format!("{object}.1"), format!("{object}.xz")] {
        memory.write_all(&StoragePath::parse(&name).unwrap(), Bytes::from_static(b"x")).await.unwrap();
    }
    world.get(&repository, SEGMENT).await.unwrap();
    assert!(world.delivered().is_some());
    let counted: BTreeMap<_, _> = memory.objects();
    assert_eq!(counted.len(), 2 + 4, "{:?}", wal_objects(&memory));
}
