//! What is written about a stanza, as a function of what is known (design: the questions of who is on call).
//!
//! What is not known any more is not told as if it were: a repository that does not answer has no figures, and a condition
//! about it is `Unknown`. What another pod alone knows is kept as that pod wrote it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use pgbr_repo::command::expire::{ExpiryTime, NextExpiry};
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::storage::ErrorClass;

use super::outlook::Outlook;
use super::pending::Pending;
use super::reading::{Contents, Reading, RepositoryReading};
use super::seen::{Noted, Sight};
use crate::resource::{RepositoryStatus, StanzaStatus};
use crate::status::Failure;

/// The longest text of an error in a status; the whole is in the log.
const TEXT_CHARS_MAX: usize = 512;

/// A WAL file that waits this long while none is archived is not on its way any more: PostgreSQL tries again every minute.
const STALLED_S: i64 = 600;

/// The most labels that are named of what expires next.
const EXPIRING_MAX: usize = 16;

/// The state of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// As it should be.
    True,
    /// Somebody should look.
    False,
    /// It cannot be told.
    Unknown,
}

/// A condition to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its type.
    pub kind: &'static str,
    /// Its state.
    pub truth: Truth,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for a person.
    pub message: String,
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The stanza.
    pub stanza: &'a str,
    /// The cluster.
    pub cluster: &'a str,
    /// The UID of its object; empty when it has none.
    pub cluster_uid: &'a str,
    /// Now, in seconds since the Unix epoch.
    pub now_s: i64,
    /// What the repositories said, or why nobody could ask them.
    pub reading: Result<&'a Reading, &'a Failure>,
    /// What waits, or why that cannot be told; `None` where another pod is the one that archives.
    pub pending: Option<Result<&'a Pending, &'a Error>>,
    /// What this process saw.
    pub sight: &'a Sight,
    /// Conditions about the upkeep itself.
    pub upkeep: &'a [Wanted],
}

/// A time as statuses have it.
pub fn time(at_s: i64) -> Option<String> {
    Timestamp::from_second(at_s).ok().map(|at| at.to_string())
}

/// The status of the stanza, given the one that is there.
pub fn stanza_status(present: Option<&StanzaStatus>, facts: &Facts<'_>) -> StanzaStatus {
    let nothing = StanzaStatus::default();
    let recorded = present.unwrap_or(&nothing);
    let present = present.filter(|it| it.cluster.as_deref() == Some(facts.cluster)).unwrap_or(&nothing);
    let mut status = StanzaStatus {
        name: facts.stanza.to_owned(),
        cluster: Some(facts.cluster.to_owned()),
        ..StanzaStatus::default()
    };
    owner(&mut status, recorded, facts);
    recoverability(&mut status, present, facts);
    archiving(&mut status, present, facts);
    failed_backup(&mut status, present, facts);
    let mut wanted = vec![reachable(facts), recoverable(facts)];
    wanted.extend(archives(facts));
    wanted.extend(continuous(facts));
    wanted.extend(facts.upkeep.iter().cloned());
    status.conditions = wanted.iter().map(|wanted| condition(wanted, &present.conditions, facts.now_s)).collect();
    // Those of another pod stay.
    let missing = |kind: &str| !status.conditions.iter().any(|condition| condition.type_ == kind);
    let kept: Vec<Condition> = present.conditions.iter().filter(|it| missing(&it.type_)).cloned().collect();
    status.conditions.extend(kept);
    status.conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
    status
}

/// Which Cluster the archive is of. A reading is one of the own archive: another's is an error. What was recorded stays,
/// whoever writes, until that is found again.
fn owner(status: &mut StanzaStatus, recorded: &StanzaStatus, facts: &Facts<'_>) {
    let answers = facts.reading.ok().into_iter().flat_map(Reading::answers);
    let found = answers.filter_map(|contents| Some((contents.system_id?, contents.version?))).next();
    match found {
        Some((system_id, version)) if !facts.cluster_uid.is_empty() => {
            status.cluster_uid = Some(facts.cluster_uid.to_owned());
            status.system_id = Some(system_id.to_string());
            status.postgresql_version = Some(version.to_string());
        }
        _ => {
            status.cluster_uid.clone_from(&recorded.cluster_uid);
            status.system_id.clone_from(&recorded.system_id);
            status.postgresql_version.clone_from(&recorded.postgresql_version);
        }
    }
}

