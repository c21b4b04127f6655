//! Objects for the tests: as CloudNativePG builds them (`data/cnpg/README.md`), and Archives.

use pgbr_testkit::kube_api::shape_mistakes;
use serde_json::{Value, json};

pub(crate) const VERSIONS: [&str; 3] = ["1.25", "1.28", "1.30"];

pub(crate) const PLUGIN: &str = "pgbackrest.cnpg.opera.com";

fn data(file: &str) -> Value {
    let path = format!("{}/data/cnpg/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn pod(version: &str) -> Value {
    data(&format!("pod-{version}"))
}

pub(crate) fn job(version: &str) -> Value {
    data(&format!("job-{version}"))
}

pub(crate) fn cluster(version: &str) -> Value {
    data(&format!("cluster-{version}"))
}

/// An Archive in the namespace of the clusters, with one repository whose Secret is named after the Archive.
pub(crate) fn archive(name: &str) -> Value {
    json!({
        "apiVersion": "pgbackrest.cnpg.opera.com/v1", "kind": "Archive",
        "metadata": { "name": name, "namespace": "apps" },
        "spec": { "configuration": { "repositories": [{
            "bucket": "backups", "destinationPath": "/", "endpointURL": "minio:9000",
            "s3Credentials": {
                "keyType": "shared",
                "accessKeyId": { "name": name, "key": "ID" }, "secretAccessKey": { "name": name, "key": "SECRET" },
            },
        }] } },
    })
}

pub(crate) fn archive_with(name: &str, sidecar: Value) -> Value {
    let mut archive = archive(name);
    archive["spec"]["instanceSidecarConfiguration"] = sidecar;
    archive
}

/// A Cluster that names Archives in these places.
pub(crate) fn cluster_with(own: Option<&str>, recovery: Option<&str>, replica: Option<&str>) -> Value {
    let mut cluster = cluster("1.30");
    let plugin = |archive: &str| json!({ "name": PLUGIN, "parameters": { "pgbackrestObjectName": archive } });
    let spec = &mut cluster["spec"];
    spec["plugins"] = own.map_or(json!([]), |archive| json!([plugin(archive)]));
    spec["bootstrap"] = json!({});
    let mut externals = Vec::new();
    if let Some(archive) = recovery {
        spec["bootstrap"] = json!({ "recovery": { "source": "first" } });
        externals.push(json!({ "name": "first", "plugin": plugin(archive) }));
    }
    if let Some(archive) = replica {
        spec["replica"] = json!({ "enabled": true, "source": "second" });
        externals.push(json!({ "name": "second", "plugin": plugin(archive) }));
    }
    spec["externalClusters"] = json!(externals);
    cluster
}

/// The object after its patch, which has the shape of its kind; no patch changes nothing.
pub(crate) fn patched(object: &Value, patch: &[u8]) -> Value {
    let object = patched_anyhow(object, patch);
    assert_eq!(shape_mistakes(&object), [] as [String; 0], "{object}");
    object
}

/// The object after its patch, where that has fields which this version of Kubernetes does not know.
pub(crate) fn patched_anyhow(object: &Value, patch: &[u8]) -> Value {
    let mut object = object.clone();
    if !patch.is_empty() {
        let patch: json_patch::Patch = serde_json::from_slice(patch).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    object
}

pub(crate) fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}
