//! Whether an archive that a cluster begins with holds anything of somebody else (cnpg-i.md §2.2).
//!
//! "Empty" cannot mean "without a file": the first answer of this very cluster may have been lost, and a replica that was
//! made before the first WAL file was archived carries the marker into its life as a primary. It means: nothing of another
//! cluster, no WAL of this or a later timeline that this data directory does not know, and, where the archive is the one that
//! the cluster was restored from, nothing at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::error::{Error, ErrorKind, Result};
use pgbr_repo::postgres::{Timeline, WalFileName};
use pgbr_repo::progress::Context;
use pgbr_repo::repository::Repository;

/// Whose the archive is to be.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The cluster; `None` before there is one, when anything at all is foreign.
    pub cluster: Option<Own>,
}

/// The cluster that begins to archive.
#[derive(Debug, Clone)]
pub struct Own {
    /// Which it is.
    pub identity: ClusterIdentity,
    /// The timeline that it writes.
    pub timeline: Timeline,
    /// The files of WAL that it has, or had and archived.
    pub files: BTreeSet<String>,
    /// The archive is the one that it was restored from: that is the source's.
    pub restored_from_here: bool,
}

/// What one repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Contents {
    /// System identifiers in the history, as text.
    systems: Vec<u64>,
    backups: Vec<String>,
    /// Names of WAL files on the timelines that matter, or of directories where one is enough.
    wal: Vec<String>,
}

/// Fails when one of `repositories` holds something foreign. Stores nothing.
///
/// # Errors
/// [`ErrorKind::PathNotEmpty`] saying what is there and how to go on; the storage's, which is no answer.
pub async fn check(repositories: &[Repository], claim: &Claim, context: &Context) -> Result<()> {
    for repository in repositories {
        let contents = look(repository, claim, context).await?;
        if let Some(reason) = foreign(&contents, claim) {
            return Err(Error::new(
                ErrorKind::PathNotEmpty,
                format!(
                    "expected an empty archive: stanza '{}' in {} {reason}",
                    repository.stanza(),
                    repository.index()
                ),
            )
            .hint("give the cluster a stanza (or an Archive) of its own.")
            .hint(
                "if it is meant to go on here, set annotation cnpg.io/skipEmptyWalArchiveCheck: enabled on the Cluster.",
            ));
        }
    }
    Ok(())
}

/// Why the contents are somebody else's.
fn foreign(contents: &Contents, claim: &Claim) -> Option<String> {
    let Some(own) = &claim.cluster else {
        return match (contents.backups.first(), contents.wal.first()) {
            (Some(label), _) => Some(format!("has backups ({label})")),
            (None, Some(name)) => Some(format!("has WAL ({name})")),
            (None, None) => None,
        };
    };
    if let Some(other) = contents.systems.iter().find(|system| **system != own.identity.system_id.0) {
        return Some(format!("is of the cluster with system identifier {other}, not {}", own.identity.system_id.0));
    }
    if own.restored_from_here
        && let Some(label) = contents.backups.first()
    {
        return Some(format!("is the one that the cluster was restored from: it has backups ({label})"));
    }
    let unknown = contents.wal.iter().find(|name| !own.files.contains(*name))?;
    Some(format!("has WAL that is not of this cluster ({unknown})"))
}

async fn look(repository: &Repository, claim: &Claim, context: &Context) -> Result<Contents> {
    let mut contents = Contents::default();
    let info = match repository.archive_info(context).await {
        Ok(info) => info,
        // No stanza: nobody was here.
        Err(error) if error.kind() == ErrorKind::FileMissing => return Ok(contents),
        Err(error) => return Err(error),
    };
    // One that is this cluster's now may have been of another before: of the same before its last upgrade.
    let current = info.history().current();
    let is_own = |own: &Own| current.is_cluster(own.identity.version, own.identity.system_id);
    let since = if claim.cluster.as_ref().is_some_and(is_own) { Some(current.id) } else { None };
    let generations = || info.history().generations().iter().filter(|it| since.is_none_or(|since| it.id == since));
    contents.systems = generations().map(|generation| generation.system_id.0).collect();
    match repository.backup_info(context).await {
        Ok(info) => contents.backups = info.backups().iter().map(|backup| backup.label.to_string()).collect(),
        Err(error) if error.kind() == ErrorKind::FileMissing => {}
        Err(error) => return Err(error),
    }
    for generation in generations() {
        let archive = repository.archive(&info, generation.archive_id())?;
        for directory in archive.wal_directories().await? {
            match &claim.cluster {
                None => contents.wal.push(directory.first16().clone()),
                Some(own) if directory.timeline() < own.timeline && !own.restored_from_here => {}
                Some(_) => {
                    let segments = archive.segments_of(directory).await?;
                    contents.wal.extend(segments.into_iter().map(|segment| {
                        let partial = if segment.name.partial { ".partial" } else { "" };
                        format!("{}{partial}", segment.name.segment)
                    }));
                }
            }
            // One stranger is enough.
            if foreign(&contents, claim).is_some() {
                return Ok(contents);
            }
        }
    }
    Ok(contents)
}

