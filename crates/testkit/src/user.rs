//! Who runs the real parts: `PostgreSQL` refuses to run as root, and everything that reads or writes its files must
//! then be the same unprivileged user.
//!
//! As root this is `nobody`, which every Linux system has; otherwise the caller.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::error::{Context, Result};

/// The account that programs run under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

/// A command that runs as the unprivileged user, in `/`, with a plain locale and without settings of `PostgreSQL` or
/// pgBackRest inherited from the caller's environment.
#[must_use]
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    if let Some(account) = account() {
        command.uid(account.uid).gid(account.gid);
    }
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("PGBACKREST_") || (name_text.starts_with("PG") && !name_text.starts_with("PGBR_")) {
            command.env_remove(&name);
        }
    }
    command.current_dir("/").env("LC_ALL", "C").env("HOME", std::env::temp_dir());
    command
}

/// A new folder that the unprivileged user owns, removed with its content when dropped.
///
/// Its path is short, so that a unix socket fits below it (107 bytes).
///
/// # Errors
/// When the folder cannot be created.
pub fn scratch() -> Result<TempDir> {
    scratch_in(&std::env::temp_dir())
}

/// As [`scratch`], on a disk also where temporary files are in memory: for tests that look at the page cache, or mount the
/// system's own disk in another way.
///
/// # Errors
/// When the folder cannot be created.
pub fn scratch_on_disk() -> Result<TempDir> {
    scratch_in(Path::new("/var/tmp"))
}

fn scratch_in(parent: &Path) -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("pgbr-").tempdir_in(parent).context("create folder in", parent)?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).context("set mode of", dir.path())?;
    own(dir.path())?;
    Ok(dir)
}

/// A folder (with its missing parents) that the unprivileged user owns.
///
/// # Errors
/// When it cannot be created.
pub fn create_dir(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|part| fs::symlink_metadata(part).is_err()).collect();
    for part in missing.into_iter().rev() {
        fs::create_dir(part).context("create folder", part)?;
        give(part)?;
    }
    Ok(())
}

/// A file with this content that the unprivileged user owns.
///
/// # Errors
/// When it cannot be written.
pub fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content).context("write", path)?;
    give(path)
}

/// Gives a file, or a folder with everything below it, to the unprivileged user. Does nothing unless run as root.
///
/// # Errors
/// When an owner cannot be changed.
pub fn own(path: &Path) -> Result<()> {
    let Some(account) = account() else { return Ok(()) };
    own_tree(path, account).context("change owner below", path)
}

/// Whether the unprivileged user can reach a file through all of its parent folders, and read it.
#[must_use]
pub fn can_reach(path: &Path) -> bool {
    let Some(account) = account() else { return true };
    path.ancestors().enumerate().all(|(depth, part)| {
        if part.as_os_str().is_empty() {
            return true;
        }
        fs::metadata(part).is_ok_and(|metadata| {
            let wanted = if depth == 0 && !metadata.is_dir() { 0o4 } else { 0o1 };
            let granted = match metadata.uid() == account.uid {
                true => metadata.mode() >> 6,
                false if metadata.gid() == account.gid => metadata.mode() >> 3,
                false => metadata.mode(),
            };
            granted & wanted == wanted
        })
    })
}

/// A path to the same content that the unprivileged user can reach: the path itself, or a copy below the tools.
///
/// # Errors
/// When the copy cannot be made.
pub fn reachable_copy(program: &Path) -> Result<PathBuf> {
    if can_reach(program) {
        return Ok(program.to_owned());
    }
    let name = program.file_name().unwrap_or(program.as_os_str());
    // Checkouts that share their tools have a program of the same name each.
    let mut place = DefaultHasher::new();
    program.hash(&mut place);
    let folder = crate::tools::root()?.join("binaries").join(format!("{:016x}", place.finish()));
    let copy = folder.join(name);
    let _lock = crate::tools::lock::exclusive("binaries")?;
    fs::create_dir_all(&folder).context("create folder", &folder)?;
    let source = fs::metadata(program).context("look at", program)?;
    let is_same = fs::metadata(&copy).is_ok_and(|found| found.len() == source.len() && found.mtime() >= source.mtime());
    if !is_same {
        // Renamed into place: a test that runs the old copy keeps it.
        let partial = folder.join(format!("{}.partial", name.to_string_lossy()));
        fs::copy(program, &partial).context("copy to", &partial)?;
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)).context("set mode of", &partial)?;
        fs::rename(&partial, &copy).context("rename to", &copy)?;
    }
    Ok(copy)
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn give(path: &Path) -> Result<()> {
    let Some(account) = account() else { return Ok(()) };
    chown(path, Some(account.uid), Some(account.gid)).context("change owner of", path)
}

fn own_tree(path: &Path, account: Account) -> io::Result<()> {
    lchown(path, Some(account.uid), Some(account.gid))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            own_tree(&entry?.path(), account)?;
        }
    }
    Ok(())
}

/// The account to switch to, or `None` when the caller is not root and keeps its own.
fn account() -> Option<Account> {
    static ACCOUNT: OnceLock<Option<Account>> = OnceLock::new();
    *ACCOUNT.get_or_init(|| {
        if !is_root() {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        // 65534 is what Linux itself calls the overflow user: right even if the file lacks the name.
        Some(find_account(&passwd, "nobody").unwrap_or(Account { uid: 65534, gid: 65534 }))
    })
}

fn find_account(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some(Account { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn finds_an_account_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody2:x:5:6::/:/x\nnobody:x:65534:65533:nobody:/:/x\n";
        assert_eq!(find_account(passwd, "nobody"), Some(Account { uid: 65534, gid: 65533 }));
        assert_eq!(find_account(passwd, "nob"), None);
    }

    #[test]
    fn a_command_is_never_root_and_can_write_in_scratch() {
        let dir = scratch().unwrap();
        let script = format!("id -u; echo x > {}/made", dir.path().display());
        let outcome =
            process::run(command("sh").args(["-c", &script]), process::DEFAULT_LIMIT).unwrap().success().unwrap();
        assert_ne!(outcome.stdout.trim(), "0");
        assert_eq!(fs::read_to_string(dir.path().join("made")).unwrap(), "x\n");
    }

    #[test]
    fn a_program_out_of_reach_is_copied_and_follows_its_source() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let program = dir.path().join("program");
        for answer in ["one", "three"] {
            fs::write(&program, format!("#!/bin/sh\necho {answer}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let reachable = reachable_copy(&program).unwrap();
            assert_eq!(reachable == program, !is_root());
            let outcome = process::run(&mut command(reachable), process::DEFAULT_LIMIT).unwrap().success().unwrap();
            assert_eq!(outcome.stdout.trim(), answer);
        }
        if is_root() {
            fs::remove_dir_all(reachable_copy(&program).unwrap().parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn a_closed_folder_is_out_of_reach_for_another_user() {
        let dir = scratch().unwrap();
        let file = dir.path().join("closed/file");
        fs::create_dir(dir.path().join("closed")).unwrap();
        fs::write(&file, "x").unwrap();
        assert!(can_reach(&file));
        fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(can_reach(&file), !is_root());
    }
}
