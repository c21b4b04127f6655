//! Options as a program that uses them sees them.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use pgbr_config::{
    Command, ConfigError, ConfigFiles, ErrorClass, Invocation, Parsed, RepoIndex, Role, Source, opt, parse,
};
use secrecy::ExposeSecret as _;

/// Configuration files by path.
#[derive(Default)]
struct Files(BTreeMap<&'static str, &'static str>);

impl ConfigFiles for Files {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(path).map(|text| text.as_bytes().to_vec()))
    }

    fn list(&self, path: &str) -> io::Result<Option<Vec<String>>> {
        let names: Vec<String> =
            self.0.keys().filter_map(|file| Some(file.strip_prefix(path)?.strip_prefix('/')?.to_owned())).collect();
        Ok((!names.is_empty()).then_some(names))
    }
}

fn call(arguments: &str, environment: &[(&str, &str)], file: &'static str, root: bool) -> Result<Parsed, ConfigError> {
    let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, value)| (format!("PGBACKREST_{name}"), (*value).to_owned())).collect();
    let invocation = Invocation {
        program: "/usr/bin/pgbr",
        arguments: &arguments,
        environment: &environment,
        root,
        exec_id: Some("7-0000000a"),
    };
    let mut files = Files::default();
    if !file.is_empty() {
        files.0.insert("/etc/pgbackrest/pgbackrest.conf", file);
    }
    parse(&invocation, &files)
}

fn parsed(arguments: &str, environment: &[(&str, &str)], file: &'static str) -> Parsed {
    call(arguments, environment, file, false).unwrap()
}

const BACKUP: &str = "backup --stanza=demo --pg1-path=/data ";

