//! Which cluster a stanza is for: the two info files must say the same, and the cluster at hand must be the one they name
//! (repository-behaviour.md §1.1, §1.4).

use crate::error::{Error, ErrorKind, Result};
use crate::format::DbGeneration;
use crate::postgres::{PgVersion, SystemId};

/// Fails unless the current generations of archive.info and backup.info are the same.
///
/// # Errors
/// [`ErrorKind::FileInvalid`].
pub fn check_agreement(archive: &DbGeneration, backup: &DbGeneration) -> Result<()> {
    if archive.id == backup.id && backup.is_cluster(archive.version, archive.system_id) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::FileInvalid,
        format!(
            "backup info file and archive info file do not match\n\
             archive: id = {}, version = {}, system-id = {}\n\
             backup : id = {}, version = {}, system-id = {}",
            archive.id, archive.version, archive.system_id, backup.id, backup.version, backup.system_id
        ),
    )
    .hint("this may be a symptom of repository corruption!"))
}

/// Fails unless the stanza's current generation is this cluster.
///
/// # Errors
/// [`ErrorKind::FileInvalid`].
pub fn check_cluster(current: &DbGeneration, version: PgVersion, system_id: SystemId) -> Result<()> {
    if current.is_cluster(version, system_id) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::FileInvalid,
        format!(
            "backup and archive info files exist but do not match the database: version {}, system-id {} there, \
             version {version}, system-id {system_id} here",
            current.version, current.system_id
        ),
    )
    .hint("is this the correct stanza?")
    .hint("did an error occur during stanza-upgrade?"))
}
