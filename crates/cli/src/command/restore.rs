//! `restore`

use pgbr_config::engine::restore::restore_options;
use pgbr_config::{OptionSet, opt, render};
use pgbr_repo::command::restore::restore;
use pgbr_repo::error::ErrorKind;

use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Restores a backup.
pub async fn run(session: &Session) -> Result<Outcome, Failure> {
    if let Some(parameter) = session.parsed.parameters.first() {
        return Err(Failure::new(ErrorKind::ParamInvalid, format!("command does not allow parameters: {parameter}")));
    }
    let options = restore_options(session.options(), restore_command(session.options()))?;
    restore(&session.repositories()?, &options, &session.context).await?;
    Ok(Outcome::Done)
}

/// What PostgreSQL runs to fetch WAL: this program, with the options that lead to what this run found.
fn restore_command(options: &OptionSet) -> String {
    let program = match options.text(opt::CMD) {
        Some(program) => program.to_owned(),
        None => std::env::current_exe().map_or_else(|_| "pgbr".to_owned(), |path| path.display().to_string()),
    };
    let mut words = vec![program];
    words.extend(render::restore_command_options(options));
    words.push("archive-get %f \"%p\"".to_owned());
    words.join(" ")
}
