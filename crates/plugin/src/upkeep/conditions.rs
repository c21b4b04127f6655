//! The conditions of a stanza, each a question of who is on call and one answer.
//!
//! What cannot be told is `Unknown`, and never as it should be.

use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::storage::ErrorClass;

use super::facts::{Facts, last_wal_everywhere};
use super::outlook::Outlook;
use super::pending::Pending;
use super::verified::Verified;
use crate::resource::{Truth, Wanted, error_text, time};

/// A WAL file that waits this long while none is archived is not on its way any more: PostgreSQL tries again every minute.
const STALLED_S: i64 = 600;

/// The type of the condition about verifications.
pub(super) const VERIFIED: &str = "Verified";

/// What these facts say; a condition that another pod alone can tell is not among it.
pub(super) fn wanted(facts: &Facts<'_>) -> Vec<Wanted> {
    let mut wanted = vec![reachable(facts), recoverable(facts)];
    wanted.extend(archives(facts));
    wanted.extend(continuous(facts));
    wanted.extend(verified(facts));
    wanted.extend(facts.upkeep.iter().cloned());
    wanted
}

fn reachable(facts: &Facts<'_>) -> Wanted {
    let wanted = |truth, reason, message| Wanted { kind: "Reachable", truth, reason, message };
    match facts.reading {
        Err(failure) => wanted(Truth::False, "NotUsable", failure.text()),
        Ok(reading) => {
            let errors = reading.repositories.iter().filter_map(|it| Some((it.number, it.outcome.as_ref().err()?)));
            let texts: Vec<String> =
                errors.map(|(number, error)| format!("repo{number}: {}", error_text(error))).collect();
            match reading.repositories.iter().find_map(|it| it.outcome.as_ref().err()) {
                None => wanted(Truth::True, "Answered", "every repository answered".to_owned()),
                Some(first) => wanted(Truth::False, why_unreachable(first), texts.join("; ")),
            }
        }
    }
}

fn recoverable(facts: &Facts<'_>) -> Wanted {
    let wanted =
        |truth, reason, message: &str| Wanted { kind: "Recoverable", truth, reason, message: message.to_owned() };
    match facts.reading {
        Ok(reading) if reading.backups().next().is_some() => wanted(Truth::True, "Backup", "there is a backup"),
        Ok(reading) if reading.repositories.iter().all(|repository| repository.outcome.is_ok()) => {
            wanted(Truth::False, "NoBackup", "there is no backup: nothing can be restored")
        }
        _ => wanted(Truth::Unknown, "NoAnswer", "not every repository answered"),
    }
}

fn archives(facts: &Facts<'_>) -> Option<Wanted> {
    let pending = facts.pending?;
    let wanted = |truth, reason, message| Wanted { kind: "Archiving", truth, reason, message };
    if let (true, Some(failure)) = (facts.sight.archiving_fails, &facts.sight.archive_failure) {
        return Some(wanted(Truth::False, "Failing", failure.text.clone()));
    }
    let pending = match pending {
        Ok(pending) => pending,
        Err(error) => return Some(wanted(Truth::Unknown, "NotReadable", error_text(error))),
    };
    if let Some(message) = stalled(pending, facts) {
        return Some(wanted(Truth::False, "Stalled", message));
    }
    let answered = facts.reading.is_ok_and(|reading| reading.answers().next().is_some());
    Some(match last_archived(facts) {
        Some((name, at_s)) => {
            let at = time(at_s).map(|at| format!(" at {at}")).unwrap_or_default();
            wanted(Truth::True, "Archived", format!("the last WAL file, {name}, was archived{at}"))
        }
        None if answered => wanted(Truth::False, "NeverArchived", "no WAL was ever archived".to_owned()),
        None => wanted(Truth::Unknown, "NotSeen", "no WAL was archived since the sidecar started".to_owned()),
    })
}

