//! What an administrator lets the Archives of each namespace point at.

use std::path::Path;

use pgbr_plugin::proto::operator_lifecycle::operator_operation_type::Type;
use pgbr_plugin::proto::reconciler::reconciler_hooks_result::Behavior;
use pgbr_plugin::service::lifecycle::Injection;
use serde_json::{Value, json};
use tonic::Code;

use crate::call::{IMAGE, Operator};
use crate::objects::{archive, cluster_with, job, named, patched, pod};

async fn limited(folder: &Path) -> Operator {
    let limits = Some(folder.to_owned());
    Operator::start_with(Injection { image: IMAGE.to_owned(), limits, ..Injection::default() }).await
}

/// A Cluster of a namespace that has not begun, or has a primary.
fn cluster(namespace: &str, primary: &str) -> Value {
    let mut cluster = cluster_with(Some("own"), None, None);
    cluster["metadata"]["namespace"] = json!(namespace);
    cluster["status"]["currentPrimary"] = json!(primary);
    cluster
}

fn archive_in(namespace: &str, path: &str) -> Value {
    let mut archive = archive("own");
    archive["metadata"]["namespace"] = json!(namespace);
    archive["spec"]["configuration"]["repositories"][0]["destinationPath"] = json!(path);
    archive
}

fn arguments(object: &Value, patch: &[u8], place: &str) -> Value {
    named(patched(object, patch).pointer(place).unwrap(), "plugin-pgbackrest")["args"].clone()
}

#[tokio::test]
async fn kg07_a_namespace_points_where_its_administrator_lets_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("apps"), "# the team's own prefix\nbucket=backups path=/apps\n").unwrap();
    std::fs::write(folder.path().join("_others"), "bucket=backups endpoint=minio:9000 path=/shared\n").unwrap();
    let operator = limited(folder.path()).await;
    operator.api.put(archive_in("apps", "/apps/own"));
    operator.api.put(archive_in("shop", "/shared"));
    for namespace in ["apps", "shop"] {
        assert_eq!(operator.pre(&cluster(namespace, "")).await.unwrap(), Behavior::Continue);
    }
    assert!(operator.api.list("Event").iter().all(|event| event["reason"] != "ArchiveNotAllowed"));
    // The pods have it where no user writes, and each namespace its own.
    let (instance, recovery) = (pod("1.30"), job("1.30"));
    let patch = operator.hook(Type::Evaluate, &cluster("apps", ""), &instance).await.unwrap();
    let wanted = json!(["instance", "--repository-limit=apps; bucket=backups path=/apps"]);
    assert_eq!(arguments(&instance, &patch, "/spec/initContainers"), wanted);
    let again = operator.hook(Type::Create, &cluster("apps", ""), &patched(&instance, &patch)).await.unwrap();
    assert!(again.is_empty());
    let patch = operator.hook(Type::Evaluate, &cluster("shop", ""), &instance).await.unwrap();
    let wanted = json!(["instance", "--repository-limit=_others; bucket=backups endpoint=minio:9000 path=/shared"]);
    assert_eq!(arguments(&instance, &patch, "/spec/initContainers"), wanted);
    let mut recovered = cluster_with(None, Some("own"), None);
    recovered["metadata"]["namespace"] = json!("shop");
    let patch = operator.hook(Type::Create, &recovered, &recovery).await.unwrap();
    let restoring = arguments(&recovery, &patch, "/spec/template/spec/initContainers");
    assert_eq!(
        (&restoring[0], restoring[1].as_str().unwrap().starts_with("--repository-limit=_others")),
        (&json!("restore"), true)
    );

    // One points at the other's prefix: a new cluster does not begin, one that runs is told and goes on.
    operator.api.put(archive_in("shop", "/apps/own"));
    assert_eq!(operator.pre(&cluster("shop", "")).await.unwrap(), Behavior::Requeue);
    assert_eq!(operator.pre(&cluster("shop", "demo-1")).await.unwrap(), Behavior::Continue);
    let events = operator.api.list("Event");
    let told = events.iter().find(|event| event["reason"] == "ArchiveNotAllowed").unwrap();
    let note = told["note"].as_str().unwrap();
    assert!(
        note.contains("Archive 'own'") && note.contains("limit '_others'") && note.contains("path=/shared"),
        "{note}"
    );

    // A limit that cannot be understood allows nothing, and changes no pod.
    std::fs::write(folder.path().join("apps"), "bukket=backups\n").unwrap();
    let refused = operator.pre(&cluster("apps", "")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("limit 'apps'") && refused.message().contains("bukket"), "{refused:?}");
    operator.hook(Type::Evaluate, &cluster("apps", ""), &instance).await.unwrap_err();
    // Without a file there is no limit.
    std::fs::remove_file(folder.path().join("_others")).unwrap();
    assert_eq!(operator.pre(&cluster("shop", "")).await.unwrap(), Behavior::Continue);
    let patch = operator.hook(Type::Evaluate, &cluster("shop", ""), &instance).await.unwrap();
    assert_eq!(arguments(&instance, &patch, "/spec/initContainers"), json!(["instance"]));
}

/// With the promise of a socket in every pod, every pod has one; without it one without an Archive has none.
#[tokio::test]
async fn c41_a_promised_socket_is_in_every_pod_of_an_enabled_plugin() {
    use pgbr_plugin::proto::identity::GetPluginCapabilitiesRequest;
    use pgbr_plugin::proto::identity::identity_client::IdentityClient;
    let mut nameless = cluster_with(Some("own"), None, None);
    nameless["spec"]["plugins"][0]["parameters"] = json!({});
    let mut disabled = nameless.clone();
    disabled["spec"]["plugins"][0]["enabled"] = json!(false);
    for always in [false, true] {
        let injection = Injection { image: IMAGE.to_owned(), always, ..Injection::default() };
        let operator = Operator::start_with(injection).await;
        let mut identity = IdentityClient::new(operator.channel.clone());
        let answer = identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.capabilities.len(), if always { 3 } else { 2 });
        for version in crate::objects::VERSIONS {
            let instance = pod(version);
            let patch = operator.hook(Type::Evaluate, &nameless, &instance).await.unwrap();
            assert_eq!(patch.is_empty(), !always, "{version}");
            if always {
                let sidecar = patched(&instance, &patch);
                assert_eq!(named(&sidecar["spec"]["initContainers"], "plugin-pgbackrest")["args"], json!(["instance"]));
            }
            assert!(operator.hook(Type::Evaluate, &disabled, &instance).await.unwrap().is_empty());
            assert!(operator.hook(Type::Create, &nameless, &job(version)).await.unwrap().is_empty());
        }
    }
}
