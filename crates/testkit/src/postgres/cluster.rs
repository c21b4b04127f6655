//! One cluster: its folder, and its server while that runs.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::options::quoted;
use super::{Options, Version};
use crate::error::{Context, Error, Result};
use crate::process::{self, DEFAULT_LIMIT, Outcome};
use crate::tools::{clients, postgresql};
use crate::user;

/// Servers listen on a socket in a folder of their own only, so that one port serves them all.
const PORT: u16 = 5432;

/// psql separates columns and rows with these control characters, which no test's data holds.
const COLUMN: char = '\u{1f}';
const ROW: char = '\u{1e}';

/// How often a waiting test looks again.
const POLL: Duration = Duration::from_millis(20);

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// With a checkpoint; sessions are ended. Waits for the archiver.
    Fast,
    /// At once, as after a crash: the next start recovers.
    Immediate,
}

/// A cluster. Dropping it ends its server at once; the folder stays with whoever gave it.
#[derive(Debug)]
pub struct Cluster {
    version: Version,
    data: PathBuf,
    options: Options,
    bin: PathBuf,
    run: TempDir,
    server: Option<Child>,
}

impl Cluster {
    /// Makes a new cluster in `data` (which must not exist or be empty) and leaves it stopped.
    ///
    /// # Errors
    /// When the server is not to be had or initdb fails.
    pub fn create(version: Version, data: &Path, options: Options) -> Result<Self> {
        let cluster = Self::open(version, data, options)?;
        if let Some(parent) = data.parent() {
            user::create_dir(parent)?;
        }
        let checksums = match (cluster.options.checksums, version >= Version::V18) {
            (true, _) => Some("--data-checksums"),
            // Older releases have them off and do not know the option.
            (false, true) => Some("--no-data-checksums"),
            (false, false) => None,
        };
        let mut initdb = user::command(cluster.bin.join("initdb"));
        initdb.arg("--pgdata").arg(data).args(["--username=postgres", "--auth=trust", "--no-sync", "--locale=C"]);
        initdb.args(["--encoding=UTF8", &format!("--wal-segsize={}", cluster.options.wal_segment_size_mib)]);
        process::run(initdb.args(checksums), DEFAULT_LIMIT)?.success()?;
        cluster.append_conf(&cluster.options.conf_text())?;
        Ok(cluster)
    }

    /// Takes a data folder that exists, such as a restored one; nothing in it is changed.
    ///
    /// # Errors
    /// When the server is not to be had.
    pub fn open(version: Version, data: &Path, options: Options) -> Result<Self> {
        let bin = postgresql::install(version)?.bin;
        Ok(Self { version, data: data.to_owned(), options, bin, run: user::scratch()?, server: None })
    }

    /// [`Cluster::create`], then [`Cluster::start`].
    ///
    /// # Errors
    /// As both of them.
    pub fn started(version: Version, data: &Path, options: Options) -> Result<Self> {
        let mut cluster = Self::create(version, data, options)?;
        cluster.start()?;
        Ok(cluster)
    }

    /// Starts the server and waits until it answers, for a recovering one until it answers to reads.
    ///
    /// # Errors
    /// With the end of the server's log when it ends or does not answer within [`Options::start_limit`].
    pub fn start(&mut self) -> Result<()> {
        if self.server.is_some() {
            return Err(Error::Unexpected(format!("the server of {} runs already", self.data.display())));
        }
        let log =
            OpenOptions::new().create(true).append(true).open(self.log_file()).context("open", &self.log_file())?;
        let mut command = user::command(self.bin.join("postgres"));
        command.arg("-D").arg(&self.data).arg("-k").arg(self.socket_dir()).arg("-p").arg(PORT.to_string());
        command.args(["-c", "listen_addresses=", "-c", "logging_collector=off"]);
        for (name, value) in &self.options.overrides {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let stderr = log.try_clone().context("share", &self.log_file())?;
        command.stdin(Stdio::null()).stdout(log).stderr(stderr);
        self.server = Some(command.spawn().context("start server of", &self.data)?);
        self.wait_until_ready()
    }

    /// Ends the server and waits for its end; does nothing if it does not run.
    ///
    /// # Errors
    /// When it does not end within two minutes (it is killed then).
    pub fn stop(&mut self, how: Shutdown) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let signal = match how {
            Shutdown::Fast => Signal::INT,
            Shutdown::Immediate => Signal::QUIT,
        };
        let limit = Duration::from_secs(120);
        if end(&mut server, signal, limit).context("end server of", &self.data)? {
            return Ok(());
        }
        Err(Error::TimedOut {
            what: format!("end of the server of {}\n{}", self.data.display(), self.log_end()),
            limit,
        })
    }

