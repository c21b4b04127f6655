//! The whole way from text to options.

use crate::arguments;
use crate::command::{Command, Role};
use crate::environment;
use crate::error::{ConfigError, option_invalid};
use crate::files::{self, ConfigFiles};
use crate::given::Source;
use crate::help::{self, HelpTopic};
use crate::opt;
use crate::resolve::{self, Run};
use crate::sections;
use crate::set::{OptionSet, Value};
use crate::settle;

/// How the program was started. Everything that differs between two starts is in here.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// Path of the program; the default of options that name one
    pub program: &'a str,
    /// Arguments after the program's name
    pub arguments: &'a [String],
    /// All variables; those that do not concern us are passed over
    pub environment: &'a [(String, String)],
    /// The user is root, whom most commands refuse
    pub root: bool,
    /// Name of this run in lock files, taken unless `--exec-id` says another
    pub exec_id: Option<&'a str>,
}

/// What somebody wants done.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub command: Command,
    pub role: Role,
    /// Set when only an explanation is wanted; then `options` are for showing and need not be complete
    pub help: Option<HelpTopic>,
    /// Words after the command
    pub parameters: Vec<String>,
    pub options: OptionSet,
    /// In the order in which they came up; a line that begins with `HINT: ` belongs to the one before
    pub warnings: Vec<String>,
    /// Stanzas that have a section of their own in the configuration files, sorted
    pub stanzas: Vec<String>,
}

/// Reads options by pgBackRest's rules. The error is the first mistake that pgBackRest finds too; what only this
/// program refuses comes last.
pub fn parse(invocation: &Invocation<'_>, files: &dyn ConfigFiles) -> Result<Parsed, ConfigError> {
    let mut warnings = Vec::new();
    match parse_all(invocation, files, &mut warnings) {
        Ok(parsed) => Ok(Parsed { warnings, ..parsed }),
        Err(error) => Err(ConfigError { warnings, ..error }),
    }
}

fn parse_all(
    invocation: &Invocation<'_>,
    files: &dyn ConfigFiles,
    warnings: &mut Vec<String>,
) -> Result<Parsed, ConfigError> {
    let read = arguments::read(invocation.arguments)?;
    let (command, role, mut given) = (read.command, read.role, read.given);
    let mut stanzas = Vec::new();

    // These have to work where the configuration is broken.
    if !matches!(command, Command::Completion | Command::Help | Command::Version) {
        environment::read(&mut given, invocation.environment, command, role, warnings)?;
        if let Some(ini) = files::load(&given, files)? {
            sections::read(&mut given, &ini, command, role, warnings)?;
            stanzas = stanza_names(ini.sections());
        }
    }
    let run = Run { command, role, help: read.help, program: invocation.program };
    let mut options = resolve::resolve(&given, run, warnings)?;

    if invocation.root && !read.help {
        refuse_root(&options)?;
    }
    if let Some(exec_id) = invocation.exec_id.filter(|_| !options.is_set(opt::EXEC_ID)) {
        options.put(opt::EXEC_ID.row(), 0, Value::Text(exec_id.to_owned()), Source::Argument);
    }
    settle::settle(&mut options, read.help, warnings)?;

    let help = if read.help {
        Some(help::topic(&options, &read.parameters)?)
    } else {
        settle::refuse_unsupported(&options)?;
        None
    };
    Ok(Parsed { command, role, help, parameters: read.parameters, options, warnings: Vec::new(), stanzas })
}

/// Files that root creates are out of reach for the user who runs the next command.
fn refuse_root(options: &OptionSet) -> Result<(), ConfigError> {
    if options.get(opt::ALLOW_ROOT) != Some(false) {
        return Ok(());
    }
    Err(option_invalid(format!("the '{}' command must not be run as the root user", options.command()))
        .hint("run it as the user who owns the repository, usually the one who runs PostgreSQL")
        .hint("set 'allow-root' if root is meant"))
}

fn stanza_names<'a>(sections: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = sections
        .filter_map(|section| section.split(':').next())
        .filter(|name| *name != "global")
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}
