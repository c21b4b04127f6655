//! The fields of an Archive as options (plugin-surface.md §3, §6), and its argument lists.

use std::collections::BTreeMap;

use pgbr_config::Command;
use secrecy::SecretString;

use super::classes::{Class, class};
use super::{EngineLevel, Given, Origin, Request, Setting};
use crate::resource::{ArchiveSpec, Repository, Retention, S3Credentials, SecretKey};
use crate::status::Failure;

/// When the stanza is made (`createStanza`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateStanza {
    /// With the first WAL file, and before each backup.
    OnFirstArchive,
    /// Before each backup.
    OnBackup,
    /// Never.
    Disabled,
}

/// The Archive's word on creating stanzas. A word that is none is the default: validation is the API server's.
pub fn create_stanza(archive: &ArchiveSpec) -> CreateStanza {
    match archive.configuration.create_stanza.as_deref() {
        Some("OnBackup") => CreateStanza::OnBackup,
        Some("Disabled") => CreateStanza::Disabled,
        _ => CreateStanza::OnFirstArchive,
    }
}

/// Every Secret that the Archive needs: those of values, and by the number of the repository those of certificate
/// authorities.
pub fn secret_refs(archive: &ArchiveSpec) -> (Vec<SecretKey>, BTreeMap<usize, SecretKey>) {
    let mut values = Vec::new();
    let mut authorities = BTreeMap::new();
    for (place, repository) in archive.configuration.repositories.iter().enumerate() {
        let credentials = repository.s3_credentials.as_ref();
        let keys = credentials.into_iter().flat_map(|keys| [&keys.access_key_id, &keys.secret_access_key]);
        let all = keys.chain([&repository.encryption_key]);
        values.extend(all.flatten().cloned());
        if let Some(authority) = &repository.endpoint_ca {
            authorities.insert(place + 1, authority.clone());
        }
    }
    (values, authorities)
}

/// What the fields say: options, and secrets as variables.
pub(super) struct Fields {
    pub(super) settings: Vec<Setting>,
    pub(super) secrets: Vec<(String, SecretString)>,
}

/// The fields that matter to the command.
pub(super) fn fields(request: &Request<'_>) -> Result<Fields, Failure> {
    let configuration = &request.archive.configuration;
    let mut fields = Fields { settings: Vec::new(), secrets: Vec::new() };
    if configuration.repositories.is_empty() {
        return Err(Failure::Invalid("spec.configuration.repositories of the Archive is empty".to_owned()));
    }
    for (place, repository) in configuration.repositories.iter().enumerate() {
        let numbered = Numbered { number: place + 1, request };
        numbered.fields(repository, &mut fields)?;
    }
    let field = |path: &str| Origin::Field(format!("spec.configuration.{path}"));
    if let Some(compression) = present(configuration.compression.as_deref())
        && matches!(request.command, Command::ArchivePush | Command::Backup)
    {
        fields.settings.push(Setting::new("compress-type", compression, field("compression")));
    }
    // What is no level is left out: validation is the API server's, and no reason to archive nothing.
    if let Some(level) = configuration.log.as_ref().and_then(|log| present(log.level_stderr.as_deref()))
        && EngineLevel::parse(level).is_some()
    {
        fields.settings.push(Setting::new("log-level-stderr", level, field("log.levelStderr")));
    }
    let jobs = match request.command {
        Command::ArchivePush | Command::ArchiveGet => {
            configuration.wal.as_ref().and_then(|wal| wal.max_parallel).map(|jobs| (i64::from(jobs), "wal.maxParallel"))
        }
        Command::Backup => {
            configuration.data.as_ref().and_then(|data| data.jobs).map(|jobs| (i64::from(jobs), "data.jobs"))
        }
        Command::Restore => configuration
            .restore
            .as_ref()
            .and_then(|restore| restore.jobs)
            .map(|jobs| (i64::from(jobs), "restore.jobs")),
        _ => None,
    };
    if let Some((jobs, path)) = jobs {
        fields.settings.push(Setting::new("process-max", jobs.to_string(), field(path)));
    }
    if let (Command::Backup, Some(data)) = (request.command, &configuration.data) {
        if let Some(fast) = data.immediate_checkpoint {
            fields.settings.push(Setting::switch("start-fast", fast, field("data.immediateCheckpoint")));
        }
        for (key, value) in data.tags.iter().flatten() {
            fields.settings.push(Setting::new("annotation", format!("{key}={value}"), field("data.tags")));
        }
    }
    Ok(fields)
}

