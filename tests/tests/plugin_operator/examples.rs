//! Every example of `manifests/examples`: taken by the API server, understood by both sides of the plugin, and meaning what it
//! says.

use std::collections::{BTreeMap, BTreeSet};

use pgbr_config::Command;
use pgbr_plugin::cluster::{Backup, Cluster};
use pgbr_plugin::instance::pod::Pod;
use pgbr_plugin::parameters;
use pgbr_plugin::proto::operator_lifecycle::operator_operation_type::Type;
use pgbr_plugin::proto::reconciler::reconciler_hooks_result::Behavior;
use pgbr_plugin::resource::{Archive, ArchiveSpec};
use pgbr_plugin::settings::{Authority, Findings, Request, Secrets, Settings, archive_findings, secret_refs, settings};
use serde_json::{Value, json};

use crate::call::Operator;
use crate::objects::{PLUGIN, job, named, patched, pod};
use pgbr_testkit::kube_api::mistakes;

/// The objects of an example file, in the namespace of the tests' pods.
fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(format!("{}/{file}", folder())).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    for object in &mut objects {
        assert!(object["metadata"]["namespace"].is_null(), "{file}: the user chooses the namespace");
        object["metadata"]["namespace"] = json!("apps");
        object["metadata"]["uid"] = json!("0d1e2f3a-0000-4000-8000-000000000009");
    }
    objects
}

fn folder() -> String {
    format!("{}/../manifests/examples", env!("CARGO_MANIFEST_DIR"))
}

fn files() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut files: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    files
}

/// All objects of all files with their file.
fn all() -> Vec<(String, Value)> {
    files()
        .into_iter()
        .flat_map(|file| documents(&file).into_iter().map(move |object| (file.clone(), object)))
        .collect()
}

fn archives() -> BTreeMap<String, ArchiveSpec> {
    let objects = all().into_iter().map(|(_, object)| object).filter(|object| object["kind"] == "Archive");
    objects
        .map(|object| {
            let read: Archive = serde_json::from_value(object).unwrap();
            (read.metadata.name.unwrap(), read.spec)
        })
        .collect()
}

/// The options that the sidecar makes of an Archive, with a value for each of its Secrets.
fn options(archive: &ArchiveSpec, command: Command, parameters: &BTreeMap<String, String>) -> Settings {
    let mut variables = vec![("POD_NAME".to_owned(), "c-1".to_owned()), ("NAMESPACE".to_owned(), "apps".to_owned())];
    let sidecar = archive.instance_sidecar_configuration.as_ref();
    for variable in sidecar.and_then(|it| it.env.as_ref()).into_iter().flatten() {
        let text = |field: &str| variable[field].as_str().unwrap().to_owned();
        variables.push((text("name"), text("value")));
    }
    let (references, authorities) = secret_refs(archive);
    let secrets = Secrets {
        values: references.into_iter().map(|it| (it, "canary-of-the-examples".to_owned().into())).collect(),
        authorities: authorities
            .into_keys()
            .map(|number| (number, Authority { file: format!("/ca-{number}"), content: Vec::new() }))
            .collect(),
    };
    let request = Request {
        command,
        archive,
        secrets: &secrets,
        stanza: &"demo".parse().unwrap(),
        pod: &Pod::of(variables).unwrap(),
        parameters,
        annotations: &[],
    };
    settings(&request).unwrap()
}

#[test]
fn every_archive_passes_the_definition() {
    let definition = pgbr_plugin::resource::definition();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut archives = 0;
    for (file, object) in all().iter().filter(|(_, object)| object["kind"] == "Archive") {
        assert_eq!(object["apiVersion"], format!("{PLUGIN}/v1"), "{file}");
        assert_eq!(mistakes(schema, &object["spec"]), Vec::<String>::new(), "{file} {}", object["metadata"]["name"]);
        let spec: ArchiveSpec = serde_json::from_value(object["spec"].clone()).unwrap();
        assert_eq!(archive_findings(&spec), Findings::default(), "{file} {}", object["metadata"]["name"]);
        archives += 1;
    }
    assert_eq!(archives, 9);
    // The check itself can fail.
    let mut wrong = documents("archive.yaml").remove(0);
    wrong["spec"]["configuration"]["compression"] = json!("zip");
    wrong["spec"]["configuration"]["wal"]["maxParalel"] = json!(2);
    wrong["spec"]["configuration"]["data"]["jobs"] = json!("4");
    wrong["spec"]["configuration"]["repositories"][0]["retention"]["full"] = json!(0);
    wrong["spec"]["configuration"]["repositories"][0]["bucket"] = json!("");
    wrong["spec"]["configuration"]["repositories"][0].as_object_mut().unwrap().remove("destinationPath");
    wrong["spec"]["instanceSidecarConfiguration"]["env"] = json!([{ "value": "1" }]);
    assert_eq!(mistakes(schema, &wrong["spec"]).len(), 7, "{:?}", mistakes(schema, &wrong["spec"]));
}