/// Backups, as long as a repository answers; else what was known.
fn recoverability(status: &mut StanzaStatus, present: &StanzaStatus, facts: &Facts<'_>) {
    let answered = facts.reading.is_ok_and(|reading| reading.answers().next().is_some());
    match facts.reading {
        Ok(reading) if answered => {
            let ends = || reading.backups().map(|backup| (backup.timestamp_stop_s, backup.label));
            status.first_recoverability_point = ends().min().and_then(|(end_s, _)| time(end_s));
            status.last_successful_backup_time = ends().max().and_then(|(end_s, _)| time(end_s));
            status.last_backup_label = ends().max().map(|(_, label)| label.to_string());
            let last = last_wal_everywhere(reading);
            status.last_archived_wal = last.map(|(name, _)| name.clone());
            status.last_archived_wal_time = last.and_then(|(_, at_s)| time(*at_s));
        }
        Ok(_) | Err(_) => {
            status.first_recoverability_point.clone_from(&present.first_recoverability_point);
            status.last_successful_backup_time.clone_from(&present.last_successful_backup_time);
            status.last_backup_label.clone_from(&present.last_backup_label);
            status.last_archived_wal.clone_from(&present.last_archived_wal);
            status.last_archived_wal_time.clone_from(&present.last_archived_wal_time);
        }
    }
    status.repositories = match facts.reading {
        Ok(reading) => reading.repositories.iter().map(repository).collect(),
        Err(_) => Vec::new(),
    };
}

/// The newest segment up to which every repository that answered has WAL.
pub fn last_wal_everywhere(reading: &Reading) -> Option<&(String, i64)> {
    let last: Option<Vec<&(String, i64)>> = reading.answers().map(|contents| contents.last_wal.as_ref()).collect();
    last?.into_iter().min()
}

/// What the backups take in the repository.
pub fn backup_bytes(contents: &Contents) -> i64 {
    let sizes = contents.backups().iter().map(|backup| backup.sizes.size_repo_delta_bytes);
    i64::try_from(sizes.fold(0_u64, u64::saturating_add)).unwrap_or(i64::MAX)
}

fn repository(reading: &RepositoryReading) -> RepositoryStatus {
    let number = i32::try_from(reading.number).unwrap_or(i32::MAX);
    match &reading.outcome {
        Ok(contents) => {
            let newest = contents.backups().iter().max_by_key(|backup| (backup.timestamp_stop_s, backup.label));
            let outlook = &contents.outlook;
            let gaps = outlook.gaps.as_ref().and_then(|gaps| gaps.as_ref().ok());
            let expiring = outlook.next_expiry.iter().flat_map(|next| &next.labels).take(EXPIRING_MAX);
            RepositoryStatus {
                number,
                reachable: true,
                error: None,
                backups: i32::try_from(contents.backups().len()).ok(),
                backup_bytes: Some(backup_bytes(contents)),
                first_recoverability_point: first_end(contents).and_then(time),
                last_backup_label: newest.map(|backup| backup.label.to_string()),
                last_archived_wal: contents.last_wal.as_ref().map(|(name, _)| name.clone()),
                missing_wal_files: gaps.map(|gaps| i64::try_from(gaps.count()).unwrap_or(i64::MAX)),
                first_missing_wal: gaps.and_then(|gaps| gaps.gaps().first()).map(|gap| gap.first.to_string()),
                next_expiry: outlook.next_expiry.as_ref().and_then(expiry_text),
                next_expiring_backups: expiring.map(ToString::to_string).collect(),
            }
        }
        Err(error) => {
            RepositoryStatus { number, error: Some(shortened(&error_text(error))), ..RepositoryStatus::default() }
        }
    }
}

