//! `repo-rm`

use pgbr_config::engine::repositories;
use pgbr_config::opt;
use pgbr_repo::command::repo::rm;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::storage::StoragePath;

use super::repo_path;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Removes a path of the repository.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let options = session.options();
    let index = repo_path::repository(session)?;
    let path = match session.parsed.parameters.as_slice() {
        [] => StoragePath::root(),
        [parameter] => repo_path::parse(session, index, parameter)?,
        _ => return Err(Failure::new(ErrorKind::ParamInvalid, "only one path may be specified")),
    };
    let storage = repositories::storage(options, index, &|name| session.variable(name))?;
    rm(storage.as_ref(), &path, options.boolean(opt::RECURSE)).await?;
    Ok(Outcome::Done)
}
