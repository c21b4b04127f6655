//! What CloudNativePG's instance manager does around the plugin: its `wal-archive` and `wal-restore` commands step by step
//! (cnpg-i.md §2.2, §2.3), and the work on a data directory before and after.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::user;
use serde_json::{Value, json};

use crate::scene::{Bridge, Caller, NAMESPACE, PLUGIN, Pod, World};

/// The marker of a cluster that has archived nothing yet.
pub(crate) const MARKER: &str = ".check-empty-wal-archive";

/// A Cluster as every pod's web server gives it, changed by what happens.
#[derive(Debug, Clone)]
pub(crate) struct Definition(Arc<Mutex<Value>>);

impl Definition {
    /// A Cluster that archives into `store` under its own name.
    pub(crate) fn new(name: &str) -> Self {
        Self(Arc::new(Mutex::new(json!({
            "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}")},
            "spec": {"plugins": [
                {"name": PLUGIN, "isWALArchiver": true, "parameters": {"pgbackrestObjectName": "store"}},
            ]},
            "status": {},
        }))))
    }

    fn lock(&self) -> MutexGuard<'_, Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> Value {
        self.lock().clone()
    }

    pub(crate) fn set(&self, pointer: &str, value: Value) {
        let mut object = self.lock();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = value;
    }

    /// The pod is the primary, on this timeline.
    pub(crate) fn promote(&self, pod: &str, timeline: u32) {
        self.set("/status/currentPrimary", json!(pod));
        self.set("/status/targetPrimary", json!(pod));
        self.set("/status/timelineID", json!(timeline));
    }

    fn text(&self, pointer: &str) -> String {
        self.lock().pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn is_replica(&self) -> bool {
        let own = self.text("/metadata/name");
        let object = self.lock();
        let primary = object.pointer("/spec/replica/primary").and_then(Value::as_str);
        primary.is_some_and(|primary| primary != own)
    }
}

/// Which fields of the protocol the caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// CNPG-I 0.5: the emptiness check and the mode are not told.
    Five,
    /// CNPG-I 0.6
    Six,
}

/// The instance manager of one pod.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    caller: Caller,
    pod: String,
    data: PathBuf,
    cluster: Definition,
    speaks: Speaks,
}

impl Manager {
    /// `archive_command`: whether it exits with 0.
    pub(crate) fn wal_archive(&self, file: &str) -> bool {
        let (current, target) =
            (self.cluster.text("/status/currentPrimary"), self.cluster.text("/status/targetPrimary"));
        if self.cluster.is_replica() && current != self.pod && target != self.pod {
            return true;
        }
        current == self.pod && self.archive(file)
    }

    fn archive(&self, file: &str) -> bool {
        let marked = self.data.join(MARKER).try_exists().unwrap();
        let check = match self.speaks {
            Speaks::Five => None,
            Speaks::Six => Some(marked),
        };
        let done = self.caller.archive(&self.cluster.get(), file, check);
        if let Err(status) = &done {
            println!("{}: archive {file}: {status:?}", self.pod);
        }
        done.is_ok()
    }

    /// `restore_command`: whether it exits with 0.
    pub(crate) fn wal_restore(&self, file: &str, base: &str, rewind: bool) -> bool {
        let timeline = self.cluster.get().pointer("/status/timelineID").and_then(Value::as_u64).unwrap_or(0);
        let is_primary = [self.cluster.text("/status/currentPrimary"), self.cluster.text("/status/targetPrimary")]
            .contains(&self.pod);
        if let Some(history) = file.strip_suffix(".history")
            && u64::from_str_radix(history, 16).unwrap() > timeline
            && timeline != 0
            && !is_primary
        {
            return false;
        }
        let mode = match (self.speaks, rewind) {
            (Speaks::Five, _) => 0,
            (Speaks::Six, false) => 1,
            (Speaks::Six, true) => 2,
        };
        let done = self.caller.fetch(&self.cluster.get(), file, base, mode);
        if let Err(status) = &done {
            println!("{}: restore {file}: {status:?}", self.pod);
        }
        done.is_ok()
    }

    /// Archives all that waits, as is done before `pg_rewind` and with the server stopped.
    pub(crate) fn archive_all_ready(&self) {
        let folder = self.data.join("pg_wal/archive_status");
        let mut names: Vec<String> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        for ready in &names {
            let Some(file) = ready.strip_suffix(".ready") else { continue };
            assert!(self.archive(file), "{file} blocks the return of {}", self.pod);
            fs::rename(folder.join(ready), folder.join(format!("{file}.done"))).unwrap();
        }
    }
}

