//! archive.info and backup.info: each with its copy, and with each other.

use super::findings::Findings;
use super::report::Fault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ArchiveInfo, BackupInfo, DbGeneration, path};
use crate::progress::Context;
use crate::repository::Repository;
use crate::storage::StoragePath;

/// Reads backup.info and its copy; `None` when neither can be used.
pub(super) async fn backup_info(
    repository: &Repository,
    findings: &mut Findings,
    context: &Context,
) -> Result<Option<BackupInfo>> {
    let main = path::backup_info(repository.stanza());
    let copy = path::copy_of(&main);
    let first = repository.backup_info_file(&main, context).await;
    let second = repository.backup_info_file(&copy, context).await;
    choose((main, first), (copy, second), "backup.info", findings, context)
}

/// Reads archive.info and its copy; `None` when neither can be used.
pub(super) async fn archive_info(
    repository: &Repository,
    findings: &mut Findings,
    context: &Context,
) -> Result<Option<ArchiveInfo>> {
    let main = path::archive_info(repository.stanza());
    let copy = path::copy_of(&main);
    let first = repository.archive_info_file(&main, context).await;
    let second = repository.archive_info_file(&copy, context).await;
    choose((main, first), (copy, second), "archive.info", findings, context)
}

type ReadFile<T> = (StoragePath, Result<T>);

/// The file that is used: the main one if it can be. A copy that is whole and different is what a crash between the two
/// writes leaves, and no damage.
fn choose<T: PartialEq>(
    main: ReadFile<T>,
    copy: ReadFile<T>,
    name: &str,
    findings: &mut Findings,
    context: &Context,
) -> Result<Option<T>> {
    for (file, read) in [(&main.0, main.1.as_ref().err()), (&copy.0, copy.1.as_ref().err())] {
        if let Some(error) = read {
            context.detail(error.message());
            findings.note(file, &Fault::of(error))?;
        }
    }
    Ok(match (main.1, copy.1) {
        (Ok(main), Ok(copy)) => {
            if main != copy {
                context.detail(format!("{name}.copy does not match {name}"));
            }
            Some(main)
        }
        (Ok(used), Err(_)) | (Err(_), Ok(used)) => Some(used),
        (Err(_), Err(_)) => None,
    })
}

/// Checks that both files tell of the same clusters.
///
/// # Errors
/// [`ErrorKind::FileInvalid`] for other current clusters, [`ErrorKind::Format`] for other histories; the original stops
/// there too, since it cannot tell which one is right.
pub(super) fn check_histories(archive: &ArchiveInfo, backup: &BackupInfo) -> Result<()> {
    let (one, other) = (archive.history().current(), backup.history().current());
    if !is_same(one, other) {
        let told = |generation: &DbGeneration| {
            let DbGeneration { id, version, system_id, .. } = generation;
            format!("id = {id}, version = {version}, system-id = {system_id}")
        };
        let text = format!(
            "backup info file and archive info file do not match\narchive: {}\nbackup : {}",
            told(one),
            told(other)
        );
        return Err(Error::new(ErrorKind::FileInvalid, text).hint("one of the two may be of another repository."));
    }
    let (archives, backups) = (archive.history().generations(), backup.history().generations());
    let is_equal = archives.len() == backups.len() && archives.iter().zip(backups).all(|(a, b)| is_same(a, b));
    if is_equal {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Format, "archive and backup history lists do not match"))
}

fn is_same(one: &DbGeneration, other: &DbGeneration) -> bool {
    one.id == other.id && one.is_cluster(other.version, other.system_id)
}
