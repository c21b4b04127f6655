//! From `pgN-*` options to sessions on the servers.

use std::path::PathBuf;
use std::time::Duration;

use pgbr_repo::db::{ConnectOptions, Database, Session};
use pgbr_repo::error::{Error, ErrorKind, Result};
use pgbr_repo::pgdata::{Accounts, Ids};
use pgbr_repo::progress::Context;

use crate::{OptionSet, PgIndex, opt};

/// A session on the server of one configured cluster.
pub struct Connected {
    /// Which of the `pgN-*`.
    pub index: PgIndex,
    /// The session.
    pub session: Session,
}

/// Connects to every configured server. One that cannot be reached is a warning: another may do.
pub async fn connect_all(options: &OptionSet, context: &Context) -> Result<Vec<Connected>> {
    let mut connected = Vec::new();
    for index in options.pgs() {
        match Session::connect(&connect_options(options, index)?).await {
            Ok(session) => connected.push(Connected { index, session }),
            Err(error) => {
                let error = Error::from(error);
                context.warn(format!("unable to check pg{}: {}", index.number(), error.listed()));
            }
        }
    }
    Ok(connected)
}

/// The one primary among the configured clusters.
pub async fn connect_primary(options: &OptionSet, context: &Context) -> Result<Connected> {
    let connected = connect_all(options, context).await?;
    let mut primaries = connected.into_iter().filter(|connected| !connected.session.identity().in_recovery);
    match (primaries.next(), primaries.next()) {
        (Some(primary), None) => Ok(primary),
        (None, _) => Err(Error::new(
            ErrorKind::DbConnect,
            "unable to find primary cluster - cannot proceed\nHINT: are all available clusters in recovery?",
        )),
        (Some(_), Some(_)) => Err(Error::new(ErrorKind::DbConnect, "more than one primary cluster found")),
    }
}

/// From which servers a backup may be made (`backup-standby`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupStandby {
    /// The primary.
    No,
    /// A standby if there is one.
    Prefer,
    /// A standby.
    Yes,
}

impl BackupStandby {
    /// The option's value.
    pub fn of(options: &OptionSet) -> Self {
        match options.string_id(opt::BACKUP_STANDBY) {
            Some("y") => Self::Yes,
            Some("prefer") => Self::Prefer,
            _ => Self::No,
        }
    }
}

/// The servers of a backup.
pub struct ForBackup {
    /// Begins and ends the backup.
    pub leader: Connected,
    /// The standby that files are read from, when the leader is the primary.
    pub helper: Option<Connected>,
}

/// The places, in the list of servers, of those that a backup is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    leader: usize,
    helper: Option<usize>,
}

/// Why there is nothing to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoChoice {
    NoPrimary,
    TwoPrimaries,
    NoStandby,
}

impl From<NoChoice> for Error {
    fn from(none: NoChoice) -> Self {
        let message = match none {
            NoChoice::NoPrimary => {
                "unable to find primary cluster - cannot proceed\n\
                 HINT: are all available clusters in recovery?\n\
                 HINT: a standby is backed up on its own with backup-standby=y, when every configured cluster can be \
                 reached and none is a primary."
            }
            NoChoice::TwoPrimaries => "more than one primary cluster found",
            NoChoice::NoStandby => "unable to find standby cluster - cannot proceed",
        };
        Error::new(ErrorKind::DbConnect, message)
    }
}

/// Connects to the servers that a backup is made from.
pub async fn connect_for_backup(options: &OptionSet, standby: BackupStandby, context: &Context) -> Result<ForBackup> {
    let mut connected: Vec<Option<Connected>> = connect_all(options, context).await?.into_iter().map(Some).collect();
    let in_recovery: Vec<bool> =
        connected.iter().flatten().map(|connected| connected.session.identity().in_recovery).collect();
    let all_answered = connected.len() == options.pgs().count();
    let Choice { leader, helper } = choose(&in_recovery, all_answered, standby)?;
    let is_primary = in_recovery.get(leader) == Some(&false);
    if standby == BackupStandby::Prefer && helper.is_none() && is_primary {
        context.warn("unable to find a standby to perform the backup, using primary instead");
    }
    let mut take = |place: usize| connected.get_mut(place).and_then(Option::take);
    match (take(leader), helper.map(&mut take)) {
        (Some(leader), helper) => Ok(ForBackup { leader, helper: helper.flatten() }),
        (None, _) => Err(NoChoice::NoPrimary.into()),
    }
}

