//! `completion`, ours alone

use pgbr_config::completion::{Shell, script};

use super::standard_output;
use crate::exit::{Failure, Outcome};
use crate::session::Session;

/// Prints the script for a shell.
pub fn run(session: &Session) -> Result<Outcome, Failure> {
    let shell = Shell::from_parameters(&session.parsed.parameters)?;
    standard_output::print(&script(shell, "pgbr"))?;
    Ok(Outcome::Done)
}
