//! The options of one run, resolved and typed.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::num::NonZeroU16;
use std::time::Duration;

use secrecy::SecretString;

use crate::command::{Command, Role};
use crate::error::{ConfigError, ErrorClass};
use crate::given::Source;
use crate::opt::{self, Family, Group, Key, Pg, Repo, Row, Single, ValueKind};

/// Number of a repository as people write it: 1 for `repo1-path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoIndex(NonZeroU16);

/// Number of a cluster as people write it: 1 for `pg1-path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgIndex(NonZeroU16);

macro_rules! index {
    ($name:ident, $prefix:literal) => {
        impl $name {
            pub fn number(self) -> u16 {
                self.0.get()
            }

            fn from_number(number: u16) -> Option<$name> {
                NonZeroU16::new(number).map($name)
            }
        }

        /// As messages name it: with its prefix.
        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

index!(RepoIndex, "repo");
index!(PgIndex, "pg");

/// A value of an option. Secrets print as redacted.
#[derive(Debug, Clone)]
pub enum Value {
    Boolean(bool),
    /// Integers, bytes and milliseconds
    Integer(i64),
    /// Texts, paths and string-ids
    Text(String),
    Secret(SecretString),
    List(Vec<String>),
    /// Each key once, in the order given
    Hash(Vec<(String, String)>),
}

/// What became of an option.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Option<Value>,
    pub(crate) source: Source,
    pub(crate) negated: bool,
    pub(crate) reset: bool,
    /// The value as it was written; never kept for secrets
    pub(crate) shown: Option<String>,
    /// The default as the table writes it, where it applies
    pub(crate) default_shown: Option<String>,
    /// Follows from another option that people set: acted on, but not shown as theirs
    pub(crate) derived: bool,
}

impl Entry {
    pub(crate) fn unset() -> Entry {
        let (value, shown, default_shown) = (None, None, None);
        Entry { value, source: Source::Default, negated: false, reset: false, shown, default_shown, derived: false }
    }
}

/// The options of one run: for each one that the command knows, its value and where that came from.
#[derive(Debug, Clone)]
pub struct OptionSet {
    pub(crate) command: Command,
    pub(crate) role: Role,
    /// By name and number; 0 is the number of options that have none
    pub(crate) entries: BTreeMap<(&'static str, u16), Entry>,
    /// Numbers in use, ascending; empty where the command knows no option of the group
    pub(crate) pg: Vec<u16>,
    pub(crate) repo: Vec<u16>,
}

/// Reads options with the same number: those of one repository, of one cluster, or those without a number.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a, F> {
    set: &'a OptionSet,
    number: u16,
    family: PhantomData<fn() -> F>,
}

/// Options of one repository.
pub type RepoOptions<'a> = Scope<'a, Repo>;
/// Options of one cluster.
pub type PgOptions<'a> = Scope<'a, Pg>;

impl<'a, F: Family> Scope<'a, F> {
    fn entry<K: ValueKind>(&self, key: Key<K, F>) -> Option<&'a Entry> {
        self.set.entry(key.row(), self.number)
    }

    /// The value, if there is one: given, by default, or derived.
    pub fn get<K: ValueKind>(&self, key: Key<K, F>) -> Option<K::Read<'a>> {
        K::read(self.entry(key)?.value.as_ref()?)
    }

    /// The value of an option that this command cannot do without.
    pub fn require<K: ValueKind>(&self, key: Key<K, F>) -> Result<K::Read<'a>, ConfigError> {
        self.get(key).ok_or_else(|| {
            let name = key.row().numbered(self.number);
            let message = format!("{} command requires option: {name}", self.set.command);
            ConfigError::new(ErrorClass::OptionRequired, message)
        })
    }

    /// A switch; one without a value is off.
    pub fn boolean(&self, key: Key<opt::Boolean, F>) -> bool {
        self.get(key).unwrap_or(false)
    }

    pub fn integer(&self, key: Key<opt::Integer, F>) -> Option<i64> {
        self.get(key)
    }

    pub fn size_bytes(&self, key: Key<opt::Size, F>) -> Option<u64> {
        self.get(key)
    }

    pub fn time(&self, key: Key<opt::Time, F>) -> Option<Duration> {
        self.get(key)
    }

    pub fn text(&self, key: Key<opt::Text, F>) -> Option<&'a str> {
        self.get(key)
    }

    pub fn path(&self, key: Key<opt::Path, F>) -> Option<&'a str> {
        self.get(key)
    }

    pub fn string_id(&self, key: Key<opt::StringId, F>) -> Option<&'a str> {
        self.get(key)
    }

    pub fn secret(&self, key: Key<opt::Secret, F>) -> Option<&'a SecretString> {
        self.get(key)
    }

    /// The items; none where the option is not set.
    pub fn list(&self, key: Key<opt::List, F>) -> &'a [String] {
        self.get(key).unwrap_or(&[])
    }

    /// The pairs in the order given; none where the option is not set.
    pub fn hash(&self, key: Key<opt::Hash, F>) -> &'a [(String, String)] {
        self.get(key).unwrap_or(&[])
    }

    /// Where the value comes from; `None` when the command does not know the option.
    pub fn source<K: ValueKind>(&self, key: Key<K, F>) -> Option<Source> {
        Some(self.entry(key)?.source)
    }

    /// Has the option a value, if only by default?
    pub fn is_set<K: ValueKind>(&self, key: Key<K, F>) -> bool {
        self.entry(key).is_some_and(|entry| entry.value.is_some())
    }

    /// Did somebody give the option a value?
    pub fn is_given<K: ValueKind>(&self, key: Key<K, F>) -> bool {
        self.entry(key).is_some_and(|entry| entry.value.is_some() && entry.source != Source::Default)
    }
}

