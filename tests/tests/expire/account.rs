//! The log of `expire` accounts for every object that is gone, and for no other.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use pgbr_repo::command::expire::{ExpireRequest, ExpiredBackups, RepositoryRules, WalRetention};
use pgbr_repo::format::BackupType;
use pgbr_repo::progress::Level;
use pgbr_testkit::world::World;

use crate::stage::{Stage, by_retention, keep_days, keep_full, request, sets};

/// What the log says was removed.
#[derive(Debug, Default)]
struct Account {
    /// Labels with the rule by which they went.
    expired: Vec<(String, String)>,
    directories: BTreeSet<String>,
    /// Archive id, first and last name.
    wal: Vec<(String, String, String)>,
    history: BTreeSet<String>,
}

impl Account {
    fn of(lines: &[String]) -> Self {
        let mut account = Self::default();
        for line in lines {
            let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            match words.as_slice() {
                ["repo1:", "expire", rule, "backup", "set", labels @ ..] => {
                    account.expired.extend(labels.iter().map(|label| ((*label).to_owned(), (*rule).to_owned())));
                }
                ["repo1:", "expire", rule, "backup", label] => {
                    account.expired.push(((*label).to_owned(), (*rule).to_owned()));
                }
                ["repo1:", "remove", "expired", "backup", label] => {
                    account.directories.insert((*label).to_owned());
                }
                ["repo1:", id, "remove", "archive", "start", "=", first, "stop", "=", last] => {
                    account.wal.push(((*id).to_owned(), (*first).to_owned(), (*last).to_owned()));
                }
                ["repo1:", "remove", "expired", "backup", "history", "manifest", name] => {
                    account.history.insert((*name).to_owned());
                }
                ["repo1:", "remove", "expired", "backup", "history", "path", year] => {
                    account.history.insert((*year).to_owned());
                }
                _ => {}
            }
        }
        account
    }

    /// Whether the account says that this object goes, and by which rule or range.
    fn explains(&self, object: &str) -> bool {
        match object.split('/').collect::<Vec<_>>().as_slice() {
            ["backup", "demo", "backup.history", year, name] => {
                self.history.contains(*year) || self.history.contains(*name)
            }
            ["backup", "demo", label, ..] => {
                self.directories.contains(*label) && self.expired.iter().any(|(expired, _)| expired == label)
            }
            ["archive", "demo", id, _, name] => self
                .wal
                .iter()
                .any(|(of, first, last)| of == id && name[..first.len()] >= **first && name[..last.len()] <= **last),
            _ => false,
        }
    }
}

/// What was announced, by kind, and the rules that were named.
fn announced(line: &str) -> (BTreeMap<String, usize>, &str) {
    let (counts, policy) = line.strip_prefix("repo1: to remove: ").unwrap().split_once(" (by ").unwrap();
    let counts = counts.split(", ").map(|part| {
        let (count, kind) = part.split_once(' ').unwrap();
        let kind = kind.replace("directories", "directory").replace("backups", "backup").replace("years", "year");
        (kind.trim_end_matches('s').to_owned(), count.parse().unwrap())
    });
    (counts.collect(), policy.strip_suffix(')').unwrap())
}

/// The same from what is gone: a directory of WAL counts as one where nothing of it stays, as does a year.
fn removed(gone: &BTreeSet<&String>, after: &BTreeSet<String>) -> BTreeMap<String, usize> {
    let (mut counts, mut whole) = (BTreeMap::new(), BTreeSet::new());
    for object in gone {
        let parts: Vec<&str> = object.split('/').collect();
        let (kind, directory) = match parts.as_slice() {
            ["backup", _, "backup.history", year, _] => ("backup history manifest", format!("backup.history/{year}/")),
            ["backup", _, label, ..] => ("backup", format!("backup/demo/{label}/")),
            ["archive", _, id, directory, _] => ("WAL file", format!("archive/demo/{id}/{directory}/")),
            other => panic!("{other:?}"),
        };
        let stays = after.iter().any(|other| other.contains(&directory));
        let (kind, counts_once) = match (kind, stays) {
            ("WAL file", false) => ("WAL directory", true),
            ("backup history manifest", false) => ("year of backup history", true),
            (kind, _) => (kind, kind == "backup"),
        };
        if !counts_once || whole.insert(directory) {
            *counts.entry(kind.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

async fn account_of(world: &World, request: &ExpireRequest, rules: RepositoryRules, reason: &str) {
    let stage = Stage::new(world).await;
    let before = stage.objects();
    stage.expire(request, rules).await.unwrap();
    let after = stage.objects();
    let account = Account::of(&stage.log.lines(Level::Info));
    is_announced(&stage, &before, &after, request);
    let gone: BTreeSet<&String> = before.difference(&after).collect();
    assert!(!gone.is_empty() && !account.expired.is_empty(), "{account:?}");
    for object in &gone {
        assert!(account.explains(object), "{object} is gone: {account:?}");
    }
    for object in &after {
        assert!(!account.explains(object), "{object} is there: {account:?}");
    }
    // Nothing is said of what was not there, and the reason is the rule that was asked for.
    for (label, rule) in &account.expired {
        assert!(gone.iter().any(|object| object.contains(label.as_str())), "{label}");
        assert_eq!(rule, reason, "{label}");
    }
    for (id, first, last) in &account.wal {
        assert!(gone.iter().any(|object| object.contains(id.as_str()) && object.contains(first.as_str())), "{first}");
        assert!(gone.iter().any(|object| object.contains(id.as_str()) && object.contains(last.as_str())), "{last}");
    }
}

/// One line, before the first removal, with the counts of what is gone and the rules.
fn is_announced(stage: &Stage, before: &BTreeSet<String>, after: &BTreeSet<String>, request: &ExpireRequest) {
    let gone = before.difference(after).collect();
    let all = stage.log.all();
    let place = all.iter().position(|(_, text)| text.starts_with("repo1: to remove: ")).unwrap();
    assert!(!all[place + 1..].iter().any(|(_, text)| text.contains("to remove: ")));
    assert_eq!(all[place].0, Level::Detail);
    assert!(
        !all[..place].iter().any(|(_, text)| text.starts_with("repo1: remove") || text.contains(" remove archive"))
    );
    let (counts, policy) = announced(&all[place].1);
    assert_eq!(counts, removed(&gone, after), "{}", all[place].1);
    let rule = match &request.backups {
        ExpiredBackups::Retention => "repo1-retention-full-type=",
        ExpiredBackups::Oldest => "oldest",
        ExpiredBackups::Set(_) => "set=",
    };
    assert!(policy.starts_with(rule), "{policy}");
}

#[tokio::test]
async fn sec20_the_log_accounts_for_every_deletion() {
    let sets = sets();
    account_of(&sets.world, &by_retention(), keep_full(1), "full").await;
    account_of(&sets.world, &by_retention(), keep_full(2), "full").await;
    account_of(&sets.world, &by_retention(), keep_days(10), "time-based").await;
    account_of(&sets.world, &request(ExpiredBackups::Oldest), keep_full(3), "full").await;
    account_of(&sets.world, &request(ExpiredBackups::Set(sets.diff)), keep_full(3), "adhoc").await;
    let mut few = keep_full(2);
    few.retention.wal = WalRetention { kind: BackupType::Incremental, count: NonZeroU32::new(1) };
    few.retention.history_days = Some(10);
    account_of(&sets.world, &by_retention(), few, "full").await;
    let mut diff = keep_full(3);
    diff.retention.diff = NonZeroU32::new(1);
    account_of(&sets.world, &by_retention(), diff, "diff").await;
}
