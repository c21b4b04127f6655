//! From options as given to values: which numbers are in use, which conditions hold, what each value means.
//!
//! The first mistake decides the exit code, so the order of the steps is that of pgBackRest (`config/parse.c`, from
//! phase 4 on).

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;

use crate::command::{Command, Role};
use crate::error::{ConfigError, ErrorClass, option_invalid, option_invalid_value};
use crate::given::{Given, GivenValue, Source};
use crate::opt::{self, Default, Depend, Group, Kind, Range, Row, Rules, Section};
use crate::set::{Entry, OptionSet, Value};
use crate::value;

/// What is being resolved, apart from the options.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) command: Command,
    pub(crate) role: Role,
    /// Only help is wanted: nothing is required
    pub(crate) help: bool,
    /// Path of the running program, the default of options that name one
    pub(crate) program: &'a str,
}

pub(crate) fn resolve(given: &Given, run: Run<'_>, warnings: &mut Vec<String>) -> Result<OptionSet, ConfigError> {
    refuse_foreign(given, run)?;
    let mut set = OptionSet {
        command: run.command,
        role: run.role,
        entries: BTreeMap::new(),
        pg: numbers(given, run, Group::Pg),
        repo: numbers(given, run, Group::Repo),
    };
    let mut kept = BTreeSet::new();
    for row in opt::resolve_order().filter(|row| opt::valid(row, run.command, run.role)) {
        for number in set.numbers(row).to_vec() {
            let entry = Resolver { row, number, run, set: &set }.entry(given.find(row, number), warnings)?;
            if let Some(group) = row.group.filter(|_| entry.source != Source::Default) {
                kept.insert((group, number));
            }
            set.entries.insert((row.name, number), entry);
        }
    }
    drop_phantoms(&mut set, Group::Pg, &kept);
    drop_phantoms(&mut set, Group::Repo, &kept);
    check_chosen(&set, opt::PG.row(), &set.pg)?;
    check_chosen(&set, opt::REPO.row(), &set.repo)?;
    Ok(set)
}

/// Only arguments are refused for being unknown to the command; files and variables serve many commands.
fn refuse_foreign(given: &Given, run: Run<'_>) -> Result<(), ConfigError> {
    for row in opt::rows().filter(|row| !opt::valid(row, run.command, run.role)) {
        if given.numbers(row).next().is_some() {
            return Err(option_invalid(format!("option '{}' not valid for command '{}'", row.name, run.command)));
        }
    }
    Ok(())
}

/// Numbers that some option of the group uses; at least 1. Cluster 1 is there even when only others are given.
fn numbers(given: &Given, run: Run<'_>, group: Group) -> Vec<u16> {
    let valid = || opt::rows().filter(|row| row.group == Some(group) && opt::valid(row, run.command, run.role));
    if valid().next().is_none() {
        return Vec::new();
    }
    let mut numbers: BTreeSet<u16> = valid()
        .flat_map(|row| given.numbers(row))
        .filter(|(_, value)| !value.reset)
        .map(|(number, _)| number)
        .collect();
    if numbers.is_empty() || group == Group::Pg {
        numbers.insert(1);
    }
    numbers.into_iter().collect()
}

/// One option with one number on its way from text to value.
struct Resolver<'a> {
    row: &'static Row,
    number: u16,
    run: Run<'a>,
    /// Everything resolved before, conditions among it
    set: &'a OptionSet,
}

