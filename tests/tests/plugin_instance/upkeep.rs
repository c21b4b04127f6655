//! What the sidecar of the primary does in the background: status, leases, retention, Backup objects.

use std::time::Duration;

use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_testkit::kube_api::{Answer, Rule, Verb};
use pgbr_testkit::s3::{Fault, Rule as S3Rule, S3Operation};
use pgbr_testkit::wait::found;
use serde_json::{Value, json};

use crate::scene::{NAMESPACE, PLUGIN, Primary, World, cluster};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A primary whose sidecar looks every second.
pub(crate) fn eager(world: World) -> Primary {
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
    found(LIMIT, &format!("{kind} is {status}, {reason}: {:?}", entry(world, "demo")), || {
        entry(world, "demo").filter(|entry| is(entry, kind, status, reason))
    })
}

/// The store answers everything with a refusal.
pub(crate) fn refuse(world: &World) {
    world.bucket.server().inject(S3Rule::always(Fault::error(403, "AccessDenied"), |_| true));
}

/// Where it is wanted, all of a repository is read now and then: damage is told before a restore meets it, a store that does
/// not answer is not damage, and a new pod goes on by what the status says.
#[test]
fn kg25_a_repository_is_verified_and_damage_is_told() {
    let mut primary = Primary::in_world(World::new());
    primary.pod.variables.push(("STATUS_INTERVAL_SECONDS".to_owned(), "1".to_owned()));
    primary.pod.variables.push(("VERIFY_INTERVAL_SECONDS".to_owned(), "1".to_owned()));
    primary.pod.kill_sidecar();
    let (world, demo) = (&primary.world, cluster("demo-1"));
    primary.server.archive_current_segment(LIMIT).unwrap();
    let made = primary.pod.caller().backup(&demo, "first", &[("type", "full")]).unwrap();
    let whole = told(world, "Verified", "True", "Whole");
    let last = |entry: &Value, field: &str| entry["verifications"][0][field].as_str().map(str::to_owned);
    let good = last(&whole, "lastSuccessfulVerificationTime").unwrap();
    assert_eq!(last(&whole, "lastVerificationTime"), Some(good));

    let control = format!("backup/demo/{}/pg_data/global/pg_control.lz4", made.backup_id);
    let (stored, count) = (world.bucket.repo().join(&control), |name: &str| {
        let metrics = primary.pod.caller().metrics(&demo);
        metrics.iter().find(|(figure, ..)| figure.ends_with(name)).map(|(_, value, _)| *value)
    });
    let before = std::fs::read(&stored).unwrap();
    let mut broken = before.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    std::fs::write(&stored, &broken).unwrap();
    let damaged = told(world, "Verified", "False", "Damaged");
    let damage = last(&damaged, "damage").unwrap();
    assert!(damage.contains("pg_control") && damage.contains(&made.backup_id), "{damage}");
    assert!(damage.starts_with("1 object(s) are damaged"), "{damage}");
    assert_eq!(count("_repo_damaged"), Some(1.0));
    assert!(count("_last_good_verification_timestamp").is_some_and(|at_s| at_s > 1.0e9));
    found(LIMIT, "an event names it", || {
        let events = world.api.list("Event");
        events
            .into_iter()
            .find(|it| it["reason"] == "RepositoryDamaged" && it["note"].to_string().contains("pg_control"))
    });
    // A pod that was just made knows it from the status, and tells nothing better while the store is silent.
    refuse(world);
    primary.pod.kill_sidecar();
    // The first request tells it which cluster it is of.
    assert_eq!(
        primary.pod.caller().metrics(&demo).iter().filter(|(figure, ..)| figure.ends_with("_damaged")).count(),
        0
    );
    let silent = told(world, "Reachable", "False", "Denied");
    assert!(is(&silent, "Verified", "False", "Damaged"), "{silent}");
    std::fs::write(&stored, &before).unwrap();
    world.bucket.server().heal();
    primary.pod.kill_sidecar();
    primary.pod.caller().backup(&demo, "second", &[]).unwrap();
    let healed = told(world, "Verified", "True", "Whole");
    assert_eq!(last(&healed, "damage"), None);
    // Another place: nothing is known about it, however good the one before was.
    let mut moved = world.api.get("Archive", NAMESPACE, "store").unwrap();
    moved["spec"]["configuration"]["repositories"][0]["destinationPath"] = json!("/elsewhere");
    world.api.put(moved);
    found(LIMIT, "what was found before is not told of another place", || {
        entry(world, "demo").filter(|entry| last(entry, "lastSuccessfulVerificationTime").is_none())
    });
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
        looks.iter().any(|it| it.resource == "archives")
            && looks.iter().all(|it| matches!(it.verb, Verb::Get | Verb::List)),
        "{looks:?}"
    );

    // A good backup, and WAL that fails since: the last backup is no reason to call that healthy.
    refuse(world);
    primary.server.sql("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()").unwrap();
    let failing = told(world, "Archiving", "False", "Failing");
    assert!(failing["lastArchiveFailure"].as_str().is_some_and(|text| text.starts_with("0000")), "{failing}");
    let failing = told(world, "Reachable", "False", "Denied");
    assert!(is(&failing, "Recoverable", "Unknown", "NoAnswer"), "{failing}");
    assert_eq!(failing["lastBackupLabel"], json!(made.backup_id));
    assert!(failing["waitingWalFiles"].as_i64().is_some_and(|files| files > 0), "{failing}");
    assert!(failing["oldestWaitingWal"].is_string() && failing["oldestWaitingWalTime"].is_string(), "{failing}");
    assert!(caller.backup(&demo, "bad", &[]).is_err());
    let failed = found(LIMIT, "the failed backup is told", || {
        entry(world, "demo").filter(|entry| entry["lastFailedBackupTime"].is_string())
    });
    assert!(failed["lastFailure"].is_string(), "{failed}");
    world.bucket.server().heal();
    // After three failures the server waits a minute, unless there is a new file.
    primary.server.sql("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()").unwrap();
    let healed = told(world, "Archiving", "True", "Archived");
    assert!(healed["lastFailedArchiveTime"].is_null() && healed["lastFailedBackupTime"].is_string(), "{healed}");
    std::thread::sleep(Duration::from_millis(1100));
    caller.backup(&demo, "good", &[]).unwrap();
    found(LIMIT, "the failure is over", || {
        entry(world, "demo")
            .filter(|entry| entry["lastFailedBackupTime"].is_null() && entry["repositories"][0]["backups"] == 2)
    });
    // Gone while it works: WAL goes on, and nothing panics.
    world.api.deny(Verb::Patch, "archives/status");
    primary.server.sql("SELECT pg_create_restore_point('x')").unwrap();
    primary.server.archive_current_segment(LIMIT).unwrap();
}

