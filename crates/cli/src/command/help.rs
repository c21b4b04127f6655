//! `help` and `version`, which read no configuration.

use std::io::{self, Write};

use pgbr_config::{Command, Parsed, help, opt};
use pgbr_repo::error::ErrorKind;

use crate::exit::Failure;
use crate::version;

/// Prints what was asked for.
pub fn print_help_or_version(parsed: &Parsed, program: &str) -> Result<(), Failure> {
    let text = match (&parsed.help, parsed.command) {
        (None, Command::Version) => version_text(parsed.options.string_id(opt::OUTPUT)),
        (Some(topic), _) => help::render(*topic, &parsed.options, program_name(program), version::OWN),
        (None, _) => help::render(help::HelpTopic::General, &parsed.options, program_name(program), version::OWN),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(ErrorKind::FileWrite, format!("unable to write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// The first words are the original's, which other tools look for.
fn version_text(output: Option<&str>) -> String {
    match output {
        Some("num") => format!("{}\n", version::IMPLEMENTED_NUMBER),
        _ => format!("pgBackRest {}\n", version::IMPLEMENTED),
    }
}

fn program_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}
