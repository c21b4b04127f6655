//! What the hooks say, and to what.

use std::time::{Duration, Instant};

use pgbr_plugin::proto::identity::identity_client::IdentityClient;
use pgbr_plugin::proto::identity::plugin_capability::Type as CapabilityType;
use pgbr_plugin::proto::identity::plugin_capability::service::Type as ServiceType;
use pgbr_plugin::proto::identity::{GetPluginCapabilitiesRequest, GetPluginMetadataRequest};
use pgbr_plugin::proto::operator_lifecycle::OperatorLifecycleCapabilitiesRequest;
use pgbr_plugin::proto::operator_lifecycle::operator_lifecycle_client::OperatorLifecycleClient;
use pgbr_plugin::proto::operator_lifecycle::operator_operation_type::Type;
use pgbr_plugin::proto::reconciler::reconciler_hooks_client::ReconcilerHooksClient;
use pgbr_plugin::proto::reconciler::reconciler_hooks_result::Behavior;
use pgbr_plugin::proto::reconciler::{ReconcilerHooksCapabilitiesRequest, ReconcilerHooksRequest};
use pgbr_testkit::kube_api::{Answer, Rule, Verb};
use serde_json::{Value, json};
use tonic::Code;

use crate::call::Operator;
use crate::objects::{VERSIONS, archive, cluster, cluster_with, pod};

#[tokio::test]
async fn c19_pods_and_jobs_are_subscribed_and_nothing_else() {
    let operator = Operator::start().await;
    let mut client = OperatorLifecycleClient::new(operator.channel.clone());
    let answer = client.get_capabilities(OperatorLifecycleCapabilitiesRequest {}).await.unwrap().into_inner();
    let subscribed: Vec<_> = answer
        .lifecycle_capabilities
        .iter()
        .map(|it| {
            (
                it.group.as_str(),
                it.kind.as_str(),
                it.operation_types
                    .iter()
                    .map(pgbr_plugin::proto::operator_lifecycle::OperatorOperationType::r#type)
                    .collect(),
            )
        })
        .collect();
    let expected: Vec<(&str, &str, Vec<Type>)> =
        vec![("", "Pod", vec![Type::Create, Type::Evaluate]), ("batch", "Job", vec![Type::Create])];
    assert_eq!(subscribed, expected);
}

#[tokio::test]
async fn c41_no_socket_is_promised_for_every_pod() {
    let operator = Operator::start().await;
    let mut client = IdentityClient::new(operator.channel.clone());
    let metadata = client.get_plugin_metadata(GetPluginMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(metadata.name, "pgbackrest.cnpg.opera.com");
    let answer = client.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap().into_inner();
    let services: Vec<ServiceType> = answer
        .capabilities
        .iter()
        .map(|it| match it.r#type.as_ref().unwrap() {
            CapabilityType::Service(service) => service.r#type(),
        })
        .collect();
    assert_eq!(services, [ServiceType::ReconcilerHooks, ServiceType::LifecycleService]);
    // Each of them answers for its capabilities.
    let mut client = ReconcilerHooksClient::new(operator.channel.clone());
    let answer = client.get_capabilities(ReconcilerHooksCapabilitiesRequest {}).await.unwrap().into_inner();
    assert_eq!(answer.reconciler_capabilities.len(), 2);
}

#[tokio::test]
async fn c33_pre_goes_on_or_waits_for_an_archive() {
    let operator = Operator::start().await;
    operator.api.put(archive("own"));
    let cluster = cluster_with(Some("own"), None, None);
    let text = cluster.to_string();
    let backup = json!({ "apiVersion": "postgresql.cnpg.io/v1", "kind": "Backup",
        "metadata": { "name": "b", "namespace": "apps" }, "spec": { "cluster": { "name": "demo" } } });
    let mut kindless = backup.clone();
    kindless.as_object_mut().unwrap().remove("kind");
    for resource in [backup, kindless, json!({ "kind": "Pooler" }), json!({ "kind": "Backup", "metadata": 7 })] {
        let answer = operator.pre_bytes(text.as_bytes(), resource.to_string().as_bytes()).await.unwrap();
        assert_eq!((answer.behavior(), answer.requeue_after), (Behavior::Continue, 0), "{resource}");
    }
    assert!(operator.api.requests().is_empty());
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
    assert_eq!(operator.pre(&cluster_with(None, None, None)).await.unwrap(), Behavior::Continue);
    for missing in [
        cluster_with(Some("nowhere"), None, None),
        cluster_with(Some("own"), Some("nowhere"), None),
        cluster_with(Some("own"), None, Some("nowhere")),
    ] {
        let text = missing.to_string();
        let answer = operator.pre_bytes(text.as_bytes(), text.as_bytes()).await.unwrap();
        assert_eq!(answer.behavior(), Behavior::Requeue);
        assert!(answer.requeue_after > 0);
    }
    let events = operator.api.list("Event");
    assert_eq!(events.iter().filter(|it| it["reason"] == "ArchiveMissing").count(), 1, "told once: {events:?}");
    assert_eq!(events[0]["regarding"]["name"], "demo");
    let request = ReconcilerHooksRequest { cluster_definition: Vec::new(), resource_definition: Vec::new() };
    let answer = ReconcilerHooksClient::new(operator.channel.clone()).post(request).await.unwrap().into_inner();
    assert_eq!(answer.behavior(), Behavior::Continue);
}

#[tokio::test]
async fn c36_objects_of_every_version_and_group_are_read() {
    let operator = Operator::start().await;
    operator.api.put(archive("own"));
    operator.api.put(archive("old"));
    for version in VERSIONS {
        let mut cluster = cluster(version);
        assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue, "{version}");
        assert!(!operator.hook(Type::Evaluate, &cluster, &pod(version)).await.unwrap().is_empty());
        let fields = cluster.as_object_mut().unwrap();
        fields.remove("kind");
        fields.remove("apiVersion");
        fields.insert("later".to_owned(), json!({ "a": [null] }));
        assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue, "{version} without kind");
        cluster["apiVersion"] = json!("postgresql.k8s.enterprisedb.io/v1");
        assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
        assert_eq!(
            operator.api.get("Role", "apps", "demo-pgbackrest").unwrap()["metadata"]["ownerReferences"][0]["kind"],
            "Cluster"
        );
    }
}

