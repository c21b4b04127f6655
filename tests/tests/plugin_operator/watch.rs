//! The work in the background: what follows from a change of an Archive, and who does it.

use std::time::Duration;

use pgbr_plugin::cluster::Cluster;
use pgbr_plugin::operator::events::Events;
use pgbr_plugin::operator::lease::{LEASE_NAME, while_leading};
use pgbr_plugin::operator::objects::Objects;
use pgbr_plugin::operator::tally::Tally;
use pgbr_plugin::operator::{forsaken, refresh, schedules};
use pgbr_testkit::kube_api::{KubeApi, Verb};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::call::{Operator, client, quiet_log};
use crate::objects::{archive, cluster_with};

/// Waits until it holds, and fails after a while.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within the time: {what}");
}

#[tokio::test]
async fn kg26_a_changed_archive_shows_its_settings() {
    let operator = Operator::start().await;
    let api = &operator.api;
    let mut own = archive("own");
    own["spec"]["configuration"]["repositories"][0]["s3Credentials"]["region"] = json!("here");
    api.put(own);
    operator.pre(&cluster_with(Some("own"), None, None)).await.unwrap();
    let stop = CancellationToken::new();
    let work = tokio::spawn(refresh::run(Objects::new(client(api)), operator.tally.clone(), quiet_log(), stop.clone()));
    eventually("the status is written", || {
        let status = &api.get("Archive", "apps", "own").unwrap()["status"];
        status["repositories"][0]["verifyTLS"] == json!(true) && status["repositories"][0]["encryption"] == "none"
    })
    .await;
    let mut changed = api.get("Archive", "apps", "own").unwrap();
    changed["spec"]["configuration"]["repositories"][0]["disableVerifyTLS"] = json!(true);
    api.put(changed.clone());
    eventually("the status shows it", || {
        api.get("Archive", "apps", "own").unwrap()["status"]["repositories"][0]["verifyTLS"] == json!(false)
    })
    .await;
    // A mistake is told at once, and not by the command that meets it at night.
    let valid = || {
        let archive = api.get("Archive", "apps", "own").unwrap();
        let condition =
            archive["status"]["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Valid").cloned();
        condition
            .map(|it| (it["status"].as_str().unwrap().to_owned(), it["message"].as_str().unwrap().to_owned()))
            .unwrap()
    };
    assert_eq!(valid().0, "True");
    changed["spec"]["configuration"]["data"] = json!({ "additionalCommandArgs": ["--compress-level=much"] });
    changed["metadata"]["generation"] = json!(3);
    api.put(changed.clone());
    eventually("the mistake is told", || valid().0 == "False").await;
    let (_, told) = valid();
    assert!(told.contains("compress-level") && told.contains("much"), "{told}");
    changed["spec"]["configuration"].as_object_mut().unwrap().remove("data");
    changed["metadata"]["generation"] = json!(4);
    api.put(changed.clone());
    eventually("it is mended", || valid().0 == "True").await;
    // The watch is lost, and what changed meanwhile is not.
    api.expire_watches();
    changed["spec"]["configuration"]["repositories"][0]["disableVerifyTLS"] = json!(false);
    api.put(changed);
    eventually("the status follows after the loss", || {
        api.get("Archive", "apps", "own").unwrap()["status"]["repositories"][0]["verifyTLS"] == json!(true)
    })
    .await;
    stop.cancel();
    work.await.unwrap();
}

#[tokio::test]
async fn one_process_works_and_the_next_takes_over() {
    let api = KubeApi::start();
    let lead = |me: &'static str, shutdown: CancellationToken| {
        let client = client(&api);
        tokio::spawn(async move {
            let work = |stop: CancellationToken| async move { stop.cancelled().await };
            while_leading(client, "cnpg-system", me, quiet_log(), shutdown, work).await;
        })
    };
    let holder = || api.get("Lease", "cnpg-system", LEASE_NAME).map(|it| it["spec"]["holderIdentity"].clone());
    let (first_end, second_end) = (CancellationToken::new(), CancellationToken::new());
    let first = lead("first", first_end.clone());
    eventually("the first leads", || holder() == Some(json!("first"))).await;
    let second = lead("second", second_end.clone());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(holder(), Some(json!("first")));
    first_end.cancel();
    first.await.unwrap();
    eventually("the second leads", || holder() == Some(json!("second"))).await;
    second_end.cancel();
    second.await.unwrap();
}

