//! From the name that somebody wrote to an option: prefixes, numbers, former names, `no-` and `reset-`.

use crate::error::{ConfigError, option_invalid};
use crate::opt::{self, Deprecated, Row};

/// Highest number of a repository or cluster.
pub(crate) const NUMBER_MAX: u16 = 256;
/// Longest name that is looked up.
const NAME_BYTES_MAX: usize = 64;

/// An option as its name was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    pub(crate) row: &'static Row,
    /// 0 for an option without numbers
    pub(crate) number: u16,
    pub(crate) negated: bool,
    pub(crate) reset: bool,
}

/// How generous a lookup is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lookup {
    /// The beginning of a name is enough where it fits one option only
    pub(crate) prefixes: bool,
    /// A numbered option may stand without its number
    pub(crate) numbers_optional: bool,
}

/// Finds the option. `None` when there is none of this name; an error when there is, but not so.
pub(crate) fn find(candidate: &str, lookup: Lookup) -> Result<Option<Named>, ConfigError> {
    if candidate.len() > NAME_BYTES_MAX {
        return Err(option_invalid(format!("option '{candidate}' exceeds maximum size of {NAME_BYTES_MAX}")));
    }
    let (rest, negated, reset) = if let Some(rest) = candidate.strip_prefix("no-") {
        (rest, true, false)
    } else if let Some(rest) = candidate.strip_prefix("reset-") {
        (rest, false, true)
    } else {
        (candidate, false, false)
    };
    let (name, number) = split_number(candidate, rest)?;
    let Some((row, deprecated)) = find_row(&name, lookup.prefixes) else { return Ok(None) };
    if let Some(deprecated) = deprecated {
        check_deprecated(candidate, rest, row, deprecated, number, lookup)?;
    }

    if negated && !row.negatable {
        return Err(option_invalid(format!("option '{candidate}' cannot be negated")));
    }
    if reset && !row.resettable() {
        return Err(option_invalid(format!("option '{candidate}' cannot be reset")));
    }
    // `repo-path` was a name of its own before there were numbers, and still stands for `repo1-path`.
    let former_self = number.is_none() && row.deprecated.iter().any(|old| old.name == row.name);
    if deprecated.is_none() && !former_self {
        if number.is_some() && row.group.is_none() {
            return Err(option_invalid(format!("option '{candidate}' cannot have an index")));
        }
        if number.is_none() && row.group.is_some() && !lookup.numbers_optional {
            return Err(option_invalid(format!("option '{candidate}' requires an index"))
                .hint(format!("write the number, e.g. {}", row.numbered(1))));
        }
    }
    let number = if row.group.is_some() { number.unwrap_or(1) } else { 0 };
    Ok(Some(Named { row, number, negated, reset }))
}

/// Takes the number out of `repo2-path`. It stands before the first dash.
fn split_number(candidate: &str, rest: &str) -> Result<(String, Option<u16>), ConfigError> {
    let Some((head, tail)) = rest.split_once('-') else { return Ok((rest.to_owned(), None)) };
    if head.is_empty() {
        return Err(option_invalid(format!("option '{candidate}' cannot begin with a dash")));
    }
    let group = head.trim_end_matches(|character: char| character.is_ascii_digit());
    if group.is_empty() {
        return Err(option_invalid(format!("option '{candidate}' cannot begin with a number")));
    }
    let digits = head.get(group.len()..).unwrap_or("");
    if digits.is_empty() {
        return Ok((rest.to_owned(), None));
    }
    match digits.parse::<u16>() {
        Ok(number) if (1..=NUMBER_MAX).contains(&number) => Ok((format!("{group}-{tail}"), Some(number))),
        _ => Err(option_invalid(format!("option '{candidate}' key must be between 1 and {NUMBER_MAX}"))),
    }
}

