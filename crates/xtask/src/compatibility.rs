//! `cargo xtask compatibility`: writes the tables of COMPATIBILITY.md from the option grammar, so that the page cannot
//! say something else than the program does. With `--check` it only compares.

use std::fs;
use std::path::PathBuf;

use pgbr_config::Command;
use pgbr_config::opt::{self, Row, Support};
use pgbr_testkit::tools;

use crate::Failure;

const BEGIN: &str = "<!-- begin: written by cargo xtask compatibility -->\n";
const END: &str = "<!-- end -->\n";

/// What commands do not do yet; every other command that is not refused works.
const COMMANDS_LATER: [(Command, &str); 0] = [];

/// What works in part.
const COMMANDS_IN_PART: [(Command, &str); 1] =
    [(Command::Manifest, "the internal option `pg`, which compares blocks with a cluster, is refused")];

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let path = page();
    let page = fs::read_to_string(&path)?;
    let written = rewritten(&page)?;
    if arguments.first().is_some_and(|argument| argument == "--check") {
        if written == page {
            return Ok(());
        }
        return Err(Failure::new("COMPATIBILITY.md is not up to date: run cargo xtask compatibility"));
    }
    Ok(fs::write(path, written)?)
}

fn page() -> PathBuf {
    tools::workspace().join("COMPATIBILITY.md")
}

fn rewritten(page: &str) -> Result<String, Failure> {
    let (head, rest) = page.split_once(BEGIN).ok_or_else(|| Failure::new("COMPATIBILITY.md has no begin mark"))?;
    let (_, tail) = rest.split_once(END).ok_or_else(|| Failure::new("COMPATIBILITY.md has no end mark"))?;
    Ok(format!("{head}{BEGIN}{}\n{}{END}{tail}", commands(), options()))
}

fn commands() -> String {
    let mut table = "### Commands\n\n| command | here |\n| --- | --- |\n".to_owned();
    for command in Command::ALL {
        let note =
            |list: &[(Command, &'static str)]| list.iter().find(|(other, _)| *other == command).map(|(_, note)| *note);
        let state = match (command.facts().refused, note(&COMMANDS_LATER), note(&COMMANDS_IN_PART)) {
            (Some(reason), _, _) => format!("refused: {reason}"),
            (None, Some(later), _) => later.to_owned(),
            (None, None, Some(part)) => format!("works in part: {part}"),
            (None, None, None) if command.facts().own => "our own; pgBackRest does not have it".to_owned(),
            (None, None, None) => "works".to_owned(),
        };
        table.push_str(&format!("| `{}` | {state} |\n", command.name()));
    }
    table
}

fn options() -> String {
    let mut text = "### Options\n".to_owned();
    for (topic, rows) in opt::topics() {
        text.push_str(&format!("\n{topic}\n\n| option | here |\n| --- | --- |\n"));
        for row in rows {
            text.push_str(&format!("| `{}` | {} |\n", row.name, state(row)));
        }
    }
    text
}

fn state(row: &Row) -> String {
    let mut state = match row.support {
        Support::Refused(reason) => format!("refused: {reason}"),
        Support::Own => "our own; pgBackRest does not have it".to_owned(),
        Support::Idle(reason) => format!("accepted, nothing to act on: {reason}"),
        Support::Full => "works".to_owned(),
    };
    for (value, reason) in row.refused_values {
        state.push_str(&format!("; `{value}` is refused: {reason}"));
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_program_does() {
        let page = fs::read_to_string(page()).unwrap();
        assert_eq!(rewritten(&page).unwrap(), page, "run cargo xtask compatibility");
    }
}
