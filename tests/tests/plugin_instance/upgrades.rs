//! A cluster that CloudNativePG has upgraded in place to a new major version of PostgreSQL, and what only looks like one.

use std::time::Duration;

use pgbr_testkit::postgres::{Shutdown, Version};
use pgbr_testkit::wait::until;
use serde_json::{Value, json};

use crate::manager::{Definition, MARKER, Member, Plan, Speaks};
use crate::scene::{NAMESPACE, World};

const LIMIT: Duration = Duration::from_secs(30);

/// The entry of stanza `demo` in the Archive's status.
fn entry(world: &World) -> Option<Value> {
    let archive = world.api.get("Archive", NAMESPACE, "store")?;
    archive["status"]["stanzas"].as_array()?.iter().find(|it| it["name"] == "demo").cloned()
}

fn system_of(member: &Member) -> String {
    member.server.value("SELECT system_identifier FROM pg_control_system()").unwrap()
}

/// A segment that is complete and not archived.
fn finished(member: &Member) -> String {
    member.server.value("SELECT pg_walfile_name(pg_switch_wal()) FROM pg_create_restore_point('x')").unwrap()
}

/// A running primary of an upgraded cluster.
fn primary(plan: &Plan<'_>, definition: &Definition) -> Member {
    let mut member = plan.init();
    // pg_upgrade leaves no marker of a new cluster.
    std::fs::remove_file(member.server.data().join(MARKER)).unwrap();
    definition.promote(plan.name, 1);
    member.server.start().unwrap();
    member
}

/// The stanza follows the Cluster from 15 to 17 by itself. Another Cluster is refused, whatever its version; so is an older
/// version, and one that the Archive does not let make stanzas. The annotation of the Archive lets another one in.
#[test]
fn kg20_a_new_major_version_of_the_same_cluster_goes_on_in_its_stanza() {
    let world = World::new();
    let definition = Definition::new("demo");
    let plan = |name, version| Plan {
        world: &world,
        name,
        cluster: &definition,
        version,
        speaks: Speaks::Six,
        archives: "on",
    };
    let mut old = primary(&plan("demo-1", Version::V15), &definition);
    old.server.sql("CREATE TABLE t (what text)").unwrap();
    old.server.archive_current_segment(LIMIT).unwrap();
    old.pod.caller().backup(&definition.get(), "before", &[("repo1-bundle", "y")]).unwrap();
    until(LIMIT, "the owner is recorded", || entry(&world).is_some_and(|entry| entry["clusterUID"] == "uid-of-demo"));
    let recorded = entry(&world).unwrap();
    let old_system = system_of(&old);
    assert_eq!((&recorded["systemId"], &recorded["postgresqlVersion"]), (&json!(old_system), &json!("15")));
    old.server.stop(Shutdown::Fast).unwrap();
    drop(old);

    // A newer one that is not this Cluster, and this Cluster as long as the Archive forbids it.
    let mut new = primary(&plan("demo-2", Version::V17), &definition);
    let new_system = system_of(&new);
    let caller = new.pod.caller();
    let mut foreign = definition.get();
    foreign["metadata"]["uid"] = json!("uid-of-another");
    // The server's own requests would be this Cluster's.
    new.bridge.answer(|_, _, _| false);
    let segment = &finished(&new);
    let refused = caller.archive(&foreign, segment, Some(false)).unwrap_err();
    for part in
        ["[044]", &old_system, &new_system, "uid-of-demo", "uid-of-another", "pgbr stanza-upgrade", "upgradeStanza"]
    {
        assert!(refused.message().contains(part), "{part}: {refused:?}");
    }
    let refused = caller.archive(&foreign, segment, Some(true)).unwrap_err();
    assert!(refused.message().contains("expected an empty archive"), "{refused:?}");
    world.archive("store", &json!({"createStanza": "Disabled"}));
    new.pod.kill_sidecar();
    let refused = caller.archive(&definition.get(), segment, Some(false)).unwrap_err();
    assert!(refused.message().contains("Disabled"), "{refused:?}");
    assert!(world.api.list("Event").iter().any(|event| event["reason"] == "StanzaMismatch"));
    assert!(!world.objects("archive").iter().any(|name| name.starts_with("17-")));

    // Its own. The record was lost with the edit above, as it never is in life.
    world.archive("store", &json!({}));
    let mut archive = world.api.get("Archive", NAMESPACE, "store").unwrap();
    archive["status"] = json!({"stanzas": [recorded]});
    world.api.put(archive.clone());
    new.pod.kill_sidecar();
    caller.archive(&definition.get(), segment, Some(true)).unwrap();
    assert!(world.bucket.repo().join("archive/demo/17-2").is_dir());
    let told = world.api.list("Event").into_iter().find(|event| event["reason"] == "StanzaUpgraded").unwrap();
    assert_eq!(told["type"], "Normal");
    assert!(told["note"].as_str().is_some_and(|note| note.contains(&new_system) && note.contains("17")), "{told}");
    assert_eq!(new.pod.log().matches("is upgraded to PostgreSQL 17").count(), 1);
    until(LIMIT, "the new owner is recorded", || {
        entry(&world).is_some_and(|entry| entry["systemId"] == json!(new_system))
    });
    // With the check of an empty archive too, which a process that has not archived yet makes.
    new.pod.kill_sidecar();
    caller.archive(&definition.get(), segment, Some(true)).unwrap();

    // The way back is none: the older version is refused, with the annotation too.
    archive["metadata"]["annotations"] = json!({"pgbackrest.cnpg.opera.com/upgradeStanza": "enabled"});
    archive["status"] = json!({"stanzas": [entry(&world).unwrap()]});
    world.api.put(archive);
    let mut older = primary(&plan("demo-3", Version::V16), &definition);
    older.bridge.answer(|_, _, _| false);
    let refused = older.pod.caller().archive(&definition.get(), &finished(&older), Some(false)).unwrap_err();
    assert!(refused.message().contains("PostgreSQL 16 is not newer than 17"), "{refused:?}");
    older.server.stop(Shutdown::Immediate).unwrap();
    // Another Cluster with a newer one is let in by it.
    let mut newest = primary(&plan("demo-4", Version::V18), &definition);
    newest.bridge.answer(|_, _, _| false);
    newest.pod.caller().archive(&foreign, &finished(&newest), Some(false)).unwrap();
    assert!(world.bucket.repo().join("archive/demo/18-3").is_dir());
    newest.server.stop(Shutdown::Immediate).unwrap();
}
