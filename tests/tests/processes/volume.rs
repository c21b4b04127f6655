//! What does not grow: requests with the size of an archive, and the log with the trouble.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::command::archive::get::{GetRequest, Got, get};
use pgbr_repo::command::archive::push::{PushOptions, push};
use pgbr_repo::command::archive::{ClusterIdentity, WalSource};
use pgbr_repo::filter::{Codecs, Compression};
use pgbr_repo::format::{ArchiveInfo, CompressType, Stanza};
use pgbr_repo::postgres::{ControlFile, Lsn, Timeline, WalFileName, WalSegmentSize};
use pgbr_repo::progress::{Context, Silent};
use pgbr_repo::repository::{RepoIndex, Repository, WritableRepository};
use pgbr_repo::storage::fault::Call;
use pgbr_repo::storage::{FaultStorage, MemoryOptions, MemoryStorage, Storage, StorageExt, StoragePath};
use pgbr_repo::transfer::Budget;
use pgbr_testkit::s3::{Fault, Rule, S3Server};
use pgbr_testkit::{process, user};

use crate::limits::into_s3;
use crate::scene::{Scene, WAIT, ours, sample};

pub(crate) fn context() -> Context {
    Context {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        budget: Budget::new(32 << 20),
        codecs: Codecs::new(1),
        cancel: Default::default(),
        reporter: Arc::new(Silent),
    }
}

/// Requests of one push and one get, by kind, over an archive of so many segments.
async fn requests(segments: u64) -> Vec<(Call, u64)> {
    let scene = Scene::new(0, 0);
    let options = MemoryOptions { page_entries: 100, part_bytes: 4 << 20, ..MemoryOptions::default() };
    let memory = Arc::new(MemoryStorage::new(Arc::new(SystemClock), options));
    for number in 0..segments {
        let name = Lsn((1000 + number) << 20).segment(Timeline::FIRST, WalSegmentSize::MIN);
        let path = format!("archive/demo/15-1/{}/{name}-{:040x}.zst", name.first16(), 7);
        memory.write_all(&StoragePath::parse(&path).unwrap(), Bytes::from_static(b"wal")).await.unwrap();
    }
    let counted = Arc::new(FaultStorage::new(memory, 1));
    let (index, stanza) = (RepoIndex::new(1).unwrap(), Stanza::parse("demo").unwrap());
    let repository = Repository::new(index, stanza, Arc::clone(&counted) as Arc<dyn Storage>, None);
    let repository = WritableRepository::new(repository);
    let control = ControlFile::parse(&sample("pg15-1mib.pg_control")).unwrap();
    let cluster = ClusterIdentity { version: control.version(), system_id: control.system_id() };
    let context = context();
    let info = ArchiveInfo::new(None, cluster.version, cluster.system_id);
    repository.create_archive_info(&info, &context).await.unwrap();
    let before = counted.requests();

    let source = WalSource::new(&scene.segment("pg_wal", 10, 1)).unwrap();
    let compress = Compression::with_default_level(CompressType::Zst);
    let push_options = PushOptions { header_check: true, mode_check: true, compress, cluster: Some(cluster) };
    push(std::slice::from_ref(&repository), &source, &push_options, &context).await.unwrap();
    let request = |name| GetRequest { name, cluster, segment_size: WalSegmentSize::MIN };
    let destination = scene.dir.path().join("RECOVERYXLOG");
    let got = get(&[(*repository).clone()], request(source.name), &destination, &context).await.unwrap();
    assert!(matches!(got, Got::Found { .. }));
    // One that is not there, on a timeline without any.
    let absent = request(WalFileName::parse("00000002000000000000000A").unwrap());
    let got = get(&[(*repository).clone()], absent, &destination, &context).await.unwrap();
    assert!(matches!(got, Got::Missing { .. }));
    let count = |(call, after): (Call, u64)| (call, after - before.get(&call).copied().unwrap_or(0));
    counted.requests().into_iter().map(count).collect()
}

#[tokio::test]
async fn re09_a_push_and_a_get_cost_the_same_in_a_large_archive() {
    let small = requests(1).await;
    assert_eq!(requests(20_000).await, small);
    let pages = small.iter().find(|(call, _)| *call == Call::ListPage).unwrap().1;
    assert!(pages <= 8, "{small:?}");
}

