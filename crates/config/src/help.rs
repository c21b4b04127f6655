//! Explanations of commands and options, made from the table.

use std::fmt::Write as _;

use crate::command::{Command, Role};
use crate::error::{ConfigError, ErrorClass, option_invalid};
use crate::given::Source;
use crate::name::{self, Lookup};
use crate::opt::{self, Default, Kind, Range, Row, Section, Support};
use crate::set::{OptionSet, Value};

const WIDTH: usize = 80;

/// What help was asked about.
#[derive(Debug, Clone, Copy)]
pub enum HelpTopic {
    /// The program
    General,
    Command(Command),
    Option(Command, &'static Row),
    /// `--version`
    Version,
}

/// Finds out what is to be explained from the command that follows `help`, and the words behind it.
pub(crate) fn topic(options: &OptionSet, parameters: &[String]) -> Result<HelpTopic, ConfigError> {
    let command = options.command();
    if command == Command::Help {
        return Ok(if options.boolean(opt::VERSION) { HelpTopic::Version } else { HelpTopic::General });
    }
    let [option] = parameters else {
        if parameters.is_empty() {
            return Ok(HelpTopic::Command(command));
        }
        return Err(ConfigError::new(ErrorClass::ParamInvalid, "only one option allowed for option help"));
    };
    match name::find(option, Lookup { prefixes: false, numbers_optional: true })? {
        Some(named) if opt::valid(named.row, command, Role::Main) => Ok(HelpTopic::Option(command, named.row)),
        _ => Err(option_invalid(format!("option '{option}' is not valid for command '{command}'"))),
    }
}

/// The explanation, ending with a line feed. `program` is the name people call, `version` what it says of itself.
pub fn render(topic: HelpTopic, options: &OptionSet, program: &str, version: &str) -> String {
    match topic {
        HelpTopic::Version => format!("{version}\n"),
        HelpTopic::General => general(program, version),
        HelpTopic::Command(command) => command_help(command, options, program, version),
        HelpTopic::Option(command, row) => option_help(command, row, options, version),
    }
}

fn general(program: &str, version: &str) -> String {
    let mut text = format!("{version} - General help\n\nUsage:\n    {program} [options] [command]\n\nCommands:\n");
    for command in Command::ALL.into_iter().filter(|command| !command.facts().internal) {
        let facts = command.facts();
        let mut help = facts.help.to_owned();
        if facts.refused.is_some() {
            help.push_str(" (not supported)");
        }
        entry(&mut text, command.name(), 18, &help);
    }
    let _ = write!(text, "\nUse '{program} help [command]' for more information.\n");
    text
}

fn command_help(command: Command, options: &OptionSet, program: &str, version: &str) -> String {
    let facts = command.facts();
    let mut text = format!("{version} - '{command}' command help\n\n{}.\n", capital(facts.help));
    if let Some(reason) = facts.refused {
        let _ = writeln!(text, "\n{}", wrap(&format!("The command is not supported because {reason}."), 0));
    }
    let listed = |row: &Row| opt::valid(row, command, Role::Main) && !row.rules(command).internal;
    let longest = opt::rows().filter(|row| listed(row)).map(|row| row.name.len()).max().unwrap_or_default();
    if facts.own {
        let _ = writeln!(text, "\n{}", wrap("A command of this program: pgBackRest does not have it.", 0));
    }
    for (topic, rows) in opt::topics() {
        let shown: Vec<&Row> = rows.iter().copied().filter(|row| listed(row)).collect();
        if shown.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{topic} options:\n\n");
        for row in shown {
            let mut help = row.help.to_owned();
            if matches!(row.support, Support::Refused(_)) {
                help.push_str(" (not supported)");
            } else if let Some(values) = values_shown(row, command, options) {
                help.push_str(&values);
            }
            entry(&mut text, &format!("--{}", row.name), longest + "  --".len(), &help);
        }
    }
    let _ = write!(text, "\nUse '{program} help {command} [option]' for more information.\n");
    text
}

/// ` [current=..., default=...]`, as far as there is either.
fn values_shown(row: &Row, command: Command, options: &OptionSet) -> Option<String> {
    let current = current(row, options)
        .into_iter()
        .map(|(_, value)| value)
        .reduce(|one, other| if one == other { one } else { "<several>".to_owned() });
    let default = default_shown(row, command);
    match (current, default) {
        (Some(current), Some(default)) => Some(format!(" [current={current}, default={default}]")),
        (Some(current), None) => Some(format!(" [current={current}]")),
        (None, Some(default)) => Some(format!(" [default={default}]")),
        (None, None) => None,
    }
}

/// Values that somebody gave, each with the number it is for.
fn current(row: &Row, options: &OptionSet) -> Vec<(u16, String)> {
    let given = |number: &u16| {
        let entry = options.entry(row, *number).filter(|entry| entry.source != Source::Default)?;
        let shown = match entry.value.as_ref()? {
            Value::Boolean(value) => if *value { "y" } else { "n" }.to_owned(),
            Value::Integer(value) => entry.shown.clone().unwrap_or_else(|| value.to_string()),
            Value::Text(value) => value.clone(),
            Value::Secret(_) => "<redacted>".to_owned(),
            Value::List(list) => list.join(", "),
            Value::Hash(pairs) => {
                pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
            }
        };
        Some((*number, shown))
    };
    options.numbers(row).iter().filter_map(given).collect()
}

fn default_shown(row: &Row, command: Command) -> Option<String> {
    match row.rules(command).default {
        Default::Nothing => None,
        Default::Value(value) => Some(value.to_owned()),
        Default::ByValue(values) => {
            Some(values.iter().map(|(value, default)| format!("{value}: {default}")).collect::<Vec<_>>().join(", "))
        }
        Default::Program => Some("path of this program".to_owned()),
    }
}

fn option_help(command: Command, row: &Row, options: &OptionSet, version: &str) -> String {
    let mut text = format!("{version} - '{command}' command - '{}' option help\n\n", row.name);
    let _ = writeln!(text, "{}\n", wrap(&format!("{}.", capital(row.help)), 0));
    match row.support {
        Support::Full => {}
        Support::Own => {
            let text_of =
                "An option of this program: pgBackRest refuses it as an argument and warns about it in a file.";
            let _ = writeln!(text, "{}\n", wrap(text_of, 0));
        }
        Support::Idle(reason) => {
            let _ = writeln!(text, "{}\n", wrap(&format!("Accepted without effect, because {reason}."), 0));
        }
        Support::Refused(reason) => {
            let _ = writeln!(text, "{}\n", wrap(&format!("Not supported, because {reason}."), 0));
        }
    }
    for (name, value) in option_facts(command, row) {
        let _ = writeln!(text, "{name}: {}", wrap(&value, name.len() + 2));
    }
    for (number, value) in current(row, options) {
        let of = if row.group.is_some() { format!(" ({})", row.numbered(number)) } else { String::new() };
        let _ = writeln!(text, "current{of}: {value}");
    }
    text
}

/// What the option of this name may be for the command, as its help says it; `None` when there is no such option.
pub fn allowed(command: Command, name: &str) -> Option<String> {
    let lookup = Lookup { numbers_optional: true, ..Lookup::default() };
    let row = name::find(name, lookup).ok()??.row;
    let allowed = option_facts(command, row).into_iter().find(|(fact, _)| *fact == "allowed");
    Some(allowed.map_or_else(|| kind_shown(row).to_owned(), |(_, values)| values))
}

fn option_facts(command: Command, row: &Row) -> Vec<(&'static str, String)> {
    let rules = row.rules(command);
    let mut facts = vec![("type", kind_shown(row).to_owned())];
    if !rules.allowed.is_empty() {
        facts.push(("allowed", rules.allowed.join(", ")));
    }
    for (value, reason) in row.refused_values {
        facts.push(("not supported", format!("{value}, because {reason}")));
    }
    match rules.range {
        Range::Any => {}
        Range::Between(least, greatest) => facts.push(("allowed", format!("{least} to {greatest}"))),
        Range::ByValue(ranges) => {
            let ranges: Vec<String> =
                ranges.iter().map(|(value, least, greatest)| format!("{value}: {least} to {greatest}")).collect();
            facts.push(("allowed", ranges.join(", ")));
        }
    }
    if let Some(depend) = rules.depend {
        let values = if depend.values.is_empty() { "is set".to_owned() } else { depend.values.join(", ") };
        let verb = if depend.values.is_empty() { " " } else { " is " };
        facts.push(("only when", format!("{}{verb}{values}", depend.on)));
    }
    facts.extend(default_shown(row, command).map(|default| ("default", default)));
    let example = row.numbered(1);
    facts.push((
        "set by",
        match (row.section, row.secret) {
            (Section::CommandLine, _) => format!("--{example}, PGBACKREST_{}", variable(&example)),
            (Section::Global, false) => format!("--{example}, PGBACKREST_{}, configuration file", variable(&example)),
            (Section::Global, true) => format!("PGBACKREST_{}, configuration file", variable(&example)),
            (Section::Stanza, _) => {
                format!("--{example}, PGBACKREST_{}, section of the stanza", variable(&example))
            }
        },
    ));
    let former: Vec<&str> = row.deprecated.iter().map(|old| old.name).filter(|name| *name != row.name).collect();
    if !former.is_empty() {
        facts.push(("former names", former.join(", ")));
    }
    facts
}

fn kind_shown(row: &Row) -> &'static str {
    match row.kind {
        Kind::Boolean => "y or n",
        Kind::Integer => "integer",
        Kind::Size => "size, such as 64KiB, 10MiB or 1GiB (powers of 1024; bytes without a unit)",
        Kind::Time => "time, such as 500ms, 30s, 5m, 2h, 1d or 1w (seconds without a unit)",
        Kind::Text if row.secret => "secret text",
        Kind::Text => "text",
        Kind::Path => "absolute path",
        Kind::StringId => "word",
        Kind::List => "list; repeat the option for several items",
        Kind::Hash => "key=value; repeat the option for several pairs",
    }
}

fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// A name and its explanation in two columns.
fn entry(text: &mut String, name: &str, column: usize, help: &str) {
    let indent = if name.starts_with('-') { 2 } else { 4 };
    let _ = writeln!(text, "{:indent$}{name:width$}{}", "", wrap(help, column + 2), width = column + 2 - indent);
}

/// Breaks a text into lines. All but the first begin with `indent` spaces.
fn wrap(text: &str, indent: usize) -> String {
    let mut wrapped = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > indent {
            if column + 1 + width > WIDTH {
                let _ = write!(wrapped, "\n{:indent$}", "");
                column = indent;
            } else {
                wrapped.push(' ');
                column += 1;
            }
        }
        wrapped.push_str(word);
        column += width;
    }
    wrapped
}
