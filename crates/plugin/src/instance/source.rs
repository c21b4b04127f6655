//! Which archive a request is about: the tables of cnpg-i.md §2.3 as pure functions of the Cluster and the pod.

use crate::cluster::{Cluster, SKIP_EMPTY_ARCHIVE_CHECK};
use crate::parameters::{self, Source};
use crate::status::Failure;

/// The situation in which WAL is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Situation {
    /// The first recovery: nobody streams, and PostgreSQL takes an error for the end of WAL and promotes.
    Bootstrap,
    /// The designated primary of a replica cluster, or a primary that was one until a moment ago.
    Following,
    /// Any other member of the cluster, which can stream too.
    Member,
}

/// Where WAL is fetched from, and in which situation.
///
/// # Errors
/// [`Failure::Precondition`] naming the field that names no Archive.
pub fn restore_source(cluster: &Cluster, pod: &str) -> Result<(Source, Situation), Failure> {
    let replica = parameters::replica_source(cluster);
    let primary = cluster.status.current_primary.as_deref().filter(|name| !name.is_empty());
    let none = |text: &str| Failure::Precondition(text.to_owned());
    match (primary, replica) {
        // Also after replica.enabled went false, as long as the promotion is not finished.
        (Some(primary), Some(replica)) if primary == pod => Ok((replica, Situation::Following)),
        (None, replica) => {
            parameters::recovery_source(cluster).or(replica).map(|source| (source, Situation::Bootstrap)).ok_or_else(
                || none("no external cluster that bootstrap.recovery.source names has an Archive of this plugin"),
            )
        }
        (Some(_), replica) => parameters::own(cluster)
            // A member of a replica cluster without an archive of its own.
            .or(replica)
            .map(|source| (source, Situation::Member))
            .ok_or_else(|| none("spec.plugins names no Archive (parameter 'pgbackrestObjectName')")),
    }
}

/// Where WAL and backups go.
///
/// # Errors
/// [`Failure::Precondition`] when there is no such place.
pub fn own_source(cluster: &Cluster) -> Result<Source, Failure> {
    parameters::own(cluster).ok_or_else(|| {
        Failure::Precondition("spec.plugins names no Archive (parameter 'pgbackrestObjectName')".to_owned())
    })
}

/// Whether the Cluster says that an archive may hold what it likes.
pub fn skips_empty_check(cluster: &Cluster) -> bool {
    cluster.annotations.get(SKIP_EMPTY_ARCHIVE_CHECK).is_some_and(|value| value == "enabled")
}

/// Whether a promotion by token is going on: then PostgreSQL needs what the other side left in a `.partial` file.
pub fn awaits_promotion(cluster: &Cluster) -> bool {
    let token = cluster.replica.as_ref().and_then(|replica| replica.promotion_token.as_deref());
    token.is_some_and(|token| !token.is_empty() && cluster.status.last_promotion_token.as_deref() != Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plugin(archive: &str) -> Value {
        json!({"name": "pgbackrest.cnpg.opera.com", "parameters": {"pgbackrestObjectName": archive}})
    }

    struct Case {
        name: &'static str,
        own: bool,
        recovery: bool,
        replica: Option<bool>,
        current: &'static str,
        pod: &'static str,
        wanted: Option<(&'static str, Situation)>,
    }

    /// Every state that decides: whose archive is read. WAL is written to the own one alone.
    #[test]
    fn kg21_c25_the_archive_of_every_state() {
        use Situation::{Bootstrap, Following, Member};
        let case = |name, own, recovery, replica, current, pod, wanted| Case {
            name,
            own,
            recovery,
            replica,
            current,
            pod,
            wanted,
        };
        let cases = [
            case("bootstrap job", true, true, None, "", "job", Some(("first", Bootstrap))),
            case("bootstrap job of a replica cluster", true, true, Some(true), "", "job", Some(("first", Bootstrap))),
            case(
                "replica cluster by pg_basebackup, first start",
                true,
                false,
                Some(true),
                "",
                "c-1",
                Some(("other", Bootstrap)),
            ),
            case("nothing to recover from", true, false, None, "", "c-1", None),
            case("designated primary", true, true, Some(true), "c-1", "c-1", Some(("other", Following))),
            case("promotion not finished", true, true, Some(false), "c-1", "c-1", Some(("other", Following))),
            case("standby of a replica cluster", true, true, Some(true), "c-1", "c-2", Some(("own", Member))),
            case("the same without own archive", false, true, Some(true), "c-1", "c-2", Some(("other", Member))),
            case("primary", true, true, None, "c-1", "c-1", Some(("own", Member))),
            case("standby", true, true, None, "c-1", "c-2", Some(("own", Member))),
            case("former primary", true, false, None, "c-2", "c-1", Some(("own", Member))),
            case("recovered, without own archive", false, true, None, "c-1", "c-2", None),
        ];
        for case in cases {
            let mut spec = json!({"externalClusters": [
                {"name": "first-cluster", "plugin": plugin("first")},
                {"name": "other-cluster", "plugin": plugin("other")},
            ]});
            if case.own {
                spec["plugins"] = json!([plugin("own")]);
            }
            if case.recovery {
                spec["bootstrap"] = json!({"recovery": {"source": "first-cluster"}});
            }
            if let Some(enabled) = case.replica {
                spec["replica"] = json!({"enabled": enabled, "source": "other-cluster"});
            }
            let object = json!({
                "metadata": {"name": "c", "namespace": "n"},
                "spec": spec,
                "status": {"currentPrimary": case.current},
            });
            let cluster = Cluster::parse(object.to_string().as_bytes()).unwrap();
            let found = restore_source(&cluster, case.pod).ok();
            let found = found.as_ref().map(|(source, situation)| (source.archive.as_str(), *situation));
            assert_eq!(found, case.wanted, "{}", case.name);
            assert_eq!(own_source(&cluster).ok().map(|source| source.archive), case.own.then(|| "own".to_owned()));
        }
    }

    #[test]
    fn a_promotion_is_awaited_until_its_token_was_used() {
        let cluster = |token: &str, last: &str| {
            let object = json!({
                "metadata": {"name": "c", "namespace": "n"},
                "spec": {"replica": {"promotionToken": token}},
                "status": {"lastPromotionToken": last},
            });
            Cluster::parse(object.to_string().as_bytes()).unwrap()
        };
        assert!(awaits_promotion(&cluster("t", "")));
        assert!(awaits_promotion(&cluster("t", "s")));
        assert!(!awaits_promotion(&cluster("t", "t")));
        assert!(!awaits_promotion(&cluster("", "")));
    }
}
