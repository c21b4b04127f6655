//! The repository and path of `repo-ls` and `repo-get`.

use pgbr_config::{RepoIndex, opt};
use pgbr_repo::command::repo::resolve;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::storage::StoragePath;

use crate::exit::Failure;
use crate::session::Session;

/// The repository that the command works on: that of `--repo`, or the first.
pub fn repository(session: &Session) -> Result<RepoIndex, Failure> {
    let index = session.options().repo_default();
    index.ok_or_else(|| Failure::new(ErrorKind::Config, "no repository is configured"))
}

/// The path in the repository that a parameter means.
pub fn parse(session: &Session, index: RepoIndex, parameter: &str) -> Result<StoragePath, Failure> {
    Ok(resolve(parameter, session.options().repo(index).require(opt::REPO_PATH)?)?)
}
