//! `pgbr`: pgBackRest's commands and options over the native engine.
//!
//! The program translates text into the engine's typed options and its typed outcome into text and an exit code. What
//! a library user would miss is not here.

#![expect(unreachable_pub, reason = "a program has no outside: pub marks what its other modules use")]

mod background;
mod bar;
mod command;
mod console;
mod detached;
mod exit;
mod fingerprint;
mod listener;
mod lock;
mod log;
mod memory;
mod resident;
mod run;
mod session;
mod version;
mod waiting;

use std::process::ExitCode;

use pgbr_plugin::run::Role;

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let name = words.next().unwrap_or_default();
    let arguments: Vec<String> = words.collect();
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    if let Some((role, arguments)) = Role::from_command_line(&name, &arguments) {
        return ExitCode::from(pgbr_plugin::run::run(role, arguments, &environment));
    }
    let program = std::env::current_exe().map_or_else(|_| "pgbr".to_owned(), |path| path.display().to_string());
    ExitCode::from(run::run(&program, &arguments, &environment))
}