/// What there is to say when WAL waits and nobody archives it, which nobody reports (faults.md NP10).
fn stalled(pending: &Pending, facts: &Facts<'_>) -> Option<String> {
    let (since_s, name) = pending.oldest.as_ref()?;
    let is_long_ago = |at_s: i64| at_s <= facts.now_s.saturating_sub(STALLED_S);
    let own_s = facts.sight.archived.as_ref().map(|archived| archived.at_s);
    if !is_long_ago(*since_s) || own_s.is_some_and(|own_s| !is_long_ago(own_s)) {
        return None;
    }
    // From the repository's side, where it answers.
    let last = facts.reading.ok().filter(|reading| reading.answers().next().is_some()).map(last_wal_everywhere);
    let last_s = match last {
        Some(last) => last.map(|(_, at_s)| *at_s),
        None => own_s,
    };
    let arrived = match (last_s.and_then(time), last) {
        (Some(at), _) => format!("no WAL since {at}"),
        (None, Some(_)) => "no WAL was ever archived".to_owned(),
        (None, None) => "no WAL was archived since the sidecar started".to_owned(),
    };
    let since = time(*since_s).unwrap_or_else(|| since_s.to_string());
    let last_try = facts.sight.archive_failure.as_ref().map_or_else(String::new, |failure| {
        format!("; the last failure, at {}, was of {}", time(failure.at_s).unwrap_or_default(), failure.text)
    });
    Some(format!("{arrived}: {} file(s) wait, {name} since {since}{last_try}", pending.files))
}

/// The last file that was archived, and when: what is in every repository, or what this process did since.
fn last_archived<'a>(facts: &Facts<'a>) -> Option<(&'a str, i64)> {
    let stored = facts.reading.ok().and_then(last_wal_everywhere).map(|(name, at_s)| (name.as_str(), *at_s));
    let own = facts.sight.archived.as_ref().map(|noted| (noted.text.as_str(), noted.at_s));
    stored.into_iter().chain(own).max_by_key(|(_, at_s)| *at_s)
}

/// Whether WAL is missing, told by the pod that archives.
fn continuous(facts: &Facts<'_>) -> Option<Wanted> {
    facts.pending.as_ref()?;
    let wanted = |truth, reason, message| Some(Wanted { kind: "Continuous", truth, reason, message });
    let Ok(reading) = facts.reading else {
        return wanted(Truth::Unknown, "NoAnswer", "the repositories could not be asked".to_owned());
    };
    let (mut lost, mut unknown) = (Vec::new(), Vec::new());
    for repository in &reading.repositories {
        let number = repository.number;
        match repository.outcome.as_ref().map(|contents| &contents.outlook) {
            Ok(Outlook { gaps: Some(Ok(gaps)), .. }) => {
                lost.extend(gaps.gaps().first().map(|first| {
                    format!("repo{number} lacks {} WAL files, the first is {}", gaps.count(), first.first)
                }));
            }
            Ok(Outlook { gaps: Some(Err(error)), .. }) | Err(error) => {
                unknown.push(format!("repo{number}: {}", error_text(error)));
            }
            // Without a list of backups nothing is needed.
            Ok(Outlook { gaps: None, .. }) => {}
        }
    }
    match (lost.is_empty(), unknown.is_empty()) {
        (false, _) => {
            let advice = "recovery cannot go past a gap: a new full backup makes what follows recoverable";
            wanted(Truth::False, "Gap", format!("{}; {advice}", lost.join("; ")))
        }
        (true, false) => wanted(Truth::Unknown, "NoAnswer", unknown.join("; ")),
        (true, true) => wanted(Truth::True, "NoGap", "no WAL that backups and recovery need is missing".to_owned()),
    }
}

/// Why a repository could not be read, in one word.
fn why_unreachable(error: &Error) -> &'static str {
    match (error.storage_class(), error.kind()) {
        (Some(ErrorClass::Denied), _) | (_, ErrorKind::Access) => "Denied",
        (_, ErrorKind::Crypto) => "WrongKey",
        (Some(_), _) | (None, ErrorKind::HostConnect | ErrorKind::Service) => "NoAnswer",
        (None, _) => "NotReadable",
    }
}

