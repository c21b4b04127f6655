//! From `pgN-*` options to sessions on the servers.

use std::path::PathBuf;
use std::time::Duration;

use pgbr_config::{OptionSet, PgIndex, opt};
use pgbr_repo::db::{ConnectOptions, Database, Session};
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::pgdata::{Accounts, Ids};
use pgbr_repo::progress::Context;

use crate::exit::Failure;

/// A session on the server of one configured cluster.
pub struct Connected {
    /// Which of the `pgN-*`.
    pub index: PgIndex,
    /// The session.
    pub session: Session,
}

/// Connects to every configured server. One that cannot be reached is a warning: another may do.
pub async fn connect_all(options: &OptionSet, context: &Context) -> Result<Vec<Connected>, Failure> {
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
pub async fn connect_primary(options: &OptionSet, context: &Context) -> Result<Connected, Failure> {
    let connected = connect_all(options, context).await?;
    let mut primaries = connected.into_iter().filter(|connected| !connected.session.identity().in_recovery);
    match (primaries.next(), primaries.next()) {
        (Some(primary), None) => Ok(primary),
        (None, _) => Err(Failure::new(
            ErrorKind::DbConnect,
            "unable to find primary cluster - cannot proceed\nHINT: are all available clusters in recovery?",
        )),
        (Some(_), Some(_)) => Err(Failure::new(ErrorKind::DbConnect, "more than one primary cluster found")),
    }
}

fn connect_options(options: &OptionSet, index: PgIndex) -> Result<ConnectOptions, Failure> {
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
fn own_name() -> Result<String, Failure> {
    let failed = |reason: String| {
        Failure::new(ErrorKind::UserMissing, format!("unable to find the name of the current user: {reason}"))
    };
    let accounts = Accounts::system().map_err(|error| failed(error.to_string()))?;
    let id = Ids::current().user;
    accounts.user_name(id).map(ToString::to_string).ok_or_else(|| failed(format!("there is none with id {id}")))
}
