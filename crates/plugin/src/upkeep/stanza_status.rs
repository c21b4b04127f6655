//! What is written about a stanza, as a function of what is known (design: the questions of who is on call).
//!
//! What is not known any more is not told as if it were: a repository that does not answer has no figures, and a condition
//! about it is `Unknown`. What another pod alone knows is kept as that pod wrote it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use pgbr_repo::command::expire::{ExpiryTime, NextExpiry};

use super::conditions;
use super::facts::{Facts, last_wal_everywhere};
use super::reading::{Contents, Reading, RepositoryReading};
use super::seen::Noted;
use crate::resource::{RepositoryStatus, StanzaStatus, error_text, shortened, time};

/// The most labels that are named of what expires next.
const EXPIRING_MAX: usize = 16;

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
    verifications(&mut status, present, facts);
    let wanted = conditions::wanted(facts);
    status.conditions = wanted.iter().map(|wanted| wanted.condition(&present.conditions, facts.now_s)).collect();
    // Those of another pod stay.
    let missing = |kind: &str| {
        !status.conditions.iter().any(|condition| condition.type_ == kind)
            && (kind != conditions::VERIFIED || facts.verifies)
    };
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

/// How verifications went, as far as this process knows; else as another wrote it.
fn verifications(status: &mut StanzaStatus, present: &StanzaStatus, facts: &Facts<'_>) {
    status.verifications = match &facts.sight.verified {
        _ if !facts.verifies => Vec::new(),
        None => present.verifications.clone(),
        Some(verified) => verified.iter().map(|(number, verified)| verified.status(*number)).collect(),
    };
}
