//! What has to be writable in the pod, looked at once when the process begins.
//!
//! The root file system is read-only in the usual security context, so a volume that is not mounted shows only when something
//! is written at last: with the first fetch ahead, or in the middle of a restore. It is told at the start instead. The process
//! goes on all the same, since WAL may be archived without the volume that is missing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};

use super::pod::Pod;
use super::surroundings::Surroundings;

/// A place that cannot be written to.
#[derive(Debug, PartialEq, Eq)]
pub struct Unwritable {
    /// The variable that names it.
    pub variable: &'static str,
    /// The place.
    pub path: PathBuf,
    /// What is wrong with it, for a person.
    pub reason: String,
}

/// Writes a line for each place that is needed and cannot be written to.
pub async fn tell_missing(surroundings: &Arc<Surroundings>) {
    let pod = surroundings.pod.clone();
    let looked = tokio::task::spawn_blocking(move || unwritable(&pod)).await;
    for place in looked.unwrap_or_default() {
        surroundings.log.error(
            "A volume is missing or read-only: mount one that can be written to",
            &[
                ("variable", place.variable.into()),
                ("path", place.path.display().to_string().into()),
                ("error", place.reason.into()),
            ],
        );
    }
}

/// The places that are needed and cannot be written to. Blocking.
pub fn unwritable(pod: &Pod) -> Vec<Unwritable> {
    let folders = [("PLUGIN_SOCKET_DIR", &pod.plugin_sockets), ("SCRATCH_DIR", &pod.scratch)];
    let mut places: Vec<(&'static str, PathBuf)> =
        folders.into_iter().map(|(variable, path)| (variable, path.clone())).collect();
    // Before the first restore there is only the volume that it goes to.
    places.push(("PGDATA", nearest_there(&pod.pgdata)));
    // A cluster with a volume for WAL has a link there.
    if std::fs::read_link(pod.wal_directory()).is_ok() {
        places.push(("WAL_VOLUME_DIR", pod.wal_directory()));
    }
    let wrong = places.into_iter().filter_map(|(variable, path)| {
        let denied = access(&path, Access::WRITE_OK | Access::EXEC_OK).err()?;
        Some(Unwritable { variable, path, reason: io::Error::from(denied).to_string() })
    });
    wrong.collect()
}

/// The path itself, or the nearest of its parents that is there.
fn nearest_there(path: &Path) -> PathBuf {
    path.ancestors().find(|part| access(*part, Access::EXISTS).is_ok()).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kg17_a_missing_volume_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = |name: &str| folder.path().join(name).display().to_string();
        let pod = |scratch: &str| {
            let variables = [
                ("POD_NAME", "c-1".to_owned()),
                ("NAMESPACE", "n".to_owned()),
                ("PGDATA", text("data/pgdata")),
                ("PLUGIN_SOCKET_DIR", text("")),
                ("SCRATCH_DIR", scratch.to_owned()),
            ];
            Pod::of(variables.map(|(name, value)| (name.to_owned(), value)).into()).unwrap()
        };
        assert_eq!(unwritable(&pod(&text(""))), []);
        let missing = unwritable(&pod(&text("nowhere")));
        assert_eq!(missing.len(), 1);
        assert_eq!(
            (missing[0].variable, missing[0].path.as_path()),
            ("SCRATCH_DIR", folder.path().join("nowhere").as_path())
        );
        // Not for root either.
        assert_eq!(unwritable(&pod("/proc/self")).len(), 1);
        // WAL has a volume, and that is not mounted.
        std::fs::create_dir_all(folder.path().join("data/pgdata")).unwrap();
        std::os::unix::fs::symlink(text("wal/pg_wal"), folder.path().join("data/pgdata/pg_wal")).unwrap();
        let missing = unwritable(&pod(&text("")));
        assert_eq!(missing.iter().map(|place| place.variable).collect::<Vec<_>>(), ["WAL_VOLUME_DIR"]);
    }
}
