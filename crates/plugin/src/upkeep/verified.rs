//! How verifications of a repository went, and when the next one is due. Pure.

use jiff::Timestamp;
use pgbr_repo::command::verify::VerifyReport;
use pgbr_repo::error::Error;
use tokio::time::Duration;

use crate::resource::{VerificationStatus, error_text, shortened, time};

/// When what failed is tried again, unless its time comes before.
const RETRY: Duration = Duration::from_secs(60 * 60);

/// How verifications of a repository went. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// When everything was read last.
    pub done_s: Option<i64>,
    /// When all of it was as it was stored.
    pub good_s: Option<i64>,
    /// What was not, the last time.
    pub damage: Option<String>,
    /// Why a later try did not come to an end.
    pub error: Option<String>,
}

impl Verified {
    /// As it is in a status.
    pub(super) fn of(status: &VerificationStatus) -> Self {
        let seconds = |text: &Option<String>| Some(text.as_ref()?.parse::<Timestamp>().ok()?.as_second());
        Self {
            done_s: seconds(&status.last_verification_time),
            good_s: seconds(&status.last_successful_verification_time),
            damage: status.damage.clone(),
            error: status.error.clone(),
        }
    }

    /// For a status.
    pub(super) fn status(&self, number: u32) -> VerificationStatus {
        VerificationStatus {
            number: i32::try_from(number).unwrap_or(i32::MAX),
            last_verification_time: self.done_s.and_then(time),
            last_successful_verification_time: self.good_s.and_then(time),
            damage: self.damage.clone(),
            error: self.error.clone(),
        }
    }

    /// After one more, which ended now.
    pub(super) fn after(&self, outcome: Result<VerifyReport, Error>, now_s: i64) -> Self {
        let error = |text: &str| Self { error: Some(shortened(text)), ..self.clone() };
        let report = match outcome {
            Ok(report) => report,
            Err(failure) => return error(&error_text(&failure)),
        };
        let is_empty = report.archives.is_empty() && report.backups.is_empty();
        if let (true, Some(obstacle), None) = (is_empty, report.obstacles.first(), self.done_s) {
            // There is no stanza yet, or nothing in it.
            return error(obstacle.trim());
        }
        let damaged = report.damage.len() - report.unreadable().count();
        match report.unreadable().next() {
            // Damage that was found counts although more may be there.
            Some(first) if damaged == 0 => {
                let count = report.unreadable().count();
                error(&format!(
                    "{count} object(s) could not be read, the first is {}: {}",
                    first.object, first.fault.detail
                ))
            }
            _ if report.is_error() => {
                Self { done_s: Some(now_s), good_s: self.good_s, damage: Some(damage(&report)), error: None }
            }
            _ => Self { done_s: Some(now_s), good_s: Some(now_s), damage: None, error: None },
        }
    }

    /// Whether it is to be verified now; `tried` is how long ago it was tried in vain.
    pub(super) fn is_due(&self, interval: Duration, tried: Option<Duration>, now_s: i64) -> bool {
        let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
        // A time in the future is no reason never to look again.
        let is_old = self.done_s.is_none_or(|done_s| done_s > now_s || now_s.saturating_sub(done_s) >= seconds);
        is_old && tried.is_none_or(|ago| ago >= RETRY.min(interval))
    }
}

/// What is wrong, for a person: the whole is in the log.
fn damage(report: &VerifyReport) -> String {
    let backups: Vec<String> =
        report.backups.iter().filter(|backup| backup.is_error()).map(|backup| backup.label.to_string()).collect();
    let mut parts = report.obstacles.iter().map(|obstacle| obstacle.trim().to_owned()).collect::<Vec<_>>();
    if let Some(first) = report.damage.first() {
        let detail = if first.fault.detail.is_empty() { first.fault.kind.name() } else { first.fault.detail.as_str() };
        parts.push(format!("{} object(s) are damaged, the first is {}: {detail}", report.damage.len(), first.object));
    }
    if !backups.is_empty() {
        parts.push(format!("backups that are not good: {}", backups.join(", ")));
    }
    if parts.is_empty() {
        parts.push("what is stored does not fit together: see the log".to_owned());
    }
    shortened(&parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbr_repo::error::ErrorKind;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn kg25_a_failed_try_is_no_verification_and_damage_stays_told() {
        let good = Verified { done_s: Some(10), good_s: Some(10), ..Verified::default() };
        let silent = good.after(Err(Error::new(ErrorKind::Service, "no answer")), 20);
        assert_eq!((silent.done_s, silent.good_s), (Some(10), Some(10)));
        assert!(silent.error.as_deref().is_some_and(|error| error.contains("no answer")));
        let damaged = Verified { done_s: Some(20), damage: Some("x".to_owned()), ..good };
        assert_eq!(damaged.after(Err(Error::new(ErrorKind::Service, "no")), 30).damage.as_deref(), Some("x"));
        // What a status keeps of it is all of it.
        assert_eq!(Verified::of(&damaged.status(1)), damaged);
    }

    #[test]
    fn it_is_due_after_the_interval_whatever_the_clock_did() {
        let at = |done_s: Option<i64>, tried: Option<u64>| {
            let verified = Verified { done_s, ..Verified::default() };
            verified.is_due(DAY, tried.map(Duration::from_secs), 1_000_000)
        };
        assert!(at(None, None) && at(Some(1_000_000 - 86_400), None) && at(Some(1_000_001), None));
        assert!(!at(Some(1_000_000 - 86_399), None) && !at(Some(1_000_000), None));
        assert!(!at(None, Some(3_599)) && at(None, Some(3_600)));
    }
}
