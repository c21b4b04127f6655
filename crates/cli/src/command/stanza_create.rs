//! `stanza-create`

use pgbr_config::opt;
use pgbr_repo::command::stanza::create::{StanzaCluster, create};

use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Creates the stanza in every repository.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    session.test_stop()?;
    if session.options().boolean(opt::FORCE) {
        session.context.warn("option --force is no longer supported");
    }
    let control = session.control_file(&session.require_pg_path()?)?;
    let cluster = StanzaCluster {
        version: control.version(),
        system_id: control.system_id(),
        catalog_version: control.catalog_version(),
    };
    create(&session.writable_repositories()?, cluster, &session.context).await?;
    Ok(Outcome::Done)
}