/// WAL that somebody removed is missed, the repository says how much and where it begins, and so do the metrics; a file
/// that waits for long is told even where nobody asks the sidecar to archive it.
#[test]
fn kg25_missing_and_waiting_wal_and_the_next_expiry_are_told() {
    let world = World::new();
    let mut archive = world.api.get("Archive", NAMESPACE, "store").unwrap();
    archive["spec"]["configuration"]["repositories"][0]["retention"] = json!({ "full": 30, "fullType": "time" });
    world.api.put(archive);
    let mut primary = eager(world);
    let (caller, demo) = (primary.pod.caller(), cluster("demo-1"));
    primary.server.archive_current_segment(LIMIT).unwrap();
    let world = &primary.world;
    told(world, "Continuous", "True", "NoGap");
    let label = caller.backup(&demo, "first", &[("type", "full")]).unwrap().backup_id;
    let mut last = String::new();
    for _ in 0..3 {
        primary.server.sql("SELECT pg_create_restore_point('x')").unwrap();
        last = primary.server.archive_current_segment(LIMIT).unwrap();
    }
    let repository = |entry: &Value, field: &str| entry["repositories"][0][field].clone();
    let whole = found(LIMIT, "nothing is missing", || {
        entry(world, "demo")
            .filter(|entry| entry["lastArchivedWal"] == json!(last) && repository(entry, "missingWalFiles") == 0)
    });
    assert!(is(&whole, "Continuous", "True", "NoGap") && repository(&whole, "firstMissingWal").is_null(), "{whole}");
    assert!(repository(&whole, "nextExpiry").is_null(), "the only full backup stays: {whole}");
    let archiving = condition(&whole, "Archiving").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(archiving.contains("was archived at 20"), "{archiving}");

    // Not the last one: the end of the archive is no gap.
    let number = u32::from_str_radix(&last[16..], 16).unwrap() - 1;
    let lost = format!("{}{number:08X}", &last[..16]);
    let folder = world.bucket.repo().join("archive/demo/16-1").join(&lost[..16]);
    let stored = world.objects("archive/demo").into_iter().find(|name| name.starts_with(&lost)).unwrap();
    // On the same file system.
    let aside = world.bucket.repo().with_file_name("aside");
    std::fs::rename(folder.join(&stored), &aside).unwrap();
    let gap = told(world, "Continuous", "False", "Gap");
    assert_eq!(repository(&gap, "missingWalFiles"), 1);
    assert_eq!(repository(&gap, "firstMissingWal"), json!(lost));
    let value = |name: &str| {
        let samples = primary.pod.caller().metrics(&demo);
        samples.into_iter().find(|(found, ..)| found.ends_with(name)).map(|(_, value, _)| value)
    };
    assert_eq!(value("missing_wal_files"), Some(1.0));
    assert_eq!(value("next_expiry_timestamp"), None);
    std::fs::rename(&aside, folder.join(&stored)).unwrap();
    told(world, "Continuous", "True", "NoGap");
    assert_eq!(value("missing_wal_files"), Some(0.0));

    // The first goes when the second is thirty days old.
    let before_s = SystemClock.now_s();
    caller.backup(&demo, "second", &[("type", "full")]).unwrap();
    let next = found(LIMIT, "the next expiry is told", || {
        entry(world, "demo").filter(|entry| repository(entry, "nextExpiry").is_string())
    });
    assert_eq!(repository(&next, "nextExpiringBackups"), json!([label]));
    let due_s = value("next_expiry_timestamp").unwrap() - 30.0 * 86_400.0;
    assert!((before_s as f64 - 1.0..before_s as f64 + 60.0).contains(&due_s), "{before_s} {due_s}");

    // The instance manager does not ask any more.
    primary.bridge.answer(|_, _, _| false);
    primary.server.sql("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()").unwrap();
    let status = primary.pod.data.join("pg_wal/archive_status");
    let ready = found(LIMIT, "a file waits", || {
        let names = std::fs::read_dir(&status).unwrap().map(|entry| entry.unwrap().path());
        names.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "ready"))
    });
    assert!(is(&entry(world, "demo").unwrap(), "Archiving", "True", "Archived"));
    // A new process, which has archived nothing yet.
    primary.pod.kill_sidecar();
    let world = &primary.world;
    let file = std::fs::File::options().write(true).open(ready).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified - Duration::from_secs(600)).unwrap();
    primary.pod.caller().metrics(&demo);
    let waiting = told(world, "Archiving", "False", "Stalled");
    assert!(is(&waiting, "Continuous", "True", "NoGap"), "what waits is not lost: {waiting}");
}