#[tokio::test]
async fn kg04_what_cannot_be_used_is_refused_by_its_field() {
    let operator = Operator::start().await;
    let good = cluster("1.30");
    let damaged = |pointer: &str, value: Value| {
        let mut cluster = good.clone();
        *cluster.pointer_mut(pointer).unwrap() = value;
        cluster
    };
    for (cluster, place) in [
        (damaged("/metadata/name", json!(null)), "metadata.name"),
        (damaged("/metadata/namespace", json!("../kube-system")), "metadata.namespace"),
        (damaged("/metadata/uid", json!(7)), "metadata.uid"),
        (damaged("/spec/plugins", json!("x")), "spec.plugins"),
        (damaged("/spec/plugins/0/parameters", json!(["x"])), "spec.plugins[0].parameters"),
        (damaged("/spec/plugins/0/parameters/pgbackrestObjectName", json!("a/b")), "spec.plugins[0].parameters."),
        (damaged("/spec/externalClusters/0/plugin", json!(1)), "spec.externalClusters[0].plugin"),
        (damaged("/spec/serviceAccountName", json!("x y")), "spec.serviceAccountName"),
    ] {
        for error in [
            operator.pre(&cluster).await.unwrap_err(),
            operator.hook(Type::Evaluate, &cluster, &pod("1.30")).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().starts_with(place), "{place}: {error}");
        }
    }
    operator.api.put(archive("own"));
    operator.api.put(archive("old"));
    for (object, place) in [
        (json!({ "kind": "Secret" }), "kind"),
        (json!({ "kind": "Pod" }), "spec"),
        (json!({ "kind": "Pod", "spec": [] }), "spec"),
        (json!({ "kind": "Pod", "spec": { "containers": {} } }), "spec.containers"),
        (json!({ "kind": "Pod", "spec": { "containers": [7, { "name": "x" }] } }), "spec.containers"),
        (
            json!({ "kind": "Pod", "spec": { "containers": [{ "name": "postgres", "volumeMounts": 1 }] } }),
            "spec.containers",
        ),
        (json!([]), "the object definition"),
    ] {
        let error = operator.hook(Type::Evaluate, &good, &object).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{object}");
        assert!(error.message().starts_with(place), "{object}: {error}");
    }
    for bytes in [b"".as_slice(), b"{", b"null", b"\xff\xff", &[b'['; 100_000]] {
        assert_eq!(operator.pre_bytes(bytes, bytes).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // The process lives.
    assert_eq!(operator.pre(&good).await.unwrap(), Behavior::Continue);
}

#[tokio::test]
async fn kg08_only_the_clusters_own_namespace_is_asked() {
    let operator = Operator::start().await;
    let mut foreign = archive("own");
    foreign["metadata"]["namespace"] = json!("others");
    operator.api.put(foreign);
    let cluster = cluster_with(Some("own"), None, None);
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Requeue);
    operator.api.put(archive("own"));
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
    assert!(operator.api.requests().iter().all(|it| it.namespace == "apps"), "{:?}", operator.api.requests());
    let mut other = cluster.clone();
    other["metadata"]["namespace"] = json!("others");
    let error = operator.pre_bytes(cluster.to_string().as_bytes(), other.to_string().as_bytes()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("'apps/demo' in one definition and 'others/demo' in the other"), "{error}");
}

