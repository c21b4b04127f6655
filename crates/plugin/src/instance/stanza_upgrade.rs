//! Whether a stanza becomes that of a cluster with a new major version of PostgreSQL.
//!
//! CloudNativePG upgrades a cluster in place: the Cluster stays, the system identifier and the version are new. To the
//! repository that looks like a second cluster that was told to write into the stanza of another, which must be refused
//! (faults.md KG20). What tells them apart is the UID of the Cluster, which the sidecar records in the status of the Archive
//! as long as archive and cluster are the same.

use pgbr_repo::command::archive::ClusterIdentity;

use crate::cluster::Cluster;
use crate::ids::UPGRADE_STANZA_ANNOTATION;
use crate::resource::{Archive, StanzaStatus};
use crate::settings::{CreateStanza, create_stanza};

/// Why a stanza is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The Cluster is the one that has written it.
    SameCluster,
    /// The Archive's annotation says so.
    Annotation,
}

/// What is known when the archive turns out to be of another cluster.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Whose the archive is.
    pub found: ClusterIdentity,
    /// The cluster of the pod.
    pub own: ClusterIdentity,
    /// `metadata.uid` of the Cluster; empty when it has none.
    pub cluster_uid: &'a str,
    /// What the status of the Archive says of the stanza.
    pub recorded: Option<&'a StanzaStatus>,
    /// The Archive lets the sidecar make stanzas.
    pub creates: bool,
    /// The Archive has the annotation.
    pub annotated: bool,
}

impl<'a> Case<'a> {
    /// The case of an Archive as the API server has it now.
    pub fn of(
        archive: &'a Archive,
        stanza: &str,
        cluster: &'a Cluster,
        found: ClusterIdentity,
        own: ClusterIdentity,
    ) -> Self {
        let stanzas = archive.status.iter().flat_map(|status| &status.stanzas);
        let annotations = archive.metadata.annotations.as_ref();
        Self {
            found,
            own,
            cluster_uid: &cluster.uid,
            recorded: stanzas.into_iter().find(|it| it.name == stanza),
            creates: create_stanza(&archive.spec) != CreateStanza::Disabled,
            annotated: annotations.and_then(|all| all.get(UPGRADE_STANZA_ANNOTATION)).is_some_and(|it| it == "enabled"),
        }
    }

    /// Whether the stanza is upgraded, or why not. Never to the same or an older version: that is another cluster, or the
    /// same one restored from before its upgrade.
    ///
    /// # Errors
    /// Why not, for a person, without what the way out is.
    pub fn decide(&self) -> Result<Reason, String> {
        if self.own.version <= self.found.version {
            return Err(format!("PostgreSQL {} is not newer than {}", self.own.version, self.found.version));
        }
        if self.annotated {
            return Ok(Reason::Annotation);
        }
        if !self.creates {
            return Err("createStanza of the Archive is Disabled".to_owned());
        }
        let Some(recorded) = self.recorded.filter(|it| it.cluster_uid.is_some()) else {
            return Err("the status of the Archive does not say which Cluster has written it".to_owned());
        };
        if recorded.system_id.as_deref() != Some(self.found.system_id.to_string().as_str()) {
            return Err("the status of the Archive is about another system identifier".to_owned());
        }
        match recorded.cluster_uid.as_deref() {
            Some(uid) if !uid.is_empty() && uid == self.cluster_uid => Ok(Reason::SameCluster),
            uid => Err(format!(
                "it was written by the Cluster with UID {}, and this one has UID {}",
                uid.unwrap_or_default(),
                self.cluster_uid
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use pgbr_repo::postgres::{PgVersion, SystemId};

    use super::*;

    #[test]
    fn sec24_only_the_same_cluster_with_a_newer_version_goes_on_and_an_unknown_status_is_none() {
        let is = |version, system| ClusterIdentity { version, system_id: SystemId(system) };
        let recorded = StanzaStatus {
            name: "demo".to_owned(),
            cluster_uid: Some("uid-a".to_owned()),
            system_id: Some("1".to_owned()),
            ..StanzaStatus::default()
        };
        let nameless = StanzaStatus { cluster_uid: None, ..recorded.clone() };
        let elsewhere = StanzaStatus { system_id: Some("7".to_owned()), ..recorded.clone() };
        let empty = StanzaStatus { cluster_uid: Some(String::new()), ..recorded.clone() };
        let unknown = StanzaStatus { system_id: Some("0x1".to_owned()), ..recorded.clone() };
        let older = StanzaStatus { system_id: None, ..recorded.clone() };
        let good = Case {
            found: is(PgVersion::V15, 1),
            own: is(PgVersion::V17, 2),
            cluster_uid: "uid-a",
            recorded: Some(&recorded),
            creates: true,
            annotated: false,
        };
        assert_eq!(good.decide(), Ok(Reason::SameCluster));
        let refused = [
            (Case { own: is(PgVersion::V15, 2), ..good }, "not newer"),
            (Case { own: is(PgVersion::V13, 2), ..good }, "not newer"),
            (Case { own: is(PgVersion::V15, 2), annotated: true, ..good }, "not newer"),
            (Case { creates: false, ..good }, "Disabled"),
            (Case { cluster_uid: "uid-b", ..good }, "uid-b"),
            (Case { cluster_uid: "", recorded: Some(&empty), ..good }, "UID"),
            (Case { recorded: None, ..good }, "does not say"),
            (Case { recorded: Some(&nameless), ..good }, "does not say"),
            (Case { recorded: Some(&elsewhere), ..good }, "another system identifier"),
            // Written otherwise, or by a version that did not say it.
            (Case { recorded: Some(&unknown), ..good }, "another system identifier"),
            (Case { recorded: Some(&older), ..good }, "another system identifier"),
        ];
        for (case, text) in refused {
            let reason = case.decide().unwrap_err();
            assert!(reason.contains(text), "{text}: {reason}");
        }
        let annotated = Case { annotated: true, cluster_uid: "uid-b", creates: false, recorded: None, ..good };
        assert_eq!(annotated.decide(), Ok(Reason::Annotation));
    }
}