/// A lease of the first repository of stanza `demo`.
fn lease_name() -> String {
    pgbr_plugin::ids::stanza_lease("store", "demo", 1)
}

fn lease_of(holder: &str, seconds: u32) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": lease_name(), "namespace": NAMESPACE },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": seconds },
    })
}

fn holder(world: &World) -> Option<String> {
    let lease = world.api.get("Lease", NAMESPACE, &lease_name())?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

fn backup_object(name: &str, label: &str, stanza: &str) -> Value {
    json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Backup",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "cluster": { "name": "demo" }, "method": "plugin", "pluginConfiguration": { "name": PLUGIN } },
        "status": {
            "phase": "completed", "backupId": label, "pluginMetadata": { "archive": "store", "stanza": stanza },
        },
    })
}

/// What the operator lets the pods of this cluster do.
pub(crate) fn rights(world: &World, cluster: &Value) -> Value {
    let cluster = pgbr_plugin::cluster::Cluster::parse(cluster.to_string().as_bytes()).unwrap();
    let spec = world.api.get("Archive", NAMESPACE, "store").unwrap()["spec"].clone();
    let archives = [("store".to_owned(), serde_json::from_value(spec).unwrap())].into();
    json!(pgbr_plugin::patch::rbac::role(&cluster, &archives).unwrap().rules)
}

