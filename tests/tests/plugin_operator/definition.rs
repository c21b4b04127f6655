//! The definition of the Archive against the fields of the original's (`data/archive-crd.tsv`).

use serde_json::{Value, json};

fn schema() -> Value {
    let definition = pgbr_plugin::resource::definition();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// The schema at a path such as `.spec.list[].map{}.field`, and whether its parent requires it.
fn at<'a>(schema: &'a Value, path: &str) -> Option<(&'a Value, bool)> {
    let steps = path.replace("[]", ".[]").replace("{}", ".{}");
    let (mut here, mut required) = (schema, false);
    for step in steps.split('.').filter(|step| !step.is_empty()) {
        let parent = here;
        here = match step {
            "[]" => parent.get("items")?,
            "{}" => parent.get("additionalProperties")?,
            name => parent.get("properties")?.get(name)?,
        };
        required = parent["required"].as_array().is_some_and(|names| names.contains(&json!(step)));
    }
    Some((here, required))
}

#[test]
fn every_field_is_there_with_its_type_and_no_stricter_check() {
    let schema = schema();
    let facts = include_str!("../../data/archive-crd.tsv");
    let mut fields = 0;
    for line in facts.lines().filter(|line| !line.starts_with('#')) {
        let [path, kind, required, checks] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        // The server knows these two itself.
        if [".apiVersion", ".kind", ".metadata"].contains(&path) {
            continue;
        }
        let (ours, is_required) = at(&schema, path).unwrap_or_else(|| panic!("{path} is missing"));
        fields += 1;
        match kind {
            "int-or-string" => assert_eq!(ours["x-kubernetes-int-or-string"], json!(true), "{path}"),
            kind => assert_eq!(ours["type"], kind, "{path}"),
        }
        assert!(!is_required || required == "R", "{path} is required and was not");
        let check = |name: &str| {
            let value = checks.split(&format!("{name}=")).nth(1)?;
            Some(value.split(' ').next().unwrap().parse::<f64>().unwrap())
        };
        for (name, looser) in [("minimum", -1.0), ("maximum", 1.0), ("minLength", -1.0), ("minItems", -1.0)] {
            if let Some(bound) = ours[name].as_f64() {
                let theirs = check(name).unwrap_or_else(|| panic!("{path} has {name} and had not"));
                assert!((bound - theirs) * looser >= 0.0, "{path} {name} {bound} {theirs}");
            }
        }
        if let Some(values) = ours["enum"].as_array() {
            let theirs = checks.split("enum=[").nth(1).unwrap_or_else(|| panic!("{path} has an enum and had not"));
            for value in theirs.split(']').next().unwrap().split(", ") {
                assert!(values.contains(&json!(value.trim_matches('\''))), "{path} lacks {value}");
            }
        }
        assert!(ours["pattern"].is_null() || checks.contains("pattern="), "{path} has a pattern and had not");
        assert!(ours["x-kubernetes-validations"].is_null(), "{path} has rules");
    }
    assert!(fields > 115, "{fields}");
}

#[test]
fn what_the_server_stores_by_default_is_as_before() {
    let schema = schema();
    let default = |path: &str| at(&schema, path).unwrap().0["default"].clone();
    assert_eq!(default(".spec.configuration.createStanza"), "OnFirstArchive");
    assert_eq!(default(".spec.configuration.repositories[].s3Credentials.keyType"), "shared");
    // Nothing else comes into an object that does not have it.
    fn defaults(schema: &Value, path: &str, found: &mut Vec<String>) {
        if let Value::Object(fields) = schema {
            if fields.contains_key("type") && fields.contains_key("default") {
                found.push(path.to_owned());
            }
            for (name, schema) in fields {
                defaults(schema, &format!("{path}/{name}"), found);
            }
        }
    }
    let mut found = Vec::new();
    defaults(&schema["properties"]["spec"], "", &mut found);
    found.retain(|path| !path.contains("/valueFrom/"));
    assert_eq!(found.len(), 2, "{found:?}");
    let mut found = Vec::new();
    defaults(&schema["properties"]["status"], "", &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_names_are_those_of_the_original() {
    let definition = pgbr_plugin::resource::definition();
    assert_eq!(definition["metadata"]["name"], "archives.pgbackrest.cnpg.opera.com");
    assert_eq!(definition["spec"]["group"], "pgbackrest.cnpg.opera.com");
    assert_eq!(definition["spec"]["scope"], "Namespaced");
    let names = &definition["spec"]["names"];
    assert_eq!(
        (&names["kind"], &names["plural"], &names["singular"]),
        (&json!("Archive"), &json!("archives"), &json!("archive"))
    );
    let version = &definition["spec"]["versions"][0];
    assert_eq!((&version["name"], &version["served"], &version["storage"]), (&json!("v1"), &json!(true), &json!(true)));
    assert_eq!(version["subresources"], json!({ "status": {} }));
    assert_eq!(definition["spec"]["versions"].as_array().unwrap().len(), 1);
}

#[test]
fn a_full_archive_survives_reading_and_writing() {
    let archive = json!({
        "apiVersion": "pgbackrest.cnpg.opera.com/v1", "kind": "Archive", "metadata": { "name": "a" },
        "spec": {
            "configuration": {
                "repositories": [{
                    "bucket": "b", "destinationPath": "/p", "endpointURL": "https://[::1]:9000", "disableVerifyTLS": true,
                    "endpointCA": { "name": "n", "key": "k" }, "encryption": "aes-256-cbc",
                    "encryptionKey": { "name": "n", "key": "k" },
                    "s3Credentials": { "keyType": "web-id", "accessKeyId": { "name": "n", "key": "k" },
                        "secretAccessKey": { "name": "n", "key": "k" }, "region": "r", "uriStyle": "path" },
                    "retention": { "full": 1, "fullType": "time", "diff": 2, "archive": 3, "archiveType": "incr", "history": 0 },
                }],
                "compression": "zst", "stanza": "s", "createStanza": "Disabled",
                "wal": { "maxParallel": 4, "archiveAdditionalCommandArgs": ["--a"], "restoreAdditionalCommandArgs": ["--b", "c"] },
                "data": { "jobs": 2, "immediateCheckpoint": true, "tags": { "a": "b" }, "additionalCommandArgs": ["--c=d"] },
                "restore": { "jobs": 3, "additionalCommandArgs": [] }, "log": { "levelStderr": "detail" },
            },
            "instanceSidecarConfiguration": {
                "env": [{ "name": "A", "valueFrom": { "fileKeyRef": { "key": "k", "path": "p", "volumeName": "v" } } }],
                "resources": { "claims": [{ "name": "c" }], "limits": { "cpu": 1 } },
                "securityContext": { "windowsOptions": { "hostProcess": false } },
            },
        },
    });
    let read: pgbr_plugin::resource::Archive = serde_json::from_value(archive.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), archive);
    // As the first versions stored it.
    let old = json!({ "metadata": { "name": "a" }, "spec": { "configuration": { "repositories": [
        { "bucket": "b", "destinationPath": "/", "s3Credentials": {} }] } } });
    let read: pgbr_plugin::resource::Archive =
        serde_json::from_value(json!({ "apiVersion": "pgbackrest.cnpg.opera.com/v1", "kind": "Archive",
            "metadata": old["metadata"], "spec": old["spec"] }))
        .unwrap();
    assert_eq!(read.spec.configuration.create_stanza.as_deref(), Some("OnFirstArchive"));
}
