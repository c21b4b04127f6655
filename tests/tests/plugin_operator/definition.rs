//! The definition of the Archive against the fields of the original's (`data/archive-crd.tsv`).

use std::collections::BTreeMap;

use pgbr_config::Command;
use pgbr_plugin::instance::pod::Pod;
use pgbr_plugin::resource::{ArchiveSpec, SecretKey};
use pgbr_plugin::settings::{Request, Secrets, settings};
use pgbr_repo::format::Stanza;
use serde_json::{Value, json};

use pgbr_testkit::kube_api::mistakes;

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
        // Rules have a test of their own; as many repositories as pgBackRest knows are not fewer than ever worked.
        let has_rules = !ours["x-kubernetes-validations"].is_null();
        assert!(!has_rules || RULED.contains(&path), "{path} has rules");
        let most = (path == ".spec.configuration.repositories").then_some(256);
        assert_eq!(ours["maxItems"].as_u64(), most, "{path}");
    }
    assert!(fields > 115, "{fields}");
}

/// What has rules in CEL.
const RULED: [&str; 2] = [".spec.configuration.repositories[]", ".spec.configuration.repositories[].s3Credentials"];

/// Makes another repository of one.
type Change<'a> = &'a dyn Fn(&mut Value);

/// A rule refuses only what never worked: the sidecar refuses the same for every command, with or without the rule.
#[test]
fn kg26_rules_refuse_what_never_worked_and_nothing_else() {
    let schema = schema();
    let (all, _) = at(&schema, ".spec").unwrap();
    let with = |change: Change<'_>| {
        let mut repository = json!({
            "bucket": "b", "destinationPath": "/", "endpointURL": "s3.example", "encryption": "aes-256-cbc",
            "encryptionKey": { "name": "n", "key": "k" },
            "s3Credentials": { "keyType": "shared", "accessKeyId": { "name": "n", "key": "k" },
                "secretAccessKey": { "name": "n", "key": "k" }, "uriStyle": "path", "region": "r" },
        });
        change(&mut repository);
        json!({ "configuration": { "repositories": [repository] } })
    };
    let remove = |repository: &mut Value, pointer: &str| {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        repository.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
    };
    // What clients make of an object: fields left out, empty, or null.
    let good: [Change<'_>; 17] = [
        &|_| {},
        &|it| remove(it, "/encryption"),
        &|it| it["encryption"] = json!(""),
        &|it| it["encryption"] = Value::Null,
        &|it| {
            it["encryption"] = json!("none");
            it["encryptionKey"] = Value::Null;
        },
        &|it| {
            remove(it, "/encryption");
            remove(it, "/encryptionKey");
        },
        &|it| remove(it, "/s3Credentials"),
        &|it| it["s3Credentials"] = Value::Null,
        &|it| it["s3Credentials"] = json!({ "keyType": "auto" }),
        &|it| it["s3Credentials"] = json!({ "keyType": "web-id", "region": "r", "accessKeyId": null }),
        &|it| it["s3Credentials"] = json!({ "keyType": "pod-id" }),
        &|it| it["s3Credentials"] = json!({ "keyType": "process" }),
        &|it| remove(it, "/s3Credentials/keyType"),
        &|it| it["s3Credentials"]["keyType"] = json!(""),
        &|it| it["s3Credentials"]["keyType"] = Value::Null,
        &|it| remove(it, "/s3Credentials/uriStyle"),
        &|it| it["destinationPath"] = json!("/a b/c-1_2.3"),
    ];
    for (number, change) in good.into_iter().enumerate() {
        let spec = with(change);
        assert_eq!(mistakes(all, &spec), [] as [String; 0], "{number}: {spec}");
    }
    let bad: [(Change<'_>, &str); 9] = [
        (&|it| remove(it, "/encryptionKey"), "encryption needs encryptionKey"),
        (&|it| it["encryptionKey"] = Value::Null, "encryption needs encryptionKey"),
        (&|it| it["destinationPath"] = json!("backups/a"), "has to begin with a slash"),
        (&|it| remove(it, "/s3Credentials/accessKeyId"), "needs accessKeyId and secretAccessKey"),
        (&|it| remove(it, "/s3Credentials/secretAccessKey"), "needs accessKeyId and secretAccessKey"),
        (&|it| it["s3Credentials"] = json!({}), "needs accessKeyId and secretAccessKey"),
        (&|it| it["s3Credentials"] = json!({ "keyType": "" }), "needs accessKeyId and secretAccessKey"),
        (&|it| it["s3Credentials"]["keyType"] = json!("webid"), "keyType has to be"),
        (&|it| it["s3Credentials"]["uriStyle"] = json!("virtual"), "uriStyle has to be"),
    ];
    for (change, message) in bad {
        let spec = with(change);
        let found = mistakes(all, &spec);
        assert!(found.len() == 1 && found[0].contains(message), "{message}: {found:?}");
        assert_eq!(taken(&spec), Vec::<String>::new(), "{spec}");
    }
    assert_eq!(taken(&with(&|_| {})).len(), 5, "what is right is taken");
    let many =
        json!({ "configuration": { "repositories": vec![json!({ "bucket": "b", "destinationPath": "/" }); 257] } });
    assert_eq!(mistakes(all, &many), [".configuration.repositories: there are too many"]);
}

/// The commands that use a repository and for which the sidecar makes options of it.
fn taken(spec: &Value) -> Vec<String> {
    let archive: ArchiveSpec = serde_json::from_value(spec.clone()).unwrap();
    let values = [(SecretKey { name: "n".to_owned(), key: "k".to_owned() }, "secret-value".into())].into();
    let secrets = Secrets { values, ..Secrets::default() };
    let stanza = Stanza::parse("demo").unwrap();
    let variables = [("POD_NAME", "demo-1"), ("NAMESPACE", "apps"), ("PGDATA", "/data")];
    let pod = Pod::of(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()).unwrap();
    let commands = [Command::ArchivePush, Command::ArchiveGet, Command::Backup, Command::Restore, Command::Info];
    let is_taken = |command: &Command| {
        let request = Request {
            command: *command,
            archive: &archive,
            secrets: &secrets,
            stanza: &stanza,
            pod: &pod,
            parameters: &BTreeMap::new(),
            annotations: &[],
        };
        settings(&request).is_ok()
    };
    commands.iter().filter(|command| is_taken(command)).map(|command| format!("{command:?}")).collect()
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
