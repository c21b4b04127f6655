//! `archive-get`

use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::command::archive::get::{GetRequest, Got, get};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::postgres::{ControlFile, WalFileName};

use super::wal_path;
use crate::exit::{Failure, Outcome};
use crate::lock::is_there;
use crate::session::Session;

/// Fetches one file.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
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
                session.context.warn(format!(
                    "gap in the archive: {name} is missing but {} later segment(s) are present, {first} to {last}",
                    later.len()
                ));
            }
            session.context.info(format!("unable to find {name} in the archive"));
            Ok(Outcome::Missing)
        }
    }
}
