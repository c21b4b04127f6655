//! What one row of the option table says, and the words that rows are written with.

use crate::command::{Command, Commands};

/// Type of an option's value, as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Integer,
    /// Bytes, written with binary suffixes
    Size,
    /// Milliseconds, written with suffixes; bare numbers are seconds
    Time,
    Text,
    Path,
    /// One word of a fixed list
    StringId,
    List,
    Hash,
}

/// Options that come in numbered families, such as `repo2-path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Pg,
    Repo,
}

impl Group {
    /// Prefix of every option in the group.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Pg => "pg",
            Group::Repo => "repo",
        }
    }
}

/// Where an option may be set, apart from arguments and variables, where each of them may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// In no section of a configuration file
    CommandLine,
    /// In every section
    Global,
    /// In sections of a stanza
    Stanza,
}

/// Value that an option has when nobody gives one.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    Nothing,
    Value(&'static str),
    /// By the value of the option that this one depends on
    ByValue(&'static [(&'static str, &'static str)]),
    /// Path of the running program
    Program,
}

/// Numbers that are allowed, both ends included.
#[derive(Debug, Clone, Copy)]
pub enum Range {
    Any,
    Between(&'static str, &'static str),
    /// By the value of the option that this one depends on: value, least, greatest
    ByValue(&'static [(&'static str, &'static str, &'static str)]),
}

/// Condition under which an option has a meaning.
#[derive(Debug, Clone, Copy)]
pub struct Depend {
    /// Name of the other option
    pub on: &'static str,
    /// Values of the other option that fulfil the condition; empty when any value does
    pub values: &'static [&'static str],
    /// Value to take when the condition does not hold
    pub otherwise: Option<&'static str>,
}

/// A former name of an option.
#[derive(Debug, Clone, Copy)]
pub struct Deprecated {
    pub name: &'static str,
    /// The name takes a number, as in `db2-path`
    pub indexed: bool,
    /// The name stands without a number, which means 1
    pub unindexed: bool,
}

/// What this program does with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// As pgBackRest does
    Full,
    /// pgBackRest does not have it, and says so when it meets it in a file that both read
    Own,
    /// Accepted; there is nothing here that it could act on
    Idle(&'static str),
    /// Setting it is an error; the text says why
    Refused(&'static str),
}

/// Where a command differs from what the row says in general.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exception {
    commands: Commands,
    default: Option<Default>,
    allowed: Option<&'static [&'static str]>,
    depend: Option<Depend>,
    required: Option<bool>,
    internal: bool,
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Name without number: `repo-path`, not `repo1-path`
    pub name: &'static str,
    /// One line that says what the option is for
    pub help: &'static str,
    pub kind: Kind,
    pub group: Option<Group>,
    pub section: Section,
    /// Commands that know the option
    pub commands: Commands,
    /// Known to the background role of those commands too
    pub background: bool,
    /// Must not be given as an argument, nor be shown
    pub secret: bool,
    /// May be written as `--no-NAME`
    pub negatable: bool,
    /// A string-id that may also be written like a boolean
    pub or_boolean: bool,
    /// Former names
    pub deprecated: &'static [Deprecated],
    pub support: Support,
    /// Values that are refused though the option is not, each with its reason
    pub refused_values: &'static [(&'static str, &'static str)],
    rules: Rules,
    exceptions: &'static [Exception],
}

/// What holds for an option under one command.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub default: Default,
    pub range: Range,
    /// Words (or sizes) to choose from; empty when there is no such list
    pub allowed: &'static [&'static str],
    pub depend: Option<Depend>,
    /// Without a default, somebody has to give a value
    pub required: bool,
    /// Left out of overviews
    pub internal: bool,
}

impl Row {
    const fn new(name: &'static str, commands: Commands, section: Section) -> Row {
        Row {
            name,
            help: "",
            kind: Kind::Text,
            group: None,
            section,
            commands,
            background: false,
            secret: false,
            negatable: false,
            or_boolean: false,
            deprecated: &[],
            support: Support::Full,
            refused_values: &[],
            rules: Rules {
                default: Default::Nothing,
                range: Range::Any,
                allowed: &[],
                depend: None,
                required: true,
                internal: false,
            },
            exceptions: &[],
        }
    }

    /// May the option be given several times?
    pub const fn multiple(&self) -> bool {
        matches!(self.kind, Kind::List | Kind::Hash)
    }

    /// May the option be written as `--reset-NAME`?
    pub const fn resettable(&self) -> bool {
        !matches!(self.section, Section::CommandLine)
    }

    /// What holds under `command`: its exception where there is one, the row in general otherwise.
    pub fn rules(&self, command: Command) -> Rules {
        let mut rules = self.rules;
        if let Some(exception) = self.exceptions.iter().find(|exception| exception.commands.contains(command)) {
            rules.default = exception.default.unwrap_or(rules.default);
            rules.allowed = exception.allowed.unwrap_or(rules.allowed);
            rules.depend = exception.depend.or(rules.depend);
            rules.required = exception.required.unwrap_or(rules.required);
            rules.internal |= exception.internal;
        }
        rules
    }