/// One repository and its number.
struct Numbered<'a> {
    number: usize,
    request: &'a Request<'a>,
}

impl Numbered<'_> {
    fn option(&self, name: &str) -> String {
        format!("repo{}-{name}", self.number)
    }

    fn variable(&self, name: &str) -> String {
        format!("PGBACKREST_REPO{}_{name}", self.number)
    }

    fn origin(&self, field: &str) -> Origin {
        Origin::Field(format!("spec.configuration.repositories[{}].{field}", self.number - 1))
    }

    fn fields(&self, repository: &Repository, fields: &mut Fields) -> Result<(), Failure> {
        let mut set = |name: &str, value: &str, field: &str| {
            fields.settings.push(Setting::new(self.option(name), value, self.origin(field)));
        };
        set("type", "s3", "type");
        set("s3-bucket", &repository.bucket, "bucket");
        set("path", &repository.destination_path, "destinationPath");
        if let Some(endpoint) = present(repository.endpoint_url.as_deref()) {
            set("s3-endpoint", endpoint, "endpointURL");
        }
        if let Some(authority) = self.request.secrets.authorities.get(&self.number) {
            set("storage-ca-file", &authority.file, "endpointCA");
        }
        if let Some(style) = repository.s3_credentials.as_ref().and_then(|keys| present(keys.uri_style.as_deref())) {
            set("s3-uri-style", style, "s3Credentials.uriStyle");
        }
        if let Some(region) = repository.s3_credentials.as_ref().and_then(|keys| present(keys.region.as_deref())) {
            set("s3-region", region, "s3Credentials.region");
        }
        if let Some(cipher) = present(repository.encryption.as_deref()) {
            set("cipher-type", cipher, "encryption");
        }
        if repository.disable_verify_tls == Some(true) {
            let origin = self.origin("disableVerifyTLS");
            fields.settings.push(Setting::switch(self.option("storage-verify-tls"), false, origin));
        }
        if let (Command::Backup | Command::Expire, Some(retention)) = (self.request.command, &repository.retention) {
            self.retention(retention, fields);
        }
        self.credentials(repository.s3_credentials.as_ref(), fields)?;
        if present(repository.encryption.as_deref()).is_some() {
            let key = self.secret(repository.encryption_key.as_ref(), "encryptionKey")?;
            fields.secrets.push((self.variable("CIPHER_PASS"), key));
        }
        Ok(())
    }

    fn retention(&self, retention: &Retention, fields: &mut Fields) {
        let numbers = [
            ("retention-full", retention.full.map(i64::from), "retention.full"),
            ("retention-diff", retention.diff.map(i64::from), "retention.diff"),
            ("retention-archive", retention.archive.map(i64::from), "retention.archive"),
            ("retention-history", retention.history.map(i64::from), "retention.history"),
        ];
        for (name, value, field) in numbers {
            if let Some(value) = value {
                fields.settings.push(Setting::new(self.option(name), value.to_string(), self.origin(field)));
            }
        }
        let words = [
            ("retention-full-type", &retention.full_type, "retention.fullType"),
            ("retention-archive-type", &retention.archive_type, "retention.archiveType"),
        ];
        for (name, value, field) in words {
            if let Some(value) = present(value.as_deref()) {
                fields.settings.push(Setting::new(self.option(name), value, self.origin(field)));
            }
        }
    }

    /// An empty key type is `shared`: clients that strip defaults send it so.
    fn credentials(&self, credentials: Option<&S3Credentials>, fields: &mut Fields) -> Result<(), Failure> {
        let Some(credentials) = credentials else { return Ok(()) };
        let kind = present(credentials.key_type.as_deref()).unwrap_or("shared");
        let origin = self.origin("s3Credentials.keyType");
        fields.settings.push(Setting::new(self.option("s3-key-type"), kind, origin));
        if kind == "shared" {
            let key = self.secret(credentials.access_key_id.as_ref(), "s3Credentials.accessKeyId")?;
            fields.secrets.push((self.variable("S3_KEY"), key));
            let secret = self.secret(credentials.secret_access_key.as_ref(), "s3Credentials.secretAccessKey")?;
            fields.secrets.push((self.variable("S3_KEY_SECRET"), secret));
        }
        Ok(())
    }

    fn secret(&self, selector: Option<&SecretKey>, field: &str) -> Result<SecretString, Failure> {
        let path = self.origin(field);
        let Some(selector) = selector else {
            return Err(Failure::Invalid(format!("{path} is missing")));
        };
        self.request.secrets.values.get(selector).cloned().ok_or_else(|| {
            Failure::Precondition(format!("key '{}' of Secret '{}' ({path}) was not read", selector.key, selector.name))
        })
    }
}