/// A store that fails all the time, with answers of a mebibyte that hold terminal escapes and lines of a log.
#[test]
fn re07_sec06_the_log_of_a_storm_is_short_and_so_are_its_lines() {
    let store = user::scratch().unwrap();
    let server = S3Server::start(store.path()).unwrap();
    server.create_bucket("bucket").unwrap();
    let mut scene = Scene::new(20, 8192);
    into_s3(&mut scene, &server);
    scene.conf.global("io-timeout", "3").unwrap();
    let segment = scene.segment("pg_wal", 10, 1).display().to_string();
    for fault in [Fault::slow_down(0), Fault::error(500, "InternalError"), Fault::html(), Fault::Reset] {
        server.inject(Rule::always(fault, |_| true));
        for arguments in [&["archive-push", &*segment][..], &["--no-online", "--type=full", "backup"], &["info"]] {
            let all = [&["--log-level-console=detail", "--log-level-stderr=detail"], arguments].concat();
            let outcome = process::run(&mut ours().command(&scene.conf, &all), WAIT).unwrap();
            let text = outcome.text();
            let longest = text.lines().map(str::len).max().unwrap_or(0);
            assert!(
                text.lines().count() < 60 && longest < 4000,
                "{} lines, {longest} bytes: {text}",
                text.lines().count()
            );
            assert!(!text.contains('\u{1b}'), "{text}");
            assert!(outcome.elapsed < Duration::from_secs(60), "{:?}", outcome.elapsed);
        }
        server.heal();
    }
}

/// What a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'.'; PIPE_BYTES]).unwrap();
    (reader, writer)
}

fn spawn(scene: &Scene, arguments: &[&str], pipe: PipeWriter) -> Child {
    let mut command = ours().command(&scene.conf, arguments);
    command.stdin(Stdio::null()).stdout(pipe.try_clone().unwrap()).stderr(pipe).spawn().unwrap()
}

/// The exit code; a child that does not end within the time is killed.
fn code_within(child: &mut Child, limit: Duration) -> Option<i32> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.code(),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                return None;
            }
        }
    }
}

/// Nobody reads what they say: neither WAL nor a backup waits for that longer than it may.
#[test]
fn re07_a_full_pipe_does_not_keep_commands_from_their_work() {
    let scene = Scene::new(20, 8192);
    let segment = scene.segment("pg_wal", 10, 1);
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let (segment, destination) = (segment.display().to_string(), scene.dir.path().join("RECOVERYXLOG"));
    let (_reader, pipe) = full_pipe();
    let backup = ["--no-online", "--type=full", "--log-level-console=detail", "backup"];
    let mut backup = spawn(&scene, &backup, pipe.try_clone().unwrap());
    for level in ["--log-level-console=detail", "--log-level-stderr=detail"] {
        for arguments in [&["archive-push", &*segment][..], &["archive-get", &name, destination.to_str().unwrap()]] {
            let mut child = spawn(&scene, &[&[level], arguments].concat(), pipe.try_clone().unwrap());
            assert_eq!(code_within(&mut child, Duration::from_secs(8)), Some(0), "{arguments:?}");
        }
    }
    assert!(std::fs::read(&destination).unwrap() == std::fs::read(&segment).unwrap());
    assert_eq!(code_within(&mut backup, Duration::from_secs(40)), Some(0));
    let info = ours().ok(&scene.conf, &["--output=json", "info"]).unwrap().stdout;
    assert_eq!(info.matches("\"label\"").count(), 1, "{info}");
}

/// A reader that comes late gets all that a command prints, and all that it says when that is what it is for.
#[test]
fn re07_what_a_command_prints_is_whole_for_a_reader_that_comes_late() {
    let scene = Scene::new(400, 64);
    ours().ok(&scene.conf, &["--no-online", "--type=full", "backup"]).unwrap();
    for (arguments, end) in [
        (&["--output=json", "--recurse", "repo-ls"][..], "}"),
        (
            &["--log-level-console=detail", "--output=text", "--verbose", "verify"],
            "command end: completed successfully",
        ),
    ] {
        let (mut reader, pipe) = full_pipe();
        let mut child = spawn(&scene, arguments, pipe);
        std::thread::sleep(Duration::from_millis(1500));
        let mut late = String::new();
        reader.read_to_string(&mut late).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let late = &late[PIPE_BYTES..];
        let whole = ours().ok(&scene.conf, arguments).unwrap().stdout;
        assert_eq!(late.lines().count(), whole.lines().count(), "{late}");
        assert!(late.contains(end) && !late.contains("were lost here"), "{late}");
    }
}
