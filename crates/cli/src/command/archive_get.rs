//! `archive-get`

use pgbr_config::opt;
use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::command::archive::get::{GetRequest, Got, get};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::postgres::{ControlFile, WalFileName};

use super::wal_path;
use crate::exit::{Failure, Outcome};
use crate::lock::is_there;
use crate::session::Session;

/// What `recovery-stop-on-error` makes of every error: PostgreSQL takes an exit code of `restore_command` up to 125 for
/// "there is no such file", ends recovery and opens the cluster; above, it stops (`RestoreArchivedFile` in its
/// `xlogarchive.c`).
const RECOVERY_STOP: u8 = 200;

/// Fetches one file.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let stop = session.options().boolean(opt::RECOVERY_STOP_ON_ERROR);
    fetch(session, stop)
        .await
        .map_err(|failure| if stop { Failure { code: RECOVERY_STOP, ..failure } } else { failure })
}

async fn fetch(session: &Session, stop_at_gap: bool) -> Result<Outcome, Failure> {
    let (name, destination) = match session.parsed.parameters.as_slice() {
        [name, destination] => (name, destination),
        [] => return Err(Failure::new(ErrorKind::ParamRequired, "WAL segment to get required")),
        [_] => return Err(Failure::new(ErrorKind::ParamRequired, "path to copy WAL segment required")),
        _ => return Err(Failure::new(ErrorKind::ParamInvalid, "extra parameters found")),
    };
    let destination = wal_path::resolve(session, destination)?;
    let name = name.rsplit('/').next().unwrap_or(name);
    let pg_path = session.require_pg_path()?;
    let control = session.control_file(&pg_path)?;
    if control.checkpoint() == ControlFile::INVALID_CHECKPOINT && !is_there(&pg_path.join("backup_label"))? {
        return Err(Failure::new(
            ErrorKind::Format,
            "pg_control from backup is not valid without backup_label\nHINT: was the backup_label file removed?",
        ));
    }
    let Ok(wal_name) = WalFileName::parse(name) else {
        // Nothing is archived under such a name.
        session.context.info(format!("unable to find {name} in the archive"));
        return Ok(Outcome::Missing);
    };
    let request = GetRequest {
        name: wal_name,
        cluster: ClusterIdentity { version: control.version(), system_id: control.system_id() },
        segment_size: control.wal_segment_size(),
    };
    match get(&session.repositories()?, request, &destination, &session.context).await? {
        Got::Found { repository, archive_id } => {
            session.context.info(format!("found {name} in the {repository}: {archive_id} archive"));
            Ok(Outcome::Done)
        }
        Got::Missing { later } => {
            if let (Some(first), Some(last)) = (later.first(), later.last()) {
                let gap = format!(
                    "gap in the archive: {name} is missing but {} later segment(s) are present, {first} to {last}",
                    later.len()
                );
                if stop_at_gap {
                    return Err(Failure::new(ErrorKind::FileMissing, gap));
                }
                session.context.warn(gap);
            }
            session.context.info(format!("unable to find {name} in the archive"));
            Ok(Outcome::Missing)
        }
    }
}