/// Fields of CloudNativePG's own objects are those of its definitions (`data/cnpg/fields.tsv`).
#[test]
fn every_field_of_a_cluster_or_backup_exists() {
    let mut known = BTreeMap::new();
    for line in include_str!("../../data/cnpg/fields.tsv").lines().filter(|line| !line.starts_with('#')) {
        let [kind, path, of_type, values] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        known.insert((kind, path), (of_type, values));
    }
    fn walk(value: &Value, path: &str, found: &mut Vec<(String, Value)>, maps: &dyn Fn(&str) -> bool) {
        found.push((path.to_owned(), value.clone()));
        for (name, field) in value.as_object().into_iter().flatten() {
            let path = if maps(path) { format!("{path}{{}}") } else { format!("{path}.{name}") };
            walk(field, &path, found, maps);
        }
        for item in value.as_array().into_iter().flatten() {
            walk(item, &format!("{path}[]"), found, maps);
        }
    }
    for (file, object) in all() {
        let kind = object["kind"].as_str().unwrap();
        if !["Cluster", "Backup", "ScheduledBackup"].contains(&kind) {
            continue;
        }
        assert_eq!(object["apiVersion"], "postgresql.cnpg.io/v1", "{file}");
        let mut found = Vec::new();
        walk(&object["spec"], ".spec", &mut found, &|path| known.contains_key(&(kind, format!("{path}{{}}").as_str())));
        for (path, value) in found {
            let (of_type, values) =
                known.get(&(kind, path.as_str())).unwrap_or_else(|| panic!("{file}: {kind} {path}"));
            let is = match value {
                Value::Object(_) => "object",
                Value::Array(_) => "array",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "integer",
                _ => "string",
            };
            assert_eq!(is, *of_type, "{file}: {kind} {path}");
            let is_listed = values.is_empty() || values.split('|').any(|it| Some(it) == value.as_str());
            assert!(is_listed, "{file}: {kind} {path} {value}");
        }
    }
}

