//! From an Archive, its Secrets, a Backup's parameters and the variables of the container to the options of one command.
//!
//! Everything goes through pgBackRest's own grammar ([`pgbr_config::parse`]), so that the same mistakes are refused as on
//! a command line. Where two places set one option, the first of this order wins and the other is told in a warning
//! (plugin-surface.md §8): what the pod decides, Backup parameters, fields of the Archive, its argument lists, variables.
//!
//! Secrets never become arguments: they go in as variables, before those of the container.

mod archive;
mod check;
mod classes;
mod merge;
mod variables;

use std::collections::BTreeMap;

use pgbr_config::{Command, Invocation, NoFiles, OptionSet, opt};
use pgbr_repo::format::Stanza;
use pgbr_repo::progress::Level;
use secrecy::{ExposeSecret, SecretString};

use crate::instance::pod::Pod;
use crate::resource::{ArchiveSpec, SecretKey};
use crate::status::Failure;

pub use archive::{CreateStanza, create_stanza, secret_refs};
pub use check::{Findings, archive_findings, parameter_mistake};

/// The least important messages that the engine may write; `None` is none at all (`off`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLevel(pub Option<Level>);

impl EngineLevel {
    /// Parses the value of `log-level-stderr`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(Some(match text {
            "off" => return Some(Self(None)),
            "error" => Level::Error,
            "warn" => Level::Warn,
            "info" => Level::Info,
            "detail" => Level::Detail,
            "debug" | "trace" => Level::Debug,
            _ => return None,
        })))
    }
}

/// The annotation that carries the name of a backup (plugin-surface.md K11).
pub const BACKUP_NAME: &str = "cnpg-backup-name";

/// The annotation that carries the identity of the Backup object, by which a repeated call finds what the first one made.
pub const BACKUP_UID: &str = "cnpg-backup-uid";

/// Where a value was written, as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The pod decides it.
    Pod,
    /// A parameter of the Backup.
    Parameter(String),
    /// A field of the Archive.
    Field(String),
    /// A default of the plugin where nobody says anything.
    Fallback,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod => formatter.write_str("the pod"),
            Self::Parameter(name) => write!(formatter, "parameter '{name}' of the Backup"),
            Self::Field(path) => write!(formatter, "{path} of the Archive"),
            Self::Fallback => formatter.write_str("the plugin's default"),
        }
    }
}

/// One option as somebody gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The option's name with its number, without dashes in front and without `no-`.
    pub(crate) name: String,
    pub(crate) value: Given,
    pub(crate) origin: Origin,
}

/// What was given for an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given {
    /// A value.
    Value(String),
    /// A switch that is on.
    On,
    /// A switch that is off, or an option that is to have no value.
    Off,
    /// Back to the default.
    Reset,
}

impl Setting {
    pub(crate) fn new(name: impl Into<String>, value: impl Into<String>, origin: Origin) -> Self {
        Self { name: name.into(), value: Given::Value(value.into()), origin }
    }

    pub(crate) fn switch(name: impl Into<String>, on: bool, origin: Origin) -> Self {
        Self { name: name.into(), value: if on { Given::On } else { Given::Off }, origin }
    }

    fn argument(&self) -> String {
        match &self.value {
            Given::Value(value) => format!("--{}={value}", self.name),
            Given::On => format!("--{}", self.name),
            Given::Off => format!("--no-{}", self.name),
            Given::Reset => format!("--reset-{}", self.name),
        }
    }
}

/// The values of the Secrets that an Archive refers to, and its certificate authorities.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// By the reference in the Archive.
    pub values: BTreeMap<SecretKey, SecretString>,
    /// By the number of the repository.
    pub authorities: BTreeMap<usize, Authority>,
}

/// The certificate authorities that a repository's server is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The file that has them.
    pub file: String,
    /// What is in it: an engine that runs on has read the file as it was.
    pub content: Vec<u8>,
}

/// What options are wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The command.
    pub command: Command,
    /// The Archive.
    pub archive: &'a ArchiveSpec,
    /// What its Secrets hold.
    pub secrets: &'a Secrets,
    /// The stanza.
    pub stanza: &'a Stanza,
    /// The pod.
    pub pod: &'a Pod,
    /// Parameters of a Backup; empty for other commands.
    pub parameters: &'a BTreeMap<String, String>,
    /// Further annotations of a backup, which nobody can override.
    pub annotations: &'a [(&'static str, String)],
}

/// The options of a command, and what led to them.
#[derive(Clone)]
pub struct Settings {
    /// The options.
    pub options: OptionSet,
    /// What should be told once: shadowed values, options without effect.
    pub warnings: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    authorities: BTreeMap<usize, Authority>,
}