impl Resolver<'_> {
    fn name(&self) -> String {
        self.row.numbered(self.number)
    }

    fn entry(&self, given: Option<&GivenValue>, warnings: &mut Vec<String>) -> Result<Entry, ConfigError> {
        let row = self.row;
        let rules = row.rules(self.run.command);
        let mut entry = Entry::unset();
        entry.negated = given.is_some_and(|given| given.negated);
        entry.reset = given.is_some_and(|given| given.reset);
        let set = given.filter(|given| !given.reset && (row.kind == Kind::Boolean || !given.negated));

        let holds = rules.depend.is_none_or(|depend| self.holds(&depend));
        if let (Some(depend), false) = (rules.depend, holds) {
            if set.is_some_and(|given| given.source == Source::Argument) {
                return Err(self.unmet(&depend));
            }
            if let Some(value) = depend.otherwise {
                entry = Entry { value: Some(constant(row, value)), shown: Some(value.to_owned()), ..Entry::unset() };
            }
            return Ok(entry);
        }

        if let Some(given) = set {
            entry.source = given.source;
            entry.value = Some(self.value(given, &rules, warnings)?);
            entry.shown = given.values.first().filter(|_| !row.secret).cloned();
        } else if let Some(given) = given.filter(|given| given.negated) {
            entry.source = given.source;
        }
        if entry.value.is_none() && !entry.negated || self.run.help {
            self.take_default(&mut entry, &rules)?;
        }
        Ok(entry)
    }

    fn take_default(&self, entry: &mut Entry, rules: &Rules) -> Result<(), ConfigError> {
        let default = match rules.default {
            Default::Nothing => None,
            Default::Value(value) => Some(value),
            Default::ByValue(values) => {
                let matched = self.matched(rules);
                values.iter().find(|(value, _)| Some(*value) == matched).map(|(_, default)| *default)
            }
            Default::Program => Some(self.run.program),
        };
        match default {
            Some(default) => {
                if entry.value.is_none() {
                    entry.value = Some(constant(self.row, default));
                    entry.shown = Some(default.to_owned());
                }
                entry.default_shown = Some(default.to_owned());
                Ok(())
            }
            None if rules.required && !self.run.help => {
                let message = format!("{} command requires option: {}", self.run.command, self.name());
                let error = ConfigError::new(ErrorClass::OptionRequired, message);
                let of_stanza = self.row.section == Section::Stanza;
                Err(if of_stanza { error.hint("does this stanza exist?") } else { error })
            }
            None => Ok(()),
        }
    }

    // Conditions -----------------------------------------------------------------------------------------------------

    fn depended(&self, depend: &Depend) -> Option<(&'static Row, u16)> {
        let row = opt::row(depend.on)?;
        Some((row, if row.group.is_some() { self.number } else { 0 }))
    }

    fn depended_value(&self, depend: &Depend) -> Option<&Value> {
        let (row, number) = self.depended(depend)?;
        self.set.entry(row, number)?.value.as_ref()
    }

    fn holds(&self, depend: &Depend) -> bool {
        self.depended_value(depend)
            .is_some_and(|value| depend.values.is_empty() || depend.values.iter().any(|wanted| is(value, wanted)))
    }

    /// The value of the other option that fulfils the condition.
    fn matched(&self, rules: &Rules) -> Option<&'static str> {
        let depend = rules.depend?;
        let value = self.depended_value(&depend)?;
        depend.values.iter().copied().find(|wanted| is(value, wanted))
    }

    fn unmet(&self, depend: &Depend) -> ConfigError {
        let Some((row, number)) = self.depended(depend) else {
            return option_invalid(format!("option '{}' not valid", self.name()));
        };
        let mut other = row.numbered(number);
        let mut values = String::new();
        if self.depended_value(depend).is_some() {
            let quoted: Vec<String> = depend.values.iter().map(|value| format!("'{value}'")).collect();
            match (row.kind, quoted.as_slice()) {
                (Kind::Boolean, _) if depend.values.contains(&"n") => other.insert_str(0, "no-"),
                (Kind::Boolean, _) | (_, []) => {}
                (_, [only]) => values = format!(" = {only}"),
                _ => values = format!(" in ({})", quoted.join(", ")),
            }
        }
        option_invalid(format!("option '{}' not valid without option '{other}'{values}", self.name()))
    }

    // Values ---------------------------------------------------------------------------------------------------------

    fn value(&self, given: &GivenValue, rules: &Rules, warnings: &mut Vec<String>) -> Result<Value, ConfigError> {
        match self.row.kind {
            Kind::Boolean => return Ok(Value::Boolean(!given.negated)),
            Kind::List => return Ok(Value::List(given.values.clone())),
            Kind::Hash => return self.hash(&given.values, warnings),
            _ => {}
        }
        let text = given.values.first().map_or("", String::as_str);
        match self.row.kind {
            Kind::Integer | Kind::Size | Kind::Time => {
                let Some(number) = value::number(self.row.kind, text) else {
                    return Err(option_invalid_value(format!("'{text}' is not valid for '{}' option", self.name())));
                };
                self.check_range(number, text, rules)?;
                let listed = |word: &&str| value::number(self.row.kind, word) == Some(number);
                self.check_allowed(rules.allowed.is_empty() || rules.allowed.iter().any(listed), text, rules)?;
                Ok(Value::Integer(number))
            }
            Kind::StringId => {
                self.check_allowed(rules.allowed.contains(&text), text, rules)?;
                Ok(Value::Text(text.to_owned()))
            }
            _ if text.is_empty() => {
                Err(option_invalid_value(format!("'' must be >= 1 character for '{}' option", self.name())))
            }
            Kind::Path => match value::path_fault(text) {
                Some(fault) => Err(option_invalid_value(format!("'{text}' {fault} for '{}' option", self.name()))),
                None => Ok(Value::Text(value::path(text).to_owned())),
            },
            _ if self.row.secret => Ok(Value::Secret(SecretString::from(text))),
            _ => Ok(Value::Text(text.to_owned())),
        }
    }

    fn hash(&self, items: &[String], warnings: &mut Vec<String>) -> Result<Value, ConfigError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for item in items {
            let Some((key, value)) = item.split_once('=') else {
                return Err(option_invalid(format!("key/value '{item}' not valid for '{}' option", self.name())));
            };
            match pairs.iter_mut().find(|(known, _)| known == key) {
                Some((_, old)) => {
                    let name = self.name();
                    warnings
                        .push(format!("key '{key}' value '{old}' is overwritten with '{value}' for '{name}' option"));
                    value.clone_into(old);
                }
                None => pairs.push((key.to_owned(), value.to_owned())),
            }
        }
        Ok(Value::Hash(pairs))
    }

    fn check_range(&self, number: i64, text: &str, rules: &Rules) -> Result<(), ConfigError> {
        let (least, greatest, condition) = match rules.range {
            Range::Any => return Ok(()),
            Range::Between(least, greatest) => (least, greatest, String::new()),
            Range::ByValue(ranges) => {
                let matched = self.matched(rules);
                let Some((value, least, greatest)) = ranges.iter().find(|(value, ..)| Some(*value) == matched) else {
                    return Ok(());
                };
                let other = rules.depend.and_then(|depend| self.depended(&depend));
                let other = other.map_or_else(String::new, |(row, number)| row.numbered(number));
                (*least, *greatest, format!(" when '{other}' option = '{value}'"))
            }
        };
        let kind = self.row.kind;
        let inside = value::number(kind, least).is_some_and(|least| number >= least)
            && value::number(kind, greatest).is_some_and(|greatest| number <= greatest);
        if inside {
            return Ok(());
        }
        Err(option_invalid_value(format!("'{text}' is out of range for '{}' option{condition}", self.name()))
            .hint(format!("allowed is {least} to {greatest}")))
    }

    fn check_allowed(&self, found: bool, text: &str, rules: &Rules) -> Result<(), ConfigError> {
        if found {
            return Ok(());
        }
        Err(option_invalid_value(format!("'{text}' is not allowed for '{}' option", self.name()))
            .hint(format!("allowed is one of: {}", rules.allowed.join(", "))))
    }
}

fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::Boolean(value) => *value == (wanted == "y"),
        Value::Text(value) => value == wanted,
        _ => false,
    }
}

/// A value that the table states. Tests prove that each can be read.
fn constant(row: &Row, text: &str) -> Value {
    match row.kind {
        Kind::Boolean => Value::Boolean(text == "y"),
        Kind::Integer | Kind::Size | Kind::Time => Value::Integer(value::number(row.kind, text).unwrap_or_default()),
        _ if row.secret => Value::Secret(SecretString::from(text)),
        _ => Value::Text(text.to_owned()),
    }
}

/// Takes out numbers for which everything is a default: conditions that did not hold made them useless.
///
/// When a single number is left and the lowest one was useless, that single one becomes number 1, even though it was
/// another one that people wrote. pgBackRest does so (seen with 2.60.0), and lock files are named by this number, so
/// that the two programs would not exclude each other if we did not.
fn drop_phantoms(set: &mut OptionSet, group: Group, kept: &BTreeSet<(Group, u16)>) {
    let numbers = match group {
        Group::Pg => &mut set.pg,
        Group::Repo => &mut set.repo,
    };
    let Some(lowest) = numbers.first().copied() else { return };
    for index in (0..numbers.len()).rev() {
        if numbers.len() > 1 && numbers.get(index).is_some_and(|number| !kept.contains(&(group, *number))) {
            numbers.remove(index);
        }
    }
    let renamed = match numbers.as_mut_slice() {
        [only] if !kept.contains(&(group, lowest)) && *only != 1 => Some(std::mem::replace(only, 1)),
        _ => None,
    };
    let remaining = numbers.clone();
    let entries = std::mem::take(&mut set.entries);
    set.entries = entries
        .into_iter()
        .filter_map(|((name, number), entry)| {
            let in_group = opt::row(name).is_some_and(|row| row.group == Some(group));
            match renamed {
                _ if !in_group => Some(((name, number), entry)),
                Some(old) => (number == old).then_some(((name, 1), entry)),
                None => remaining.contains(&number).then_some(((name, number), entry)),
            }
        })
        .collect();
}

/// `--repo` and `--pg` have to name a number that is in use.
fn check_chosen(set: &OptionSet, row: &Row, numbers: &[u16]) -> Result<(), ConfigError> {
    let Some(Value::Integer(chosen)) = set.entry(row, 0).and_then(|entry| entry.value.as_ref()) else { return Ok(()) };
    if numbers.iter().any(|number| i64::from(*number) == *chosen) {
        return Ok(());
    }
    Err(option_invalid_value(format!("key '{chosen}' is not valid for '{}' option", row.name)))
}
