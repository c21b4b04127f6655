//! `stanza-upgrade`

use pgbr_repo::command::stanza::upgrade::upgrade;

use super::stanza_cluster;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Upgrades the stanza in every repository.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    session.test_stop()?;
    let cluster = stanza_cluster::find(session).await?;
    upgrade(&session.writable_repositories()?, cluster, &session.context).await?;
    Ok(Outcome::Done)
}
