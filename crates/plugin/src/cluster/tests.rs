use serde_json::{Value, json};

use super::*;

fn parse(value: &Value) -> Result<Cluster, InputError> {
    Cluster::parse(value.to_string().as_bytes())
}

fn minimal() -> Value {
    json!({ "metadata": { "name": "demo", "namespace": "apps" } })
}

#[test]
fn c36_what_is_unknown_missing_or_null_is_fine() {
    assert_eq!(parse(&minimal()).unwrap().name, "demo");
    let cluster = parse(&json!({
        "apiVersion": "postgresql.k8s.enterprisedb.io/v1", "kind": "Cluster", "new": [1],
        "metadata": { "name": "demo", "namespace": "apps", "uid": null, "annotations": null, "managedFields": [{}] },
        "spec": {
            "plugins": [null, { "name": "other", "enabled": null, "parameters": null, "later": {} }],
            "externalClusters": null, "bootstrap": { "initdb": {} }, "replica": null, "walStorage": { "size": "1Gi" },
            "tablespaces": [{ "name": "tbs1", "storage": {} }], "imagePullPolicy": "",
        },
        "status": { "currentPrimary": "", "timelineID": 3, "instances": "three" },
    }))
    .unwrap();
    assert_eq!(cluster.plugins.len(), 1);
    assert!(cluster.plugins[0].enabled);
    assert!(cluster.wal_storage);
    assert_eq!(cluster.tablespaces, ["tbs1"]);
    assert_eq!((cluster.status.current_primary, cluster.status.timeline_id), (None, Some(3)));
    assert_eq!(cluster.image_pull_policy, None);
}

#[test]
fn kg04_a_mistake_names_the_field() {
    let with = |pointer: &str, value: Value| {
        let mut cluster = json!({
            "kind": "Cluster", "metadata": { "name": "demo", "namespace": "apps" },
            "spec": { "plugins": [{ "name": "pgbackrest.cnpg.opera.com", "parameters": {} }], "bootstrap": {}, "replica": {} },
            "status": {},
        });
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        cluster.pointer_mut(parent).unwrap()[field] = value;
        parse(&cluster).unwrap_err().to_string()
    };
    assert_eq!(with("/kind", json!("Pod")), "kind: should be Cluster, is Pod");
    assert_eq!(with("/kind", json!(7)), "kind: should be a text, is a number");
    assert_eq!(with("/metadata", json!([])), "metadata: should be an object, is a list");
    assert_eq!(with("/metadata/name", json!("")), "metadata.name: is missing");
    assert!(with("/metadata/name", json!("../x")).starts_with("metadata.name: '../x' is not the name"));
    assert!(with("/metadata/namespace", json!("a/b")).starts_with("metadata.namespace: "));
    assert_eq!(with("/spec/plugins", json!({})), "spec.plugins: should be a list, is an object");
    assert_eq!(with("/spec/plugins", json!(["x"])), "spec.plugins[0]: should be an object, is a text");
    assert_eq!(with("/spec/replica/enabled", json!("yes")), "spec.replica.enabled: should be a boolean, is a text");
    assert_eq!(with("/status/timelineID", json!(-1)), "status.timelineID: should be a whole number below 4294967296");
    let parameters = json!({ "pgbackrestObjectName": "../../secrets/x" });
    assert!(
        with("/spec/plugins/0/parameters", parameters)
            .starts_with("spec.plugins[0].parameters.pgbackrestObjectName: '../../secrets/x' is not the name")
    );
    let parameters = json!({ "stanza": 7 });
    assert_eq!(
        with("/spec/plugins/0/parameters", parameters),
        "spec.plugins[0].parameters.stanza: should be a text, is a number"
    );
    for bytes in [b"".as_slice(), b"[]", b"null", b"{", b"\xff", &[b'['; 10_000]] {
        assert!(Cluster::parse(bytes).is_err());
        assert!(Backup::parse(bytes).is_err());
    }
}

#[test]
fn kg04_no_wrong_type_anywhere_panics() {
    let whole = json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "metadata": { "name": "demo", "namespace": "apps", "uid": "u", "annotations": { "a": "b" } },
        "spec": {
            "plugins": [{ "name": "p", "enabled": true, "isWALArchiver": true, "parameters": { "a": "b" } }],
            "externalClusters": [{ "name": "e", "plugin": { "name": "p" }, "connectionParameters": { "host": "h" } }],
            "bootstrap": { "recovery": { "source": "e", "volumeSnapshots": {}, "recoveryTarget": { "backupID": "x",
                "targetTLI": "latest", "targetImmediate": true, "exclusive": false } } },
            "replica": { "enabled": true, "self": "a", "primary": "b", "source": "e", "promotionToken": "t" },
            "tablespaces": [{ "name": "t" }], "walStorage": {}, "serviceAccountName": "sa", "imagePullPolicy": "Always",
        },
        "status": { "currentPrimary": "demo-1", "targetPrimary": "demo-1", "timelineID": 1, "lastPromotionToken": "t" },
    });
    parse(&whole).unwrap();
    let mut places = Vec::new();
    collect(&whole, "", &mut places);
    assert!(places.len() > 40, "{}", places.len());
    for place in places {
        for other in [json!(null), json!(true), json!(-7), json!(1e300), json!("x"), json!([]), json!([[]]), json!({})]
        {
            let mut damaged = whole.clone();
            *damaged.pointer_mut(&place).unwrap() = other;
            if let Err(error) = parse(&damaged) {
                assert!(!error.place.is_empty(), "{place}");
            }
        }
    }
}

fn collect(value: &Value, place: &str, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let place = format!("{place}/{name}");
                places.push(place.clone());
                collect(value, &place, places);
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                let place = format!("{place}/{at}");
                places.push(place.clone());
                collect(value, &place, places);
            }
        }
        _ => {}
    }
}

#[test]
fn a_replica_cluster_is_told_so_or_not_the_primary() {
    let of = |replica: Value| {
        parse(&json!({ "metadata": { "name": "a", "namespace": "n" }, "spec": { "replica": replica } }))
            .unwrap()
            .is_replica_cluster()
    };
    assert!(of(json!({ "enabled": true, "source": "b" })));
    assert!(!of(json!({ "enabled": false, "primary": "b" })));
    assert!(of(json!({ "primary": "b", "source": "b" })));
    assert!(!of(json!({ "primary": "a", "source": "b" })));
    assert!(!of(json!({ "self": "dc-a", "primary": "dc-a", "source": "b" })));
    assert!(!of(json!({ "source": "b" })));
    assert!(!of(Value::Null));
}

#[test]
fn a_backup_is_read() {
    let backup = Backup::parse(
        json!({
            "kind": "Backup", "metadata": { "name": "b1", "namespace": "apps", "uid": "u1" },
            "spec": { "cluster": { "name": "demo" }, "method": "plugin", "target": "primary",
                "pluginConfiguration": { "name": "pgbackrest.cnpg.opera.com", "parameters": { "type": "full" } } },
            "status": { "phase": "started" },
        })
        .to_string()
        .as_bytes(),
    )
    .unwrap();
    assert_eq!((backup.cluster.as_str(), backup.uid.as_str()), ("demo", "u1"));
    assert_eq!(backup.parameters["type"], "full");
    assert_eq!(backup.phase.as_deref(), Some("started"));
    let error = Backup::parse(br#"{"kind":"Cluster","metadata":{"name":"b","namespace":"n"}}"#).unwrap_err();
    assert_eq!(error.to_string(), "kind: should be Backup, is Cluster");
}
