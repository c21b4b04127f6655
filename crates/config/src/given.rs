//! What people gave: options as text, by name and number, before anything is known about their value.

use std::collections::BTreeMap;

use crate::opt::Row;

/// Where a value comes from. A later one goes before an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    File,
    Environment,
    Argument,
}

/// One option as it was given. There is no `Debug`: values may be secrets.
pub(crate) struct GivenValue {
    pub(crate) source: Source,
    /// Given as `--no-NAME`, or a boolean that is `n`
    pub(crate) negated: bool,
    /// Given as `--reset-NAME`
    pub(crate) reset: bool,
    /// Empty for booleans, and where negated or reset
    pub(crate) values: Vec<String>,
}

/// All options given, each from the source that goes before the others.
#[derive(Default)]
pub(crate) struct Given(BTreeMap<(&'static str, u16), GivenValue>);

impl Given {
    /// The option with this number (0 where it has none), if it was given.
    pub(crate) fn find(&self, row: &Row, number: u16) -> Option<&GivenValue> {
        self.0.get(&(row.name, number))
    }

    pub(crate) fn find_mut(&mut self, row: &Row, number: u16) -> Option<&mut GivenValue> {
        self.0.get_mut(&(row.name, number))
    }

    pub(crate) fn insert(&mut self, row: &'static Row, number: u16, value: GivenValue) {
        self.0.insert((row.name, number), value);
    }

    /// Numbers under which the option was given, ascending.
    pub(crate) fn numbers(&self, row: &Row) -> impl Iterator<Item = (u16, &GivenValue)> {
        self.0.range((row.name, 0)..=(row.name, u16::MAX)).map(|((_, number), value)| (*number, value))
    }
}