/// Backups that wait for a sidecar which will never come are let go; all others stay, whatever the API server does.
#[tokio::test]
async fn backups_that_nobody_looks_after_are_let_go() {
    const FINALIZER: &str = "pgbackrest.cnpg.opera.com/backup";
    let api = KubeApi::start();
    let cluster = |name: &str, own: Option<&str>| {
        let mut cluster = cluster_with(own, None, None);
        cluster["metadata"]["name"] = json!(name);
        cluster
    };
    api.put(cluster("lives", Some("own")));
    api.put(cluster("without", None));
    let mut leaves = cluster("leaves", Some("own"));
    leaves["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    api.put(leaves);
    for (name, cluster, finalizers) in [
        ("of-living", "lives", json!([FINALIZER])),
        ("of-none", "gone", json!([FINALIZER])),
        ("of-none-and-another", "gone", json!(["x.example/y", FINALIZER])),
        ("of-other-plugin", "without", json!([FINALIZER])),
        ("of-leaving", "leaves", json!([FINALIZER])),
        ("of-another", "gone", json!(["x.example/y"])),
        ("not-deleted", "gone", json!([FINALIZER])),
    ] {
        api.put(json!({
            "apiVersion": "postgresql.cnpg.io/v1", "kind": "Backup",
            "metadata": { "name": name, "namespace": "apps", "finalizers": finalizers },
            "spec": { "cluster": { "name": cluster } },
        }));
        if name != "not-deleted" {
            assert!(api.delete("Backup", "apps", name));
        }
    }
    let exists = |name: &str| api.get("Backup", "apps", name).is_some();
    // No answer about a Cluster is no absence.
    api.deny(Verb::Get, "clusters");
    let (stop, interval) = (CancellationToken::new(), Duration::from_millis(50));
    let work = tokio::spawn(forsaken::run(client(&api), interval, Tally::default(), quiet_log(), stop.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(exists("of-none") && exists("of-leaving"));
    api.heal();
    let rules = crate::manifest::cluster_role();
    api.enforce(&rules);
    eventually("they go", || !(exists("of-none") || exists("of-other-plugin") || exists("of-leaving"))).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for name in ["of-living", "of-another", "not-deleted", "of-none-and-another"] {
        assert!(exists(name), "{name}");
    }
    let kept = api.get("Backup", "apps", "of-none-and-another").unwrap();
    assert_eq!(kept["metadata"]["finalizers"], json!(["x.example/y"]));
    stop.cancel();
    work.await.unwrap();
}

/// The API server takes no longer note: the event must not be lost because a store has much to say.
#[tokio::test]
async fn kg15_a_long_note_is_cut_and_told() {
    let operator = Operator::start().await;
    let cluster = Cluster::parse(cluster_with(Some("own"), None, None).to_string().as_bytes()).unwrap();
    let events = Events::new(client(&operator.api), quiet_log());
    events.warn(&cluster, "RetentionFailed", format!("x{}", "ä".repeat(3000))).await;
    let notes: Vec<usize> =
        operator.api.list("Event").iter().map(|event| event["note"].as_str().unwrap().len()).collect();
    assert_eq!(notes, [1023], "no letter is cut in two");
}

/// When it is written, or when its cluster is there, and not by the backup that fails at night.
#[tokio::test]
async fn a_schedule_with_parameters_that_cannot_be_used_is_told_so() {
    let operator = Operator::start().await;
    let api = &operator.api;
    api.enforce(&crate::manifest::cluster_role());
    let schedule = |name: &str, plugin: &str, parameters: serde_json::Value| {
        json!({ "apiVersion": "postgresql.cnpg.io/v1", "kind": "ScheduledBackup",
            "metadata": { "name": name, "namespace": "apps", "uid": format!("uid-{name}") },
            "spec": { "schedule": "0 0 3 * * *", "cluster": { "name": "demo" }, "method": "plugin",
                "pluginConfiguration": { "name": plugin, "parameters": parameters } } })
    };
    let ours = "pgbackrest.cnpg.opera.com";
    api.put(schedule("wrong-type", ours, json!({ "type": "weekly" })));
    api.put(schedule("good", ours, json!({ "type": "full", "repo": "2" })));
    api.put(schedule("another-plugin", "barman-cloud.cloudnative-pg.io", json!({ "type": "weekly" })));
    let stop = CancellationToken::new();
    let work = tokio::spawn(schedules::run(client(api), quiet_log(), stop.clone()));
    let told = || -> Vec<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let events = api.list("Event");
        events.iter().map(|event| (text(&event["regarding"]["name"]), text(&event["note"]))).collect()
    };
    eventually("the wrong type is told", || !told().is_empty()).await;
    api.put(schedule("unknown", ours, json!({ "tpye": "full" })));
    eventually("the unknown parameter is told", || told().len() == 2).await;
    let mut told = told();
    told.sort();
    assert!(told[0].0 == "unknown" && told[0].1.contains("'tpye'"), "{told:?}");
    assert!(told[1].0 == "wrong-type" && told[1].1.contains("allowed: full, diff, incr"), "{told:?}");
    // Now there is a cluster, and its Archive has one repository.
    let mut own = archive("own");
    own["spec"]["configuration"]["repositories"][0]["s3Credentials"]["region"] = json!("here");
    api.put(own);
    api.put(cluster_with(Some("own"), None, None));
    let mut again = schedule("good", ours, json!({ "type": "full", "repo": "2" }));
    again["status"] = json!({ "lastCheckTime": "2026-11-01T00:00:00Z" });
    api.put(again);
    eventually("the missing repository is told", || {
        api.list("Event")
            .iter()
            .any(|event| event["regarding"]["name"] == "good" && event["note"].to_string().contains("repo"))
    })
    .await;
    stop.cancel();
    work.await.unwrap();
    assert_eq!(api.list("Event").len(), 3);
}
