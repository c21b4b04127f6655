//! One batch: the segments of the set, pushed into a stanza of their own by one program.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::user;
use rustix::process::{Pid, Signal, kill_process};

use super::case::{Case, Mode};
use super::detached;
use super::memory::Peak;
use super::store::{Requests, Store};
use super::wal_set::WalSet;
use crate::Failure;

const STANZA: &str = "bench";

/// USER_HZ of Linux, the unit of times in `/proc/PID/stat`, on every architecture that PostgreSQL is run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a batch took.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// From the first start to the last acknowledgement.
    pub(super) wall: Duration,
    /// User and system time of all processes of the client.
    pub(super) cpu_s: f64,
    /// From start to end of each command.
    pub(super) pushes: Vec<Duration>,
    pub(super) requests: Requests,
    /// The resident engine's memory, where one ran.
    pub(super) resident: Option<Peak>,
    pub(super) stored_bytes: u64,
}

/// Where batches run.
pub(super) struct Ground<'a> {
    pub(super) ours: &'a Engine,
    pub(super) stock: &'a Engine,
    pub(super) wal: &'a WalSet,
    pub(super) store: &'a mut Store,
    pub(super) folder: &'a Path,
    /// Batches so far: each has a repository of its own.
    pub(super) batches: usize,
}

/// A stanza, ready to be pushed to.
pub(super) struct Stanza<'a> {
    engine: &'a Engine,
    conf: Conf,
    data: PathBuf,
    output: PathBuf,
    /// The repository's folder in the bucket.
    path: String,
}

impl Ground<'_> {
    /// Makes a stanza, pushes all segments, checks that they are there, and removes the repository.
    pub(super) fn run(&mut self, case: &Case, mode: Mode) -> Result<Measured, Failure> {
        let engine = if mode.is_ours() { self.ours } else { self.stock };
        let data = if mode.is_ahead() { self.data_with_status()? } else { self.wal.data().to_owned() };
        let stanza = self.stanza(engine, case, mode, data)?;
        let (requests, cpu_s) = (self.store.requests()?, children_cpu_s()?);
        let resident = (mode == Mode::OursResident).then(|| Resident::start(&stanza)).transpose()?;
        let started = Instant::now();
        let pushes = stanza.push_all(self.wal.names(), mode.at_once())?;
        let wall = started.elapsed();
        let resident = resident.map(Resident::end).transpose()?;
        if mode.is_async() {
            detached::wait_for_all_but(self.store.process())?;
        }
        let measured = Measured {
            wall,
            cpu_s: children_cpu_s()? - cpu_s,
            pushes,
            requests: self.store.requests()? - requests,
            resident,
            stored_bytes: self.stored_bytes(&stanza, self.wal.names().len())?,
        };
        self.discard(&stanza)?;
        Ok(measured)
    }

    /// A stanza in a repository that nothing else uses.
    pub(super) fn stanza<'a>(
        &mut self,
        engine: &'a Engine,
        case: &Case,
        mode: Mode,
        data: PathBuf,
    ) -> Result<Stanza<'a>, Failure> {
        let path = format!("batch-{}", self.batches + 1);
        // The original's stanza-create does not know the options of archiving ahead.
        let mut stanza = self.configured(engine, case, data, &path)?;
        engine.ok(&stanza.conf, &["stanza-create", "--no-online"])?;
        stanza.archive_as(mode)?;
        Ok(stanza)
    }

    /// A configuration of its own for a repository, which may be one that is there already.
    pub(super) fn configured<'a>(
        &mut self,
        engine: &'a Engine,
        case: &Case,
        data: PathBuf,
        path: &str,
    ) -> Result<Stanza<'a>, Failure> {
        self.batches += 1;
        let folder = self.folder.join(format!("conf-{}", self.batches));
        let mut conf = Conf::create(&folder, STANZA)?;
        conf.local("pg1-path", &data.display().to_string())?;
        for (option, value) in self.store.options() {
            conf.global(option, value)?;
        }
        conf.global("repo1-path", &format!("/{path}"))?;
        conf.global("log-level-console", "warn")?;
        for (option, value) in case.options() {
            conf.global(option, value)?;
        }
        Ok(Stanza { engine, conf, data, output: folder.join("output"), path: path.to_owned() })
    }

    pub(super) fn discard(&self, stanza: &Stanza<'_>) -> Result<(), Failure> {
        self.store.remove(&stanza.path)
    }

    fn stored_bytes(&self, stanza: &Stanza<'_>, expected: usize) -> Result<u64, Failure> {
        let (segments, stored_bytes) = self.store.segments(&stanza.path)?;
        if segments == expected {
            return Ok(stored_bytes);
        }
        Err(Failure::new(format!("{} stored {segments} of {expected} segments", stanza.engine.name())))
    }

    /// A data directory where every segment waits to be archived, as the asynchronous archiver wants to see it.
    pub(super) fn data_with_status(&self) -> Result<PathBuf, Failure> {
        let data = self.folder.join(format!("data-{}", self.batches + 1));
        user::create_dir(&data.join("global"))?;
        user::create_dir(&data.join("pg_wal/archive_status"))?;
        for name in ["PG_VERSION", "global/pg_control"] {
            user::write_file(&data.join(name), fs::read(self.wal.data().join(name))?)?;
        }
        for (name, path) in self.wal.names().iter().zip(self.wal.paths()) {
            let place = data.join("pg_wal").join(name);
            // Not a symbolic link: the original takes its size for that of the segment.
            if fs::hard_link(&path, &place).is_err() {
                user::write_file(&place, fs::read(&path)?)?;
            }
            user::write_file(&ready_file(&data, name), "")?;
        }
        Ok(data)
    }
}