/// Chooses among the servers that answered, of which `in_recovery` tells whether each is a standby.
///
/// As the original does, but for one case that it refuses: where a standby is wanted, every configured server has answered
/// and none is a primary, the first standby is backed up on its own. A server that did not answer may be the primary, and
/// whoever configured it wants to hear that it is not there.
fn choose(in_recovery: &[bool], all_answered: bool, wanted: BackupStandby) -> std::result::Result<Choice, NoChoice> {
    let mut primaries = (0..in_recovery.len()).filter(|place| in_recovery.get(*place) == Some(&false));
    let standby = in_recovery.iter().position(|standby| *standby).filter(|_| wanted != BackupStandby::No);
    match (primaries.next(), primaries.next(), standby) {
        (Some(_), Some(_), _) => Err(NoChoice::TwoPrimaries),
        (Some(_), None, None) if wanted == BackupStandby::Yes => Err(NoChoice::NoStandby),
        (Some(leader), None, helper) => Ok(Choice { leader, helper }),
        (None, _, Some(leader)) if all_answered => Ok(Choice { leader, helper: None }),
        (None, ..) => Err(NoChoice::NoPrimary),
    }
}

fn connect_options(options: &OptionSet, index: PgIndex) -> Result<ConnectOptions> {
    let pg = options.pg(index);
    let port = pg.integer(opt::PG_PORT).and_then(|port| u16::try_from(port).ok());
    let user = match pg.text(opt::PG_USER) {
        Some(user) => user.to_owned(),
        None => own_name()?,
    };
    Ok(ConnectOptions {
        socket_directory: pg.text(opt::PG_SOCKET_PATH).map(PathBuf::from),
        port: port.unwrap_or(5432),
        database: pg.text(opt::PG_DATABASE).unwrap_or("postgres").to_owned(),
        user,
        // Scripts and monitoring look for this name.
        application_name: format!("pgBackRest [{}]", options.command()),
        timeout: options.time(opt::DB_TIMEOUT).unwrap_or(Duration::from_secs(1800)),
    })
}

/// The name of the user that runs the program, as servers know their administrator.
fn own_name() -> Result<String> {
    let failed = |reason: String| {
        Error::new(ErrorKind::UserMissing, format!("unable to find the name of the current user: {reason}"))
    };
    let accounts = Accounts::system().map_err(|error| failed(error.to_string()))?;
    let id = Ids::current().user;
    accounts.user_name(id).map(ToString::to_string).ok_or_else(|| failed(format!("there is none with id {id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_a_backup() {
        use BackupStandby::{No, Prefer, Yes};
        let one = |leader| Ok(Choice { leader, helper: None });
        let two = |leader, helper| Ok(Choice { leader, helper: Some(helper) });
        // Whether each server is a standby, whether all answered, what is wanted.
        for (servers, all, wanted, expected) in [
            (&[false][..], true, No, one(0)),
            (&[false], true, Prefer, one(0)),
            (&[false], true, Yes, Err(NoChoice::NoStandby)),
            (&[true, false], true, No, one(1)),
            (&[true, false], true, Prefer, two(1, 0)),
            (&[true, true, false], false, Yes, two(2, 0)),
            (&[false, true, false], true, Yes, Err(NoChoice::TwoPrimaries)),
            (&[true], true, No, Err(NoChoice::NoPrimary)),
            (&[true], true, Prefer, one(0)),
            (&[true, true], true, Yes, one(0)),
            // The one that does not answer may be the primary.
            (&[true], false, Yes, Err(NoChoice::NoPrimary)),
            (&[], false, Yes, Err(NoChoice::NoPrimary)),
        ] {
            assert_eq!(choose(servers, all, wanted), expected, "{servers:?} {all} {wanted:?}");
        }
    }
}
