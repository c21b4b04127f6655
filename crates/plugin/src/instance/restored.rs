//! A data directory before and after a restore, as CloudNativePG wants it: no server's traces, no recovery settings, WAL on
//! its own volume.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use pgbr_repo::error::{Error, ErrorKind, Result};

use super::pod::Pod;

/// Files by which PostgreSQL would do something else than what CloudNativePG starts it for.
const SIGNALS: [&str; 4] = ["recovery.signal", "standby.signal", "recovery.conf", "postmaster.pid"];

/// Settings of a recovery, which CloudNativePG makes anew.
const RECOVERY_SETTINGS: [&str; 8] = [
    "archive_cleanup_command",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "restore_command",
    "trigger_file",
];

/// Makes the directory ready to be restored into, and tells whether an earlier restore is to be gone on with. Blocking.
///
/// # Errors
/// [`ErrorKind::PgRunning`] when a server lives there; the system's.
pub fn prepare(pod: &Pod, wal_storage: bool) -> Result<bool> {
    if pod.server_lives() {
        let message = format!("a server runs on '{}': nothing is restored over it", pod.pgdata.display());
        return Err(Error::new(ErrorKind::PgRunning, message));
    }
    // What an earlier pod of the Job left when it was killed: nobody has that process number here.
    remove_if_there(&pod.pgdata.join("postmaster.pid"))?;
    if wal_storage {
        // The link is made again at the end; what it leads to is of an earlier try.
        let link = pod.wal_directory();
        if fs::symlink_metadata(&link).is_ok_and(|found| found.is_symlink()) {
            remove_if_there(&link)?;
        }
        remove_tree(&pod.wal_volume.join("pg_wal"))?;
    }
    Ok(is_there(&pod.pgdata.join("PG_VERSION"))? || is_there(&pod.pgdata.join("backup.manifest"))?)
}

/// Whether there is such a file.
///
/// # Errors
/// [`ErrorKind::FileOpen`] when that cannot be told.
pub fn is_there(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| failed(ErrorKind::FileOpen, "look for", path, &error))
}

/// Makes the restored directory what CloudNativePG goes on with. Can be done again. Blocking.
///
/// # Errors
/// [`ErrorKind::FileMissing`] when an online backup has no `backup_label`: PostgreSQL would start it inconsistent.
pub fn settle(pod: &Pod, wal_storage: bool, online: bool) -> Result<()> {
    let pgdata = &pod.pgdata;
    if online && !is_there(&pgdata.join("backup_label"))? {
        let message = format!("the restored backup has no backup_label in '{}'", pgdata.display());
        return Err(Error::new(ErrorKind::FileMissing, message));
    }
    for name in SIGNALS {
        remove_if_there(&pgdata.join(name))?;
    }
    let auto_conf = pgdata.join("postgresql.auto.conf");
    match fs::read(&auto_conf) {
        Ok(text) => replace(&auto_conf, &without_recovery(&text))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(ErrorKind::FileRead, "read", &auto_conf, &error)),
    }
    if wal_storage {
        move_wal(pod)?;
    }
    sync(pgdata)
}

/// The settings without those of a recovery: what users set with `ALTER SYSTEM` stays.
fn without_recovery(text: &[u8]) -> Vec<u8> {
    let kept = text.split_inclusive(|byte| *byte == b'\n').filter(|line| {
        let line = line.trim_ascii_start();
        let end = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let name = String::from_utf8_lossy(line.get(..end).unwrap_or_default()).to_ascii_lowercase();
        !name.starts_with("recovery_target") && !RECOVERY_SETTINGS.contains(&name.as_str())
    });
    kept.flatten().copied().collect()
}

