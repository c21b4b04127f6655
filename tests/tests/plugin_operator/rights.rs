//! What the pods of a cluster may do.

use pgbr_plugin::proto::operator_lifecycle::operator_operation_type::Type;
use pgbr_plugin::proto::reconciler::reconciler_hooks_result::Behavior;
use pgbr_testkit::kube_api::{Answer, Rule, Verb};
use serde_json::{Value, json};
use tonic::Code;

use crate::call::Operator;
use crate::objects::{archive, cluster, cluster_with, named, patched};

fn rules(archives: &[&str]) -> Value {
    let group = "pgbackrest.cnpg.opera.com";
    let mut rules = vec![
        json!({ "apiGroups": [group], "resources": ["archives"], "resourceNames": archives, "verbs": ["get", "list", "watch"] }),
        json!({ "apiGroups": [group], "resources": ["archives/status"], "resourceNames": archives,
            "verbs": ["get", "patch", "update"] }),
    ];
    if let Some(own) = archives.iter().find(|name| ["own", "other"].contains(name)) {
        let lease = pgbr_plugin::ids::stanza_lease(own, "demo", 1);
        let leases = "coordination.k8s.io";
        rules.extend([
            json!({ "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"] }),
            json!({ "apiGroups": [leases], "resources": ["leases"], "verbs": ["create"] }),
            json!({ "apiGroups": [leases], "resources": ["leases"], "resourceNames": [lease], "verbs": ["get", "update"] }),
            json!({ "apiGroups": ["postgresql.cnpg.io"], "resources": ["backups"],
                "verbs": ["delete", "get", "list", "patch"] }),
            json!({ "apiGroups": ["postgresql.cnpg.io"], "resources": ["clusters"], "resourceNames": ["demo"],
                "verbs": ["get"] }),
        ]);
    }
    json!(rules)
}

#[tokio::test]
async fn c34_the_role_has_exact_names_an_owner_and_the_clusters_account() {
    let operator = Operator::start().await;
    for name in ["own", "old", "other"] {
        operator.api.put(archive(name));
    }
    let mut cluster = cluster("1.30");
    cluster["spec"]["replica"] = json!({ "enabled": true, "source": "origin" });
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
    let role = operator.api.get("Role", "apps", "demo-pgbackrest").unwrap();
    assert_eq!(role["rules"], rules(&["old", "own"]));
    let binding = operator.api.get("RoleBinding", "apps", "demo-pgbackrest").unwrap();
    assert_eq!(binding["roleRef"]["name"], "demo-pgbackrest");
    assert_eq!(binding["subjects"], json!([{ "kind": "ServiceAccount", "name": "db-account", "namespace": "apps" }]));
    for object in [&role, &binding] {
        assert_eq!(
            object["metadata"]["ownerReferences"],
            json!([{ "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "name": "demo",
                "uid": "0d1e2f3a-0000-4000-8000-000000000001", "controller": true, "blockOwnerDeletion": true }])
        );
    }
    // Again: nothing is written.
    operator.api.forget_requests();
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
    assert!(operator.api.requests().iter().all(|it| it.verb == Verb::Get), "{:?}", operator.api.requests());
    // Another account, another Archive.
    cluster["spec"]["serviceAccountName"] = json!(null);
    cluster["spec"]["plugins"][0]["parameters"]["pgbackrestObjectName"] = json!("other");
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
    let binding = operator.api.get("RoleBinding", "apps", "demo-pgbackrest").unwrap();
    assert_eq!(binding["subjects"][0]["name"], "demo");
    let role = operator.api.get("Role", "apps", "demo-pgbackrest").unwrap();
    assert_eq!(role["rules"], rules(&["old", "other"]));
}

