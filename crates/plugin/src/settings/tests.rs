use super::*;
use serde_json::{Value, json};

fn pod() -> Pod {
    let variables = [
        ("POD_NAME", "demo-1"),
        ("NAMESPACE", "apps"),
        ("PGDATA", "/data"),
        ("PGBACKREST_IO_TIMEOUT", "7"),
        ("PGBACKREST_PORT_9090_TCP", "tcp://10.0.0.1:9090"),
        ("PGBACKREST_REPO1_PATH", "/elsewhere"),
        ("PGBACKREST_REPO1_S3_KEY_SECRET", "of-the-container"),
    ];
    Pod::of(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()).unwrap()
}

fn archive(change: &Value) -> ArchiveSpec {
    let mut configuration = json!({
        "repositories": [{
            "bucket": "backups",
            "destinationPath": "/prod",
            "endpointURL": "minio:9000",
            "encryption": "aes-256-cbc",
            "encryptionKey": {"name": "keys", "key": "cipher"},
            "s3Credentials": {
                "region": "here",
                "uriStyle": "path",
                "accessKeyId": {"name": "keys", "key": "id"},
                "secretAccessKey": {"name": "keys", "key": "secret"},
            },
            "retention": {"full": 7, "fullType": "time"},
        }],
    });
    if let (Value::Object(whole), Value::Object(change)) = (&mut configuration, change) {
        whole.extend(change.clone());
    }
    serde_json::from_value(json!({"configuration": configuration})).unwrap()
}

fn secrets(archive: &ArchiveSpec) -> Secrets {
    let (values, _) = secret_refs(archive);
    let value = |reference: SecretKey| {
        let value = SecretString::from(format!("canary-{}", reference.key));
        (reference, value)
    };
    Secrets { values: values.into_iter().map(value).collect(), authorities: BTreeMap::new() }
}

fn made(command: Command, archive: &ArchiveSpec, parameters: &[(&str, &str)]) -> Result<Settings, Failure> {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let annotations = [(BACKUP_NAME, "backup-1".to_owned())];
    settings(&Request {
        command,
        archive,
        secrets: &secrets(archive),
        stanza: &Stanza::parse("demo").unwrap(),
        pod: &pod(),
        parameters: &parameters,
        annotations: if command == Command::Backup { &annotations } else { &[] },
    })
}

