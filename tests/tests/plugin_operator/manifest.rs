//! What is installed: over an installation of the original, with few rights, in a restricted pod.

use pgbr_plugin::operator::objects::Objects;
use pgbr_plugin::operator::tally::Tally;
use pgbr_plugin::operator::{forsaken, lease, refresh};
use pgbr_plugin::proto::operator_lifecycle::operator_operation_type::Type;
use pgbr_plugin::proto::reconciler::reconciler_hooks_result::Behavior;
use pgbr_testkit::kube_api::Verb;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::call::{Operator, client, quiet_log};
use crate::objects::{archive, cluster, job, pod};

pub(crate) fn documents(file: &str) -> Vec<Value> {
    let path = format!("{}/../manifests/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{kind} {name} is missing"))
}

/// What the operator's side may do.
pub(crate) fn cluster_role() -> Value {
    object(&documents("manifest.yaml"), "ClusterRole", "plugin-pgbackrest")["rules"].clone()
}

#[test]
fn it_can_be_applied_over_the_original() {
    let objects = documents("manifest.yaml");
    for line in include_str!("../../data/upstream-manifest.tsv").lines().filter(|line| !line.starts_with('#')) {
        let [kind, name, pointer, value] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let value: Value = serde_json::from_str(value).unwrap();
        assert_eq!(object(&objects, kind, name).pointer(pointer), Some(&value), "{line}");
    }
    // Names that other plugins in the namespace use too are left alone.
    for name in ["leader-election-role", "leader-election-rolebinding", "metrics-auth-role", "metrics-reader"] {
        assert!(objects.iter().all(|it| it["metadata"]["name"] != name), "{name}");
    }
    let definition = object(&objects, "CustomResourceDefinition", "archives.pgbackrest.cnpg.opera.com");
    assert_eq!(*definition, pgbr_plugin::resource::definition());
}

#[test]
fn sec12_no_right_is_wider_than_it_must_be() {
    let objects = documents("manifest.yaml");
    for role in objects.iter().filter(|it| it["kind"] == "ClusterRole" || it["kind"] == "Role") {
        for rule in role["rules"].as_array().unwrap() {
            assert!(!rule.to_string().contains('*'), "{rule}");
            assert_ne!(rule["resourceNames"], json!([]), "{rule}");
            let resources = rule["resources"].as_array().unwrap();
            assert!(!resources.contains(&json!("secrets")), "{rule}");
            for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
                assert!(!rule["verbs"].as_array().unwrap().contains(&json!(verb)), "{rule}");
            }
        }
    }
    let names = |kind: &str| objects.iter().filter(|it| it["kind"] == kind).count();
    assert_eq!((names("ClusterRoleBinding"), names("RoleBinding")), (1, 1));
}

#[tokio::test]
async fn sec12_the_rights_are_enough_and_no_secret_is_read() {
    let objects = documents("manifest.yaml");
    let mut rules = cluster_role().as_array().unwrap().clone();
    rules.extend(object(&objects, "Role", "plugin-pgbackrest-leader-election")["rules"].as_array().unwrap().clone());
    let operator = Operator::start().await;
    let api = &operator.api;
    api.put(archive("own"));
    api.put(archive("old"));
    api.enforce(&json!(rules));
    let stop = CancellationToken::new();
    let client = client(api);
    let objects = Objects::new(client.clone());
    let token = stop.clone();
    let background = tokio::spawn(async move {
        let work = |stop| refresh::run(objects.clone(), Tally::default(), quiet_log(), stop);
        let letting_go = forsaken::run(
            client.clone(),
            std::time::Duration::from_millis(50),
            Tally::default(),
            quiet_log(),
            token.clone(),
        );
        tokio::join!(lease::while_leading(client, "cnpg-system", "me", quiet_log(), token, work), letting_go);
    });
    api.put(json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Backup",
        "metadata": { "name": "held", "namespace": "apps", "finalizers": ["pgbackrest.cnpg.opera.com/backup"] },
        "spec": { "cluster": { "name": "gone" } },
    }));
    assert!(api.delete("Backup", "apps", "held"));
    let cluster = cluster("1.28");
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
    assert!(!operator.hook(Type::Evaluate, &cluster, &pod("1.28")).await.unwrap().is_empty());
    assert!(!operator.hook(Type::Create, &cluster, &job("1.28")).await.unwrap().is_empty());
    for _ in 0..300 {
        if api.get("Archive", "apps", "old").unwrap()["status"].is_object() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(api.get("Archive", "apps", "old").unwrap()["status"].is_object());
    let mut gone = cluster.clone();
    gone["spec"]["plugins"][0]["parameters"]["pgbackrestObjectName"] = json!("gone");
    assert_eq!(operator.pre(&gone).await.unwrap(), Behavior::Requeue);
    assert_eq!(api.list("Event").len(), 1);
    for _ in 0..300 {
        if api.get("Backup", "apps", "held").is_none() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(api.get("Backup", "apps", "held").is_none());
    stop.cancel();
    background.await.unwrap();
    assert!(api.requests().iter().all(|it| it.resource != "secrets"));
    assert!(api.requests().iter().any(|it| it.verb == Verb::Update && it.resource == "leases"));
}

#[test]
fn sec13_the_operators_pod_is_restricted() {
    let objects = documents("manifest.yaml");
    let spec = &object(&objects, "Deployment", "pgbackrest")["spec"]["template"]["spec"];
    assert_eq!(spec["securityContext"]["runAsNonRoot"], json!(true));
    assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for container in spec["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], json!(false));
        assert_eq!(context["readOnlyRootFilesystem"], json!(true));
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
    }
    let container = &spec["containers"][0];
    assert_eq!(container["env"][0]["value"], container["image"]);
    // Its arguments are ones that the program takes.
    for argument in container["args"].as_array().unwrap().iter().skip(1) {
        let flag = argument.as_str().unwrap().split('=').next().unwrap();
        let known = [
            "--server-cert",
            "--server-key",
            "--client-cert",
            "--server-address",
            "--leader-elect",
            "--log-level",
            "--health-probe-bind-address",
            "--repository-limits",
        ];
        assert!(known.contains(&flag), "{flag}");
    }
}
