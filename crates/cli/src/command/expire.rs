//! `expire`, and what `backup` does after itself.

use pgbr_config::engine::expire::{expire_request, expire_targets};
use pgbr_repo::command::expire::expire;

use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Expires in every chosen repository, each by its own rules. A backup goes on with this when it is done: its options
/// then are what they are for `expire`, and what only `expire` knows is not set.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    session.test_stop()?;
    let options = session.options();
    let request = expire_request(options)?;
    let targets = expire_targets(options, &session.stanza()?, &|name| session.variable(name))?;
    expire(&targets, &request, &session.context).await?;
    Ok(Outcome::Done)
}