fn refused(archive: &ArchiveSpec, parameters: &[(&str, &str)]) -> String {
    match made(Command::Backup, archive, parameters) {
        Err(Failure::Invalid(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_archive_becomes_the_options_of_every_command() {
    use pgbr_config::opt;
    let archive = archive(&json!({"wal": {"maxParallel": 4}, "data": {"jobs": 3, "immediateCheckpoint": true}}));
    for command in [
        Command::ArchivePush,
        Command::ArchiveGet,
        Command::Backup,
        Command::Restore,
        Command::StanzaCreate,
        Command::Info,
        Command::Expire,
    ] {
        let settings = made(command, &archive, &[]).unwrap();
        let options = &settings.options;
        let repo = options.repo(options.repos().next().unwrap());
        assert_eq!(repo.text(opt::REPO_S3_BUCKET), Some("backups"), "{command}");
        assert_eq!(repo.path(opt::REPO_PATH), Some("/prod"), "a field goes before a variable");
        assert_eq!(repo.secret(opt::REPO_S3_KEY_SECRET).unwrap().expose_secret(), "canary-secret");
        assert_eq!(repo.secret(opt::REPO_CIPHER_PASS).unwrap().expose_secret(), "canary-cipher");
        assert_eq!(options.time(opt::IO_TIMEOUT), Some(std::time::Duration::from_secs(7)), "a variable counts");
        let shown = format!("{settings:?} {:?}", settings.warnings);
        assert!(!shown.contains("canary"), "{shown}");
    }
    let workers = |command| pgbr_config::engine::workers(&made(command, &archive, &[]).unwrap().options);
    assert_eq!((workers(Command::ArchivePush), workers(Command::Backup), workers(Command::Restore)), (4, 3, 1));
    let backup = made(Command::Backup, &archive, &[]).unwrap().options;
    assert!(backup.boolean(opt::START_FAST));
    assert_eq!(backup.string_id(opt::COMPRESS_TYPE), Some("gz"));
    assert_eq!(backup.hash(opt::ANNOTATION), [("cnpg-backup-name".to_owned(), "backup-1".to_owned())]);
}

#[test]
fn a_parameter_goes_before_a_field_and_a_field_before_an_argument() {
    use pgbr_config::opt;
    let archive = archive(&json!({
        "compression": "zst",
        "data": {"jobs": 3, "additionalCommandArgs": ["--process-max=9", "--compress-level", "2", "--buffer-size=5MB", "--no-resume"]},
    }));
    let settings = made(Command::Backup, &archive, &[("process-max", "5"), ("type", "full")]).unwrap();
    assert_eq!(pgbr_config::engine::workers(&settings.options), 5);
    assert_eq!(settings.options.integer(opt::COMPRESS_LEVEL), Some(2));
    assert_eq!(settings.options.string_id(opt::COMPRESS_TYPE), Some("zst"));
    assert_eq!(settings.options.string_id(opt::TYPE), Some("full"));
    assert_eq!(settings.options.get(opt::RESUME), Some(false));
    let shadowed: Vec<&String> = settings.warnings.iter().filter(|text| text.contains("'process-max'")).collect();
    assert_eq!(shadowed.len(), 2, "{:?}", settings.warnings);
}

#[test]
fn kg06_parameters_that_are_no_options_of_a_backup_are_refused() {
    let archive = archive(&json!({}));
    for name in
        ["cmd", "repo1-path", "pg1-path", "lock-path", "config", "", "a key", "stanza", "repo1-s3-key", "frobnicate"]
    {
        let text = refused(&archive, &[(name, "x")]);
        assert!(text.contains(&format!("parameter '{name}' of the Backup")), "{text}");
    }
    assert!(refused(&archive, &[("type", "huge")]).contains("parameter 'type' of the Backup"));
    assert!(refused(&archive, &[("repo", "2")]).contains("parameter 'repo' of the Backup"));
    assert!(refused(&archive, &[("type", "full\n--force")]).contains("line break"));
    assert!(refused(&archive, &[("annotation", "cnpg-backup-name=mine")]).contains("the plugin's own"));
}

#[test]
fn mistakes_name_the_field_of_the_archive() {
    for (change, part) in [
        (json!({"repositories": []}), "spec.configuration.repositories"),
        (json!({"compression": "rar"}), "spec.configuration.compression"),
        (json!({"data": {"additionalCommandArgs": ["--archive-asink=y"]}}), "archive-asink"),
        (
            json!({"data": {"additionalCommandArgs": ["--stanza=other"]}}),
            "spec.configuration.data.additionalCommandArgs[0]",
        ),
        (json!({"data": {"additionalCommandArgs": ["type=full"]}}), "does not begin with --"),
        (json!({"data": {"additionalCommandArgs": ["--repo1-host=x"]}}), "no repository hosts"),
        (json!({"data": {"tags": {"cnpg-backup-name": "x"}}}), "spec.configuration.data.tags"),
    ] {
        let text = refused(&archive(&change), &[]);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_secret_that_was_not_read_is_no_empty_password() {
    let archive = archive(&json!({}));
    let nothing = Secrets::default();
    let request = Request {
        command: Command::ArchivePush,
        archive: &archive,
        secrets: &nothing,
        stanza: &Stanza::parse("demo").unwrap(),
        pod: &pod(),
        parameters: &BTreeMap::new(),
        annotations: &[],
    };
    assert!(matches!(settings(&request), Err(Failure::Precondition(text)) if text.contains("Secret 'keys'")));
}

#[test]
fn sec11_a_secret_in_an_argument_list_is_refused_and_not_repeated() {
    for name in ["repo1-s3-key-secret", "repo1-cipher-pass"] {
        let arguments = json!({"data": {"additionalCommandArgs": [format!("--{name}=canary-of-the-list")]}});
        let text = refused(&archive(&arguments), &[]);
        assert!(text.contains(name) && !text.contains("canary"), "{text}");
    }
}
