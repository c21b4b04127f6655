//! The pod as the sidecar sees it: names, paths, and the variables that may hold options.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ids;
use crate::limit::Limit;

/// The longest interval that a variable may set.
const SECONDS_MAX: u64 = 24 * 60 * 60;

/// The longest between two verifications.
const VERIFY_SECONDS_MAX: u64 = 366 * SECONDS_MAX;

/// Names and paths. In a pod all but the names have their defaults; a test gives its own folders.
#[derive(Debug, Clone)]
pub struct Pod {
    /// `POD_NAME`: that of the Job in the pod of a Job.
    pub name: String,
    /// `NAMESPACE`: the only one that anything is read from.
    pub namespace: String,
    /// `PGDATA`
    pub pgdata: PathBuf,
    /// `PGHOST`: the directory of the server's socket.
    pub socket_directory: PathBuf,
    /// `PGPORT`
    pub port: u16,
    /// `SCRATCH_DIR`: the volume that may be written to and may be lost.
    pub scratch: PathBuf,
    /// `WAL_VOLUME_DIR`: the mount of the volume for WAL, where the Cluster has one.
    pub wal_volume: PathBuf,
    /// `PLUGIN_SOCKET_DIR`
    pub plugin_sockets: PathBuf,
    /// `PLUGIN_SECRETS_DIR`: the mount of the Archives' Secrets, where they name any.
    pub secrets: PathBuf,
    /// `STATUS_INTERVAL_SECONDS`: how often the Archive's status is renewed when nothing happens.
    pub status_interval: Duration,
    /// `RETENTION_INTERVAL_SECONDS`: how often retention is applied, a tenth more or less.
    pub retention_interval: Duration,
    /// `VERIFY_INTERVAL_SECONDS`: how often everything in the repositories is read and compared with its checksums; never
    /// where it is not set or 0.
    pub verify_interval: Option<Duration>,
    /// `LEASE_DURATION_SECONDS`: after this long without renewal a repository is free for another pod.
    pub lease_hold: Duration,
    /// What the repositories may be, as an administrator has it; no variable says it, since users write those.
    pub limit: Option<Limit>,
    /// Every variable.
    pub variables: Vec<(String, String)>,
}

impl Pod {
    /// The pod of a process with these variables.
    ///
    /// # Errors
    /// The name of a variable that is missing or means nothing.
    pub fn of(variables: Vec<(String, String)>) -> Result<Self, String> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(variable, value)| variable == name && !value.is_empty())
                .map(|(_, value)| value.clone())
        };
        let require = |name: &str| find(name).ok_or_else(|| format!("variable {name} is not set"));
        let path = |name: &str, default: &str| PathBuf::from(find(name).unwrap_or_else(|| default.to_owned()));
        let within = |name: &str, default: u64, least: u64, most: u64| match find(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(seconds) if (least..=most).contains(&seconds) => Ok(seconds),
                _ => Err(format!(
                    "variable {name} is no number of seconds from {least} to {most}: '{}'",
                    text.escape_debug()
                )),
            },
        };
        let seconds = |name: &str, default: u64| within(name, default, 1, SECONDS_MAX).map(Duration::from_secs);
        let port = match find("PGPORT") {
            Some(port) => port.parse().map_err(|_| format!("variable PGPORT is no port: '{}'", port.escape_debug()))?,
            None => 5432,
        };
        Ok(Self {
            name: require("POD_NAME")?,
            namespace: require("NAMESPACE")?,
            pgdata: path("PGDATA", "/var/lib/postgresql/data/pgdata"),
            socket_directory: path("PGHOST", "/controller/run"),
            port,
            scratch: path("SCRATCH_DIR", "/controller"),
            wal_volume: path("WAL_VOLUME_DIR", "/var/lib/postgresql/wal"),
            plugin_sockets: path("PLUGIN_SOCKET_DIR", ids::SOCKET_FOLDER),
            secrets: path(ids::SECRETS_VARIABLE, ids::SECRETS_FOLDER),
            status_interval: seconds("STATUS_INTERVAL_SECONDS", 300)?,
            retention_interval: seconds("RETENTION_INTERVAL_SECONDS", 1800)?,
            verify_interval: match within("VERIFY_INTERVAL_SECONDS", 0, 0, VERIFY_SECONDS_MAX)? {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            lease_hold: seconds("LEASE_DURATION_SECONDS", 180)?,
            limit: None,
            variables,
        })
    }

    /// The directory of WAL.
    pub fn wal_directory(&self) -> PathBuf {
        self.pgdata.join("pg_wal")
    }

    /// What the plugin writes for itself; losing it costs time alone.
    pub fn own_scratch(&self) -> PathBuf {
        self.scratch.join("pgbackrest-plugin")
    }

    /// Whether the server of the pod lives: it has its pid file, and somebody listens on its socket. One that was killed
    /// leaves both files behind, and nobody listening.
    pub fn server_lives(&self) -> bool {
        is_there(&self.pgdata.join("postmaster.pid"))
            && UnixStream::connect(self.socket_directory.join(format!(".s.PGSQL.{}", self.port))).is_ok()
    }
}

/// Whether something has this path. What cannot be looked at counts as there.
fn is_there(path: &Path) -> bool {
    !matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_are_needed_and_paths_have_defaults() {
        let pod = Pod::of(variables(&[("POD_NAME", "c-1"), ("NAMESPACE", "n"), ("PGDATA", "/data")])).unwrap();
        assert_eq!((pod.port, pod.pgdata.as_path()), (5432, Path::new("/data")));
        assert_eq!(pod.own_scratch(), Path::new("/controller/pgbackrest-plugin"));
        assert_eq!(Pod::of(variables(&[("POD_NAME", "c-1")])).unwrap_err(), "variable NAMESPACE is not set");
        assert!(Pod::of(variables(&[("POD_NAME", "c"), ("NAMESPACE", "n"), ("PGPORT", "x")])).is_err());
    }

    #[test]
    fn a_pid_file_alone_is_no_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let pairs = [("POD_NAME", "c"), ("NAMESPACE", "n"), ("PGDATA", path.as_str()), ("PGHOST", path.as_str())];
        let pod = Pod::of(variables(&pairs)).unwrap();
        assert!(!pod.server_lives());
        std::fs::write(folder.path().join("postmaster.pid"), "1").unwrap();
        assert!(!pod.server_lives());
        let _listener = std::os::unix::net::UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        assert!(pod.server_lives());
    }
}