/// What verifications found, where they are wanted.
fn verified(facts: &Facts<'_>) -> Option<Wanted> {
    let of = |text: fn(&Verified) -> Option<&String>| -> Vec<String> {
        let repositories = facts.sight.verified.iter().flatten();
        repositories.filter_map(|(number, verified)| Some(format!("repo{number}: {}", text(verified)?))).collect()
    };
    let known = facts.sight.verified.as_ref().filter(|verified| !verified.is_empty())?;
    let (damage, errors) = (of(|it| it.damage.as_ref()), of(|it| it.error.as_ref()));
    let since_s = known.values().map(|verified| verified.good_s).min().flatten();
    let (truth, reason, message) = match (damage.is_empty(), errors.is_empty()) {
        (false, _) => (Truth::False, "Damaged", damage.join("; ")),
        (true, false) => (Truth::Unknown, "NotRead", errors.join("; ")),
        (true, true) => {
            let since = since_s.and_then(time).map_or_else(String::new, |at| format!(" at {at}"));
            (Truth::True, "Whole", format!("everything had its checksums{since}"))
        }
    };
    Some(Wanted { kind: VERIFIED, truth, reason, message })
}

#[cfg(test)]
mod tests {
    use pgbr_repo::format::ArchiveId;
    use pgbr_repo::postgres::{WalSegmentName, WalSegmentSize};
    use pgbr_repo::repository::{ArchivedWal, NeededWal, WalGaps};

    use super::super::reading::{Contents, Reading, RepositoryReading};
    use super::super::seen::{Noted, Sight};
    use super::*;

    const NOW_S: i64 = 1_000_000;

    /// The condition of this type, as status, reason and message, of a stanza with one repository.
    fn told(
        kind: &str,
        outcome: Result<Contents, Error>,
        pending: Option<Result<&Pending, &Error>>,
        sight: &Sight,
    ) -> Option<(String, String, String)> {
        let reading = Reading { repositories: vec![RepositoryReading { number: 1, is_encrypted: false, outcome }] };
        let facts = Facts {
            stanza: "demo",
            cluster: "demo",
            cluster_uid: "uid",
            now_s: NOW_S,
            reading: Ok(&reading),
            pending,
            sight,
            upkeep: &[],
            verifies: false,
        };
        let wanted = wanted(&facts).into_iter().find(|wanted| wanted.kind == kind)?;
        Some((format!("{:?}", wanted.truth), wanted.reason.to_owned(), wanted.message))
    }

    fn with_wal(outlook: Outlook) -> Result<Contents, Error> {
        let last_wal = Some(("000000010000000000000009".to_owned(), NOW_S - 86_400 * 7));
        Ok(Contents { last_wal, outlook, ..Contents::default() })
    }

    fn waiting(for_s: i64) -> Pending {
        let oldest = Some((NOW_S - for_s, "00000001000000000000000A".to_owned()));
        Pending { files: 3, oldest, first_segment: None }
    }

