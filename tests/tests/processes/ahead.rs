//! What the resident engine pushed ahead is an answer only while the file is provably the one that was pushed (NP02).

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::command::archive::push::PushOptions;
use pgbr_repo::command::archive::{ClusterIdentity, WalSource};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::filter::Compression;
use pgbr_repo::format::{ArchiveInfo, Stanza};
use pgbr_repo::postgres::ControlFile;
use pgbr_repo::progress::Context;
use pgbr_repo::repository::{RepoIndex, Repository, WritableRepository};
use pgbr_repo::resident::{Pusher, PusherOptions};
use pgbr_repo::storage::fault::{Call, Fault, KeyPattern, Rule, When};
use pgbr_repo::storage::{FaultStorage, MemoryOptions, MemoryStorage, Storage};
use pgbr_testkit::user;

use crate::scene::{Scene, sample};
use crate::volume::context;

/// A clock that does not go.
#[derive(Debug)]
struct Stopped(i64);

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        self.0
    }
}

/// An engine over a store in memory, and two segments that are ready.
struct World {
    _scene: Scene,
    store: Arc<FaultStorage>,
    pusher: Arc<Pusher>,
    segments: [PathBuf; 2],
}

impl World {
    /// `clock` is told when the segments were written.
    async fn new(clock: impl FnOnce(i64) -> Arc<dyn Clock>) -> Self {
        let scene = Scene::new(0, 0);
        let segments = [10, 11].map(|number| scene.segment("pg_wal", number, number));
        for segment in &segments {
            let name = segment.file_name().unwrap().to_str().unwrap();
            user::write_file(&scene.data.join(format!("pg_wal/archive_status/{name}.ready")), "").unwrap();
        }
        let written = fs::metadata(&segments[1]).unwrap();
        let context = Context { clock: clock(written.ctime() * 1000 + written.ctime_nsec() / 1_000_000), ..context() };
        let options = MemoryOptions { part_bytes: 4 << 20, ..MemoryOptions::default() };
        let memory = Arc::new(MemoryStorage::new(Arc::new(SystemClock), options));
        let store = Arc::new(FaultStorage::new(memory, 1));
        let (index, stanza) = (RepoIndex::new(1).unwrap(), Stanza::parse("demo").unwrap());
        let repository = Repository::new(index, stanza, Arc::clone(&store) as Arc<dyn Storage>, None);
        let repository = WritableRepository::new(repository);
        let control = ControlFile::parse(&sample("pg15-1mib.pg_control")).unwrap();
        let cluster = ClusterIdentity { version: control.version(), system_id: control.system_id() };
        let info = ArchiveInfo::new(None, cluster.version, cluster.system_id);
        repository.create_archive_info(&info, &context).await.unwrap();
        let push =
            PushOptions { header_check: true, mode_check: true, compress: Compression::NONE, cluster: Some(cluster) };
        let pusher = Pusher::new(vec![repository], PusherOptions { push, workers: 2 }, context);
        Self { _scene: scene, store, pusher, segments }
    }

    fn source(&self, place: usize) -> WalSource {
        WalSource::new(&self.segments[place]).unwrap()
    }

    fn status(&self, place: usize, state: &str) -> PathBuf {
        let name = self.segments[place].file_name().unwrap().to_str().unwrap();
        self.segments[place].with_file_name(format!("archive_status/{name}.{state}"))
    }

    fn requests(&self) -> u64 {
        self.store.requests().values().sum()
    }

    /// Asks for the first, and waits until something is so.
    async fn push_first_until(&self, what: &str, is_so: impl Fn() -> bool) {
        self.pusher.push(&self.source(0)).await.unwrap();
        // As PostgreSQL does: else it would be pushed ahead again as soon as the second is asked for.
        fs::rename(self.status(0, "ready"), self.status(0, "done")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Its content was read before, its change lies before the end of the push.
#[tokio::test(flavor = "multi_thread")]
async fn np02_a_file_that_changes_while_it_is_pushed_ahead_is_refused() {
    let world = World::new(|_| Arc::new(SystemClock)).await;
    let name = world.segments[1].file_name().unwrap().to_str().unwrap().to_owned();
    world.store.set_rules(vec![Rule {
        call: Some(Call::Put),
        key: KeyPattern::Contains(name),
        when: When::Always,
        fault: Fault::Delay(Duration::from_secs(1)),
    }]);
    // The info file and its copy were put before.
    let before = world.store.requests_of(Call::Put);
    world.push_first_until("the second is on its way", || world.store.requests_of(Call::Put) == before + 2).await;
    let file = fs::File::options().write(true).open(&world.segments[1]).unwrap();
    file.write_all_at(&[0xAB; 8], 500_000).unwrap();
    let error = world.pusher.push(&world.source(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArchiveDuplicate, "{error}");
}

/// Two changes within a tick of the kernel's clock have one time stamp: until it is over nobody can tell.
#[tokio::test(flavor = "multi_thread")]
async fn np02_a_file_that_was_written_a_moment_ago_is_looked_at_again() {
    for (after_ms, is_answered) in [(10, false), (10_000, true)] {
        let world = World::new(|written_ms| Arc::new(Stopped(written_ms + after_ms))).await;
        world.push_first_until("the second was pushed ahead", || world.pusher.state() == (0, 1)).await;
        let before = world.requests();
        world.pusher.push(&world.source(1)).await.unwrap();
        assert_eq!(world.requests() == before, is_answered, "{after_ms} ms");
    }
}
