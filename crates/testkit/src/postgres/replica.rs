//! Streaming replicas.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Cluster, Options, Shutdown};
use crate::error::{Context, Result};
use crate::process::{self, DEFAULT_LIMIT};
use crate::user;

impl Cluster {
    /// A copy of this cluster in `data` that follows it through its socket, started and replaying. Tablespaces are
    /// copied beside `data`, each to `<data>-<oid>`.
    ///
    /// This server is stopped for the copy and started again.
    ///
    /// # Errors
    /// When one of the servers does not stop or start, or the copy fails.
    pub fn replica(&mut self, data: &Path, options: Options) -> Result<Cluster> {
        self.stop(Shutdown::Fast)?;
        copy(self.data(), data)?;
        copy_tablespaces(self.data(), data)?;
        let follow = format!("primary_conninfo = '{} application_name=replica'\n", self.connection_string_of_replica());
        let settings = data.join("postgresql.auto.conf");
        let text = fs::read_to_string(&settings).context("read", &settings)?;
        user::write_file(&settings, format!("{text}{follow}"))?;
        user::write_file(&data.join("standby.signal"), "")?;
        self.start()?;
        let mut replica = Cluster::open(self.version(), data, options)?;
        replica.start()?;
        Ok(replica)
    }

    fn connection_string_of_replica(&self) -> String {
        format!("host={} port={} user=postgres", self.socket_dir().display(), self.port())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut copy = user::command("cp");
    process::run(copy.arg("-a").arg(from).arg(to), DEFAULT_LIMIT)?.success()?;
    Ok(())
}

fn copy_tablespaces(from: &Path, to: &Path) -> Result<()> {
    let links = from.join("pg_tblspc");
    for entry in fs::read_dir(&links).context("list", &links)? {
        let entry = entry.context("list", &links)?;
        let place = fs::read_link(entry.path()).context("read link", &entry.path())?;
        let oid = entry.file_name().to_string_lossy().into_owned();
        let copied = to.with_file_name(format!("{}-{oid}", to.file_name().unwrap_or_default().to_string_lossy()));
        copy(&place, &copied)?;
        let link = to.join("pg_tblspc").join(&oid);
        fs::remove_file(&link).context("remove", &link)?;
        symlink(&copied, &link).context("link", &link)?;
    }
    user::own(&to.join("pg_tblspc"))
}
