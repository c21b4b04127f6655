//! Who shall own what a restore writes, and with which mode.

use std::collections::BTreeSet;

use super::accounts::{Accounts, Ids};

/// Permission bits of a restored entry, limited to what PostgreSQL uses: never set-id, sticky or writable for everybody,
/// and always usable by the owner. A manifest is input from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryMode(u32);

impl EntryMode {
    /// Of a file.
    pub fn file(mode: u32) -> Self {
        Self(mode & 0o775 | 0o400)
    }

    /// Of a directory below the data directory, or of a tablespace.
    pub fn directory(mode: u32) -> Self {
        Self(mode & 0o775 | 0o700)
    }

    /// Of the data directory itself: the server does not start with more than 0750.
    pub fn data_directory(mode: u32) -> Self {
        Self(mode & 0o750 | 0o700)
    }

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// Turns the names of owners in a manifest into ids (repository-behaviour.md §5.6).
///
/// Only root gives files away: to the user and group of the manifest where this machine knows them, else to the owner
/// of the data directory, else to itself. Everybody else owns what they write.
#[derive(Debug)]
pub struct OwnerPlan<'a> {
    accounts: &'a Accounts,
    current: Ids,
    fallback: Ids,
    mapped: BTreeSet<Mapped>,
}

/// A name of a manifest that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Mapped {
    User(Option<String>),
    Group(Option<String>),
}

impl<'a> OwnerPlan<'a> {
    /// A plan for a process with the ids `current`, and a data directory that belongs to `data_owner` if it exists.
    pub fn new(accounts: &'a Accounts, current: Ids, data_owner: Option<Ids>) -> Self {
        let known = |owner: Ids| Ids {
            user: if accounts.user_name(owner.user).is_some() { owner.user } else { current.user },
            group: if accounts.group_name(owner.group).is_some() { owner.group } else { current.group },
        };
        let fallback = if current.is_root() { data_owner.map_or(current, known) } else { current };
        Self { accounts, current, fallback, mapped: BTreeSet::new() }
    }

    /// The ids for an entry whose manifest names these owners.
    pub fn ids(&mut self, user: Option<&str>, group: Option<&str>) -> Ids {
        let (user_id, group_id) =
            (user.and_then(|name| self.accounts.user_id(name)), group.and_then(|name| self.accounts.group_id(name)));
        let is_kept = |id: Option<u32>, current: u32| {
            if self.current.is_root() { id.is_some() } else { id == Some(current) }
        };
        let (keeps_user, keeps_group) = (is_kept(user_id, self.current.user), is_kept(group_id, self.current.group));
        if !keeps_user {
            self.mapped.insert(Mapped::User(user.map(str::to_owned)));
        }
        if !keeps_group {
            self.mapped.insert(Mapped::Group(group.map(str::to_owned)));
        }
        Ids {
            user: user_id.filter(|_| keeps_user).unwrap_or(self.fallback.user),
            group: group_id.filter(|_| keeps_group).unwrap_or(self.fallback.group),
        }
    }

    /// One warning for each name that was replaced so far.
    pub fn warnings(&self) -> Vec<String> {
        let fallback = |what: &str, name: Option<&str>, id: u32| {
            if !self.current.is_root() {
                return format!("current {what}");
            }
            name.map_or_else(|| format!("{what} id {id}"), |name| format!("'{name}'"))
        };
        let user =
            || fallback("user", self.accounts.user_name(self.fallback.user).map(|name| &**name), self.fallback.user);
        let group = || {
            fallback("group", self.accounts.group_name(self.fallback.group).map(|name| &**name), self.fallback.group)
        };
        let line = |what: &str, name: &Option<String>, to: String| match name {
            None => format!("unknown {what} in backup manifest mapped to {to}"),
            Some(name) => format!("unknown {what} '{}' in backup manifest mapped to {to}", name.escape_debug()),
        };
        let describe = |mapped: &Mapped| match mapped {
            Mapped::User(name) => line("user", name, user()),
            Mapped::Group(name) => line("group", name, group()),
        };
        self.mapped.iter().map(describe).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::parse(
            b"root:x:0:0::/:\npostgres:x:26:26::/:\nother:x:99:99::/:\n",
            b"root:x:0:\npostgres:x:26:\nother:x:99:\n",
        )
    }

    #[test]
    fn hi11_modes_are_limited() {
        for (mode, file, directory, data) in [
            (0o600, 0o600, 0o700, 0o700),
            (0o7777, 0o775, 0o775, 0o750),
            (0o4755, 0o755, 0o755, 0o750),
            (0o000, 0o400, 0o700, 0o700),
            (0o1777, 0o775, 0o775, 0o750),
            (0o640, 0o640, 0o740, 0o740),
            (u32::MAX, 0o775, 0o775, 0o750),
        ] {
            assert_eq!(EntryMode::file(mode).bits(), file, "{mode:o}");
            assert_eq!(EntryMode::directory(mode).bits(), directory, "{mode:o}");
            assert_eq!(EntryMode::data_directory(mode).bits(), data, "{mode:o}");
        }
    }

    #[test]
    fn rs15_without_privilege_everything_is_ours_with_one_warning_a_name() {
        let accounts = accounts();
        let current = Ids { user: 26, group: 26 };
        let mut plan = OwnerPlan::new(&accounts, current, Some(Ids { user: 99, group: 99 }));
        assert_eq!(plan.ids(Some("postgres"), Some("postgres")), current);
        assert!(plan.warnings().is_empty());
        for _ in 0..3 {
            assert_eq!(plan.ids(Some("root"), Some("root")), current);
            assert_eq!(plan.ids(None, Some("nobody")), current);
        }
        assert_eq!(
            plan.warnings(),
            [
                "unknown user in backup manifest mapped to current user",
                "unknown user 'root' in backup manifest mapped to current user",
                "unknown group 'nobody' in backup manifest mapped to current group",
                "unknown group 'root' in backup manifest mapped to current group",
            ]
        );
    }

    #[test]
    fn rs15_root_gives_files_to_known_users_only() {
        let accounts = accounts();
        let current = Ids { user: 0, group: 0 };
        let mut plan = OwnerPlan::new(&accounts, current, Some(Ids { user: 99, group: 26 }));
        assert_eq!(plan.ids(Some("postgres"), Some("other")), Ids { user: 26, group: 99 });
        assert!(plan.warnings().is_empty());
        assert_eq!(plan.ids(Some("gone"), None), Ids { user: 99, group: 26 });
        assert_eq!(
            plan.warnings(),
            [
                "unknown user 'gone' in backup manifest mapped to 'other'",
                "unknown group in backup manifest mapped to 'postgres'"
            ]
        );
        // An owner that has no name is no owner to copy.
        let mut plan = OwnerPlan::new(&accounts, current, Some(Ids { user: 1234, group: 1234 }));
        assert_eq!(plan.ids(None, None), current);
        let mut plan = OwnerPlan::new(&accounts, current, None);
        assert_eq!(plan.ids(None, None), current);
    }
}
