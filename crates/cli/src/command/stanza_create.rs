//! `stanza-create`

use pgbr_config::opt;
use pgbr_repo::command::stanza::create::{StanzaCluster, create};
use pgbr_repo::db::Database;
use pgbr_repo::db::check::{ExpectedServer, check_server};
use pgbr_repo::error::Error;
use pgbr_repo::postgres::ControlFile;

use crate::database;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Creates the stanza in every repository.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    session.test_stop()?;
    if session.options().boolean(opt::FORCE) {
        session.context.warn("option --force is no longer supported");
    }
    let control = match session.options().boolean(opt::ONLINE) {
        true => control_of_primary(session).await?,
        false => session.control_file(&session.require_pg_path()?)?,
    };
    let cluster = StanzaCluster {
        version: control.version(),
        system_id: control.system_id(),
        catalog_version: control.catalog_version(),
    };
    create(&session.writable_repositories()?, cluster, &session.context).await?;
    Ok(Outcome::Done)
}

/// The control file of the running primary, which must be the configured cluster.
async fn control_of_primary(session: &Session) -> Result<ControlFile, Failure> {
    let primary = database::connect_primary(session.options(), &session.context).await?;
    let path = session.options().pg(primary.index).require(opt::PG_PATH)?;
    let control = session.control_file(path.as_ref())?;
    let expected = ExpectedServer { version: control.version(), data_directory: path };
    check_server(primary.session.identity(), expected, None).map_err(Error::from)?;
    Ok(control)
}
