//! Typed keys: which option, of which type and family, is known to the compiler.

use std::marker::PhantomData;

use secrecy::SecretString;

use super::row::{Group, Kind, Row};
use crate::set::Value;

/// Type of an option's value, as the compiler knows it.
pub trait ValueKind {
    /// What reading the option gives.
    type Read<'a>;
    const KIND: Kind;
    const SECRET: bool = false;
    /// The value, if it is one of this kind.
    fn read(value: &Value) -> Option<Self::Read<'_>>;
}

/// Which family of options a key belongs to, as the compiler knows it.
pub trait Family {
    const GROUP: Option<Group>;
}

macro_rules! value_kinds {
    ($($(#[$doc:meta])* $name:ident($kind:ident, $secret:literal): $read:ty = $pattern:pat => $result:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $name {}

        impl ValueKind for $name {
            type Read<'a> = $read;
            const KIND: Kind = Kind::$kind;
            const SECRET: bool = $secret;

            fn read(value: &Value) -> Option<Self::Read<'_>> {
                match value {
                    $pattern => $result,
                    _ => None,
                }
            }
        }
    )* };
}

value_kinds! {
    /// y or n
    Boolean(Boolean, false): bool = Value::Boolean(value) => Some(*value);
    Integer(Integer, false): i64 = Value::Integer(value) => Some(*value);
    /// Bytes
    Size(Size, false): u64 = Value::Integer(value) => u64::try_from(*value).ok();
    /// Read as a duration
    Time(Time, false): std::time::Duration = Value::Integer(value)
        => u64::try_from(*value).ok().map(std::time::Duration::from_millis);
    Text(Text, false): &'a str = Value::Text(value) => Some(value);
    /// Absolute, without a slash at the end
    Path(Path, false): &'a str = Value::Text(value) => Some(value);
    /// One word of the option's list
    StringId(StringId, false): &'a str = Value::Text(value) => Some(value);
    Secret(Text, true): &'a SecretString = Value::Secret(value) => Some(value);
    List(List, false): &'a [String] = Value::List(value) => Some(value);
    /// Pairs in the order given, each key once
    Hash(Hash, false): &'a [(String, String)] = Value::Hash(value) => Some(value);
}

/// Options without a number.
#[derive(Debug, Clone, Copy)]
pub enum Single {}
/// Options of a numbered cluster: `pgN-...`.
#[derive(Debug, Clone, Copy)]
pub enum Pg {}
/// Options of a numbered repository: `repoN-...`.
#[derive(Debug, Clone, Copy)]
pub enum Repo {}

impl Family for Single {
    const GROUP: Option<Group> = None;
}
impl Family for Pg {
    const GROUP: Option<Group> = Some(Group::Pg);
}
impl Family for Repo {
    const GROUP: Option<Group> = Some(Group::Repo);
}

/// Name of an option in our code: a misspelt one does not compile, nor does reading it as another type.
#[derive(Debug)]
pub struct Key<K, F = Single> {
    row: &'static Row,
    kind: PhantomData<fn() -> (K, F)>,
}

/// Key of a `pgN-...` option.
pub type PgKey<K> = Key<K, Pg>;
/// Key of a `repoN-...` option.
pub type RepoKey<K> = Key<K, Repo>;

impl<K, F> Clone for Key<K, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, F> Copy for Key<K, F> {}

impl<K: ValueKind, F: Family> Key<K, F> {
    pub(crate) const KIND: Kind = K::KIND;
    pub(crate) const SECRET: bool = K::SECRET;
    pub(crate) const GROUP: Option<Group> = F::GROUP;

    pub(crate) const fn new(row: &'static Row) -> Key<K, F> {
        Key { row, kind: PhantomData }
    }

    /// The option's row in the table.
    pub const fn row(self) -> &'static Row {
        self.row
    }
}