/// One pod at a time backs up or expires; retention is applied without a backup; objects follow, and never many at once.
#[test]
fn kg18_kg19_kg20_kg22_leases_retention_and_backup_objects() {
    let mut primary = Primary::in_world(World::new());
    for (name, seconds) in
        [("STATUS_INTERVAL_SECONDS", "1"), ("RETENTION_INTERVAL_SECONDS", "2"), ("LEASE_DURATION_SECONDS", "3")]
    {
        primary.pod.variables.push((name.to_owned(), seconds.to_owned()));
    }
    primary.pod.kill_sidecar();
    let (world, caller, demo) = (&primary.world, primary.pod.caller(), cluster("demo-1"));
    primary.server.archive_current_segment(LIMIT).unwrap();
    // A Lease that its holder forsook is taken over, held during the backup and given back.
    world.api.put(lease_of("demo-9", 2));
    let first = caller.backup(&demo, "first", &[("type", "full")]).unwrap().backup_id;
    found(LIMIT, "the Lease is given back", || holder(world).is_none().then_some(()));
    // One that is lost ends the work.
    world.bucket.server().delay(Duration::from_millis(150));
    std::thread::scope(|scope| {
        let losing = scope.spawn(|| caller.backup(&demo, "losing", &[("type", "full")]).unwrap_err());
        found(LIMIT, "the backup runs", || (holder(world).as_deref() == Some("demo-1")).then_some(()));
        world.api.put(lease_of("demo-2", 600));
        let refused = losing.join().unwrap();
        assert_eq!(refused.code(), tonic::Code::Aborted, "{refused:?}");
        assert!(refused.message().contains("held by another pod"), "{refused:?}");
    });
    world.bucket.server().heal();
    assert_eq!(holder(world).as_deref(), Some("demo-2"));
    assert!(world.api.remove("Lease", NAMESPACE, &lease_name()));
    // Without the right the primary is backed up all the same, and it is told; another pod is not.
    world.api.deny(Verb::Get, "leases");
    let second = caller.backup(&demo, "second", &[("type", "full")]).unwrap().backup_id;
    told(world, "Exclusive", "False", "NoRight");
    let refused = caller.backup(&cluster("demo-7"), "of-standby", &[]).unwrap_err();
    assert!(refused.message().contains("only the primary"), "{refused:?}");
    // Its retention is edited while nothing is backed up: without Leases nothing expires, with them it does.
    for (name, label) in [("first", &first), ("second", &second)] {
        world.api.put(backup_object(name, label, "demo"));
    }
    for (name, stanza) in [("gone", "demo"), ("elsewhere", "other")] {
        world.api.put(backup_object(name, "20200101-000000F", stanza));
    }
    let mut archive = world.api.get("Archive", NAMESPACE, "store").unwrap();
    archive["spec"]["configuration"]["repositories"][0]["retention"] = json!({ "full": 1, "history": 9999 });
    world.api.put(archive);
    let labels = || world.objects("backup/demo").iter().filter(|name| *name == "backup.manifest").count();
    // One of three is missing, and goes; the neighbour's is none of ours.
    let exists = |name: &str| world.api.get("Backup", NAMESPACE, name).is_some();
    // The sidecar knows the primary again.
    primary.server.sql("SELECT pg_create_restore_point('x')").unwrap();
    primary.server.archive_current_segment(LIMIT).unwrap();
    found(LIMIT, "the object without a backup goes", || (!exists("gone")).then_some(()));
    assert!(exists("first") && exists("second") && exists("elsewhere"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(labels(), 2);
    // From here on with the rights of the cluster's Role and no others.
    world.api.heal();
    world.api.enforce(&rights(world, &demo));
    found(LIMIT, "the older backup expires and its object goes", || (!exists("first") && labels() == 1).then_some(()));
    let applied = told(world, "RetentionApplied", "True", "Applied");
    assert_eq!(applied["lastBackupLabel"], json!(second));
    told(world, "Exclusive", "True", "Lease");
    assert!(exists("second") && exists("elsewhere"));
    // An error or a missing list is no empty list, and most of the objects at once are not removed.
    for name in ["x", "y"] {
        world.api.put(backup_object(name, "20200101-000000F", "demo"));
    }
    let kept = found(LIMIT, "it is told that they are kept", || {
        let events = world.api.list("Event");
        events.into_iter().find(|event| event["reason"] == "BackupsMissing")
    });
    assert!(kept["note"].as_str().is_some_and(|note| note.starts_with("2 of 3 Backups")), "{kept}");
    refuse(world);
    world.api.put(backup_object("z", &second, "demo"));
    world.api.put(backup_object("second-again", &second, "demo"));
    std::thread::sleep(Duration::from_secs(3));
    for name in ["second", "x", "y", "z"] {
        assert!(exists(name), "{name}");
    }
}

/// Retention that follows a backup: objects of what expired go at once, a failure is an event and a condition, and the backup
/// is good all the same. The engine writes as much about it as the Archive says.
#[test]
fn kg19_retention_after_a_backup_is_told_and_followed() {
    let mut primary = eager(World::new());
    let (world, caller, demo) = (&primary.world, primary.pod.caller(), cluster("demo-1"));
    let edit = |pointer: &str, value: Value| {
        let mut archive = world.api.get("Archive", NAMESPACE, "store").unwrap();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        archive.pointer_mut(parent).unwrap()[field] = value;
        world.api.put(archive);
    };
    edit("/spec/configuration/repositories/0/retention", json!({ "full": 1 }));
    primary.server.archive_current_segment(LIMIT).unwrap();
    let exists = |name: &str| world.api.get("Backup", NAMESPACE, name).is_some();
    let full = |name: &str| {
        let parameters = [("type", "full"), ("repo1-bundle", "y")];
        let label = caller.backup(&demo, name, &parameters).unwrap().backup_id;
        world.api.put(backup_object(name, &label, "demo"));
    };
    full("first");
    let next = found(LIMIT, "it is told what expires next", || {
        entry(world, "demo").filter(|entry| entry["repositories"][0]["nextExpiry"].is_string())
    });
    assert_eq!(next["repositories"][0]["nextExpiry"], "with the next full backup");
    full("kept");
    found(LIMIT, "the object of the first goes", || (!exists("first")).then_some(()));
    told(world, "RetentionApplied", "True", "Applied");
    assert!(exists("kept"));
    let engine = "\"logger\":\"pgbackrest backup\"";
    let log = primary.pod.log();
    assert!(log.contains("Backups expired") && log.contains(engine), "{log}");

    // Nothing can be removed. A new process has the new settings.
    edit("/spec/configuration/log", json!({ "levelStderr": "error" }));
    primary.pod.kill_sidecar();
    let denied = Fault::error(403, "AccessDenied");
    world.bucket.server().inject(S3Rule::always(denied, |request| {
        matches!(request.operation, S3Operation::DeleteObject | S3Operation::DeleteObjects)
    }));
    full("third");
    told(world, "RetentionApplied", "False", "Failed");
    found(LIMIT, "it is an event", || world.api.list("Event").into_iter().find(|it| it["reason"] == "RetentionFailed"));
    let log = primary.pod.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(engine)).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("\"level\":\"error\"")), "{lines:#?}");
}

