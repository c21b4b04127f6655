//! What the sidecar of the primary does in the background: status, leases, retention, Backup objects.

use std::time::{Duration, Instant};

use pgbr_testkit::kube_api::{Answer, Rule, Verb};
use pgbr_testkit::s3::{Fault, Rule as S3Rule};
use serde_json::{Value, json};

use crate::scene::{NAMESPACE, Primary, World, cluster};

const LIMIT: Duration = Duration::from_secs(30);

/// Waits until something is there.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within the time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A primary whose sidecar looks every second.
fn eager(world: World) -> Primary {
    let mut primary = Primary::in_world(world);
    primary.pod.variables.push(("STATUS_INTERVAL_SECONDS".to_owned(), "1".to_owned()));
    primary.pod.kill_sidecar();
    primary
}

/// The entry of a stanza.
fn entry(world: &World, stanza: &str) -> Option<Value> {
    let archive = world.api.get("Archive", NAMESPACE, "store")?;
    archive["status"]["stanzas"].as_array()?.iter().find(|it| it["name"] == stanza).cloned()
}

fn condition<'a>(entry: &'a Value, kind: &str) -> Option<&'a Value> {
    entry["conditions"].as_array()?.iter().find(|it| it["type"] == kind)
}

fn is(entry: &Value, kind: &str, status: &str, reason: &str) -> bool {
    condition(entry, kind).is_some_and(|it| it["status"] == status && it["reason"] == reason)
}

/// Waits for a condition and gives the entry that has it.
fn told(world: &World, kind: &str, status: &str, reason: &str) -> Value {
    eventually(&format!("{kind} is {status}, {reason}: {:?}", entry(world, "demo")), || {
        entry(world, "demo").filter(|entry| is(entry, kind, status, reason))
    })
}

/// The store answers everything with a refusal.
fn refuse(world: &World) {
    world.bucket.server().inject(S3Rule::always(Fault::error(403, "AccessDenied"), |_| true));
}

/// The status follows backups and WAL, with every signal for itself, and neither conflicts nor another stanza disturb it.
#[test]
fn kg23_kg25_the_archives_status_tells_what_is_wrong() {
    let world = World::new();
    let mut archive = world.api.get("Archive", NAMESPACE, "store").unwrap();
    archive["status"] = json!({ "stanzas": [{ "name": "other", "cluster": "other", "lastBackupLabel": "x" }] });
    world.api.put(archive);
    world.api.inject(Rule::on(Verb::Patch, "archives/status", Answer::Status(409)).times(2));
    let primary = eager(world);
    let (world, caller, demo) = (&primary.world, primary.pod.caller(), cluster("demo-1"));
    primary.server.archive_current_segment(LIMIT).unwrap();
    // WAL and no backup: no recovery is possible, and it says so.
    let told_first = told(world, "Recoverable", "False", "NoBackup");
    assert!(is(&told_first, "Archiving", "True", "Archived") && is(&told_first, "Reachable", "True", "Answered"));
    assert_eq!(told_first["cluster"], "demo");
    assert!(told_first["lastArchivedWal"].as_str().is_some_and(|name| name.len() == 24), "{told_first}");
    assert!(told_first["lastArchivedWalTime"].is_string() && told_first["firstRecoverabilityPoint"].is_null());
    let made = caller.backup(&demo, "first", &[("type", "full")]).unwrap();
    let told_backup = told(world, "Recoverable", "True", "Backup");
    assert_eq!(told_backup["lastBackupLabel"], json!(made.backup_id));
    assert_eq!(told_backup["repositories"][0]["backups"], 1);
    assert!(told_backup["repositories"][0]["backupBytes"].as_i64().is_some_and(|bytes| bytes > 100_000));
    assert_eq!(entry(world, "other").unwrap()["lastBackupLabel"], "x");
    let managers: Vec<String> = world
        .api
        .requests()
        .into_iter()
        .filter(|it| it.verb == Verb::Patch && it.resource == "archives/status")
        .map(|it| it.manager)
        .collect();
    assert!(managers.iter().all(|manager| manager == "pgbackrest-stanza-demo"), "{managers:?}");
    // Nothing changes: nothing is written.
    std::thread::sleep(Duration::from_millis(1500));
    world.api.forget_requests();
    std::thread::sleep(Duration::from_millis(2500));
    let looks = world.api.requests();
    assert!(
        looks.iter().any(|it| it.resource == "archives") && looks.iter().all(|it| it.verb == Verb::Get),
        "{looks:?}"
    );

    // A good backup, and WAL that fails since: the last backup is no reason to call that healthy.
    refuse(world);
    primary.server.sql("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()").unwrap();
    let failing = told(world, "Archiving", "False", "Failing");
    assert!(failing["lastArchiveFailure"].as_str().is_some_and(|text| text.starts_with("0000")), "{failing}");
    let failing = told(world, "Reachable", "False", "NoAnswer");
    assert!(is(&failing, "Recoverable", "Unknown", "NoAnswer"), "{failing}");
    assert_eq!(failing["lastBackupLabel"], json!(made.backup_id));
    assert!(failing["waitingWalFiles"].as_i64().is_some_and(|files| files > 0), "{failing}");
    assert!(failing["oldestWaitingWal"].is_string() && failing["oldestWaitingWalTime"].is_string(), "{failing}");
    assert!(caller.backup(&demo, "bad", &[]).is_err());
    let failed = eventually("the failed backup is told", || {
        entry(world, "demo").filter(|entry| entry["lastFailedBackupTime"].is_string())
    });
    assert!(failed["lastFailure"].is_string(), "{failed}");
    world.bucket.server().heal();
    let healed = told(world, "Archiving", "True", "Archived");
    assert!(healed["lastFailedArchiveTime"].is_null() && healed["lastFailedBackupTime"].is_string(), "{healed}");
    std::thread::sleep(Duration::from_millis(1100));
    caller.backup(&demo, "good", &[]).unwrap();
    eventually("the failure is over", || {
        entry(world, "demo")
            .filter(|entry| entry["lastFailedBackupTime"].is_null() && entry["repositories"][0]["backups"] == 2)
    });
    // Gone while it works: WAL goes on, and nothing panics.
    world.api.deny(Verb::Patch, "archives/status");
    primary.server.sql("SELECT pg_create_restore_point('x')").unwrap();
    primary.server.archive_current_segment(LIMIT).unwrap();
}
