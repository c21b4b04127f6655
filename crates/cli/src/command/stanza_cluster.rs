//! The cluster of a stanza command: that of the running primary, or of the first data directory.

use pgbr_config::engine::database;
use pgbr_config::opt;
use pgbr_repo::command::stanza::StanzaCluster;
use pgbr_repo::db::Database;
use pgbr_repo::db::check::{ExpectedServer, check_server};
use pgbr_repo::error::Error;
use pgbr_repo::postgres::ControlFile;

use crate::exit::Failure;
use crate::session::Session;

/// Finds the cluster that the stanza is for.
pub(super) async fn find(session: &Session) -> Result<StanzaCluster, Failure> {
    let control = match session.options().boolean(opt::ONLINE) {
        true => control_of_primary(session).await?,
        false => session.control_file(&session.require_pg_path()?)?,
    };
    Ok(StanzaCluster {
        version: control.version(),
        system_id: control.system_id(),
        catalog_version: control.catalog_version(),
    })
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
