//! What is known about a stanza when its status is written.

use pgbr_repo::error::Error;

use super::pending::Pending;
use super::reading::Reading;
use super::seen::Sight;
use crate::resource::Wanted;
use crate::status::Failure;

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
    /// Whether the repositories are verified now and then.
    pub verifies: bool,
}

/// The newest segment up to which every repository that answered has WAL.
pub fn last_wal_everywhere(reading: &Reading) -> Option<&(String, i64)> {
    let last: Option<Vec<&(String, i64)>> = reading.answers().map(|contents| contents.last_wal.as_ref()).collect();
    last?.into_iter().min()
}
