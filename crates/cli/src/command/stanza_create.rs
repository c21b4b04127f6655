//! `stanza-create`

use pgbr_config::opt;
use pgbr_repo::command::stanza::create::create;

use super::stanza_cluster;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Creates the stanza in every repository.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    session.test_stop()?;
    if session.options().boolean(opt::FORCE) {
        session.context.warn("option --force is no longer supported");
    }
    let cluster = stanza_cluster::find(session).await?;
    create(&session.writable_repositories()?, cluster, &session.context).await?;
    Ok(Outcome::Done)
}