impl OptionSet {
    pub fn command(&self) -> Command {
        self.command
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// Numbers of the repositories in use, ascending. Empty when the command uses none.
    pub fn repos(&self) -> impl Iterator<Item = RepoIndex> + '_ {
        self.repo.iter().filter_map(|number| RepoIndex::from_number(*number))
    }

    /// Numbers of the clusters in use, ascending. Empty when the command uses none.
    pub fn pgs(&self) -> impl Iterator<Item = PgIndex> + '_ {
        self.pg.iter().filter_map(|number| PgIndex::from_number(*number))
    }

    /// Repository that `--repo` names, if it was given.
    pub fn repo_named(&self) -> Option<RepoIndex> {
        self.integer(opt::REPO).and_then(|number| RepoIndex::from_number(u16::try_from(number).ok()?))
    }

    /// Repository to take where a command takes one: the one that `--repo` names, or the first.
    pub fn repo_default(&self) -> Option<RepoIndex> {
        self.repo_named().or_else(|| self.repos().next())
    }

    /// Options of a repository.
    pub fn repo(&self, index: RepoIndex) -> RepoOptions<'_> {
        Scope { set: self, number: index.number(), family: PhantomData }
    }

    /// Options of a cluster.
    pub fn pg(&self, index: PgIndex) -> PgOptions<'_> {
        Scope { set: self, number: index.number(), family: PhantomData }
    }

    fn single(&self) -> Scope<'_, Single> {
        Scope { set: self, number: 0, family: PhantomData }
    }

    /// See [`Scope::get`].
    pub fn get<K: ValueKind>(&self, key: Key<K>) -> Option<K::Read<'_>> {
        self.single().get(key)
    }

    /// See [`Scope::require`].
    pub fn require<K: ValueKind>(&self, key: Key<K>) -> Result<K::Read<'_>, ConfigError> {
        self.single().require(key)
    }

    /// See [`Scope::boolean`].
    pub fn boolean(&self, key: Key<opt::Boolean>) -> bool {
        self.single().boolean(key)
    }

    pub fn integer(&self, key: Key<opt::Integer>) -> Option<i64> {
        self.get(key)
    }

    pub fn size_bytes(&self, key: Key<opt::Size>) -> Option<u64> {
        self.get(key)
    }

    pub fn time(&self, key: Key<opt::Time>) -> Option<Duration> {
        self.get(key)
    }

    pub fn text(&self, key: Key<opt::Text>) -> Option<&str> {
        self.get(key)
    }

    pub fn path(&self, key: Key<opt::Path>) -> Option<&str> {
        self.get(key)
    }

    pub fn string_id(&self, key: Key<opt::StringId>) -> Option<&str> {
        self.get(key)
    }

    /// See [`Scope::list`].
    pub fn list(&self, key: Key<opt::List>) -> &[String] {
        self.single().list(key)
    }

    /// See [`Scope::hash`].
    pub fn hash(&self, key: Key<opt::Hash>) -> &[(String, String)] {
        self.single().hash(key)
    }

    /// See [`Scope::source`].
    pub fn source<K: ValueKind>(&self, key: Key<K>) -> Option<Source> {
        self.single().source(key)
    }

    /// See [`Scope::is_set`].
    pub fn is_set<K: ValueKind>(&self, key: Key<K>) -> bool {
        self.single().is_set(key)
    }

    /// See [`Scope::is_given`].
    pub fn is_given<K: ValueKind>(&self, key: Key<K>) -> bool {
        self.single().is_given(key)
    }

    /// Switches the log file off, as pgBackRest does when it cannot be opened: from then on that is an option given.
    pub fn log_level_file_off(&mut self) {
        self.put(opt::LOG_LEVEL_FILE.row(), 0, Value::Text("off".to_owned()), Source::Argument);
    }

    pub(crate) fn entry(&self, row: &Row, number: u16) -> Option<&Entry> {
        self.entries.get(&(row.name, number))
    }

    /// Gives an option that the command knows another value.
    pub(crate) fn put(&mut self, row: &'static Row, number: u16, value: Value, source: Source) {
        if let Some(entry) = self.entries.get_mut(&(row.name, number)) {
            entry.shown = match &value {
                Value::Text(text) => Some(text.clone()),
                Value::Integer(number) => Some(number.to_string()),
                _ => None,
            };
            entry.value = Some(value);
            entry.source = source;
        }
    }

    /// Numbers under which the option exists.
    pub(crate) fn numbers(&self, row: &Row) -> &[u16] {
        match row.group {
            Some(Group::Pg) => &self.pg,
            Some(Group::Repo) => &self.repo,
            None => &[0],
        }
    }
}
