//! `backup`

use std::path::{Path, PathBuf};

use pgbr_config::engine::backup::backup_options;
use pgbr_config::engine::database::{self, BackupStandby, Connected, ForBackup};
use pgbr_config::opt;
use pgbr_repo::command::backup::{Servers, Standby, backup};
use pgbr_repo::db::Database;
use pgbr_repo::repository::WritableRepository;

use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Makes a backup in one repository.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    session.test_stop()?;
    let options = session.options();
    let (index, repository) = session.default_repository()?;
    if options.repo_named().is_none() && options.repos().count() > 1 {
        session.context.info(format!("repo option not specified, defaulting to repo{}", index.number()));
    }
    let connected = connect(session).await?;
    let path_of = |connected: &Connected| -> Result<PathBuf, Failure> {
        Ok(options.pg(connected.index).require(opt::PG_PATH)?.into())
    };
    let (pg_path, standby_path) = match &connected {
        None => (session.require_pg_path()?, None),
        Some(ForBackup { leader, helper }) => (path_of(leader)?, helper.as_ref().map(path_of).transpose()?),
    };
    let servers = match &connected {
        None => Servers::Offline,
        Some(ForBackup { leader, helper }) => servers(leader, helper.as_ref().zip(standby_path.as_deref())),
    };
    let backup_options = backup_options(options, index, pg_path)?;
    backup(&WritableRepository::new(repository), servers, &backup_options, &session.context).await?;
    Ok(Outcome::Done)
}

/// Connects to the servers that the backup is made from; `None` offline.
async fn connect(session: &Session) -> Result<Option<ForBackup>, Failure> {
    let options = session.options();
    let standby = BackupStandby::of(options);
    if options.boolean(opt::ONLINE) {
        return Ok(Some(database::connect_for_backup(options, standby, &session.context).await?));
    }
    if standby != BackupStandby::No {
        session.context.warn(
            "option backup-standby is enabled but backup is offline - backups will be performed from the primary",
        );
    }
    Ok(None)
}

fn servers<'a>(leader: &'a Connected, helper: Option<(&'a Connected, &'a Path)>) -> Servers<'a> {
    let database: &dyn Database = &leader.session;
    match helper {
        Some((standby, pg_path)) => {
            Servers::PrimaryAndStandby { primary: database, standby: Standby { database: &standby.session, pg_path } }
        }
        None if database.identity().in_recovery => Servers::Standby(database),
        None => Servers::Primary(database),
    }
}