    /// Whether the server process runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(None)))
    }

    /// Runs SQL in the database `postgres`; every row as its columns' text, NULL as the empty text.
    ///
    /// # Errors
    /// When psql is not to be had or the server refuses.
    pub fn sql(&self, statements: &str) -> Result<Vec<Vec<String>>> {
        self.sql_in("postgres", statements)
    }

    /// [`Cluster::sql`] in another database.
    ///
    /// # Errors
    /// As [`Cluster::sql`].
    pub fn sql_in(&self, database: &str, statements: &str) -> Result<Vec<Vec<String>>> {
        let printed = self.psql(database, statements)?.success()?.stdout;
        let printed = printed.trim_end_matches('\n').trim_end_matches(ROW);
        if printed.is_empty() {
            return Ok(Vec::new());
        }
        Ok(printed.split(ROW).map(|row| row.split(COLUMN).map(str::to_owned).collect()).collect())
    }

    /// The first column of the first row.
    ///
    /// # Errors
    /// As [`Cluster::sql`], and when there is no row.
    pub fn value(&self, statement: &str) -> Result<String> {
        let first = self.sql(statement)?.into_iter().next().and_then(|row| row.into_iter().next());
        first.ok_or_else(|| Error::Unexpected(format!("no row from: {statement}")))
    }

    /// Waits until a statement answers this text; a failing statement is asked again.
    ///
    /// # Errors
    /// When `limit` has passed, with the last answer.
    pub fn wait(&self, statement: &str, expected: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let last = match self.value(statement) {
                Ok(value) if value == expected => return Ok(()),
                Ok(value) => value,
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                let what = format!("{statement} = {expected:?}, last {last:?}\n{}", self.log_end());
                return Err(Error::TimedOut { what, limit });
            }
            std::thread::sleep(POLL * 5);
        }
    }

    /// Waits until recovery has ended and the server takes writes.
    ///
    /// # Errors
    /// When `limit` has passed.
    pub fn wait_until_promoted(&self, limit: Duration) -> Result<()> {
        self.wait("SELECT pg_is_in_recovery()", "f", limit)
    }

    /// Ends the current WAL segment, waits until it is archived and answers its name.
    ///
    /// # Errors
    /// When the archiver does not get there within `limit`.
    pub fn archive_current_segment(&self, limit: Duration) -> Result<String> {
        // A switch does nothing right after a switch: write something first.
        self.sql("SELECT pg_create_restore_point('testkit')")?;
        let segment = self.value("SELECT pg_walfile_name(pg_switch_wal())")?;
        let archived = format!("SELECT coalesce(last_archived_wal >= '{segment}', false) FROM pg_stat_archiver");
        self.wait(&archived, "t", limit)?;
        Ok(segment)
    }

    /// Sets `archive_command` in the running server.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn set_archive_command(&self, command: &str) -> Result<()> {
        self.sql(&format!("ALTER SYSTEM SET archive_command = {}", quoted(command)))?;
        self.sql("SELECT pg_reload_conf()")?;
        self.wait("SHOW archive_command", command, Duration::from_secs(10))
    }

    /// Adds lines to postgresql.conf, valid from the next start or reload.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append_conf(&self, lines: &str) -> Result<()> {
        let path = self.data.join("postgresql.conf");
        let text = fs::read_to_string(&path).context("read", &path)?;
        user::write_file(&path, format!("{text}\n{}\n", lines.trim_end()))
    }

    /// The major version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder of the server's socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        self.run.path()
    }

    /// The port, as part of the socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        PORT
    }

    /// A connection string for libpq and tokio-postgres.
    #[must_use]
    pub fn connection_string(&self) -> String {
        format!("host={} port={PORT} user=postgres dbname=postgres", self.socket_dir().display())
    }

    /// What the server has logged, at most the last 8 KiB.
    #[must_use]
    pub fn log_end(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        let start = bytes.len().saturating_sub(8192);
        String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
    }

    /// A client program with the options that make it talk to this server.
    ///
    /// # Errors
    /// When the program is not to be had.
    pub fn client(&self, program: &str) -> Result<std::process::Command> {
        let mut command = user::command(clients::find(program)?);
        command.arg("-h").arg(self.socket_dir()).arg("-p").arg(PORT.to_string()).args(["-U", "postgres"]);
        Ok(command)
    }

    fn psql(&self, database: &str, statements: &str) -> Result<Outcome> {
        let mut psql = self.client("psql")?;
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database]);
        psql.args(["-F", &COLUMN.to_string(), "-R", &ROW.to_string(), "-c", statements]);
        process::run(&mut psql, DEFAULT_LIMIT)
    }

    fn log_file(&self) -> PathBuf {
        self.run.path().join("log")
    }

    /// The server writes its state into the last line of postmaster.pid, after its process id in the first.
    fn wait_until_ready(&mut self) -> Result<()> {
        let limit = self.options.start_limit;
        let deadline = Instant::now() + limit;
        let pid_file = self.data.join("postmaster.pid");
        loop {
            let ended = match self.server.as_mut() {
                Some(server) => server.try_wait().context("wait for server of", &self.data)?,
                None => None,
            };
            if let Some(status) = ended {
                self.server = None;
                let what = format!("the server of {} ended: {status}\n{}", self.data.display(), self.log_end());
                return Err(Error::Unexpected(what));
            }
            let pid = self.server.as_ref().map(Child::id);
            if is_ready(&fs::read_to_string(&pid_file).unwrap_or_default(), pid) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let what = format!("start of the server of {}\n{}", self.data.display(), self.log_end());
                return Err(Error::TimedOut { what, limit });
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Nobody is left to tell: the process is gone or killed either way.
            let _ended = end(&mut server, Signal::QUIT, Duration::from_secs(10));
        }
    }
}