/// Exact names first, then beginnings of names, then former names in the same way.
fn find_row(name: &str, prefixes: bool) -> Option<(&'static Row, Option<Deprecated>)> {
    if let Some(row) = opt::row(name) {
        return Some((row, None));
    }
    if prefixes && let Some(row) = only(opt::rows().filter(|row| row.name.starts_with(name))) {
        return Some((row, None));
    }
    let deprecated = || {
        opt::rows()
            .flat_map(|row| row.deprecated.iter().filter(|old| old.name != row.name).map(move |old| (row, Some(*old))))
    };
    let old_name = |(_, old): &(&Row, Option<Deprecated>)| old.map_or("", |old| old.name);
    if let Some(found) = deprecated().find(|found| old_name(found) == name) {
        return Some(found);
    }
    if prefixes { only(deprecated().filter(|found| old_name(found).starts_with(name))) } else { None }
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

fn check_deprecated(
    candidate: &str,
    rest: &str,
    row: &Row,
    deprecated: Deprecated,
    number: Option<u16>,
    lookup: Lookup,
) -> Result<(), ConfigError> {
    if number.is_some() && !deprecated.indexed {
        return Err(option_invalid(format!("deprecated option '{candidate}' cannot have an index")));
    }
    if number.is_none() && !deprecated.unindexed && !lookup.numbers_optional {
        let (head, tail) = rest.split_once('-').unwrap_or((rest, ""));
        return Err(option_invalid(format!("deprecated option '{candidate}' requires an index"))
            .hint(format!("write the number, e.g. {head}1-{tail}"))
            .hint(format!("better, use today's name: {}", row.numbered(1))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARGUMENT: Lookup = Lookup { prefixes: true, numbers_optional: false };

    fn found(candidate: &str) -> (&'static str, u16) {
        let named = find(candidate, ARGUMENT).unwrap().unwrap();
        (named.row.name, named.number)
    }

    #[test]
    fn names_may_be_short_numbered_or_former() {
        assert_eq!(found("stanza"), ("stanza", 0));
        assert_eq!(found("stan"), ("stanza", 0));
        assert_eq!(found("repo2-path"), ("repo-path", 2));
        assert_eq!(found("repo256-pat"), ("repo-path", 256));
        assert_eq!(found("repo-path"), ("repo-path", 1));
        assert_eq!(found("db-path"), ("pg-path", 1));
        assert_eq!(found("db2-path"), ("pg-path", 2));
        assert_eq!(found("retention-full"), ("repo-retention-full", 1));
        assert_eq!(found("archive-queue-max"), ("archive-push-queue-max", 0));
        assert_eq!(found("repo3-s3-verify-ssl"), ("repo-storage-verify-tls", 3));
        assert_eq!(found("hardl"), ("repo-hardlink", 1));
        // Several of today's names begin so, but only one former name does.
        assert_eq!(found("arch"), ("archive-push-queue-max", 0));
        assert!(find("no-archive-async", ARGUMENT).unwrap().unwrap().negated);
        assert!(find("reset-repo1-path", ARGUMENT).unwrap().unwrap().reset);
    }

    #[test]
    fn wrong_forms_are_told_from_unknown_names() {
        for unknown in ["", "zzz", "pg", "repo-s3-", "log-level-"] {
            let exact = opt::row(unknown).is_some();
            assert_eq!(find(unknown, ARGUMENT).unwrap().is_some(), exact, "{unknown}");
        }
        for wrong in [
            "-x",
            "1-x",
            "repo0-path",
            "repo257-path",
            "repo99999999999999999999-path",
            "pg-path",
            "stanza1-x0-y",
            "log1-path",
            "no-stanza",
            "reset-stanza",
            "no-repo1-path",
            "retention1-full",
            "repo-s3-port",
            "a234567890123456789012345678901234567890123456789012345678901234x",
        ] {
            let result = find(wrong, ARGUMENT);
            assert!(result.is_err() || wrong == "stanza1-x0-y" && matches!(result, Ok(None)), "{wrong}");
        }
        assert!(find("stan", Lookup::default()).unwrap().is_none());
        assert!(find("pg-path", Lookup { prefixes: false, numbers_optional: true }).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn no_name_panics(name in "(no-|reset-)?(repo|pg|db)?[0-9]{0,4}[-a-zé0-9]{0,70}") {
            let _result = find(&name, ARGUMENT);
        }

        #[test]
        fn every_option_is_found_under_its_own_name(index in 0_usize..200, number in 1_u16..=256) {
            let row = opt::rows().nth(index).unwrap();
            let named = find(&row.numbered(number), Lookup::default()).unwrap().unwrap();
            prop_assert_eq!(named.row.name, row.name);
            prop_assert_eq!(named.number, if row.group.is_some() { number } else { 0 });
        }
    }
}