    /// Every option that this one depends on, under whichever command.
    pub fn dependencies(&self) -> impl Iterator<Item = &'static str> {
        let exceptions = self.exceptions;
        let own = self.rules.depend.map(|depend| depend.on);
        own.into_iter().chain(exceptions.iter().filter_map(|exception| Some(exception.depend?.on)))
    }

    /// The name as people write it, with the number where the option has one.
    pub fn numbered(&self, number: u16) -> String {
        match self.group {
            Some(group) => format!("{}{number}{}", group.name(), self.name.get(group.name().len()..).unwrap_or("")),
            None => self.name.to_owned(),
        }
    }

    // Words of the table ---------------------------------------------------------------------------------------------

    pub(crate) const fn finish(mut self, help: &'static str, kind: Kind, secret: bool, group: Option<Group>) -> Row {
        self.help = help;
        self.kind = kind;
        self.secret = secret;
        self.group = group;
        // What a file may set, it may also switch off; `or_boolean` and `negatable` are the exceptions.
        let in_files = !matches!(self.section, Section::CommandLine);
        self.negatable |= in_files && (matches!(kind, Kind::Boolean) || self.or_boolean);
        self
    }

    pub(crate) const fn default(mut self, value: &'static str) -> Row {
        self.rules.default = Default::Value(value);
        self
    }

    pub(crate) const fn default_by(mut self, values: &'static [(&'static str, &'static str)]) -> Row {
        self.rules.default = Default::ByValue(values);
        self
    }

    pub(crate) const fn default_program(mut self) -> Row {
        self.rules.default = Default::Program;
        self
    }

    pub(crate) const fn optional(mut self) -> Row {
        self.rules.required = false;
        self
    }

    pub(crate) const fn range(mut self, least: &'static str, greatest: &'static str) -> Row {
        self.rules.range = Range::Between(least, greatest);
        self
    }

    pub(crate) const fn range_by(mut self, ranges: &'static [(&'static str, &'static str, &'static str)]) -> Row {
        self.rules.range = Range::ByValue(ranges);
        self
    }

    pub(crate) const fn allowed(mut self, values: &'static [&'static str]) -> Row {
        self.rules.allowed = values;
        self
    }

    pub(crate) const fn or_boolean(mut self) -> Row {
        self.or_boolean = true;
        self
    }

    pub(crate) const fn negatable(mut self) -> Row {
        self.negatable = true;
        self
    }

    pub(crate) const fn when(mut self, on: &'static str, values: &'static [&'static str]) -> Row {
        self.rules.depend = Some(Depend { on, values, otherwise: None });
        self
    }

    pub(crate) const fn when_set(self, on: &'static str) -> Row {
        self.when(on, &[])
    }

    pub(crate) const fn otherwise(mut self, value: &'static str) -> Row {
        if let Some(depend) = self.rules.depend {
            self.rules.depend = Some(Depend { otherwise: Some(value), ..depend });
        }
        self
    }

    pub(crate) const fn background(mut self) -> Row {
        self.background = true;
        self
    }

    pub(crate) const fn internal(mut self) -> Row {
        self.rules.internal = true;
        self
    }

    pub(crate) const fn except(mut self, exceptions: &'static [Exception]) -> Row {
        self.exceptions = exceptions;
        self
    }

    pub(crate) const fn deprecated(mut self, names: &'static [Deprecated]) -> Row {
        self.deprecated = names;
        self
    }

    pub(crate) const fn refused(mut self, reason: &'static str) -> Row {
        self.support = Support::Refused(reason);
        self
    }

    pub(crate) const fn own(mut self) -> Row {
        self.support = Support::Own;
        self
    }

    pub(crate) const fn idle(mut self, reason: &'static str) -> Row {
        self.support = Support::Idle(reason);
        self
    }

    pub(crate) const fn refused_values(mut self, values: &'static [(&'static str, &'static str)]) -> Row {
        self.refused_values = values;
        self
    }
}

pub(crate) const fn command_line(name: &'static str, commands: Commands) -> Row {
    Row::new(name, commands, Section::CommandLine)
}

pub(crate) const fn global(name: &'static str, commands: Commands) -> Row {
    Row::new(name, commands, Section::Global)
}

pub(crate) const fn stanza_only(name: &'static str, commands: Commands) -> Row {
    Row::new(name, commands, Section::Stanza)
}

/// Starts an exception for some commands.
pub(crate) const fn on(commands: Commands) -> Exception {
    Exception { commands, default: None, allowed: None, depend: None, required: None, internal: false }
}

impl Exception {
    pub(crate) const fn default(mut self, value: &'static str) -> Exception {
        self.default = Some(Default::Value(value));
        self
    }

    pub(crate) const fn allowed(mut self, values: &'static [&'static str]) -> Exception {
        self.allowed = Some(values);
        self
    }

    pub(crate) const fn when(mut self, on: &'static str, values: &'static [&'static str]) -> Exception {
        self.depend = Some(Depend { on, values, otherwise: None });
        self
    }

    pub(crate) const fn when_set(self, on: &'static str) -> Exception {
        self.when(on, &[])
    }

    pub(crate) const fn otherwise(mut self, value: &'static str) -> Exception {
        if let Some(depend) = self.depend {
            self.depend = Some(Depend { otherwise: Some(value), ..depend });
        }
        self
    }

    pub(crate) const fn required(mut self) -> Exception {
        self.required = Some(true);
        self
    }

    pub(crate) const fn optional(mut self) -> Exception {
        self.required = Some(false);
        self
    }

    pub(crate) const fn internal(mut self) -> Exception {
        self.internal = true;
        self
    }
}

/// A former name that stands without a number.
pub(crate) const fn old(name: &'static str) -> Deprecated {
    Deprecated { name, indexed: false, unindexed: true }
}

/// A former name that needs a number.
pub(crate) const fn old_indexed(name: &'static str) -> Deprecated {
    Deprecated { name, indexed: true, unindexed: false }
}

/// A former name with or without a number.
pub(crate) const fn old_either(name: &'static str) -> Deprecated {
    Deprecated { name, indexed: true, unindexed: true }
}