/// Moves WAL to its own volume and leaves a link. Done already where there is one.
fn move_wal(pod: &Pod) -> Result<()> {
    let (link, target) = (pod.wal_directory(), pod.wal_volume.join("pg_wal"));
    let found = fs::symlink_metadata(&link).map_err(|error| failed(ErrorKind::FileInfo, "look at", &link, &error))?;
    if found.is_symlink() {
        return match fs::read_link(&link) {
            Ok(there) if there == target => Ok(()),
            _ => Err(Error::new(
                ErrorKind::LinkDestination,
                format!("'{}' is a link that does not lead to '{}'", link.display(), target.display()),
            )),
        };
    }
    // On another file system: copied whole, then the old one goes.
    copy_tree(&link, &target)?;
    sync(&pod.wal_volume)?;
    remove_tree(&link)?;
    symlink(&target, &link).map_err(|error| failed(ErrorKind::FileWrite, "link", &link, &error))
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(to)
        .map_err(|error| failed(ErrorKind::PathCreate, "create", to, &error))?;
    let entries = fs::read_dir(from).map_err(|error| failed(ErrorKind::PathOpen, "list", from, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| failed(ErrorKind::PathOpen, "list", from, &error))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(|error| failed(ErrorKind::FileInfo, "look at", &path, &error))?;
        if kind.is_dir() {
            copy_tree(&path, &target)?;
        } else if kind.is_file() {
            fs::copy(&path, &target).map_err(|error| failed(ErrorKind::FileWrite, "copy", &path, &error))?;
            let copied = File::open(&target).and_then(|file| file.sync_all());
            copied.map_err(|error| failed(ErrorKind::FileSync, "sync", &target, &error))?;
        }
    }
    sync(to)
}

fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("conf.pgbackrest.tmp");
    let write = || -> io::Result<()> {
        let mode = fs::metadata(path)?.permissions();
        let mut file = File::create(&temporary)?;
        file.set_permissions(mode)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| failed(ErrorKind::FileWrite, "write", path, &error))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(ErrorKind::FileRemove, "remove", path, &error)),
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(ErrorKind::PathRemove, "remove", path, &error)),
    }
}

fn sync(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed(ErrorKind::PathSync, "sync", directory, &error))
}

fn failed(kind: ErrorKind, what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(kind, format!("unable to {what} '{}': {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(folder: &Path) -> Pod {
        let text = |name: &str| folder.join(name).display().to_string();
        Pod::of(vec![
            ("POD_NAME".to_owned(), "job".to_owned()),
            ("NAMESPACE".to_owned(), "n".to_owned()),
            ("PGDATA".to_owned(), text("data")),
            ("PGHOST".to_owned(), text("run")),
            ("WAL_VOLUME_DIR".to_owned(), text("wal")),
        ])
        .unwrap()
    }

    #[test]
    fn c22_recovery_settings_go_and_other_settings_stay() {
        let text = b"# by hand\nwork_mem = '8MB'\nrestore_command = 'pgbackrest ...'\n Recovery_Target_Time='x'\n\
            primary_conninfo = 'host=x'\nshared_buffers = '1GB'";
        let kept = String::from_utf8(without_recovery(text)).unwrap();
        assert_eq!(kept, "# by hand\nwork_mem = '8MB'\nshared_buffers = '1GB'");
    }

    #[test]
    fn c23_wal_moves_to_its_volume_once() {
        let folder = tempfile::tempdir().unwrap();
        let pod = pod(folder.path());
        fs::create_dir_all(pod.pgdata.join("pg_wal/archive_status")).unwrap();
        fs::create_dir_all(&pod.wal_volume).unwrap();
        fs::write(pod.pgdata.join("pg_wal/000000010000000000000001"), "wal").unwrap();
        fs::write(pod.pgdata.join("backup_label"), "x").unwrap();
        for _ in 0..2 {
            settle(&pod, true, true).unwrap();
            assert_eq!(fs::read_link(pod.wal_directory()).unwrap(), pod.wal_volume.join("pg_wal"));
            assert_eq!(fs::read(pod.wal_directory().join("000000010000000000000001")).unwrap(), b"wal");
            assert!(pod.wal_directory().join("archive_status").is_dir());
        }
        assert!(!prepare(&pod, true).unwrap());
        assert!(fs::symlink_metadata(pod.wal_directory()).is_err());
        assert!(!is_there(&pod.wal_volume.join("pg_wal")).unwrap());
    }

    #[test]
    fn c22_traces_of_a_server_and_of_a_recovery_go() {
        let folder = tempfile::tempdir().unwrap();
        let pod = pod(folder.path());
        fs::create_dir_all(&pod.pgdata).unwrap();
        for name in SIGNALS {
            fs::write(pod.pgdata.join(name), "1").unwrap();
        }
        let error = settle(&pod, false, true).unwrap_err();
        assert!(error.message().contains("backup_label"), "{error}");
        settle(&pod, false, false).unwrap();
        assert_eq!(fs::read_dir(&pod.pgdata).unwrap().count(), 0);
    }
}