    #[test]
    fn kg25_archiving_is_true_only_as_long_as_nothing_has_waited_too_long() {
        let quiet = Sight::default();
        let of = |pending: &Pending, sight: &Sight| {
            let (status, reason, message) =
                told("Archiving", with_wal(Outlook::default()), Some(Ok(pending)), sight).unwrap();
            (format!("{status} {reason}"), message)
        };
        // The last file is a week old, and nothing waits: that is a quiet cluster.
        let (state, message) = of(&Pending::default(), &quiet);
        assert_eq!(state, "True Archived");
        assert!(message.contains("000000010000000000000009") && message.contains("1970-01-05T13:46:40Z"), "{message}");
        assert_eq!(of(&waiting(STALLED_S - 1), &quiet).0, "True Archived");
        assert_eq!(of(&waiting(STALLED_S), &quiet).0, "False Stalled");
        let failure = Noted { at_s: NOW_S - 900, text: "00000001000000000000000A: no answer".to_owned() };
        let archived = Some(Noted { at_s: NOW_S - 600, text: "000000010000000000000009".to_owned() });
        let healed = Sight { archive_failure: Some(failure.clone()), archived: archived.clone(), ..Sight::default() };
        let (state, message) = of(&waiting(STALLED_S), &healed);
        assert_eq!(state, "False Stalled", "however well the last try went");
        assert!(message.contains("no answer") && message.contains("1970-01-12T13:31:40Z"), "{message}");
        assert_eq!(of(&waiting(1), &healed).0, "True Archived");
        let fails = Sight { archiving_fails: true, ..healed };
        assert_eq!(of(&waiting(1), &fails), ("False Failing".to_owned(), failure.text.clone()));
        // What cannot be told is not told.
        let error = Error::new(ErrorKind::PathOpen, "pg_wal: no");
        let unread = told("Archiving", with_wal(Outlook::default()), Some(Err(&error)), &quiet).unwrap();
        assert_eq!((unread.0.as_str(), unread.1.as_str()), ("Unknown", "NotReadable"));
        assert_eq!(told("Archiving", with_wal(Outlook::default()), None, &fails), None, "another pod archives");
        let never = told("Archiving", Ok(Contents::default()), Some(Ok(&Pending::default())), &quiet).unwrap();
        assert_eq!((never.0.as_str(), never.1.as_str()), ("False", "NeverArchived"));
        let unseen = Err(Error::new(ErrorKind::Service, "no"));
        let unseen = told("Archiving", unseen, Some(Ok(&Pending::default())), &quiet).unwrap();
        assert_eq!((unseen.0.as_str(), unseen.1.as_str()), ("Unknown", "NotSeen"));
    }

    #[test]
    fn kg25_a_gap_is_a_condition_and_what_is_not_known_is_none() {
        let of = |gaps: Option<Result<WalGaps, Error>>| {
            let outlook = Outlook { gaps, next_expiry: None };
            told("Continuous", with_wal(outlook), Some(Ok(&Pending::default())), &Sight::default()).unwrap()
        };
        let archive_id = ArchiveId::parse("16-1").unwrap();
        let name = |text| WalSegmentName::parse(text).unwrap();
        let (start, stop) = (name("000000010000000000000002"), name("000000010000000000000003"));
        let needed = NeededWal { archive_id, start, start_lsn: None, stop, is_open: true };
        let gaps = ArchivedWal::default().gaps(&[needed], WalSegmentSize::DEFAULT);
        let (status, reason, message) = of(Some(Ok(gaps)));
        assert_eq!((status.as_str(), reason.as_str()), ("False", "Gap"));
        assert!(message.starts_with("repo1 lacks 2 WAL files, the first is 000000010000000000000002"), "{message}");
        assert_eq!(of(Some(Ok(WalGaps::default()))).0, "True");
        assert_eq!(of(Some(Err(Error::new(ErrorKind::Format, "no history")))).0, "Unknown");
        let unreachable = Err(Error::new(ErrorKind::Service, "no"));
        let unknown = told("Continuous", unreachable, Some(Ok(&Pending::default())), &Sight::default()).unwrap();
        assert_eq!(unknown.0, "Unknown");
        assert_eq!(told("Continuous", Ok(Contents::default()), None, &Sight::default()), None);
    }

    #[test]
    fn kg25_a_wrong_key_and_a_refusal_are_told_apart_from_silence() {
        let reason = |error| told("Reachable", Err(error), None, &Sight::default()).unwrap().1;
        assert_eq!(reason(Error::new(ErrorKind::Crypto, "no")), "WrongKey");
        assert_eq!(reason(Error::new(ErrorKind::Access, "no")), "Denied");
        assert_eq!(reason(Error::new(ErrorKind::HostConnect, "no")), "NoAnswer");
        assert_eq!(reason(Error::new(ErrorKind::Format, "no")), "NotReadable");
    }

    const STALL_NOW_S: i64 = 1_800_000_000;
    const WEEK_S: i64 = 7 * 86_400;

