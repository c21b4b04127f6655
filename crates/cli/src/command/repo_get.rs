//! `repo-get`

use pgbr_config::engine::repositories;
use pgbr_config::opt;
use pgbr_repo::command::repo::{Decoding, GetSource, Got, get};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::repository;

use super::{repo_path, standard_output};
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Prints one object of the repository.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let [parameter] = session.parsed.parameters.as_slice() else {
        return Err(Failure::new(ErrorKind::ParamRequired, "source file required"));
    };
    let options = session.options();
    let index = repo_path::repository(session)?;
    let path = repo_path::parse(session, index, parameter)?;
    let source = GetSource {
        index: repository::RepoIndex::new(index.number().into())
            .ok_or_else(|| Failure::new(ErrorKind::Assert, "a repository has no number"))?,
        storage: repositories::storage(options, index, &|name| session.variable(name))?,
        passphrase: repositories::passphrase(&options.repo(index))?,
        stanza: if options.is_set(opt::STANZA) { Some(session.stanza()?) } else { None },
    };
    let decoding = if options.boolean(opt::RAW) { Decoding::Raw } else { Decoding::Decrypt };
    let context = standard_output::quiet(&session.context);
    match get(&source, path.clone(), decoding, standard_output::open()?, &context).await? {
        Got::Delivered | Got::ReaderLeft => Ok(Outcome::Done),
        Got::Missing if options.boolean(opt::IGNORE_MISSING) => Ok(Outcome::Missing),
        Got::Missing => {
            Err(Failure::new(ErrorKind::FileMissing, format!("unable to open missing file '{path}' for read")))
        }
    }
}