/// A pod of the cluster with this sidecar.
fn instance(name: &str, sidecar: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "status": { "phase": "Running" },
        "metadata": { "name": name, "namespace": "apps", "labels": { "cnpg.io/cluster": "demo" } },
        "spec": { "initContainers": [{ "name": "bootstrap-controller", "image": "cnpg" }, sidecar],
            "containers": [{ "name": "postgres", "image": "postgres" }] } })
}

/// The Role and the RoleBinding that the original made.
fn made_by_the_original(operator: &Operator) -> (Value, Value) {
    let owner = json!([{ "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "name": "demo", "controller": true,
        "uid": "0d1e2f3a-0000-4000-8000-000000000001", "blockOwnerDeletion": true }]);
    let metadata =
        json!({ "name": "demo-pgbackrest", "namespace": "apps", "ownerReferences": owner, "labels": { "team": "a" } });
    let old_rules = json!([
        { "apiGroups": ["pgbackrest.cnpg.opera.com"], "verbs": ["get", "watch", "list"], "resources": ["archives"],
          "resourceNames": ["own"] },
        { "apiGroups": [""], "verbs": ["get", "watch", "list"], "resources": ["secrets"], "resourceNames": ["own"] },
    ]);
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": old_rules });
    operator.api.put(
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "demo-pgbackrest" },
        "subjects": [{ "kind": "ServiceAccount", "name": "demo", "namespace": "apps" }] }),
    );
    (operator.api.put(role), owner)
}

#[tokio::test]
async fn c34_what_the_original_made_is_taken_over() {
    let operator = Operator::start().await;
    operator.api.put(archive("own"));
    let (_, owner) = made_by_the_original(&operator);
    assert_eq!(operator.pre(&cluster_with(Some("own"), None, None)).await.unwrap(), Behavior::Continue);
    let role = operator.api.get("Role", "apps", "demo-pgbackrest").unwrap();
    assert_eq!(role["rules"], rules(&["own"]));
    assert_eq!(role["metadata"]["labels"]["team"], "a");
    assert_eq!(role["metadata"]["labels"]["app.kubernetes.io/managed-by"], "plugin-pgbackrest");
    assert_eq!(role["metadata"]["ownerReferences"], owner);
}

/// The plugin is new and the pods are not yet: their sidecars read Secrets through the Role, so it stays until the last of
/// them is gone. No right of the plugin is wide enough to write that Role again.
#[tokio::test]
async fn sec24_the_originals_sidecars_keep_their_rights_until_they_are_replaced() {
    let operator = Operator::start().await;
    let api = &operator.api;
    api.put(archive("own"));
    api.enforce(&crate::manifest::cluster_role());
    let (original, _) = made_by_the_original(&operator);
    let old = json!({ "name": "plugin-pgbackrest", "image": "operasoftware/old:v0.8.0", "args": ["instance"],
        "env": [{ "name": "NAMESPACE", "value": "apps" }] });
    for name in ["demo-1", "demo-2"] {
        api.put(instance(name, &old));
    }
    // Of another cluster, and one that has ended.
    let mut other = instance("other-1", &old);
    other["metadata"]["labels"]["cnpg.io/cluster"] = json!("other");
    api.put(other);
    let mut ended = instance("demo-1-full-recovery-x", &old);
    ended["status"]["phase"] = json!("Succeeded");
    api.put(ended);

    let cluster = cluster_with(Some("own"), None, None);
    let pod = crate::objects::pod("1.30");
    let patch = operator.hook(Type::Evaluate, &cluster, &pod).await.unwrap();
    let new = named(&patched(&pod, &patch)["spec"]["initContainers"], "plugin-pgbackrest").clone();
    for waits_for in [Some("demo-1, demo-2 are"), Some("demo-2 is"), None] {
        assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
        let role = api.get("Role", "apps", "demo-pgbackrest").unwrap();
        let notes =
            api.list("Event").iter().map(|event| event["note"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        match waits_for {
            Some(pods) => {
                assert_eq!(role, original);
                assert!(notes.iter().any(|note| note.contains(&format!("when {pods} replaced"))), "{notes:?}");
                api.put(instance(if pods.starts_with("demo-1") { "demo-1" } else { "demo-2" }, &new));
            }
            None => assert_eq!(role["rules"], rules(&["own"])),
        }
    }
    assert!(api.requests().iter().all(|it| it.resource != "secrets"));
}

#[tokio::test]
async fn c34_a_role_of_something_else_is_left_alone() {
    let operator = Operator::start().await;
    operator.api.put(archive("own"));
    let cluster = cluster_with(Some("own"), None, None);
    let role = |owner: Value| {
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": [],
            "metadata": { "name": "demo-pgbackrest", "namespace": "apps", "ownerReferences": [owner] } })
    };
    let other = operator.api.put(role(json!({ "kind": "Deployment", "name": "x", "uid": "u", "controller": true })));
    let error = operator.pre(&cluster).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("belongs to Deployment x"), "{error}");
    assert_eq!(operator.api.get("Role", "apps", "demo-pgbackrest").unwrap(), other);
    // The owner was an earlier Cluster of this name.
    operator.api.put(role(json!({ "kind": "Cluster", "name": "demo", "uid": "earlier", "controller": true })));
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
    let owners = operator.api.get("Role", "apps", "demo-pgbackrest").unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners.as_array().unwrap().len(), 1);
    assert_eq!(owners[0]["uid"], cluster["metadata"]["uid"]);
    // A binding to another role cannot be changed, and is not.
    operator.api.put(json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "demo-pgbackrest", "namespace": "apps" }, "subjects": [],
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin" } }));
    let error = operator.pre(&cluster).await.unwrap_err();
    assert!(error.message().contains("refers to ClusterRole admin"), "{error}");
}