#[tokio::test]
async fn kg15_rights_that_come_later_are_waited_for() {
    let operator = Operator::start().await;
    operator.api.put(archive("own"));
    let cluster = cluster_with(Some("own"), None, None);
    for (verb, resource) in [(Verb::Get, "archives"), (Verb::Create, "roles"), (Verb::Get, "rolebindings")] {
        operator.api.deny(verb, resource);
        let error = operator.pre(&cluster).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.message().contains(&format!("unable to {} {resource} 'apps/", verb.as_str())), "{error}");
        operator.api.heal();
    }
    assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
    // Events are advice: nothing waits for the right to publish them.
    operator.api.inject(Rule::on(Verb::Create, "events", Answer::Status(403)));
    assert_eq!(operator.pre(&cluster_with(Some("gone"), None, None)).await.unwrap(), Behavior::Requeue);
}

/// One Cluster whose Archive is never answered for: the hooks of ten others are as quick as without it.
#[tokio::test]
async fn sec23_a_bad_cluster_does_not_stop_good_ones() {
    let operator = Operator::start().await;
    operator.api.inject(Rule::on(Verb::Get, "archives", Answer::Hang).named("bad"));
    operator.api.put(archive("good"));
    let of = |number: usize, archive: &str| {
        let mut cluster = cluster_with(Some(archive), None, None);
        cluster["metadata"]["name"] = json!(format!("demo-{number}"));
        cluster
    };
    let bad = of(0, "bad");
    let slow = async {
        let all = (0..5).map(|_| operator.pre(&bad));
        futures_util::future::join_all(all).await
    };
    let quick = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begin = Instant::now();
        for number in 1..=10 {
            let cluster = of(number, "good");
            assert_eq!(operator.pre(&cluster).await.unwrap(), Behavior::Continue);
            assert!(!operator.hook(Type::Evaluate, &cluster, &pod("1.30")).await.unwrap().is_empty());
        }
        begin.elapsed()
    };
    let (failed, time) = tokio::join!(slow, quick);
    assert!(failed.iter().all(Result::is_err));
    // The bad ones wait four seconds each.
    assert!(time < Duration::from_secs(2), "{time:?}");
}
