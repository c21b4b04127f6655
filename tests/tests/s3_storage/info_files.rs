//! Info files on a server that checks conditions and is not known to.

use std::sync::Arc;

use pgbr_repo::clock::{SystemClock, SystemRandom};
use pgbr_repo::filter::Codecs;
use pgbr_repo::format::{ArchiveInfo, Stanza};
use pgbr_repo::postgres::{PgVersion, SystemId};
use pgbr_repo::progress::{Context, Silent};
use pgbr_repo::repository::{Change, RepoIndex, Repository, WritableRepository};
use pgbr_repo::storage::s3::S3Options;
use pgbr_repo::storage::{Storage, StorageExt};
use pgbr_repo::transfer::Budget;

use crate::{open, path, real_server};

fn context() -> Context {
    Context {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        budget: Budget::new(1024 * 1024),
        codecs: Codecs::new(1),
        cancel: Default::default(),
        reporter: Arc::new(Silent),
    }
}

/// A host of its own.
fn host(options: &S3Options) -> WritableRepository {
    let stanza = Stanza::parse("demo").unwrap();
    let storage: Arc<dyn Storage> = Arc::new(open(options));
    WritableRepository::new(Repository::new(RepoIndex::new(1).unwrap(), stanza, storage, None))
}

fn clusters(info: &ArchiveInfo) -> Vec<u64> {
    info.history().generations().iter().map(|generation| generation.system_id.0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in12_changes_of_several_hosts_at_once_are_all_kept() {
    let root = tempfile::tempdir().unwrap();
    let (_server, options) = real_server(root.path());
    let first = host(&options);
    let info = ArchiveInfo::new(None, PgVersion::V15, SystemId(1));
    first.create_archive_info(&info, &context()).await.unwrap();
    let writers: Vec<_> = (2..6)
        .map(|id| {
            let host = host(&options);
            tokio::spawn(async move {
                let change = |info: &mut ArchiveInfo| {
                    if clusters(info).contains(&id) {
                        return Ok(Change::Nothing);
                    }
                    info.upgrade(PgVersion::V15, SystemId(id)).unwrap();
                    Ok(Change::Write)
                };
                host.update_archive_info(&context(), change).await.unwrap();
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut found = clusters(&first.archive_info(&context()).await.unwrap());
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 4, 5]);
    let read = async |name| first.storage().read_all(&path(name), 1 << 20).await.unwrap();
    assert_eq!(read("archive/demo/archive.info").await, read("archive/demo/archive.info.copy").await);
}
