//! `stanza-delete`

use pgbr_config::opt;
use pgbr_repo::command::stanza::delete;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::repository::WritableRepository;

use crate::exit::{Failure, Outcome};
use crate::lock;
use crate::session::Session;

/// Removes the stanza from one repository, and then its stop file.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let (_, repository) = session.default_repository()?;
    let repository = WritableRepository::new(repository);
    let content = delete::look(&repository).await?;
    let stop_file = lock::stop_file(&session.lock_path(), Some(session.stanza()?.as_str()));
    if !content.is_empty() {
        // Also with --force: the stop file keeps new commands away.
        if !lock::is_there(&stop_file)? {
            return Err(not_stopped(session)?);
        }
        if !session.options().boolean(opt::FORCE) && lock::is_there(&session.require_pg_path()?.join("postmaster.pid"))?
        {
            return Err(pg_running(session, &repository)?);
        }
    }
    if content.is_there() {
        content.remove(&session.context).await?;
        lock::remove_if_there(&stop_file)?;
    }
    Ok(Outcome::Done)
}

fn not_stopped(session: &Session) -> Result<Failure, Failure> {
    let message = format!(
        "stop file does not exist for stanza '{}'\n\
         HINT: has the pgbackrest stop command been run on this server for this stanza?",
        session.stanza()?
    );
    Ok(Failure::new(ErrorKind::FileMissing, message))
}

fn pg_running(session: &Session, repository: &WritableRepository) -> Result<Failure, Failure> {
    let stanza = session.stanza()?;
    let message = format!(
        "postmaster.pid exists - looks like PostgreSQL is running. To delete stanza '{stanza}' on {}, shut down \
         PostgreSQL for stanza '{stanza}' and try again, or use --force.",
        repository.index()
    );
    Ok(Failure::new(ErrorKind::PgRunning, message))
}