    fn reading(last: &[Option<Option<i64>>]) -> Reading {
        let repositories = last.iter().zip(1..).map(|(last, number)| RepositoryReading {
            number,
            is_encrypted: false,
            outcome: match last {
                Some(at_s) => {
                    let last_wal = at_s.map(|at_s| ("000000010000000000000007".to_owned(), at_s));
                    Ok(Contents { last_wal, ..Contents::default() })
                }
                None => Err(Error::new(ErrorKind::Service, "no answer")),
            },
        });
        Reading { repositories: repositories.collect() }
    }

    /// Since when the oldest file waits, when this process archived one last, and what the repositories have.
    fn archiving_told(
        waits_s: Option<i64>,
        archived_s: Option<i64>,
        last: &[Option<Option<i64>>],
    ) -> (Truth, String, String) {
        let oldest = waits_s.map(|ago_s| (STALL_NOW_S - ago_s, "000000010000000000000008".to_owned()));
        let pending = Pending { files: usize::from(oldest.is_some()) * 3, oldest, first_segment: None };
        let archived =
            archived_s.map(|ago_s| Noted { at_s: STALL_NOW_S - ago_s, text: "000000010000000000000007".to_owned() });
        let sight = Sight { archived, ..Sight::default() };
        let reading = reading(last);
        let facts = Facts {
            stanza: "demo",
            cluster: "demo",
            cluster_uid: "",
            now_s: STALL_NOW_S,
            reading: Ok(&reading),
            pending: Some(Ok(&pending)),
            sight: &sight,
            upkeep: &[],
            verifies: false,
        };
        let wanted = wanted(&facts).into_iter().find(|wanted| wanted.kind == "Archiving").unwrap();
        (wanted.truth, wanted.reason.to_owned(), wanted.message)
    }

    #[test]
    fn np10_wal_that_waits_while_none_comes_is_told_with_the_time_of_the_last() {
        let week = STALL_NOW_S - WEEK_S;
        let last = Some(Some(week));
        let waits = "3 file(s) wait, 000000010000000000000008 since 2027-01-08T08:01:40Z";
        let stalled = |message: &str| (Truth::False, "Stalled".to_owned(), format!("{message}: {waits}"));
        let since = "no WAL since 2027-01-08T08:00:00Z";
        // Whether or not this process has archived before.
        assert_eq!(archiving_told(Some(WEEK_S - 100), Some(WEEK_S), &[last]), stalled(since));
        assert_eq!(archiving_told(Some(WEEK_S - 100), None, &[last]), stalled(since));
        // The repository that has the least is what counts, and one that does not answer has no say.
        assert_eq!(archiving_told(Some(WEEK_S - 100), None, &[Some(Some(STALL_NOW_S)), last]), stalled(since));
        assert_eq!(archiving_told(Some(WEEK_S - 100), None, &[None, last]), stalled(since));
        assert_eq!(archiving_told(Some(WEEK_S - 100), Some(WEEK_S), &[None]), stalled(since));
        assert_eq!(archiving_told(Some(WEEK_S - 100), None, &[Some(None)]), stalled("no WAL was ever archived"));
        assert_eq!(
            archiving_told(Some(WEEK_S - 100), None, &[None]),
            stalled("no WAL was archived since the sidecar started")
        );
        assert_eq!(archiving_told(Some(STALLED_S), Some(STALLED_S), &[last]).1, "Stalled");
    }

    #[test]
    fn np10_wal_that_is_on_its_way_or_does_not_exist_is_no_alarm() {
        let last = Some(Some(STALL_NOW_S - WEEK_S));
        // A backlog that is worked off, a file that waits for a moment, and a server that writes nothing.
        assert_eq!(archiving_told(Some(WEEK_S), Some(STALLED_S - 1), &[last]).1, "Archived");
        assert_eq!(archiving_told(Some(STALLED_S - 1), Some(WEEK_S), &[last]).1, "Archived");
        assert_eq!(archiving_told(None, Some(WEEK_S), &[last]).1, "Archived");
        assert_eq!(archiving_told(None, None, &[last]).1, "Archived");
        assert_eq!(archiving_told(None, None, &[Some(None)]).1, "NeverArchived");
    }
}
