//! Options as text again.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};

use crate::command::{Command, Role};
use crate::given::Source;
use crate::opt::{self, Depend, Group, Row};
use crate::set::{Entry, OptionSet, Value};

/// What pgBackRest prints behind `backup command begin 2.60.0:`, with a space in front of each item: parameters, then
/// the options that somebody gave, by name. Secrets are `<redacted>`. `command` is another one than that of the
/// options when one command goes over into the next, as backup does into expire.
pub fn begin_line(options: &OptionSet, command: Command, parameters: &[String]) -> String {
    let mut line = String::new();
    if !parameters.is_empty() {
        let shown: Vec<String> = parameters.iter().map(|parameter| spaced(parameter)).collect();
        line.push_str(&format!(" [{}]", shown.join(", ")));
    }
    for row in opt::rows().filter(|row| opt::valid(row, command, options.role)) {
        for number in options.numbers(row) {
            let Some(entry) = options.entry(row, *number).filter(|entry| !entry.derived) else { continue };
            let name = row.numbered(*number);
            if entry.negated {
                line.push_str(&format!(" --no-{name}"));
            } else if entry.reset {
                line.push_str(&format!(" --reset-{name}"));
            } else if entry.source != Source::Default {
                if row.secret {
                    line.push_str(&format!(" --{name}=<redacted>"));
                }
                for item in items(&name, entry, spaced) {
                    line.push(' ');
                    line.push_str(&item);
                }
            }
        }
    }
    line
}

/// Options that archive-get needs to find what this restore found, for `restore_command`: those given as arguments,
/// the stanza among them. The caller puts program, options, `archive-get %f "%p"` together.
///
/// Left out is what concerns how a command works rather than what it works on, and whatever archive-get would refuse:
/// PostgreSQL takes a failing `restore_command` for the end of WAL. Where the meaning of an argument hangs on a variable
/// of our environment, which PostgreSQL may not have, that option is written too.
pub fn restore_command_options(options: &OptionSet) -> Vec<String> {
    const NOT_PASSED: [&str; 10] = [
        "cmd",
        "exec-id",
        "job-retry",
        "job-retry-interval",
        "log-level-console",
        "log-level-file",
        "log-level-stderr",
        "log-subprocess",
        "log-timestamp",
        "process-max",
    ];
    passed_on(options, Command::ArchiveGet, Role::Main, &NOT_PASSED, shell_word)
}

/// Arguments that give a background run (`archive-push:async` and the like) the options of this one. Files and
/// variables are read there again, so only what came as an argument is passed. Secrets never do.
pub fn background_arguments(options: &OptionSet, command: Command) -> Vec<String> {
    passed_on(options, command, Role::Async, &[], str::to_owned)
}

/// What decides where WAL goes to or comes from under `command`, and how it is stored, secrets in clear: the same text means
/// the same archives. Only what both halves of the command know is in it, so that they agree.
pub fn archive_target(options: &OptionSet, command: Command) -> SecretString {
    const OTHERS: [&str; 7] = [
        "archive-header-check",
        "compress-level",
        "compress-type",
        "pg-path",
        "pg-version-force",
        "repo-target-time",
        "stanza",
    ];
    let mut text = String::new();
    let wanted = |row: &&Row| {
        opt::valid(row, command, Role::Async) && (row.group == Some(Group::Repo) || OTHERS.contains(&row.name))
    };
    for row in opt::rows().filter(wanted) {
        for number in options.numbers(row) {
            let Some(value) = options.entry(row, *number).and_then(|entry| entry.value.as_ref()) else { continue };
            let value = match value {
                Value::Boolean(value) => value.to_string(),
                Value::Integer(number) => number.to_string(),
                Value::Text(text) => format!("{text:?}"),
                Value::Secret(secret) => format!("{:?}", secret.expose_secret()),
                Value::List(list) => format!("{list:?}"),
                Value::Hash(pairs) => format!("{pairs:?}"),
            };
            text.push_str(&format!("{}={value}\n", row.numbered(*number)));
        }
    }
    text.into()
}

