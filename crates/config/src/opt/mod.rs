//! The option table: one row for each option of pgBackRest 2.60.0, and a typed key to read it with.
//!
//! Types, defaults, ranges, commands, conditions and former names are those of pgBackRest's `build/config.yaml`, with
//! `checksum-page-error` as the released 2.60.0 has it.

/// Turns rows into keys and into the list of a topic's rows.
macro_rules! options {
    ($($help:literal $name:ident: $key:ty = $row:expr;)*) => {
        $(
            #[doc = $help]
            pub const $name: $key = {
                const ROW: Row = $row.finish($help, <$key>::KIND, <$key>::SECRET, <$key>::GROUP);
                <$key>::new(&ROW)
            };
        )*

        pub(super) const ROWS: &[&Row] = &[$($name.row()),*];
    };
}

mod archive;
mod backup;
mod general;
mod invocation;
mod key;
mod log;
mod network;
mod pg;
mod repo;
mod repo_host;
mod repo_other;
mod repo_s3;
mod restore;
mod row;
mod server;
mod table;
mod why;

pub use archive::*;
pub use backup::*;
pub use general::*;
pub use invocation::*;
pub use key::{
    Boolean, Family, Hash, Integer, Key, List, Path, Pg, PgKey, Repo, RepoKey, Secret, Single, Size, StringId, Text,
    Time, ValueKind,
};
pub use log::*;
pub use network::*;
pub use pg::*;
pub use repo::*;
pub use repo_host::*;
pub use repo_other::*;
pub use repo_s3::*;
pub use restore::*;
pub use row::{Default, Depend, Deprecated, Group, Kind, Range, Row, Rules, Section, Support};
pub use server::*;
pub(crate) use table::{resolve_order, valid};
pub use table::{row, rows, topics};