/// Nothing looks healthy that is not.
#[test]
fn kg25_metrics_without_wal_and_with_failing_wal_after_a_good_backup() {
    let mut primary = eager(World::new());
    let demo = cluster("demo-1");
    refuse(&primary.world);
    primary.server.sql("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()").unwrap();
    let value = |primary: &Primary, name: &str| {
        let samples = primary.pod.caller().metrics(&demo);
        samples.into_iter().find(|(found, ..)| found.ends_with(name)).map(|(_, value, _)| value)
    };
    found(LIMIT, "the failure is told", || value(&primary, "last_failed_archive_timestamp").filter(|at_s| *at_s > 1e9));
    assert_eq!(value(&primary, "stanza_status"), Some(99.0));
    assert!(value(&primary, "waiting_wal_files").is_some_and(|files| files > 0.0));
    for unknown in ["last_wal_timestamp", "first_recoverability_point", "last_available_backup_timestamp"] {
        assert_eq!(value(&primary, unknown), None, "{unknown}");
    }
    primary.world.bucket.server().heal();
    let caller = primary.pod.caller();
    caller.backup(&demo, "good", &[("type", "full")]).unwrap();
    // The figures of the store are a minute old at most: a new process has new ones.
    primary.pod.kill_sidecar();
    assert_eq!(value(&primary, "stanza_status"), Some(0.0));
    assert!(value(&primary, "last_wal_timestamp").is_some());
    assert_eq!(value(&primary, "oldest_waiting_wal_age_seconds"), Some(0.0));
    refuse(&primary.world);
    primary.server.sql("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()").unwrap();
    let (failed, age) = found(LIMIT, "the age of the oldest file grows although the backup is good", || {
        let age = value(&primary, "oldest_waiting_wal_age_seconds").filter(|age_s| *age_s >= 2.0)?;
        Some((value(&primary, "last_failed_archive_timestamp")?, age))
    });
    assert!(failed > 1e9 && age < 60.0);
}