/// Signals a server and waits for its end; after `limit` it is killed, which `false` tells.
fn end(server: &mut Child, signal: Signal, limit: Duration) -> std::io::Result<bool> {
    if server.try_wait()?.is_some() {
        return Ok(true);
    }
    kill_process(Pid::from_child(server), signal)?;
    if process::wait(server, limit)?.is_some() {
        return Ok(true);
    }
    server.kill()?;
    server.wait()?;
    Ok(false)
}

fn is_ready(pid_file: &str, pid: Option<u32>) -> bool {
    let mut lines = pid_file.lines();
    let is_ours = lines.next().and_then(|line| line.trim().parse().ok()) == pid && pid.is_some();
    is_ours && lines.nth(6).is_some_and(|state| matches!(state.trim(), "ready" | "standby"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_our_own_process_and_the_state_line() {
        let file = "77\n/data\n1700000000\n5432\n/run\n\n  123  456\nready   \n";
        assert!(is_ready(file, Some(77)));
        assert!(!is_ready(file, Some(78)));
        assert!(!is_ready(file, None));
        assert!(!is_ready("", None));
        assert!(!is_ready(&file.replace("ready   ", "starting"), Some(77)));
        assert!(is_ready(&file.replace("ready   ", "standby "), Some(77)));
    }
}
