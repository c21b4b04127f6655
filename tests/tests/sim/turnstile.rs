//! Who may go next: every request of every host to the store waits here until the run lets it through, one at a time.
//!
//! The run decides only when nothing moves: no task can run, and every thread of the runtime sleeps. So the order of the
//! requests, and with it the whole run, follows from the seed although real threads do the work.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pgbr_repo::storage::fault::Call;
use pgbr_repo::storage::{
    ByteRange, Capabilities, Condition, Durability, ListOptions, ListPage, ObjectInfo, ObjectRead, ObjectVersion,
    PageToken, PartTag, PosixStorage, Storage, StorageError, StorageFuture, StoragePath, UploadId, UploadPart,
};
use tokio::sync::oneshot;

use crate::dice::Dice;

#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    waiting: Mutex<Vec<Waiting>>,
    threads: Mutex<Vec<Thread>>,
}

#[derive(Debug)]
struct Waiting {
    host: usize,
    call: Call,
    path: String,
    turn: oneshot::Sender<()>,
}

/// What the system says of a thread.
#[derive(Debug)]
struct Thread {
    stat: File,
    schedstat: File,
}

impl Turnstile {
    /// To be called by each thread of the runtime when it begins.
    pub(crate) fn enter_thread(&self) {
        let open = |name| File::open(format!("/proc/thread-self/{name}")).unwrap();
        let thread = Thread { stat: open("stat"), schedstat: open("schedstat") };
        self.threads.lock().unwrap().push(thread);
    }

    /// Waits until no task and no thread moves.
    pub(crate) async fn still(&self) {
        let mut last = None;
        loop {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            let now = self.look();
            if now.is_some() && now == last {
                return;
            }
            last = now;
            if now.is_none() {
                std::thread::yield_now();
            }
        }
    }

    /// How often the threads were given a processor, if all of them sleep.
    fn look(&self) -> Option<u64> {
        let mut turns = 0;
        for thread in self.threads.lock().unwrap().iter() {
            let mut text = [0; 512];
            let Ok(length) = thread.stat.read_at(&mut text, 0) else { continue };
            let stat = String::from_utf8_lossy(&text[..length]);
            if !stat.rsplit(')').next()?.trim_start().starts_with('S') {
                return None;
            }
            let length = thread.schedstat.read_at(&mut text, 0).unwrap_or(0);
            let counts = String::from_utf8_lossy(&text[..length]);
            turns += counts.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        }
        Some(turns)
    }

    async fn pass(&self, host: usize, call: Call, path: &str) {
        let (turn, wait) = oneshot::channel();
        self.waiting.lock().unwrap().push(Waiting { host, call, path: path.to_owned(), turn });
        drop(wait.await);
    }

    /// Lets one request through and says which.
    pub(crate) fn open(&self, dice: &mut Dice) -> Option<String> {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.retain(|waiting| !waiting.turn.is_closed());
        // In which order they came depends on threads.
        waiting.sort_by(|one, other| (one.host, one.call, &one.path).cmp(&(other.host, other.call, &other.path)));
        if waiting.is_empty() {
            return None;
        }
        let place = dice.below(waiting.len());
        let chosen = waiting.remove(place);
        let said = format!("host{} {:?} {}", chosen.host, chosen.call, chosen.path);
        // Who gave up since has no use for it.
        chosen.turn.send(()).ok();
        Some(said)
    }
}

/// The store as one host reaches it: through the turnstile.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) host: usize,
    pub(crate) turnstile: Arc<Turnstile>,
    pub(crate) inner: Arc<dyn Storage>,
}

impl Gate {
    fn call<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        path: &'a str,
        request: impl FnOnce(&'a dyn Storage) -> StorageFuture<'a, T> + Send + 'a,
    ) -> StorageFuture<'a, T> {
        Box::pin(async move {
            self.turnstile.pass(self.host, call, path).await;
            request(&*self.inner).await
        })
    }
}

