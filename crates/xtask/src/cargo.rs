//! Runs cargo in the workspace.

use std::process::Command;

use pgbr_testkit::tools;

use crate::Failure;

/// The cargo that runs this command, in the workspace's folder.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(tools::workspace()).args(arguments);
    if std::env::var_os("CI").is_some() {
        // Nothing is built twice there.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// Runs it with its output passed on; anything but success is a failure.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    Err(Failure::new(format!("cargo {}: {status}", arguments.join(" "))))
}