/// When something expires, for a person.
fn expiry_text(next: &NextExpiry) -> Option<String> {
    match next.time {
        ExpiryTime::At(at_s) => time(at_s),
        ExpiryTime::NextFull => Some("with the next full backup".to_owned()),
        ExpiryTime::NextDifferential => Some("with the next differential backup".to_owned()),
    }
}

fn first_end(contents: &Contents) -> Option<i64> {
    contents.backups().iter().map(|backup| backup.timestamp_stop_s).min()
}

fn error_text(error: &Error) -> String {
    format!("[{:03}]: {}", error.kind().code(), error.message())
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// What waits and what failed, told by the pod that archives.
fn archiving(status: &mut StanzaStatus, present: &StanzaStatus, facts: &Facts<'_>) {
    let Some(Ok(pending)) = facts.pending else {
        status.waiting_wal_files = present.waiting_wal_files;
        status.oldest_waiting_wal.clone_from(&present.oldest_waiting_wal);
        status.oldest_waiting_wal_time.clone_from(&present.oldest_waiting_wal_time);
        status.last_failed_archive_time.clone_from(&present.last_failed_archive_time);
        status.last_archive_failure.clone_from(&present.last_archive_failure);
        return;
    };
    status.waiting_wal_files = i32::try_from(pending.files).ok();
    if let Some((since_s, name)) = &pending.oldest {
        status.oldest_waiting_wal = Some(name.clone());
        status.oldest_waiting_wal_time = time(*since_s);
    }
    if let (true, Some(failure)) = (facts.sight.archiving_fails, &facts.sight.archive_failure) {
        status.last_failed_archive_time = time(failure.at_s);
        status.last_archive_failure = Some(shortened(&failure.text));
    }
}

/// The last failed backup of any pod, until one is good.
fn failed_backup(status: &mut StanzaStatus, present: &StanzaStatus, facts: &Facts<'_>) {
    let seconds =
        |text: Option<&String>| text.and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_second);
    let written = seconds(present.last_failed_backup_time.as_ref())
        .map(|at_s| Noted { at_s, text: present.last_failure.clone().unwrap_or_default() });
    let own = facts.sight.backup_failure.clone();
    let last = [written, own].into_iter().flatten().max_by_key(|noted| noted.at_s);
    let good_s = seconds(status.last_successful_backup_time.as_ref());
    if let Some(failure) = last.filter(|failure| good_s.is_none_or(|good_s| failure.at_s > good_s)) {
        status.last_failed_backup_time = time(failure.at_s);
        status.last_failure = Some(shortened(&failure.text));
    }
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

/// The condition, with the time since when it is so.
fn condition(wanted: &Wanted, present: &[Condition], now_s: i64) -> Condition {
    let status = match wanted.truth {
        Truth::True => "True",
        Truth::False => "False",
        Truth::Unknown => "Unknown",
    };
    let before = present.iter().find(|condition| condition.type_ == wanted.kind && condition.status == status);
    let now = Timestamp::from_second(now_s).unwrap_or_default();
    Condition {
        last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        message: shortened(&wanted.message),
        observed_generation: None,
        reason: wanted.reason.to_owned(),
        status: status.to_owned(),
        type_: wanted.kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pgbr_repo::format::ArchiveId;
    use pgbr_repo::postgres::{WalSegmentName, WalSegmentSize};
    use pgbr_repo::repository::{ArchivedWal, NeededWal, WalGaps};

    use super::super::reading::Contents;
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
        };
        let status = stanza_status(None, &facts);
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == kind)?;
        Some((condition.status, condition.reason, condition.message))
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
        };
        let status = stanza_status(None, &facts);
        let condition = status.conditions.iter().find(|condition| condition.type_ == "Archiving").unwrap();
        let truth = match condition.status.as_str() {
            "True" => Truth::True,
            "False" => Truth::False,
            _ => Truth::Unknown,
        };
        (truth, condition.reason.clone(), condition.message.clone())
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