/// What the examples refer to is among them.
#[test]
fn nothing_that_an_example_names_is_missing() {
    let (objects, archives) = (all(), archives());
    let names = |kind: &str| -> BTreeSet<String> {
        let of_kind = objects.iter().filter(|(_, object)| object["kind"] == kind);
        of_kind.map(|(_, object)| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    for (file, object) in &objects {
        match object["kind"].as_str().unwrap() {
            "Cluster" => {
                let cluster = Cluster::parse(object.to_string().as_bytes()).unwrap();
                let named = parameters::archives(&cluster);
                assert!(!named.is_empty() && named.iter().all(|name| archives.contains_key(name)), "{file} {named:?}");
                // All but the one that shows what the original's look like.
                let own = cluster.plugins.iter().find(|plugin| plugin.name == PLUGIN);
                assert!(own.is_none_or(|own| own.is_wal_archiver) || file == "from-the-original.yaml", "{file}");
                // A restore without a stanza reads that of the new cluster: never what an example means.
                for source in [parameters::recovery_source(&cluster), parameters::replica_source(&cluster)] {
                    assert!(source.is_none_or(|source| source.stanza.is_some()), "{file}");
                }
            }
            "Backup" | "ScheduledBackup" => {
                let cluster = object["spec"]["cluster"]["name"].as_str().unwrap();
                assert!(names("Cluster").contains(cluster), "{file} {cluster}");
                assert_eq!(object["spec"]["pluginConfiguration"]["name"], PLUGIN, "{file}");
                assert_eq!(object["spec"]["method"], "plugin", "{file}");
            }
            _ => {}
        }
    }
}

/// Each Cluster gets its rights, and its pods and recovery Job their sidecar, from our operator's side.
#[tokio::test]
async fn every_cluster_gets_its_rights_and_its_sidecar() {
    let operator = Operator::start().await;
    for (_, object) in all().into_iter().filter(|(_, object)| object["kind"] == "Archive") {
        operator.api.put(object);
    }
    let archives = archives();
    let mut clusters = 0;
    for (file, cluster) in all().iter().filter(|(_, object)| object["kind"] == "Cluster") {
        let name = cluster["metadata"]["name"].as_str().unwrap();
        assert_eq!(operator.pre(cluster).await.unwrap(), Behavior::Continue, "{file} {name}");
        let parsed = Cluster::parse(cluster.to_string().as_bytes()).unwrap();
        let role = operator.api.get("Role", "apps", &format!("{name}-pgbackrest")).unwrap();
        let of = |resource: &str| -> BTreeSet<String> {
            let rules = role["rules"].as_array().unwrap().iter().filter(|rule| rule["resources"][0] == resource);
            let names = rules.flat_map(|rule| rule["resourceNames"].as_array().unwrap().clone());
            names.map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let wanted = parameters::archives(&parsed);
        assert_eq!(of("archives"), wanted, "{file} {name}");
        assert!(operator.api.get("RoleBinding", "apps", &format!("{name}-pgbackrest")).is_some());

        let (instance, recovery) = (pod("1.30"), job("1.30"));
        let done = patched(&instance, &operator.hook(Type::Evaluate, cluster, &instance).await.unwrap());
        let sidecar = named(&done["spec"]["initContainers"], "plugin-pgbackrest");
        let first = parameters::own(&parsed).or(parameters::recovery_source(&parsed)).unwrap().archive;
        let configured = archives[&first].instance_sidecar_configuration.as_ref().and_then(|it| it.resources.clone());
        assert_eq!(sidecar["resources"].is_null(), configured.is_none(), "{file} {name}");
        // Its Secrets are all that the Archives name, and nothing else.
        let keys = wanted.iter().flat_map(|archive| archives[archive].secret_keys());
        let keys: BTreeSet<String> = keys.map(|key| format!("{}/{}", key.name, key.key)).collect();
        let volumes = done["spec"]["volumes"].as_array().unwrap().iter();
        let volume = volumes.filter(|volume| volume["name"] == "pgbackrest-secrets");
        let sources = volume.flat_map(|volume| volume["projected"]["sources"].as_array().unwrap().clone());
        let items = sources.flat_map(|source| source["secret"]["items"].as_array().unwrap().clone());
        assert_eq!(
            items.map(|item| item["path"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(),
            keys,
            "{file} {name}"
        );
        let patch = operator.hook(Type::Create, cluster, &recovery).await.unwrap();
        assert_eq!(patch.is_empty(), parameters::recovery_source(&parsed).is_none(), "{file} {name}");
        clusters += 1;
    }
    assert_eq!(clusters, 16);
    // The one without isWALArchiver is told so, and no other.
    let events = operator.api.list("Event");
    let told: Vec<&Value> = events.iter().map(|event| &event["regarding"]["name"]).collect();
    assert_eq!(told, ["cluster-of-the-original"]);
}

/// Options of these words; a secret is never among them.
fn shown(settings: &Settings) -> Vec<&str> {
    assert!(!format!("{:?}", settings.shown()).contains("canary"));
    settings.shown().iter().map(String::as_str).collect()
}

fn has(settings: &Settings, wanted: &[&str]) {
    let shown = shown(settings);
    for option in wanted {
        assert!(shown.contains(option), "no {option} in {shown:?}");
    }
}

/// Each Archive leads to the options that its comments promise, for every command.
#[test]
fn every_archive_means_what_it_says() {
    let archives = archives();
    let nothing = BTreeMap::new();
    for (name, archive) in &archives {
        for command in [Command::ArchivePush, Command::ArchiveGet, Command::Backup, Command::Restore, Command::Info] {
            let made = options(archive, command, &nothing);
            assert!(made.warnings.is_empty(), "{name} {}: {:?}", command.name(), made.warnings);
        }
    }
    let made = |name: &str, command| options(&archives[name], command, &nothing);
    has(
        &made("minio-store", Command::Backup),
        &[
            "--repo1-s3-uri-style=path",
            "--repo1-cipher-type=aes-256-cbc",
            "--repo1-retention-full=7",
            "--repo1-retention-full-type=time",
            "--compress-type=zst",
            "--process-max=4",
            "--start-fast",
            "--repo1-storage-ca-file=/ca-1",
            "--repo1-s3-key-type=shared",
        ],
    );
    has(&made("minio-store", Command::ArchivePush), &["--process-max=4", "--compress-type=zst"]);
    has(
        &made("two-places", Command::Backup),
        &[
            "--repo1-s3-bucket=backups-near",
            "--repo2-s3-bucket=backups-far",
            "--repo1-retention-archive=2",
            "--repo2-retention-full=60",
            "--repo2-retention-full-type=time",
            "--repo2-retention-history=365",
        ],
    );
    has(&made("two-places", Command::ArchivePush), &["--repo2-cipher-type=aes-256-cbc"]);
    for (name, key_type) in
        [("aws-web-identity", "web-id"), ("aws-pod-identity", "pod-id"), ("aws-instance-role", "auto")]
    {
        has(
            &made(name, Command::Restore),
            &[&format!("--repo1-s3-key-type={key_type}"), "--repo1-s3-region=eu-north-1"],
        );
        assert!(archives[name].secret_keys().next().is_none(), "{name}");
    }
    let block = made("block-incremental", Command::Backup);
    has(
        &block,
        &[
            "--repo1-bundle",
            "--repo1-block",
            "--compress-level=6",
            "--repo1-retention-diff=7",
            "--annotation=team=payments",
            "--archive-timeout=10m",
        ],
    );
    assert_eq!(block.options.time(pgbr_config::opt::IO_TIMEOUT), Some(std::time::Duration::from_secs(60)));
    has(&made("block-incremental", Command::ArchivePush), &["--compress-level=1", "--process-max=8"]);
    has(&made("block-incremental", Command::Restore), &["--process-max=8"]);
    let original = made("original-store", Command::Backup);
    has(&original, &["--no-repo1-storage-verify-tls", "--io-timeout=60", "--annotation=environment=production"]);
    assert!(!shown(&original).iter().any(|option| option.contains("buffer-size")));
    has(&made("store-dc-b", Command::ArchiveGet), &["--repo1-s3-bucket=backups-dc-b"]);
}

/// The parameters of each Backup are ones that it may carry, and reach the engine.
#[test]
fn every_backup_is_made_as_it_says() {
    let (objects, archives) = (all(), archives());
    let archive_of = |cluster: &Value| {
        let is_it = |object: &&Value| object["kind"] == "Cluster" && object["metadata"]["name"] == *cluster;
        let object = objects.iter().map(|(_, object)| object).find(is_it).unwrap();
        let own = parameters::own(&Cluster::parse(object.to_string().as_bytes()).unwrap()).unwrap();
        archives[&own.archive].clone()
    };
    let mut made = BTreeMap::new();
    for (_, object) in &objects {
        let mut object = object.clone();
        if object["kind"] == "ScheduledBackup" {
            // What CloudNativePG makes of it.
            object["kind"] = json!("Backup");
        }
        if object["kind"] != "Backup" {
            continue;
        }
        let backup = Backup::parse(object.to_string().as_bytes()).unwrap();
        assert_eq!(backup.plugin.as_deref(), Some(PLUGIN));
        let archive = archive_of(&object["spec"]["cluster"]["name"]);
        made.insert(backup.name, options(&archive, Command::Backup, &backup.parameters));
    }
    assert_eq!(made.len(), 8);
    has(&made["backup-example"], &["--type=full"]);
    has(&made["backup-from-standby"], &["--type=diff"]);
    has(
        &made["backup-before-migration"],
        &[
            "--type=full",
            "--annotation=pgbr-hold=before the migration",
            "--compress-level=9",
            "--process-max=8",
            "--start-fast",
        ],
    );
    has(&made["weekly"], &["--type=full"]);
    has(&made["nightly"], &["--type=incr"]);
    has(&made["daily-near"], &["--repo=1", "--type=diff"]);
    has(&made["weekly-far"], &["--repo=2", "--type=full"]);
    assert_eq!(made["weekly-far"].options.repo_default().unwrap().number(), 2);
    has(&made["backup-of-the-original"], &["--type=full"]);
}

/// The schedules are ones that CloudNativePG reads: six fields, seconds first.
#[test]
fn every_schedule_has_its_seconds() {
    for (file, object) in all().iter().filter(|(_, object)| object["kind"] == "ScheduledBackup") {
        let schedule = object["spec"]["schedule"].as_str().unwrap();
        assert_eq!(schedule.split(' ').count(), 6, "{file}");
    }
}
