//! Real WAL: segments from the middle of a pgbench run, made once and kept with the tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_testkit::postgres::{Cluster, Load, Options, Shutdown, Version};
use pgbr_testkit::{tools, user};

use crate::Failure;

const VERSION: Version = Version::V17;
/// 640 MB of accounts: most of the first gigabyte of WAL after a checkpoint are page images, then records take over.
const SCALE: u32 = 50;
const CLIENTS: u32 = 4;
const WAIT: Duration = Duration::from_secs(120);
/// As many as a run takes by default.
pub(super) const SEGMENTS: usize = 64;

/// A data directory with `pg_control` and WAL segments, and nothing else.
#[derive(Debug)]
pub(super) struct WalSet {
    data: PathBuf,
    names: Vec<String>,
}

impl WalSet {
    /// The set with at least so many segments, made now if there is none; of these the first `segments`.
    pub(super) fn open(segments: usize) -> Result<Self, Failure> {
        let data = folder()?;
        let _lock = tools::lock::exclusive("bench-wal")?;
        let mut names = segment_names(&data.join("pg_wal"))?;
        if names.len() < segments {
            println!("making {} WAL segments with pgbench in {}", segments.max(SEGMENTS), data.display());
            make(&data, segments.max(SEGMENTS))?;
            names = segment_names(&data.join("pg_wal"))?;
        }
        names.truncate(segments);
        let set = Self { data, names };
        // The first run must not read from the disk what the second finds in memory.
        for path in set.paths() {
            fs::read(path)?;
        }
        Ok(set)
    }

    /// `pg1-path`.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.names.iter().map(|name| self.data.join("pg_wal").join(name)).collect()
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "{} segments of 16 MiB by pgbench (scale {SCALE}, {CLIENTS} clients) on PostgreSQL {VERSION}",
            self.names.len()
        )
    }
}

/// The segments, if they were made before.
pub(super) fn cached_folder() -> Result<Option<PathBuf>, Failure> {
    let wal = folder()?.join("pg_wal");
    Ok((!segment_names(&wal)?.is_empty()).then_some(wal))
}

fn folder() -> Result<PathBuf, Failure> {
    Ok(tools::root()?.join(format!("bench-wal-{VERSION}")))
}

fn segment_names(wal: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(wal) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn make(data: &Path, segments: usize) -> Result<(), Failure> {
    let scratch = user::scratch()?;
    let archived = scratch.path().join("archived");
    user::create_dir(&archived)?;
    let options = Options {
        archive_command: Some(format!("cp %p {}/%f", archived.display())),
        conf: vec!["shared_buffers = 128MB".to_owned(), "autovacuum = off".to_owned()],
        ..Options::default()
    };
    let cluster_data = scratch.path().join("data");
    let mut cluster = Cluster::started(VERSION, &cluster_data, options)?;
    cluster.pgbench_init(SCALE)?;
    cluster.sql("CHECKPOINT")?;
    // What was written while loading compresses quite differently; and the switch leaves a segment half empty.
    let load_end = cluster.archive_current_segment(WAIT)?;
    let worked = || -> Result<Vec<String>, Failure> {
        Ok(segment_names(&archived)?.into_iter().filter(|name| *name > load_end).collect())
    };
    // The last one in the folder may still be on its way.
    while worked()?.len() <= segments {
        cluster.pgbench_run(CLIENTS, Load::Time(Duration::from_secs(5)))?;
    }
    let mut names = worked()?;
    names.truncate(segments);
    cluster.stop(Shutdown::Fast)?;
    keep(&cluster_data, &archived, &names, data)
}

/// Puts the parts together beside their place and moves them there.
fn keep(cluster: &Path, archived: &Path, names: &[String], data: &Path) -> Result<(), Failure> {
    let partial = data.with_extension("partial");
    for folder in [&partial, data] {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    fs::create_dir_all(partial.join("global"))?;
    fs::create_dir_all(partial.join("pg_wal"))?;
    for name in ["PG_VERSION", "global/pg_control"] {
        fs::copy(cluster.join(name), partial.join(name))?;
    }
    for name in names {
        fs::copy(archived.join(name), partial.join("pg_wal").join(name))?;
    }
    user::own(&partial)?;
    fs::rename(&partial, data)?;
    Ok(())
}