/// A running `serve`.
pub(super) struct Resident {
    process: Child,
    peak: Peak,
}

impl Resident {
    pub(super) fn start(stanza: &Stanza<'_>) -> Result<Self, Failure> {
        let mut command = stanza.engine.command(&stanza.conf, &["serve"]);
        let output = OpenOptions::new().create(true).append(true).open(&stanza.output)?;
        let process = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let folder = stanza.conf.path().parent().unwrap_or(Path::new("/"));
        let socket = folder.join("lock").join(format!("{STANZA}-serve.sock"));
        let resident = Self { process, peak: Peak::default() };
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::symlink_metadata(&socket).is_err() {
            if Instant::now() > deadline {
                return Err(Failure::new("serve does not listen"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(resident)
    }

    /// Ends it and says what memory it had.
    pub(super) fn end(mut self) -> Result<Peak, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        self.peak.look(&status, "pgbr");
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new("serve has no process number"))?;
        kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
        self.process.wait()?;
        Ok(self.peak)
    }
}

impl Stanza<'_> {
    /// The folder of the repository in the bucket.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Sets what the mode needs.
    pub(super) fn archive_as(&mut self, mode: Mode) -> Result<(), Failure> {
        if mode.is_async() {
            self.conf.global("archive-async", "y")?;
        }
        if mode.is_ahead() {
            self.conf.global("process-max", "2")?;
        }
        Ok(())
    }

    /// `archive-get` of one segment into the data directory, as PostgreSQL calls it.
    pub(super) fn get(&self, name: &str) -> Result<Duration, Failure> {
        let mut command = self.engine.command(&self.conf, &["archive-get", name, "pg_wal/RECOVERYXLOG"]);
        let output = OpenOptions::new().create(true).append(true).open(&self.output)?;
        command.current_dir(&self.data).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let started = Instant::now();
        let status = command.status()?;
        let taken = started.elapsed();
        let delivered = fs::read(self.data.join("pg_wal/RECOVERYXLOG")).unwrap_or_default();
        // As PostgreSQL does with a segment that it has replayed; and no run may find that of the one before.
        drop(fs::remove_file(self.data.join("pg_wal/RECOVERYXLOG")));
        if status.success() && delivered == fs::read(self.data.join("pg_wal").join(name))? {
            return Ok(taken);
        }
        let printed = fs::read_to_string(&self.output).unwrap_or_default();
        Err(Failure::new(format!("{} archive-get {name} failed:\n{printed}", self.engine.name())))
    }

    /// `archive-push` as PostgreSQL calls it: in the data directory, with a relative path.
    pub(super) fn command(&self, name: &str) -> Result<Command, Failure> {
        let mut command = self.engine.command(&self.conf, &["archive-push", &format!("pg_wal/{name}")]);
        // A file: a pipe would be held open by a process that detaches.
        let output = OpenOptions::new().create(true).append(true).open(&self.output)?;
        command.current_dir(&self.data).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(command)
    }

    /// An error with all that the commands have printed.
    pub(super) fn failed(&self, name: &str) -> Failure {
        let printed = fs::read_to_string(&self.output).unwrap_or_default();
        Failure::new(format!("{} archive-push {name} failed:\n{printed}", self.engine.name()))
    }

    fn push(&self, name: &str) -> Result<Duration, Failure> {
        let mut command = self.command(name)?;
        let started = Instant::now();
        let status = command.status()?;
        let taken = started.elapsed();
        if !status.success() {
            return Err(self.failed(name));
        }
        // As PostgreSQL does, where it is looked at.
        let ready = ready_file(&self.data, name);
        if ready.is_file() {
            fs::remove_file(ready)?;
        }
        Ok(taken)
    }

    pub(super) fn push_all(&self, names: &[String], at_once: usize) -> Result<Vec<Duration>, Failure> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<Duration>, Failure> {
            let mut taken = Vec::new();
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                taken.push(self.push(name)?);
            }
            Ok(taken)
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
            let mut taken = Vec::new();
            for worker in workers {
                taken.extend(worker.join().map_err(|_| Failure::new("a worker panicked"))??);
            }
            Ok(taken)
        })
    }
}

/// The file that says that a segment waits to be archived.
fn ready_file(data: &Path, name: &str) -> PathBuf {
    data.join("pg_wal/archive_status").join(format!("{name}.ready"))
}

/// CPU time of all children that have ended, their own children included: the kernel counts it as for wait4().
pub(super) fn children_cpu_s() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    waited_cpu_s(&stat).ok_or_else(|| Failure::new(format!("/proc/self/stat says {stat:?}")))
}

/// The fields cutime and cstime; see proc_pid_stat(5).
fn waited_cpu_s(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(13).map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_is_found_in_stat() {
        let stat = "1 (x) y) S 2 3 4 5 6 7 8 9 10 11 1000 2000 150 50 20 0";
        assert_eq!(waited_cpu_s(stat), Some(2.0));
        assert_eq!(waited_cpu_s("1 (x) S 2"), None);
    }
}