impl Storage for Gate {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn read<'a>(
        &'a self,
        path: &'a StoragePath,
        range: ByteRange,
        pin: Option<&'a ObjectVersion>,
    ) -> StorageFuture<'a, ObjectRead> {
        self.call(Call::Read, path.as_str(), move |inner| inner.read(path, range, pin))
    }

    fn info<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ObjectInfo> {
        self.call(Call::Info, path.as_str(), move |inner| inner.info(path))
    }

    fn list_page<'a>(
        &'a self,
        path: &'a StoragePath,
        options: &'a ListOptions,
        page: Option<PageToken>,
    ) -> StorageFuture<'a, ListPage> {
        self.call(Call::ListPage, path.as_str(), move |inner| inner.list_page(path, options, page))
    }

    fn put<'a>(
        &'a self,
        path: &'a StoragePath,
        body: Bytes,
        condition: Condition,
        durability: Durability,
    ) -> StorageFuture<'a, ObjectInfo> {
        self.call(Call::Put, path.as_str(), move |inner| inner.put(path, body, condition, durability))
    }

    fn upload_create<'a>(&'a self, path: &'a StoragePath, durability: Durability) -> StorageFuture<'a, UploadId> {
        self.call(Call::UploadCreate, path.as_str(), move |inner| inner.upload_create(path, durability))
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        part: UploadPart,
    ) -> StorageFuture<'a, PartTag> {
        self.call(Call::UploadPart, path.as_str(), move |inner| inner.upload_part(path, upload, part))
    }

    fn upload_complete<'a>(
        &'a self,
        path: &'a StoragePath,
        upload: &'a UploadId,
        parts: &'a [PartTag],
        condition: Condition,
    ) -> StorageFuture<'a, ObjectInfo> {
        self.call(Call::UploadComplete, path.as_str(), move |inner| {
            inner.upload_complete(path, upload, parts, condition)
        })
    }

    fn upload_abort<'a>(&'a self, path: &'a StoragePath, upload: &'a UploadId) -> StorageFuture<'a, ()> {
        self.call(Call::UploadAbort, path.as_str(), move |inner| inner.upload_abort(path, upload))
    }

    fn remove<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        self.call(Call::Remove, path.as_str(), move |inner| inner.remove(path))
    }

    fn remove_many<'a>(&'a self, paths: &'a [StoragePath]) -> StorageFuture<'a, Vec<StorageError>> {
        let first = paths.first().map_or("", StoragePath::as_str);
        self.call(Call::RemoveMany, first, move |inner| inner.remove_many(paths))
    }

    fn remove_tree<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        self.call(Call::RemoveTree, path.as_str(), move |inner| inner.remove_tree(path))
    }

    fn remove_stale_uploads<'a>(&'a self, path: &'a StoragePath, begun_before_s: i64) -> StorageFuture<'a, u64> {
        self.call(Call::RemoveStaleUploads, path.as_str(), move |inner| {
            inner.remove_stale_uploads(path, begun_before_s)
        })
    }

    fn flush(&self) -> StorageFuture<'_, ()> {
        self.call(Call::Flush, "", |inner| inner.flush())
    }

    fn posix(&self) -> Option<&dyn PosixStorage> {
        self.inner.posix().map(|_| self as &dyn PosixStorage)
    }
}

impl Gate {
    fn posix_call<'a>(
        &'a self,
        path: &'a StoragePath,
        request: impl FnOnce(&'a dyn PosixStorage) -> StorageFuture<'a, ()> + Send + 'a,
    ) -> StorageFuture<'a, ()> {
        self.call(Call::Posix, path.as_str(), move |inner| request(inner.posix().expect("asked for before")))
    }
}

impl PosixStorage for Gate {
    fn create_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        self.posix_call(path, move |posix| posix.create_directory(path))
    }

    fn symlink<'a>(&'a self, path: &'a StoragePath, target: &'a str) -> StorageFuture<'a, ()> {
        self.posix_call(path, move |posix| posix.symlink(path, target))
    }

    fn hard_link<'a>(&'a self, existing: &'a StoragePath, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        self.posix_call(path, move |posix| posix.hard_link(existing, path))
    }

    fn sync_directory<'a>(&'a self, path: &'a StoragePath) -> StorageFuture<'a, ()> {
        self.posix_call(path, move |posix| posix.sync_directory(path))
    }
}
