//! The log of `expire` accounts for every object that is gone, and for no other.

use std::collections::BTreeSet;
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

async fn account_of(world: &World, request: &ExpireRequest, rules: RepositoryRules, reason: &str) {
    let stage = Stage::new(world).await;
    let before = stage.objects();
    stage.expire(request, rules).await.unwrap();
    let after = stage.objects();
    let account = Account::of(&stage.log.lines(Level::Info));
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