/// A text that says something. The empty one comes from clients that write every field.
fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// The argument list of the Archive for a command.
pub(super) fn argument_list(archive: &ArchiveSpec, command: Command) -> Result<Vec<Setting>, Failure> {
    let configuration = &archive.configuration;
    let (field, arguments) = match command {
        Command::ArchivePush => {
            let wal = configuration.wal.as_ref();
            ("wal.archiveAdditionalCommandArgs", wal.and_then(|wal| wal.archive_additional_command_args.as_ref()))
        }
        Command::ArchiveGet => {
            let wal = configuration.wal.as_ref();
            ("wal.restoreAdditionalCommandArgs", wal.and_then(|wal| wal.restore_additional_command_args.as_ref()))
        }
        Command::Backup => {
            let data = configuration.data.as_ref();
            ("data.additionalCommandArgs", data.and_then(|data| data.additional_command_args.as_ref()))
        }
        Command::Restore => {
            let restore = configuration.restore.as_ref();
            ("restore.additionalCommandArgs", restore.and_then(|restore| restore.additional_command_args.as_ref()))
        }
        _ => return Ok(Vec::new()),
    };
    let arguments = arguments.map(Vec::as_slice).unwrap_or_default();
    read_arguments(arguments, &format!("spec.configuration.{field}"))
}

/// Reads `--opt=value`, `--flag`, `--no-flag`, `--reset-opt`, and `--opt` followed by its value.
pub(super) fn read_arguments(arguments: &[String], field: &str) -> Result<Vec<Setting>, Failure> {
    let mut settings = Vec::new();
    let mut rest = arguments.iter().enumerate().peekable();
    while let Some((place, argument)) = rest.next() {
        let origin = Origin::Field(format!("{field}[{place}]"));
        let Some(option) = argument.strip_prefix("--") else {
            return Err(Failure::Invalid(format!(
                "[031]: '{}' in {origin} does not begin with --",
                argument.escape_debug()
            )));
        };
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, rest.next_if(|(_, next)| !next.starts_with("--")).map(|(_, value)| value.clone())),
        };
        let (name, value) = match (name.strip_prefix("no-"), name.strip_prefix("reset-"), value) {
            (Some(name), _, None) => (name, Given::Off),
            (_, Some(name), None) => (name, Given::Reset),
            (_, _, Some(value)) => (name, Given::Value(value)),
            (None, None, None) => (name, Given::On),
        };
        match class(name) {
            Class::Use => settings.push(Setting { name: name.to_owned(), value, origin }),
            Class::NoEffect => {}
            Class::Refuse(reason) => {
                return Err(Failure::Invalid(format!(
                    "[031]: option '{}' in {origin} is refused: {reason}",
                    name.escape_debug()
                )));
            }
        }
    }
    Ok(settings)
}