/// The names of WAL files that this data directory has or had: those there, and those with a note of their archiving.
/// Blocking.
///
/// # Errors
/// [`ErrorKind::PathOpen`] when a directory cannot be read.
pub fn known_files(wal_directory: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for directory in [wal_directory.to_owned(), wal_directory.join("archive_status")] {
        let failed = |error: &std::io::Error| {
            Error::new(ErrorKind::PathOpen, format!("unable to list '{}': {error}", directory.display()))
        };
        for entry in fs::read_dir(&directory).map_err(|error| failed(&error))? {
            let name = entry.map_err(|error| failed(&error))?.file_name();
            let Some(name) = name.to_str() else { continue };
            let name = name.strip_suffix(".ready").or_else(|| name.strip_suffix(".done")).unwrap_or(name);
            if WalFileName::parse(name).is_ok() {
                files.insert(name.to_owned());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbr_repo::postgres::{PgVersion, SystemId};

    fn own(files: &[&str], restored_from_here: bool) -> Claim {
        Claim {
            cluster: Some(Own {
                identity: ClusterIdentity { version: PgVersion::V16, system_id: SystemId(7) },
                timeline: Timeline::FIRST,
                files: files.iter().map(|name| (*name).to_owned()).collect(),
                restored_from_here,
            }),
        }
    }

    fn contents(systems: &[u64], backups: &[&str], wal: &[&str]) -> Contents {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Contents { systems: systems.to_vec(), backups: texts(backups), wal: texts(wal) }
    }

    const FIRST: &str = "000000010000000000000001";
    const LABEL: &str = "20260101-000000F";

    #[test]
    fn c14_what_is_only_of_the_cluster_passes() {
        for (contents, claim) in [
            (contents(&[], &[], &[]), own(&[], false)),
            (contents(&[7], &[], &[]), own(&[], false)),
            (contents(&[7], &[], &[FIRST]), own(&[FIRST], false)),
            // A new primary after a failover: the older timeline is not even listed.
            (contents(&[7], &[LABEL], &[]), own(&[], false)),
            (contents(&[7], &[], &[]), own(&[], true)),
        ] {
            assert_eq!(foreign(&contents, &claim), None, "{contents:?}");
        }
    }

    #[test]
    fn c15_what_is_foreign_is_named() {
        let nobody = Claim { cluster: None };
        for (contents, claim, part) in [
            (contents(&[8], &[], &[]), own(&[], false), "system identifier 8, not 7"),
            (contents(&[7], &[], &[FIRST]), own(&[], false), FIRST),
            (contents(&[7], &[LABEL], &[]), own(&[], true), LABEL),
            (contents(&[7], &[LABEL], &[]), nobody.clone(), LABEL),
            (contents(&[7], &[], &[FIRST]), nobody.clone(), FIRST),
        ] {
            let reason = foreign(&contents, &claim).unwrap();
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(foreign(&contents(&[7], &[], &[]), &nobody), None);
    }

    #[test]
    fn files_that_were_archived_are_known_too() {
        let folder = tempfile::tempdir().unwrap();
        let status = folder.path().join("archive_status");
        fs::create_dir(&status).unwrap();
        fs::write(folder.path().join(FIRST), "").unwrap();
        fs::write(status.join("00000002.history.done"), "").unwrap();
        fs::write(status.join("000000010000000000000003.ready"), "").unwrap();
        fs::write(folder.path().join("xlogtemp.1"), "").unwrap();
        let known = known_files(folder.path()).unwrap();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        assert_eq!(known, [FIRST, "000000010000000000000003", "00000002.history"]);
    }
}
