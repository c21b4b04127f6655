//! The sidecar in Pods and Jobs.

use std::collections::BTreeSet;

use pgbr_plugin::proto::operator_lifecycle::operator_operation_type::Type;
use pgbr_testkit::kube_api::{Answer, Rule, Verb};
use serde_json::{Value, json};
use tonic::Code;

use crate::call::{IMAGE, Operator};
use crate::objects::{
    VERSIONS, archive, archive_with, cluster, cluster_with, job, named, patched, patched_anyhow, pod,
};

async fn operator() -> Operator {
    let operator = Operator::start().await;
    for name in ["own", "old", "other"] {
        operator.api.put(archive(name));
    }
    operator
}

fn sidecar(pod_spec: &Value) -> &Value {
    named(&pod_spec["initContainers"], "plugin-pgbackrest")
}

/// What Go leaves out when it writes an object again.
fn written_again(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(key, value)| (key.clone(), written_again(value)));
            let is_empty = |value: &Value| value.is_null() || value == "" || *value == json!([]);
            Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(written_again).collect()),
        value => value.clone(),
    }
}

#[tokio::test]
async fn c16_a_pod_is_patched_the_same_each_time_and_only_once() {
    let operator = operator().await;
    operator.api.put(archive_with(
        "own",
        json!({
            "env": [{ "name": "B", "value": "" }, { "name": "A", "value": "1" },
                { "name": "CPU", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu", "divisor": "0.001" } } }],
            "resources": { "limits": { "memory": "1024Mi", "cpu": 2 }, "requests": { "cpu": 0.5 } },
            "securityContext": { "runAsUser": 26, "seLinuxOptions": null },
        }),
    ));
    for version in VERSIONS {
        let (cluster, pod) = (cluster(version), pod(version));
        let first = operator.hook(Type::Evaluate, &cluster, &pod).await.unwrap();
        for _ in 0..5 {
            assert_eq!(operator.hook(Type::Evaluate, &cluster, &pod).await.unwrap(), first, "{version}");
        }
        let done = patched(&pod, &first);
        let resources = &sidecar(&done["spec"])["resources"];
        assert_eq!(*resources, json!({ "limits": { "memory": "1Gi", "cpu": "2" }, "requests": { "cpu": "500m" } }));
        assert_eq!(named(&sidecar(&done["spec"])["env"], "CPU")["valueFrom"]["resourceFieldRef"]["divisor"], "1m");
        for again in [&done, &written_again(&done)] {
            assert!(operator.hook(Type::Create, &cluster, again).await.unwrap().is_empty(), "{version}");
        }
    }
}

#[tokio::test]
async fn c17_the_sidecar_starts_first_and_sees_what_the_server_sees() {
    let operator = operator().await;
    for version in VERSIONS {
        let pod = pod(version);
        let patch = operator.hook(Type::Evaluate, &cluster(version), &pod).await.unwrap();
        let done = patched(&pod, &patch);
        let (spec, sidecar) = (&done["spec"], sidecar(&done["spec"]));
        assert_eq!(spec["initContainers"][0], pod["spec"]["initContainers"][0]);
        assert_eq!(sidecar["restartPolicy"], "Always");
        assert_eq!((&sidecar["image"], &sidecar["args"]), (&json!(IMAGE), &json!(["instance"])));
        assert_eq!(sidecar["imagePullPolicy"], "IfNotPresent");
        assert_eq!(sidecar["startupProbe"]["exec"]["command"], json!(["/manager", "healthcheck", "unix"]));
        assert!(sidecar["livenessProbe"].is_null() && sidecar["readinessProbe"].is_null());
        assert_eq!(named(&spec["volumes"], "plugins")["emptyDir"], json!({}));
        let main = named(&spec["containers"], "postgres");
        let paths = |container: &Value| -> Vec<String> {
            let mounts = container["volumeMounts"].as_array().unwrap().iter();
            mounts.map(|mount| mount["mountPath"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!([paths(main), vec!["/secrets/pgbackrest".to_owned()]].concat(), paths(sidecar), "{version}");
        for path in
            ["/plugins", "/run", "/controller", "/var/lib/postgresql/wal", "/var/lib/postgresql/tablespaces/big"]
        {
            assert_eq!(paths(sidecar).iter().filter(|it| *it == path).count(), 1, "{version} {path}");
        }
        let variable = |name: &str| named(&sidecar["env"], name)["value"].as_str().unwrap().to_owned();
        assert_eq!(variable("PGDATA"), "/var/lib/postgresql/data/pgdata");
        assert_eq!(variable("POD_NAME"), "demo-1");
        assert_eq!(named(&sidecar["env"], "FROM_SECRET")["valueFrom"]["secretKeyRef"]["name"], "s");
        let names: Vec<&Value> = sidecar["env"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names.len(), names.iter().map(ToString::to_string).collect::<BTreeSet<_>>().len());
        // Everything else is as it was.
        let mut rest = done.clone();
        rest["spec"]["initContainers"].as_array_mut().unwrap().retain(|it| it["name"] != "plugin-pgbackrest");
        let added = [json!("plugins"), json!("pgbackrest-secrets")];
        rest["spec"]["volumes"].as_array_mut().unwrap().retain(|it| !added.contains(&it["name"]));
        let mounts = rest["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap();
        mounts.retain(|it| it["mountPath"] != "/plugins");
        assert_eq!(rest, pod, "{version}");
    }
}

/// The Secrets of all Archives of the cluster, key by key: in the sidecar, in no other container, and gone when no Archive
/// names them any more.
#[tokio::test]
async fn sec18_secrets_are_files_of_the_sidecar_alone() {
    let operator = operator().await;
    let mut own = archive("own");
    let repository = &mut own["spec"]["configuration"]["repositories"][0];
    repository["encryption"] = json!("aes-256-cbc");
    repository["encryptionKey"] = json!({ "name": "cipher", "key": "pass.phrase" });
    // Twice the same, what is shared, and names for which the API server would refuse the pod.
    let mut second = repository.clone();
    second["endpointCA"] = json!({ "name": "own", "key": "ca.crt" });
    second["encryptionKey"] = json!({ "name": "../cipher", "key": "x" });
    let mut third = second.clone();
    third["encryptionKey"] = json!({ "name": "", "key": "" });
    third["endpointCA"] = json!({ "name": "own", "key": "../../etc" });
    own["spec"]["configuration"]["repositories"].as_array_mut().unwrap().extend([second, third]);
    operator.api.put(own);
    let (cluster, pod, job) = (cluster("1.30"), pod("1.30"), job("1.30"));
    let source = |name: &str, keys: &[&str]| {
        let item = |key: &&str| json!({ "key": key, "path": format!("{name}/{key}") });
        json!({ "secret": { "name": name, "items": keys.iter().map(item).collect::<Vec<_>>(), "optional": true } })
    };
    let wanted = json!([
        source("cipher", &["pass.phrase"]),
        source("old", &["ID", "SECRET"]),
        source("own", &["ID", "SECRET", "ca.crt"]),
    ]);
    for (object, operation) in [(&pod, Type::Evaluate), (&job, Type::Create)] {
        let done = patched(object, &operator.hook(operation, &cluster, object).await.unwrap());
        let spec = if object["kind"] == "Job" { &done["spec"]["template"]["spec"] } else { &done["spec"] };
        assert_eq!(named(&spec["volumes"], "pgbackrest-secrets")["projected"]["sources"], wanted);
        let mount = json!({ "name": "pgbackrest-secrets", "mountPath": "/secrets/pgbackrest", "readOnly": true });
        assert!(sidecar(spec)["volumeMounts"].as_array().unwrap().contains(&mount));
        assert_eq!(named(&sidecar(spec)["env"], "PLUGIN_SECRETS_DIR")["value"], "/secrets/pgbackrest");
        let containers = spec["containers"].as_array().unwrap().iter();
        let others = containers.chain(spec["initContainers"].as_array().unwrap());
        for other in others.filter(|it| it["name"] != "plugin-pgbackrest") {
            assert!(!other.to_string().contains("pgbackrest-secrets"), "{other}");
        }
    }

    // Archives that name none: the server knows the machine.
    let before = patched(&pod, &operator.hook(Type::Evaluate, &cluster, &pod).await.unwrap());
    for name in ["own", "old"] {
        let mut without = archive(name);
        without["spec"]["configuration"]["repositories"][0]["s3Credentials"] = json!({ "keyType": "auto" });
        operator.api.put(without);
    }
    for present in [&pod, &before] {
        let done = patched(present, &operator.hook(Type::Create, &cluster, present).await.unwrap());
        assert!(!done.to_string().contains("pgbackrest-secrets"));
    }
}

#[tokio::test]
async fn kg24_other_sidecars_and_a_shared_socket_folder_are_no_trouble() {
    let operator = operator().await;
    let mut pod = pod("1.28");
    let spec = &mut pod["spec"];
    let main = spec["containers"][0].clone();
    spec["containers"] = json!([{ "name": "istio-proxy", "env": [{ "name": "PGDATA", "value": "/wrong" }] }, main]);
    spec["volumes"].as_array_mut().unwrap().insert(0, json!({ "name": "plugins", "emptyDir": { "sizeLimit": "1Mi" } }));
    let foreign = json!({ "name": "plugin-other", "volumeMounts": [{ "name": "plugins", "mountPath": "/plugins/" }] });
    let old = json!({ "name": "plugin-pgbackrest", "image": "operasoftware/old:v0.7.0", "args": ["instance"] });
    spec["initContainers"] = json!([foreign.clone(), spec["initContainers"][0].clone(), old]);
    let patch = operator.hook(Type::Evaluate, &cluster("1.28"), &pod).await.unwrap();
    let done = patched(&pod, &patch);
    let inits = done["spec"]["initContainers"].as_array().unwrap();
    assert_eq!(
        inits.iter().map(|it| it["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["plugin-other", "bootstrap-controller", "plugin-pgbackrest"]
    );
    assert_eq!(inits[0], foreign);
    assert_eq!(inits[2]["image"], IMAGE);
    assert_eq!(named(&inits[2]["env"], "PGDATA")["value"], "/var/lib/postgresql/data/pgdata");
    assert_eq!(done["spec"]["volumes"].as_array().unwrap().iter().filter(|it| it["name"] == "plugins").count(), 1);
    assert_eq!(named(&done["spec"]["containers"], "istio-proxy"), &pod["spec"]["containers"][0]);
    let mounts = named(&done["spec"]["containers"], "postgres")["volumeMounts"].as_array().unwrap().clone();
    assert_eq!(mounts.iter().filter(|it| it["mountPath"] == "/plugins").count(), 1);
    assert!(operator.hook(Type::Create, &cluster("1.28"), &done).await.unwrap().is_empty());
}

#[tokio::test]
async fn c18_only_a_recovery_from_us_has_its_job_patched() {
    let operator = operator().await;
    for version in VERSIONS {
        let cluster = cluster(version);
        for role in ["full-recovery", "snapshot-recovery"] {
            for label in ["cnpg.io/jobRole", "k8s.enterprisedb.io/jobRole"] {
                let job = with_role(job(version), role, label);
                let patch = operator.hook(Type::Create, &cluster, &job).await.unwrap();
                let done = patched(&job, &patch);
                let spec = &done["spec"]["template"]["spec"];
                assert_eq!(sidecar(spec)["args"], json!(["restore"]), "{version} {role}");
                assert_eq!(named(&sidecar(spec)["env"], "POD_NAME")["value"], "demo-1-full-recovery");
                assert!(operator.hook(Type::Create, &cluster, &done).await.unwrap().is_empty());
            }
        }
        for role in ["import", "initdb", "pgbasebackup", "join", "major-upgrade"] {
            let job = with_role(job(version), role, "cnpg.io/jobRole");
            assert!(operator.hook(Type::Create, &cluster, &job).await.unwrap().is_empty(), "{version} {role}");
        }
        let job = job(version);
        for other in [cluster_with(Some("own"), None, None), cluster_with(None, None, Some("other"))] {
            assert!(operator.hook(Type::Create, &other, &job).await.unwrap().is_empty());
        }
    }
}

fn with_role(mut job: Value, role: &str, label: &str) -> Value {
    job["spec"]["template"]["metadata"]["labels"] = json!({ "cnpg.io/cluster": "demo", label: role });
    job["spec"]["template"]["spec"]["containers"][0]["name"] = json!(role);
    job
}

#[tokio::test]
async fn c41_every_pod_whose_cluster_names_an_archive_has_the_sidecar() {
    let operator = operator().await;
    let pod = pod("1.30");
    let places = [None, Some("own"), Some("old")];
    for own in places {
        for recovery in places {
            for replica in places {
                let cluster = cluster_with(own, recovery, replica);
                let patch = operator.hook(Type::Evaluate, &cluster, &pod).await.unwrap();
                let is_named = own.or(recovery).or(replica).is_some();
                assert_eq!(!patch.is_empty(), is_named, "{own:?} {recovery:?} {replica:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_first_archive_decides_and_options_do_not_leak_into_another() {
    let operator = Operator::start().await;
    let with = |name: &str, memory: &str| {
        archive_with(
            name,
            json!({
                "env": [{ "name": "PGBACKREST_REPO1_S3_ROLE", "value": name }, { "name": "AWS_REGION", "value": name },
                    { "name": format!("ONLY_{name}"), "value": "1" }, { "name": "PGDATA", "value": "/tmp" },
                    { "name": format!("PGBACKREST_{name}"), "value": "1" }],
                "resources": { "limits": { "memory": memory } },
            }),
        )
    };
    operator.api.put(with("own", "1Gi"));
    operator.api.put(with("old", "2Gi"));
    let cluster = cluster("1.30");
    for (object, operation, first, other, memory) in
        [(pod("1.30"), Type::Evaluate, "own", "old", "1Gi"), (job("1.30"), Type::Create, "old", "own", "2Gi")]
    {
        let done = patched(&object, &operator.hook(operation, &cluster, &object).await.unwrap());
        let spec = if object["kind"] == "Job" { &done["spec"]["template"]["spec"] } else { &done["spec"] };
        let sidecar = sidecar(spec);
        assert_eq!(sidecar["resources"]["limits"]["memory"], memory);
        assert_eq!(named(&sidecar["env"], "PGBACKREST_REPO1_S3_ROLE")["value"], first);
        assert_eq!(named(&sidecar["env"], "AWS_REGION")["value"], first);
        assert_eq!(named(&sidecar["env"], &format!("ONLY_{other}"))["value"], "1");
        assert_eq!(named(&sidecar["env"], "PGDATA")["value"], "/var/lib/postgresql/data/pgdata");
        let names: Vec<&Value> = sidecar["env"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert!(!names.contains(&&json!(format!("PGBACKREST_{other}"))));
    }
}

#[tokio::test]
async fn sec13_the_sidecar_is_restricted_unless_the_archive_says_otherwise() {
    let operator = operator().await;
    let pod = pod("1.30");
    let patch = operator.hook(Type::Evaluate, &cluster("1.30"), &pod).await.unwrap();
    let restricted = json!({
        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "privileged": false,
        "readOnlyRootFilesystem": true, "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" },
    });
    assert_eq!(sidecar(&patched(&pod, &patch)["spec"])["securityContext"], restricted);
    operator.api.put(archive_with("own", json!({ "securityContext": { "runAsUser": 1000, "newField": { "a": 1 } } })));
    let patch = operator.hook(Type::Evaluate, &cluster("1.30"), &pod).await.unwrap();
    let patched = patched_anyhow(&pod, &patch);
    let context = &sidecar(&patched["spec"])["securityContext"];
    assert_eq!(*context, json!({ "runAsUser": 1000, "newField": { "a": 1 } }));
}

#[tokio::test]
async fn c16_a_pod_is_never_patched_without_its_archive() {
    let operator = operator().await;
    let (cluster, pod) = (cluster("1.30"), pod("1.30"));
    for (status, code) in [(403, Code::FailedPrecondition), (500, Code::Unavailable), (503, Code::Unavailable)] {
        operator.api.inject(Rule::on(Verb::Get, "archives", Answer::Status(status)));
        let error = operator.hook(Type::Evaluate, &cluster, &pod).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().starts_with("unable to get archives 'apps/"), "{error}");
        operator.api.heal();
    }
    operator.api.remove("Archive", "apps", "own");
    let error = operator.hook(Type::Evaluate, &cluster, &pod).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("Archive 'apps/own' is not there"), "{error}");
}

#[tokio::test]
async fn c35_a_silent_api_server_does_not_hold_a_hook_up() {
    let operator = operator().await;
    operator.api.inject(Rule::any(Answer::Hang));
    let begun = tokio::time::Instant::now();
    let (cluster, pod) = (cluster("1.30"), pod("1.30"));
    let (hook, pre) = tokio::join!(operator.hook(Type::Evaluate, &cluster, &pod), operator.pre(&cluster));
    for error in [hook.unwrap_err(), pre.unwrap_err()] {
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains("no answer within"), "{error}");
    }
    assert!(begun.elapsed().as_secs() < 10);
}
