//! `annotate`

use pgbr_config::opt;
use pgbr_repo::command::annotate::annotate;
use pgbr_repo::error::ErrorKind;
use pgbr_repo::format::BackupLabel;

use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Notes something about a backup in every chosen repository that has it.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    let options = session.options();
    let label = options.require(opt::SET)?;
    let label = BackupLabel::parse(label).map_err(|_| {
        let message = format!("'{label}' is not a valid backup label format");
        Failure::new(ErrorKind::OptionInvalidValue, message)
    })?;
    annotate(&session.writable_repositories()?, &label, options.hash(opt::ANNOTATION), &session.context).await?;
    Ok(Outcome::Done)
}