/// One instance of a cluster: server, sidecar and instance manager.
pub(crate) struct Member {
    pub(crate) bridge: Bridge,
    pub(crate) pod: Pod,
    pub(crate) manager: Manager,
    pub(crate) server: Cluster,
}

/// What a member differs in.
pub(crate) struct Plan<'a> {
    pub(crate) world: &'a World,
    pub(crate) name: &'a str,
    pub(crate) cluster: &'a Definition,
    pub(crate) version: Version,
    pub(crate) speaks: Speaks,
    /// `archive_mode`
    pub(crate) archives: &'a str,
}

impl Plan<'_> {
    pub(crate) fn data(&self) -> PathBuf {
        self.world.folder.path().join(format!("data-{}", self.name))
    }

    fn bridge(&self) -> Bridge {
        let folder = self.world.folder.path().join(format!("of-{}", self.name));
        user::create_dir(&folder).unwrap();
        Bridge::new(&folder)
    }

    fn options(&self, bridge: &Bridge) -> Options {
        let set = |name: &str, value: String| (name.to_owned(), value);
        Options {
            wal_segment_size_mib: 1,
            conf: vec!["archive_timeout = 1s".to_owned()],
            overrides: vec![
                set("archive_mode", self.archives.to_owned()),
                set("archive_command", bridge.command("archive")),
                set("restore_command", bridge.command("restore")),
            ],
            ..Options::default()
        }
    }

    /// A new cluster, as initdb's Job leaves it: the server does not run yet.
    pub(crate) fn init(&self) -> Member {
        let (bridge, data) = (self.bridge(), self.data());
        let server = Cluster::create(self.version, &data, self.options(&bridge)).unwrap();
        user::write_file(&data.join(MARKER), "").unwrap();
        self.member(bridge, server)
    }

    /// A standby of `primary`.
    pub(crate) fn join(&self, primary: &mut Member) -> Member {
        let bridge = self.bridge();
        let options = self.options(&bridge);
        // Its first request comes while it starts.
        let data = self.data();
        let placeholder = Cluster::open(self.version, &data, options.clone()).unwrap();
        let mut member = self.member(bridge, placeholder);
        let server = primary.server.replica(&data, options).unwrap();
        member.pod = {
            drop(member.pod);
            Pod::start(self.world, self.name, &data, server.socket_dir())
        };
        member.server = server;
        member
    }

    /// A server on a data directory that is there.
    pub(crate) fn open(&self) -> Member {
        let bridge = self.bridge();
        let server = Cluster::open(self.version, &self.data(), self.options(&bridge)).unwrap();
        self.member(bridge, server)
    }

    fn member(&self, mut bridge: Bridge, server: Cluster) -> Member {
        let data = self.data();
        let pod = Pod::start(self.world, self.name, &data, server.socket_dir());
        let manager = Manager {
            caller: pod.caller(),
            pod: self.name.to_owned(),
            data,
            cluster: self.cluster.clone(),
            speaks: self.speaks,
        };
        let answering = manager.clone();
        bridge.answer(move |what, file, base| match what {
            "archive" => answering.wal_archive(file),
            _ => answering.wal_restore(file, base, what == "rewind"),
        });
        Member { bridge, pod, manager, server }
    }
}

impl Member {
    pub(crate) fn has(&self, file: &str) -> bool {
        self.server.data().join(file).try_exists().unwrap()
    }

    /// Makes the stopped server a standby of `source` (a connection string), or of the archive alone.
    pub(crate) fn follow(&self, source: Option<&str>) {
        let data = self.server.data();
        user::write_file(&data.join("standby.signal"), "").unwrap();
        let line = source.map(|source| format!("primary_conninfo = '{source}'\n")).unwrap_or_default();
        user::write_file(&data.join("postgresql.auto.conf"), line).unwrap();
    }

    /// Until the sum of a table is `expected`.
    pub(crate) fn wait_for_rows(&self, expected: &str) {
        let limit = Duration::from_secs(30);
        self.server.wait("SELECT string_agg(what, ',' ORDER BY what) FROM t", expected, limit).unwrap();
    }
}

/// The cluster that a definition of a recovery is of, settings of CloudNativePG included: signal file and target.
pub(crate) fn begin_recovery(data: &Path, config: &str, target: &str) {
    user::write_file(&data.join("recovery.signal"), "").unwrap();
    let conf = data.join("postgresql.conf");
    let mut text = fs::read_to_string(&conf).unwrap();
    // The command is that of PostgreSQL's own container: the bridge stands for it.
    for line in config.lines().filter(|line| !line.starts_with("restore_command")) {
        text.push_str(&format!("\n{line}"));
    }
    user::write_file(&conf, format!("{text}\n{target}\nrecovery_target_inclusive = true\n")).unwrap();
}
