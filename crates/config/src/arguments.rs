//! First source: the arguments of the process, which also name the command.

use crate::command::{Command, Role};
use crate::error::{ConfigError, ErrorClass, option_invalid, option_invalid_value};
use crate::given::{Given, GivenValue, Source};
use crate::name::{self, Lookup, Named};
use crate::opt::{self, Kind};

/// What the arguments say.
pub(crate) struct Arguments {
    pub(crate) command: Command,
    pub(crate) role: Role,
    /// Help was asked for, about `command` if that is not help itself
    pub(crate) help: bool,
    pub(crate) parameters: Vec<String>,
    pub(crate) given: Given,
}

/// Reads the arguments that follow the program's name. Options may stand before and after the command.
pub(crate) fn read(arguments: &[String]) -> Result<Arguments, ConfigError> {
    let mut given = Given::default();
    let mut command = None;
    let mut help = false;
    let mut parameters = Vec::new();

    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument.starts_with('-') {
            let Some(option) = argument.strip_prefix("--") else {
                return Err(option_invalid(format!("option '{argument}' must begin with --")));
            };
            read_option(&mut given, option, &mut rest)?;
        } else if command.is_some() {
            parameters.push(argument.clone());
        } else {
            let named = read_command(argument, help)?;
            if named.0 == Command::Help && !help {
                help = true;
            } else {
                command = Some(named);
            }
        }
    }
    let command_given = command.is_some() || help;
    let (command, role) = command.unwrap_or((Command::Help, Role::Main));

    if !command_given {
        let foreign =
            opt::rows().any(|row| given.numbers(row).next().is_some() && !opt::valid(row, Command::Help, Role::Main));
        if foreign {
            return Err(ConfigError::new(ErrorClass::CommandRequired, "no command found"));
        }
    }
    if !parameters.is_empty() && !help && !command.facts().parameters {
        return Err(ConfigError::new(ErrorClass::ParamInvalid, "command does not allow parameters"));
    }
    Ok(Arguments { command, role, help: help || command == Command::Help, parameters, given })
}

fn read_command(argument: &str, help: bool) -> Result<(Command, Role), ConfigError> {
    let invalid = |message: String| ConfigError::new(ErrorClass::CommandInvalid, message);
    let (name, role) = match argument.split_once(':') {
        Some((name, role)) => (name, Some(role)),
        None => (argument, None),
    };
    let command = Command::from_argument(name)?;
    let role = match role {
        None => return Ok((command, Role::Main)),
        Some(role @ ("async" | "local" | "remote")) => role,
        Some(role) => return Err(invalid(format!("invalid command role '{role}'"))),
    };
    if help {
        return Err(invalid(format!("help is not available for the '{role}' role")));
    }
    match role {
        "async" if command.has_background() => Ok((command, Role::Async)),
        "async" => Err(invalid(format!("invalid command/role combination '{argument}'"))),
        _ => Err(invalid(format!("invalid command/role combination '{argument}'"))
            .hint("this program works in one process and has no worker or remote roles")),
    }
}

fn read_option<'a>(
    given: &mut Given,
    text: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), ConfigError> {
    let (name, mut value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let Some(mut named) = name::find(name, Lookup { prefixes: true, numbers_optional: false })? else {
        return Err(option_invalid(format!("invalid option '--{name}'")));
    };
    let row = named.row;

    if named.negated || named.reset {
        if value.is_some() {
            return Err(option_invalid(format!("option '{name}' does not allow an argument")));
        }
    } else if row.kind == Kind::Boolean {
        match value.take().as_deref() {
            None | Some("y") => {}
            Some("n") => named.negated = true,
            Some(_) => {
                return Err(option_invalid_value(format!("boolean option '--{name}' argument must be 'y' or 'n'")));
            }
        }
    } else if value.is_none() {
        value = Some(if row.or_boolean {
            "y".to_owned()
        } else {
            let next = rest.next();
            next.cloned().ok_or_else(|| option_invalid(format!("option '--{name}' requires an argument")))?
        });
    }
    if named.negated && row.or_boolean {
        named.negated = false;
        value = Some("n".to_owned());
    }
    if row.secret {
        return Err(option_invalid(format!(
            "option '{}' is not allowed on the command-line",
            row.numbered(named.number)
        ))
        .hint("arguments can be seen in the list of processes")
        .hint("put the option into a configuration file or an environment variable"));
    }
    put(given, named, value)
}

/// Adds the option, or says what does not go together with its earlier appearance.
fn put(given: &mut Given, named: Named, value: Option<String>) -> Result<(), ConfigError> {
    let shown = named.row.numbered(named.number);
    let Some(earlier) = given.find_mut(named.row, named.number) else {
        let (source, values) = (Source::Argument, value.into_iter().collect());
        let value = GivenValue { source, negated: named.negated, reset: named.reset, values };
        given.insert(named.row, named.number, value);
        return Ok(());
    };
    let fault = match (earlier.negated, earlier.reset, named.negated, named.reset) {
        (true, _, true, _) => Some("is negated multiple times"),
        (_, true, _, true) => Some("is reset multiple times"),
        (true, _, _, true) | (_, true, true, _) => Some("cannot be negated and reset"),
        (was, _, is, _) if was != is => Some("cannot be set and negated"),
        (_, was, _, is) if was != is => Some("cannot be set and reset"),
        _ => None,
    };
    match (fault, value) {
        (None, Some(value)) if named.row.multiple() => {
            earlier.values.push(value);
            Ok(())
        }
        (fault, _) => {
            Err(option_invalid(format!("option '{shown}' {}", fault.unwrap_or("cannot be set multiple times"))))
        }
    }
}