impl Settings {
    /// What the engine may write into the log (`log-level-stderr`); all that the process itself writes where nobody says.
    pub fn engine_level(&self) -> EngineLevel {
        let given = self.options.is_given(opt::LOG_LEVEL_STDERR);
        let level = self.options.string_id(opt::LOG_LEVEL_STDERR).filter(|_| given);
        level.and_then(EngineLevel::parse).unwrap_or(EngineLevel(Some(Level::Debug)))
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Settings").field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

impl PartialEq for Settings {
    /// Whether they lead to the same repositories in the same way, secrets included.
    fn eq(&self, other: &Self) -> bool {
        self.arguments == other.arguments
            && self.environment == other.environment
            && self.authorities == other.authorities
    }
}

impl Settings {
    /// Options for the log: no secret is among the arguments.
    pub fn shown(&self) -> &[String] {
        &self.arguments
    }

    /// A variable of the container that no option stands for.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.environment.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.clone())
    }
}

/// The options of one command.
///
/// # Errors
/// [`Failure::Invalid`] naming the field of the Archive or the parameter of the Backup that is wrong,
/// [`Failure::Precondition`] for a Secret that was not read, [`Failure::Denied`] for a repository beyond the administrator's limit.
pub fn settings(request: &Request<'_>) -> Result<Settings, Failure> {
    let fields = archive::fields(request)?;
    let lists = merge::Sources {
        pod: own(request),
        parameters: parameters(request.parameters)?,
        fields: fields.settings,
        arguments: archive::argument_list(request.archive, request.command)?,
        fallbacks: fallbacks(request.command),
    };
    let merged = merge::merge(lists)?;
    let mut arguments = vec![request.command.name().to_owned()];
    arguments.extend(merged.settings.iter().map(Setting::argument));
    let mut environment: Vec<(String, String)> = Vec::new();
    for (name, value) in fields.secrets {
        environment.push((name, value.expose_secret().to_owned()));
    }
    environment.extend(variables::usable(&request.pod.variables));

    let invocation = Invocation {
        program: "/manager",
        arguments: &arguments,
        environment: &environment,
        root: false,
        exec_id: None,
    };
    let parsed = pgbr_config::parse(&invocation, &NoFiles)
        .map_err(|error| Failure::Invalid(merge::explain(&error, &merged.settings, request.command)))?;
    crate::metadata::refuse(&parsed.options).map_err(Failure::Invalid)?;
    if let Some(limit) = &request.pod.limit {
        limit.check_options(&parsed.options).map_err(Failure::Denied)?;
    }
    let mut warnings = merged.warnings;
    warnings.extend(parsed.warnings);
    let authorities = request.secrets.authorities.clone();
    Ok(Settings { options: parsed.options, warnings, arguments, environment, authorities })
}

/// What the pod decides.
fn own(request: &Request<'_>) -> Vec<Setting> {
    let pod = request.pod;
    let set = |name: &str, value: String| Setting::new(name, value, Origin::Pod);
    let mut settings = vec![set("stanza", request.stanza.as_str().to_owned())];
    if !matches!(request.command, Command::Expire | Command::Info | Command::Verify) {
        settings.push(set("pg1-path", pod.pgdata.display().to_string()));
    }
    if matches!(request.command, Command::Backup | Command::StanzaCreate) {
        settings.push(set("pg1-user", "postgres".to_owned()));
        settings.push(set("pg1-socket-path", pod.socket_directory.display().to_string()));
        settings.push(set("pg1-port", pod.port.to_string()));
    }
    for (key, value) in request.annotations {
        settings.push(set("annotation", format!("{key}={value}")));
    }
    settings
}

/// What the plugin does where nobody says anything.
fn fallbacks(command: Command) -> Vec<Setting> {
    match command {
        // A designated primary archives with archive_mode=always, and CloudNativePG sees to it that only one does.
        Command::ArchivePush | Command::Backup => {
            vec![Setting::switch("archive-mode-check", false, Origin::Fallback)]
        }
        _ => Vec::new(),
    }
}

/// Parameters of a Backup: a typed list, so that nobody who may create a Backup can name a program, a path or a credential.
fn parameters(parameters: &BTreeMap<String, String>) -> Result<Vec<Setting>, Failure> {
    let mut settings = Vec::new();
    for (name, value) in parameters {
        let origin = Origin::Parameter(name.clone());
        if classes::has_no_effect(name) && matches!(name.as_str(), "buffer-size" | "protocol-timeout" | "job-retry") {
            continue;
        }
        if !classes::is_parameter(name) {
            return Err(Failure::Invalid(format!(
                "[031]: parameter '{}' of the Backup is not one that a Backup may carry",
                name.escape_debug()
            )));
        }
        if value.contains(['\n', '\r', '\0']) {
            return Err(Failure::Invalid(format!("[032]: {origin} has a line break or a NUL byte")));
        }
        match value.as_str() {
            // `--plugin-parameters resume` of the kubectl plugin has no value.
            "" | "true" => settings.push(Setting { name: name.clone(), value: Given::On, origin }),
            "false" => settings.push(Setting { name: name.clone(), value: Given::Off, origin }),
            value => settings.push(Setting::new(name.clone(), value, origin)),
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