fn passed_on(
    options: &OptionSet,
    command: Command,
    role: Role,
    except: &[&str],
    write: fn(&str) -> String,
) -> Vec<String> {
    let mut wanted = BTreeSet::new();
    for row in opt::rows().filter(|row| passable(row, command, role) && !except.contains(&row.name)) {
        for number in options.numbers(row) {
            let given =
                options.entry(row, *number).is_some_and(|entry| entry.source == Source::Argument || entry.reset);
            if given && holds(options, row, *number, command) {
                want_with_conditions(options, row, *number, command, &mut wanted);
            }
        }
    }
    let mut arguments = Vec::new();
    for (name, number) in wanted {
        let Some((row, entry)) = opt::row(name).and_then(|row| Some((row, options.entry(row, number)?))) else {
            continue;
        };
        let name = row.numbered(number);
        if entry.negated {
            arguments.push(format!("--no-{name}"));
        } else if entry.reset {
            arguments.push(format!("--reset-{name}"));
        } else {
            arguments.extend(items(&name, entry, write));
        }
    }
    arguments
}

fn passable(row: &Row, command: Command, role: Role) -> bool {
    opt::valid(row, command, role) && !row.secret
}

/// Will the other command find the option's condition fulfilled by what this one has?
fn holds(options: &OptionSet, row: &Row, number: u16, command: Command) -> bool {
    let Some(depend) = row.rules(command).depend else { return true };
    let Some((other, other_number)) = condition(&depend, number) else { return false };
    match options.entry(other, other_number).and_then(|entry| entry.value.as_ref()) {
        Some(Value::Boolean(value)) => {
            depend.values.is_empty() || depend.values.contains(&if *value { "y" } else { "n" })
        }
        Some(Value::Text(text)) => depend.values.is_empty() || depend.values.contains(&text.as_str()),
        Some(_) => depend.values.is_empty(),
        None => false,
    }
}

fn condition(depend: &Depend, number: u16) -> Option<(&'static Row, u16)> {
    let row = opt::row(depend.on)?;
    Some((row, if row.group.is_some() { number } else { 0 }))
}

fn want_with_conditions(
    options: &OptionSet,
    row: &'static Row,
    number: u16,
    command: Command,
    wanted: &mut BTreeSet<(&'static str, u16)>,
) {
    if !wanted.insert((row.name, number)) {
        return;
    }
    let Some((other, other_number)) = row.rules(command).depend.and_then(|depend| condition(&depend, number)) else {
        return;
    };
    let from_variable = options.entry(other, other_number).is_some_and(|entry| entry.source == Source::Environment);
    if from_variable && !other.secret {
        want_with_conditions(options, other, other_number, command, wanted);
    }
}

/// The option as arguments: one, or one for each item. `write` makes each value fit where it goes.
fn items(name: &str, entry: &Entry, write: fn(&str) -> String) -> Vec<String> {
    let item = |text: &str| format!("--{name}={}", write(text));
    match &entry.value {
        Some(Value::Boolean(true)) => vec![format!("--{name}")],
        Some(Value::Boolean(false)) => vec![format!("--no-{name}")],
        Some(Value::List(list)) => list.iter().map(|text| item(text)).collect(),
        Some(Value::Hash(pairs)) => pairs.iter().map(|(key, value)| item(&format!("{key}={value}"))).collect(),
        Some(Value::Text(text)) => vec![item(entry.shown.as_deref().unwrap_or(text))],
        Some(Value::Integer(number)) => vec![item(entry.shown.as_deref().unwrap_or(&number.to_string()))],
        Some(Value::Secret(_)) | None => Vec::new(),
    }
}

/// For people to read: quoted where there is a space.
fn spaced(text: &str) -> String {
    if text.contains(' ') { format!("\"{text}\"") } else { text.to_owned() }
}

/// For `restore_command`, which PostgreSQL searches for `%` and hands to a shell. Values without such characters come
/// out as pgBackRest writes them.
fn shell_word(text: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "-_./:=,+@%".contains(character);
    let text = text.replace('%', "%%");
    if text.chars().all(plain) {
        return text;
    }
    let mut word = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '$' | '`') {
            word.push('\\');
        }
        word.push(character);
    }
    word.push('"');
    word
}
