//! Deleting a Backup object removes the backup, where the Archive says so, and nowhere else.

use std::time::Duration;

use pgbr_testkit::wait::found;
use serde_json::{Value, json};

use crate::scene::{NAMESPACE, PLUGIN, World, cluster};
use crate::upkeep::{LIMIT, eager, refuse, rights};

const FINALIZER: &str = "pgbackrest.cnpg.opera.com/backup";

/// Long enough for some rounds of the sidecar, which looks every second.
fn some_rounds() {
    std::thread::sleep(Duration::from_millis(2600));
}

/// The object of a backup that was made for it, as CloudNativePG leaves it.
fn object(world: &World, name: &str, label: &str, change: &dyn Fn(&mut Value)) {
    let mut object = json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Backup",
        "metadata": { "name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}") },
        "spec": { "cluster": { "name": "demo" }, "method": "plugin", "pluginConfiguration": { "name": PLUGIN } },
        "status": {
            "phase": "completed", "backupId": label, "pluginMetadata": { "archive": "store", "stanza": "demo" },
        },
    });
    change(&mut object);
    world.api.put(object);
}

fn as_it_is(_: &mut Value) {}

fn annotate(world: &World, value: &Value) {
    let mut archive = world.api.get("Archive", NAMESPACE, "store").unwrap();
    archive["metadata"]["annotations"] = match value {
        Value::Null => json!({}),
        value => json!({ "pgbackrest.cnpg.opera.com/deleteBackups": value }),
    };
    world.api.put(archive);
}

fn exists(world: &World, name: &str) -> bool {
    world.api.get("Backup", NAMESPACE, name).is_some()
}

fn is_held(world: &World, name: &str) -> bool {
    world.api.get("Backup", NAMESPACE, name).unwrap()["metadata"]["finalizers"] == json!([FINALIZER])
}

fn delete(world: &World, name: &str) {
    assert!(world.api.delete("Backup", NAMESPACE, name));
}

/// Whether the repository has the manifest of a backup.
fn is_stored(world: &World, label: &str) -> bool {
    !world.objects(&format!("backup/demo/{label}")).is_empty()
}

/// The notes of events about Backups that stay.
fn told(world: &World) -> Vec<String> {
    let events = world.api.list("Event").into_iter().filter(|event| event["reason"] == "BackupNotDeleted");
    events.map(|event| event["note"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn kg19_sec01_a_deleted_backup_object_takes_its_backup_along_only_where_that_is_wanted() {
    let mut primary = eager(World::new());
    let (world, caller, demo) = (&primary.world, primary.pod.caller(), cluster("demo-1"));
    world.api.put(demo.clone());
    primary.server.archive_current_segment(LIMIT).unwrap();
    let made = |name: &str, kind: &str| {
        let label = caller.backup(&demo, name, &[("type", kind)]).unwrap().backup_id;
        object(world, name, &label, &as_it_is);
        label
    };
    let plain = made("plain", "full");
    let full = made("full", "full");
    let diff = made("diff", "diff");
    let last = made("last", "full");

    // Nobody asked for it: the object goes at once, the repository is left alone.
    delete(world, "plain");
    assert!(!exists(world, "plain"));
    annotate(world, &json!("disabled"));
    some_rounds();
    assert!(is_stored(world, &plain) && !is_held(world, "full"));

    // From here on with the rights of the cluster's Role alone.
    world.api.enforce(&rights(world, &demo));
    object(world, "running", "", &|it| it["status"] = json!({ "phase": "running" }));
    object(world, "elsewhere", &last, &|it| it["status"]["pluginMetadata"]["stanza"] = json!("other"));
    object(world, "of-the-original", &last, &|it| it["status"]["pluginMetadata"] = json!({ "name": PLUGIN }));
    annotate(world, &json!("enabled"));
    found(LIMIT, "finished backups are held", || {
        ["full", "diff", "last"].iter().all(|name| is_held(world, name)).then_some(())
    });
    for name in ["running", "elsewhere", "of-the-original"] {
        assert!(!is_held(world, name), "{name}");
    }

    // Another backup stands on it.
    delete(world, "full");
    found(LIMIT, "it is told which", || told(world).iter().any(|note| note.contains(&diff)).then_some(()));
    assert!(exists(world, "full") && is_stored(world, &full) && is_stored(world, &diff));

    // A store that does not answer has not said that it is gone.
    refuse(world);
    delete(world, "diff");
    some_rounds();
    assert!(exists(world, "diff") && exists(world, "full"));
    world.bucket.server().heal();
    found(LIMIT, "both go, the newer one first", || (!exists(world, "diff") && !exists(world, "full")).then_some(()));
    assert!(
        !is_stored(world, &diff) && !is_stored(world, &full) && is_stored(world, &last) && is_stored(world, &plain)
    );

    // An object that says of another's backup that it is its own.
    object(world, "forged", &last, &as_it_is);
    found(LIMIT, "it is held too", || is_held(world, "forged").then_some(()));
    delete(world, "forged");
    found(LIMIT, "it is refused", || told(world).iter().any(|note| note.contains("another Backup")).then_some(()));
    assert!(is_stored(world, &last));

    // With the Cluster go its Backups, and no backup.
    let mut leaving = demo.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.api.put(leaving);
    delete(world, "last");
    some_rounds();
    assert!(exists(world, "last") && is_stored(world, &last));
    world.api.remove("Cluster", NAMESPACE, "demo");
    some_rounds();
    assert!(exists(world, "last") && is_stored(world, &last));

    // The annotation is taken away: nothing is held any more, and nothing removed.
    annotate(world, &Value::Null);
    found(LIMIT, "they are let go", || (!exists(world, "last") && !exists(world, "forged")).then_some(()));
    some_rounds();
    assert!(is_stored(world, &last) && is_stored(world, &plain));

    // No secret is in what the sidecar printed, in an event or in the status.
    let sidecar = primary.pod.sidecar.take().unwrap();
    drop(primary.server.stop(pgbr_testkit::postgres::Shutdown::Immediate));
    sidecar.ask_to_end();
    let mut told = sidecar.finish(Duration::from_secs(20)).unwrap().text();
    let world = &primary.world;
    for kind in ["Archive", "Backup", "Event", "Lease", "Cluster"] {
        told += &json!(world.api.list(kind)).to_string();
    }
    assert!(told.contains("A Backup was deleted with its backup") && told.contains("BackupNotDeleted"));
    for secret in ["canary-passphrase", world.bucket.server().secret(), world.bucket.server().key()] {
        assert!(!told.contains(secret));
    }
}
