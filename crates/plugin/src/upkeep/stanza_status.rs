//! What is written about a stanza, as a function of what is known (design: the questions of who is on call).
//!
//! What is not known any more is not told as if it were: a repository that does not answer has no figures, and a condition
//! about it is `Unknown`. What another pod alone knows is kept as that pod wrote it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::pending::Pending;
use super::reading::{Contents, Reading, RepositoryReading};
use super::seen::{Noted, Sight};
use crate::resource::{RepositoryStatus, StanzaStatus};
use crate::status::Failure;

/// The longest text of an error in a status; the whole is in the log.
const TEXT_CHARS_MAX: usize = 512;

/// A WAL file that waits this long while none is archived is not on its way any more: PostgreSQL tries again every minute.
const STALLED_S: i64 = 600;

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
    /// What waits; `None` where another pod is the one that archives.
    pub pending: Option<&'a Pending>,
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

fn repository(reading: &RepositoryReading) -> RepositoryStatus {
    let number = i32::try_from(reading.number).unwrap_or(i32::MAX);
    match &reading.outcome {
        Ok(contents) => {
            let bytes =
                contents.backups().iter().fold(0_u64, |sum, it| sum.saturating_add(it.sizes.size_repo_delta_bytes));
            let newest = contents.backups().iter().max_by_key(|backup| (backup.timestamp_stop_s, backup.label));
            RepositoryStatus {
                number,
                reachable: true,
                error: None,
                backups: i32::try_from(contents.backups().len()).ok(),
                backup_bytes: i64::try_from(bytes).ok(),
                first_recoverability_point: first_end(contents).and_then(time),
                last_backup_label: newest.map(|backup| backup.label.to_string()),
                last_archived_wal: contents.last_wal.as_ref().map(|(name, _)| name.clone()),
            }
        }
        Err(error) => {
            RepositoryStatus { number, error: Some(shortened(&error_text(error))), ..RepositoryStatus::default() }
        }
    }
}

fn first_end(contents: &Contents) -> Option<i64> {
    contents.backups().iter().map(|backup| backup.timestamp_stop_s).min()
}

fn error_text(error: &pgbr_repo::error::Error) -> String {
    format!("[{:03}]: {}", error.kind().code(), error.message())
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// What waits and what failed, told by the pod that archives.
fn archiving(status: &mut StanzaStatus, present: &StanzaStatus, facts: &Facts<'_>) {
    let Some(pending) = facts.pending else {
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
            match texts.is_empty() {
                true => wanted(Truth::True, "Answered", "every repository answered".to_owned()),
                false => wanted(Truth::False, "NoAnswer", texts.join("; ")),
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
    if let Some(message) = stalled(pending, facts) {
        return Some(wanted(Truth::False, "Stalled", message));
    }
    let has_wal = facts.reading.ok().map(|reading| last_wal_everywhere(reading).is_some());
    Some(match (has_wal, &facts.sight.archived) {
        (_, Some(_)) => wanted(Truth::True, "Archived", "WAL is archived".to_owned()),
        (Some(true), None) if pending.files == 0 => {
            wanted(Truth::True, "Archived", "WAL was archived, and none waits".to_owned())
        }
        (Some(false), None) => wanted(Truth::False, "NeverArchived", "no WAL was ever archived".to_owned()),
        _ => wanted(Truth::Unknown, "NotSeen", "no WAL was archived since the sidecar started".to_owned()),
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
    Some(format!("{arrived}: {} file(s) wait, {name} since {since}", pending.files))
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
    use pgbr_repo::error::{Error, ErrorKind};

    use super::*;

    const NOW_S: i64 = 1_800_000_000;
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
    fn told(waits_s: Option<i64>, archived_s: Option<i64>, last: &[Option<Option<i64>>]) -> (Truth, String, String) {
        let oldest = waits_s.map(|ago_s| (NOW_S - ago_s, "000000010000000000000008".to_owned()));
        let pending = Pending { files: usize::from(oldest.is_some()) * 3, oldest };
        let archived =
            archived_s.map(|ago_s| Noted { at_s: NOW_S - ago_s, text: "000000010000000000000007".to_owned() });
        let sight = Sight { archived, ..Sight::default() };
        let reading = reading(last);
        let facts = Facts {
            stanza: "demo",
            cluster: "demo",
            cluster_uid: "",
            now_s: NOW_S,
            reading: Ok(&reading),
            pending: Some(&pending),
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
        let week = NOW_S - WEEK_S;
        let last = Some(Some(week));
        let waits = "3 file(s) wait, 000000010000000000000008 since 2027-01-08T08:01:40Z";
        let stalled = |message: &str| (Truth::False, "Stalled".to_owned(), format!("{message}: {waits}"));
        let since = "no WAL since 2027-01-08T08:00:00Z";
        // Whether or not this process has archived before.
        assert_eq!(told(Some(WEEK_S - 100), Some(WEEK_S), &[last]), stalled(since));
        assert_eq!(told(Some(WEEK_S - 100), None, &[last]), stalled(since));
        // The repository that has the least is what counts, and one that does not answer has no say.
        assert_eq!(told(Some(WEEK_S - 100), None, &[Some(Some(NOW_S)), last]), stalled(since));
        assert_eq!(told(Some(WEEK_S - 100), None, &[None, last]), stalled(since));
        assert_eq!(told(Some(WEEK_S - 100), Some(WEEK_S), &[None]), stalled(since));
        assert_eq!(told(Some(WEEK_S - 100), None, &[Some(None)]), stalled("no WAL was ever archived"));
        assert_eq!(told(Some(WEEK_S - 100), None, &[None]), stalled("no WAL was archived since the sidecar started"));
        assert_eq!(told(Some(STALLED_S), Some(STALLED_S), &[last]).1, "Stalled");
    }

    #[test]
    fn np10_wal_that_is_on_its_way_or_does_not_exist_is_no_alarm() {
        let last = Some(Some(NOW_S - WEEK_S));
        // A backlog that is worked off, a file that waits for a moment, and a server that writes nothing.
        assert_eq!(told(Some(WEEK_S), Some(STALLED_S - 1), &[last]).1, "Archived");
        assert_eq!(told(Some(STALLED_S - 1), Some(WEEK_S), &[last]).1, "Archived");
        assert_eq!(told(None, Some(WEEK_S), &[last]).1, "Archived");
        assert_eq!(told(None, None, &[last]).1, "Archived");
        assert_eq!(told(None, None, &[Some(None)]).1, "NeverArchived");
    }
}