#[tokio::test]
async fn c34_a_change_in_between_is_met_with_a_fresh_object() {
    let operator = Operator::start().await;
    operator.api.put(archive("own"));
    let cluster = cluster_with(Some("own"), None, None);
    operator.api.inject(Rule::on(Verb::Create, "roles", Answer::Status(409)).times(2));
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
    operator.api.heal();
    operator.api.put(archive("other"));
    operator.api.inject(Rule::on(Verb::Patch, "roles", Answer::Status(409)));
    let error = operator.pre(&cluster_with(Some("other"), None, None)).await.unwrap_err();
    assert_eq!(error.code(), Code::Aborted, "{error}");
}

/// Whatever an Archive names: the rules have names, or are about what has none, and no Secret is among them.
#[tokio::test]
async fn kg16_no_rule_is_about_all_of_something_named_and_none_about_secrets() {
    let operator = Operator::start().await;
    let mut bare = archive("own");
    bare["spec"]["configuration"]["repositories"][0].as_object_mut().unwrap().remove("s3Credentials");
    let mut empty = archive("own");
    empty["spec"]["configuration"]["repositories"] = json!([]);
    let mut full = archive("own");
    let repository = &mut full["spec"]["configuration"]["repositories"][0];
    repository["endpointCA"] = json!({ "name": "ca", "key": "k" });
    repository["encryptionKey"] = json!({ "name": "", "key": "k" });
    for archive in [bare, empty, full] {
        operator.api.put(archive);
        assert_eq!(operator.pre(&cluster_with(Some("own"), None, None)).await.unwrap(), Behavior::Continue);
        let role = operator.api.get("Role", "apps", "demo-pgbackrest").unwrap();
        for rule in role["rules"].as_array().unwrap() {
            assert_ne!(rule["resourceNames"], json!([]));
            assert_ne!(rule["resources"], json!(["secrets"]));
            let about_names = ["archives", "archives/status"].contains(&rule["resources"][0].as_str().unwrap());
            assert!(!about_names || rule["resourceNames"].is_array(), "{rule}");
            assert!(!rule.to_string().contains('*'));
        }
    }
}
