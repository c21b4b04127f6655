//! All rows together: by topic, by name, and in the order in which they can be resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::row::Row;
use crate::command::{Command, Role};

/// Topics in the order in which help shows them, each with its rows.
pub fn topics() -> [(&'static str, &'static [&'static Row]); 13] {
    [
        ("Command", super::invocation::ROWS),
        ("General", super::general::ROWS),
        ("Network", super::network::ROWS),
        ("Log", super::log::ROWS),
        ("Archive", super::archive::ROWS),
        ("Backup", super::backup::ROWS),
        ("Restore", super::restore::ROWS),
        ("Server", super::server::ROWS),
        ("Cluster", super::pg::ROWS),
        ("Repository", super::repo::ROWS),
        ("Repository host", super::repo_host::ROWS),
        ("S3", super::repo_s3::ROWS),
        ("Other stores", super::repo_other::ROWS),
    ]
}

static BY_NAME: LazyLock<BTreeMap<&'static str, &'static Row>> =
    LazyLock::new(|| topics().into_iter().flat_map(|(_, rows)| rows).map(|row| (row.name, *row)).collect());

/// Each option comes after those it depends on. The stanza is first: where it is missing, a complaint about something
/// that its sections would have given leads astray. The rest is in rounds by name, since the first mistake decides the
/// exit code and pgBackRest looks in this order (`optionResolveOrder`).
static RESOLVE_ORDER: LazyLock<Vec<&'static Row>> = LazyLock::new(|| {
    let mut resolved = BTreeSet::from(["stanza"]);
    let mut order: Vec<&'static Row> = row("stanza").into_iter().collect();
    loop {
        let before = order.len();
        for row in rows() {
            if !resolved.contains(row.name) && row.dependencies().all(|other| resolved.contains(other)) {
                resolved.insert(row.name);
                order.push(row);
            }
        }
        if order.len() == before {
            return order;
        }
    }
});

/// All options, by name.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    BY_NAME.values().copied()
}

/// The option of this name (without number), if there is one.
pub fn row(name: &str) -> Option<&'static Row> {
    BY_NAME.get(name).copied()
}

pub(crate) fn resolve_order() -> impl Iterator<Item = &'static Row> {
    RESOLVE_ORDER.iter().copied()
}

/// Does the command know the option in this role?
pub(crate) fn valid(row: &Row, command: Command, role: Role) -> bool {
    row.commands.contains(command) && (role == Role::Main || row.background)
}

#[cfg(test)]
mod tests {
    use super::super::row::{Default, Kind, Range, Support};
    use super::*;
    use crate::value;

    #[test]
    fn every_option_of_2_60_0_is_here_once() {
        let total: usize = topics().iter().map(|(_, rows)| rows.len()).sum();
        assert_eq!(rows().count(), total);
        let own: Vec<_> = rows().filter(|row| row.support == Support::Own).map(|row| row.name).collect();
        assert_eq!(own, ["recovery-stop-on-error", "serve-idle", "serve-socket"]);
        assert_eq!(total - own.len(), 200);
    }

    #[test]
    fn dependencies_exist_and_know_the_same_commands() {
        for row in rows() {
            for command in Command::ALL.into_iter().filter(|command| row.commands.contains(*command)) {
                let Some(depend) = row.rules(command).depend else { continue };
                let other = super::row(depend.on).unwrap_or_else(|| panic!("{} depends on {}", row.name, depend.on));
                assert!(other.commands.contains(command), "{} depends on {}", row.name, other.name);
                let in_background = valid(row, command, Role::Async) && command.has_background();
                assert!(!in_background || other.background, "{} depends on {}", row.name, other.name);
                assert!(other.group.is_none() || other.group == row.group, "{}", row.name);
                for wanted in depend.values {
                    let words = if other.kind == Kind::Boolean { &["y", "n"] } else { other.rules(command).allowed };
                    assert!(words.contains(wanted), "{} wants {}={wanted}", row.name, other.name);
                }
            }
        }
    }

    #[test]
    fn every_option_can_be_resolved() {
        assert_eq!(RESOLVE_ORDER.len(), BY_NAME.len());
        assert_eq!(RESOLVE_ORDER.first().unwrap().name, "stanza");
    }

    #[test]
    fn defaults_and_ranges_are_values_of_their_option() {
        for row in rows() {
            for command in Command::ALL.into_iter().filter(|command| row.commands.contains(*command)) {
                let rules = row.rules(command);
                let defaults: Vec<&str> = match rules.default {
                    Default::Value(value) => vec![value],
                    Default::ByValue(values) => values.iter().map(|(_, value)| *value).collect(),
                    Default::Nothing | Default::Program => vec![],
                };
                let ends: Vec<&str> = match rules.range {
                    Range::Between(least, greatest) => vec![least, greatest],
                    Range::ByValue(ranges) => ranges.iter().flat_map(|(_, least, most)| [*least, *most]).collect(),
                    Range::Any => vec![],
                };
                for text in defaults.iter().chain(&ends) {
                    match row.kind {
                        Kind::Boolean => assert!(["y", "n"].contains(text), "{}", row.name),
                        Kind::Integer | Kind::Size | Kind::Time => {
                            assert!(value::number(row.kind, text).is_some(), "{}={text}", row.name);
                        }
                        Kind::StringId => assert!(rules.allowed.contains(text), "{}={text}", row.name),
                        Kind::Path => assert!(text.starts_with('/'), "{}={text}", row.name),
                        Kind::Text => {}
                        Kind::List | Kind::Hash => panic!("{} has a default", row.name),
                    }
                }
            }
        }
    }

    #[test]
    fn names_fit_their_group_and_former_names_are_free() {
        for row in rows() {
            if let Some(group) = row.group {
                assert!(row.name.starts_with(&format!("{}-", group.name())), "{}", row.name);
            }
            assert!(!row.help.is_empty() && !row.help.ends_with('.'), "{}", row.name);
            for deprecated in row.deprecated {
                let taken = super::row(deprecated.name);
                assert!(taken.is_none_or(|taken| taken.name == row.name), "{}", deprecated.name);
            }
            if let Support::Refused(reason) | Support::Idle(reason) = row.support {
                assert!(!reason.is_empty());
            }
        }
    }
}