#[test]
fn values_have_types_and_sources() {
    let parsed = parsed(
        "backup --stanza=demo --process-max=4 --archive-timeout=90 --exclude=a --exclude=b --annotation=k=v",
        &[("PG1_PATH", "/data/"), ("REPO2_CIPHER_PASS", "geheim")],
        "[global]\nstart-fast=y\nrepo1-retention-full=2\nrepo2-path=/r2\nrepo2-cipher-type=aes-256-cbc\nrepo2-bundle=y\n\
         buffer-size=64k\n[demo]\npg1-port=5433\n",
    );
    let options = &parsed.options;
    assert_eq!((parsed.command, parsed.role), (Command::Backup, Role::Main));
    assert_eq!(options.text(opt::STANZA), Some("demo"));
    assert_eq!(options.integer(opt::PROCESS_MAX), Some(4));
    assert_eq!(options.source(opt::PROCESS_MAX), Some(Source::Argument));
    assert_eq!(options.time(opt::ARCHIVE_TIMEOUT), Some(Duration::from_secs(90)));
    assert_eq!(options.time(opt::IO_TIMEOUT), Some(Duration::from_secs(60)));
    assert_eq!(options.source(opt::IO_TIMEOUT), Some(Source::Default));
    assert_eq!(options.size_bytes(opt::BUFFER_SIZE), Some(65536));
    assert_eq!(options.source(opt::BUFFER_SIZE), Some(Source::File));
    assert_eq!(options.list(opt::EXCLUDE), ["a", "b"]);
    assert_eq!(options.hash(opt::ANNOTATION), [("k".to_owned(), "v".to_owned())]);
    assert!(options.boolean(opt::START_FAST) && options.boolean(opt::RESUME) && !options.boolean(opt::DELTA));
    assert_eq!(options.string_id(opt::TYPE), Some("incr"));
    assert_eq!(options.get(opt::CHECKSUM_PAGE), None);
    assert_eq!(options.text(opt::EXEC_ID), Some("7-0000000a"));

    let pg = options.pg(options.pgs().next().unwrap());
    assert_eq!((pg.path(opt::PG_PATH), pg.source(opt::PG_PATH)), (Some("/data"), Some(Source::Environment)));
    assert_eq!(pg.integer(opt::PG_PORT), Some(5433));

    let numbers: Vec<u16> = options.repos().map(RepoIndex::number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(options.repo_default().unwrap().to_string(), "repo1");
    let second = options.repo(options.repos().nth(1).unwrap());
    assert_eq!(second.path(opt::REPO_PATH), Some("/r2"));
    assert_eq!(second.size_bytes(opt::REPO_BUNDLE_SIZE), Some(20 << 20));
    assert_eq!(second.secret(opt::REPO_CIPHER_PASS).unwrap().expose_secret(), "geheim");
    assert!(!second.boolean(opt::REPO_BLOCK) && second.is_set(opt::REPO_BLOCK));
    assert_eq!(second.require(opt::REPO_S3_BUCKET).unwrap_err().class, ErrorClass::OptionRequired);
}

#[test]
fn secrets_are_in_no_debug_print() {
    let file = "[global]\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=geheim\n";
    let parsed = parsed(BACKUP, &[("REPO1_S3_KEY", "geheim"), ("REPO2_PATH", "/two")], file);
    assert!(!format!("{parsed:?}").contains("geheim"));
}

#[test]
fn levels_and_chunks_follow_what_they_depend_on() {
    let level = |arguments: &str| parsed(&format!("{BACKUP}{arguments}"), &[], "").options.integer(opt::COMPRESS_LEVEL);
    assert_eq!(level(""), Some(6));
    assert_eq!(level("--compress-type=zst"), Some(3));
    assert_eq!(level("--compress-type=lz4 --compress-level=-5"), Some(-5));
    assert_eq!(level("--compress-type=none"), Some(0));

    let file = "[global]\nrepo1-type=s3\nrepo1-s3-bucket=b\nrepo1-s3-endpoint=e\nrepo1-s3-region=r\nrepo1-s3-key=k\n\
                repo1-s3-key-secret=s\n";
    let parsed = parsed(BACKUP, &[], file);
    let repo = parsed.options.repo(parsed.options.repos().next().unwrap());
    assert_eq!(repo.size_bytes(opt::REPO_STORAGE_UPLOAD_CHUNK_SIZE), Some(5 << 20));
    assert!(!repo.boolean(opt::REPO_SYMLINK) && repo.boolean(opt::REPO_STORAGE_VERIFY_TLS));
}

#[test]
fn the_old_switch_for_compression_sets_the_type() {
    let options = parsed(BACKUP, &[], "[global]\ncompress=n\n").options;
    assert_eq!(options.string_id(opt::COMPRESS_TYPE), Some("none"));
    assert_eq!(options.integer(opt::COMPRESS_LEVEL), Some(0));
    let options = parsed(BACKUP, &[], "[global]\ncompress=n\ncompress-type=zst\n").options;
    assert_eq!(options.string_id(opt::COMPRESS_TYPE), Some("zst"));
}

#[test]
fn retention_of_wal_follows_that_of_backups() {
    let archive = |arguments: &str| {
        let options = parsed(&format!("expire --stanza=demo {arguments}"), &[], "").options;
        options.repo(options.repo_default().unwrap()).integer(opt::REPO_RETENTION_ARCHIVE)
    };
    assert_eq!(archive(""), None);
    assert_eq!(archive("--repo1-retention-full=2"), Some(2));
    assert_eq!(archive("--repo1-retention-full=2 --repo1-retention-archive=5"), Some(5));
    assert_eq!(archive("--repo1-retention-full=2 --repo1-retention-full-type=time"), None);
    assert_eq!(archive("--repo1-retention-archive-type=diff --repo1-retention-diff=3"), Some(3));
    assert_eq!(archive("--repo1-retention-archive-type=diff --repo1-retention-full=3"), None);
    assert_eq!(archive("--repo1-retention-archive-type=incr --repo1-retention-full=3"), None);
}

#[test]
fn the_timeout_that_nobody_gave_gives_way() {
    let timeouts = |arguments: &str| {
        let options = parsed(&format!("{BACKUP}{arguments}"), &[], "").options;
        [opt::DB_TIMEOUT, opt::PROTOCOL_TIMEOUT].map(|key| options.time(key).unwrap().as_secs())
    };
    assert_eq!(timeouts(""), [1800, 1860]);
    assert_eq!(timeouts("--db-timeout=1h"), [3600, 3630]);
    assert_eq!(timeouts("--protocol-timeout=5m"), [270, 300]);
    assert_eq!(timeouts("--protocol-timeout=20s"), [10, 20]);
}

#[test]
fn root_needs_leave_but_for_restore_and_help() {
    let class = |arguments: &str| call(arguments, &[], "", true).err().map(|error| error.class);
    assert_eq!(class(BACKUP), Some(ErrorClass::OptionInvalid));
    assert_eq!(class("info"), Some(ErrorClass::OptionInvalid));
    assert_eq!(class("info --allow-root"), None);
    assert_eq!(class("restore --stanza=demo --pg1-path=/data"), None);
    assert_eq!(class("restore --stanza=demo --pg1-path=/data --no-allow-root"), Some(ErrorClass::OptionInvalid));
    assert_eq!(class("help backup"), None);
    assert_eq!(class("version"), None);
}

#[test]
fn what_needs_another_process_or_host_is_refused_by_name() {
    for (arguments, file, name) in [
        ("info", "[global]\nrepo1-host=h\n", "repo1-host"),
        ("info --cmd-ssh=ssh", "", "cmd-ssh"),
        ("backup --stanza=demo", "[demo]\npg1-path=/data\npg1-host=h\n", "pg1-host"),
        ("backup --stanza=demo --pg1-path=/data --cmd=/bin/x", "", "cmd"),
        ("info --tls-cipher-13=x", "", "tls-cipher-13"),
        (
            "info",
            "[global]\nrepo2-type=sftp\nrepo2-sftp-host=h\nrepo2-sftp-host-user=u\n\
            repo2-sftp-host-key-hash-type=sha1\nrepo2-sftp-private-key-file=/k\n",
            "repo2-type=sftp",
        ),
        (
            "server",
            "[global]\ntls-server-ca-file=/a\ntls-server-cert-file=/b\ntls-server-key-file=/c\n\
            tls-server-auth=a=b\n",
            "server",
        ),
    ] {
        let error = call(arguments, &[], file, false).unwrap_err();
        assert_eq!(error.class, ErrorClass::FeatureNotSupported, "{arguments}: {error}");
        assert!(error.message.contains(&format!("'{name}'")) && error.message.contains("because"), "{error}");
    }
    // Nothing is refused that the command would not look at, nor for its own mistakes before pgBackRest would find them.
    assert!(call("start", &[], "[global]\nrepo1-host=h\n", false).is_ok());
    let both = "[global]\nrepo1-host=h\n[demo]\npg1-path=/data\npg1-host=h\n";
    assert_eq!(call("backup --stanza=demo", &[], both, false).unwrap_err().class, ErrorClass::Config);
}

#[test]
fn warnings_are_kept_when_a_mistake_follows() {
    let error = call("backup --stanza=demo", &[("BOGUS", "1")], "[global]\npg1-path=/data\n", false).unwrap_err();
    assert_eq!(error.class, ErrorClass::OptionRequired);
    assert_eq!(error.with_hints(), "backup command requires option: pg1-path\nHINT: does this stanza exist?");
    assert_eq!(error.warnings.len(), 2);
    assert!(error.warnings[1].contains("stanza-only option 'pg1-path'"), "{:?}", error.warnings);
}

#[test]
fn stanzas_of_the_configuration_are_listed() {
    let file = "[global]\nlog-level-console=info\n[global:info]\n[b:backup]\nprocess-max=2\n[a]\npg1-path=/a\n";
    assert_eq!(parsed("info", &[], file).stanzas, ["a", "b"]);
}
