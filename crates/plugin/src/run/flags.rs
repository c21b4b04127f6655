//! The flags of the original's manager: `--name=value` or `--name value`, and `--name` for a switch.

use std::path::PathBuf;

use super::{Environment, Role};
use crate::ids;
use crate::limit::Limit;
use crate::log::{Level, Settings};
use crate::transport::tls::TlsFiles;

/// A mistake in the arguments, or before there is a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The flags of the operator's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorOptions {
    /// Where the services listen: `HOST:PORT` or `:PORT`.
    pub server_address: String,
    /// The certificates of both sides; without them `plugin_path` is used.
    pub tls: Option<TlsFiles>,
    /// A folder for a unix socket, beside the operator in its own pod.
    pub plugin_path: Option<PathBuf>,
    /// Whether only one of several processes works in the background. All of them serve.
    pub leader_elect: bool,
    /// Where metrics are served; `0` is nowhere.
    pub metrics_bind_address: String,
    /// Whether they are served over TLS.
    pub metrics_secure: bool,
    /// Where `/healthz` and `/readyz` are served.
    pub health_probe_bind_address: String,
    /// Whether those two speak HTTP/2.
    pub enable_http2: bool,
    /// Whether every pod of a Cluster with the plugin enabled is promised its sidecar, so that its metrics are asked for
    /// without `isWALArchiver` too.
    pub instance_sidecar_injection: bool,
    /// A folder with a file for each namespace whose Archives are limited.
    pub repository_limits: Option<PathBuf>,
}

impl Default for OperatorOptions {
    fn default() -> Self {
        Self {
            server_address: format!(":{}", ids::SERVICE_PORT),
            tls: None,
            plugin_path: None,
            leader_elect: false,
            metrics_bind_address: "0".to_owned(),
            metrics_secure: true,
            health_probe_bind_address: ":8081".to_owned(),
            enable_http2: false,
            instance_sidecar_injection: false,
            repository_limits: None,
        }
    }
}

/// What the arguments say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) log: Settings,
    /// A level that is none: the default is used, as the original does.
    pub(super) unknown_level: Option<String>,
    pub(super) operator: OperatorOptions,
    /// What the repositories of a sidecar may be.
    pub(super) limit: Option<Limit>,
}

/// Parses the arguments after a role's words.
pub(super) fn parse(role: Role, arguments: &[String], environment: &Environment) -> Result<Parsed, UsageError> {
    let mut parsed = Parsed {
        log: Settings { pod: environment.get("POD_NAME").map(str::to_owned), ..Settings::default() },
        unknown_level: None,
        operator: OperatorOptions::default(),
        limit: None,
    };
    let arguments = match role {
        Role::Healthcheck => match arguments.split_first() {
            Some((word, rest)) if word == "unix" => rest,
            _ => return Err(UsageError("healthcheck: the one check is 'healthcheck unix'".to_owned())),
        },
        _ => arguments,
    };
    let mut tls = Tls::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let flag = word.strip_prefix("--").filter(|flag| !flag.is_empty());
        let flag = flag.ok_or_else(|| UsageError(format!("'{word}' is not expected here")))?;
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
        let mut flag = Flag { name, value, words: &mut words };
        if !log_flag(&mut flag, &mut parsed)? {
            let known = match role {
                Role::Operator => operator_flag(&mut flag, &mut parsed.operator, &mut tls)?,
                Role::Instance | Role::Restore => sidecar_flag(&mut flag, &mut parsed.limit)?,
                Role::Healthcheck => false,
            };
            if !known {
                return Err(UsageError(format!("unknown flag: --{name}")));
            }
        }
    }
    parsed.operator.tls = tls.files()?;
    Ok(parsed)
}

/// A flag whose value may be the next word.
struct Flag<'a, 'w> {
    name: &'a str,
    value: Option<String>,
    words: &'w mut std::slice::Iter<'a, String>,
}

impl Flag<'_, '_> {
    fn text(&mut self) -> Result<String, UsageError> {
        let value = self.value.take().or_else(|| self.words.next().cloned());
        value.ok_or_else(|| UsageError(format!("flag needs an argument: --{}", self.name)))
    }

    /// A switch has no value in the next word.
    fn switch(&mut self) -> Result<bool, UsageError> {
        match self.value.take().as_deref() {
            None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some(value) => Err(UsageError(format!("'{value}' is neither true nor false: --{}", self.name))),
        }
    }
}

fn log_flag(flag: &mut Flag<'_, '_>, parsed: &mut Parsed) -> Result<bool, UsageError> {
    let filled = |text: String| (!text.is_empty()).then_some(text);
    match flag.name {
        "log-level" => {
            let text = flag.text()?;
            parsed.log.level = Level::parse(&text).unwrap_or_default();
            parsed.unknown_level = Level::parse(&text).is_none().then_some(text);
        }
        "log-destination" => parsed.log.destination = filled(flag.text()?).map(PathBuf::from),
        "log-field-level" => parsed.log.field_level = filled(flag.text()?),
        "log-field-timestamp" => parsed.log.field_timestamp = filled(flag.text()?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn sidecar_flag(flag: &mut Flag<'_, '_>, limit: &mut Option<Limit>) -> Result<bool, UsageError> {
    if flag.name != ids::LIMIT_FLAG {
        return Ok(false);
    }
    *limit = Some(Limit::from_argument(&flag.text()?).map_err(|error| UsageError(error.to_string()))?);
    Ok(true)
}

fn operator_flag(flag: &mut Flag<'_, '_>, options: &mut OperatorOptions, tls: &mut Tls) -> Result<bool, UsageError> {
    match flag.name {
        "server-address" => options.server_address = flag.text()?,
        "server-cert" => tls.server_cert = flag.text()?,
        "server-key" => tls.server_key = flag.text()?,
        "client-cert" => tls.client_cert = flag.text()?,
        "plugin-path" => {
            options.plugin_path = Some(flag.text()?).filter(|path| !path.is_empty()).map(PathBuf::from);
        }
        "leader-elect" => options.leader_elect = flag.switch()?,
        "metrics-bind-address" => options.metrics_bind_address = flag.text()?,
        "metrics-secure" => options.metrics_secure = flag.switch()?,
        "health-probe-bind-address" => options.health_probe_bind_address = flag.text()?,
        "enable-http2" => options.enable_http2 = flag.switch()?,
        "instance-sidecar-injection" => options.instance_sidecar_injection = flag.switch()?,
        "repository-limits" => {
            options.repository_limits = Some(flag.text()?).filter(|path| !path.is_empty()).map(PathBuf::from);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The three files, which go together.
#[derive(Default)]
struct Tls {
    server_cert: String,
    server_key: String,
    client_cert: String,
}

impl Tls {
    fn files(self) -> Result<Option<TlsFiles>, UsageError> {
        let Self { server_cert, server_key, client_cert } = self;
        let files = [&server_cert, &server_key, &client_cert];
        match files.iter().filter(|path| !path.is_empty()).count() {
            0 => Ok(None),
            3 => Ok(Some(TlsFiles {
                server_cert: server_cert.into(),
                server_key: server_key.into(),
                client_cert: client_cert.into(),
            })),
            _ => Err(UsageError("--server-cert, --server-key and --client-cert go together".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(role: Role, words: &[&str]) -> Result<Parsed, UsageError> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let environment = Environment::new(&[("POD_NAME".to_owned(), "cluster-1".to_owned())]);
        parse(role, &words, &environment)
    }

    #[test]
    fn the_originals_deployment_starts() {
        let words = [
            "--server-cert=/server/tls.crt",
            "--server-key=/server/tls.key",
            "--client-cert=/client/tls.crt",
            "--server-address=:9090",
            "--leader-elect",
            "--log-level=debug",
        ];
        let parsed = parsed(Role::Operator, &words).unwrap();
        assert_eq!(parsed.log.level, Level::Debug);
        let expected = OperatorOptions {
            tls: Some(TlsFiles {
                server_cert: "/server/tls.crt".into(),
                server_key: "/server/tls.key".into(),
                client_cert: "/client/tls.crt".into(),
            }),
            leader_elect: true,
            ..OperatorOptions::default()
        };
        assert_eq!(parsed.operator, expected);
    }

    #[test]
    fn a_value_may_be_the_next_word() {
        let words =
            ["--log-level", "error", "--log-field-level", "l", "--log-field-timestamp=t", "--log-destination", "/x"];
        let log = parsed(Role::Instance, &words).unwrap().log;
        let expected = Settings {
            level: Level::Error,
            destination: Some("/x".into()),
            field_level: Some("l".to_owned()),
            field_timestamp: Some("t".to_owned()),
            pod: Some("cluster-1".to_owned()),
        };
        assert_eq!(log, expected);
    }

    #[test]
    fn mistakes_are_named() {
        let mistake = |role, words: &[&str]| parsed(role, words).unwrap_err().0;
        assert_eq!(mistake(Role::Instance, &["--leader-elect"]), "unknown flag: --leader-elect");
        assert_eq!(mistake(Role::Operator, &["--log-level"]), "flag needs an argument: --log-level");
        assert_eq!(mistake(Role::Operator, &["now"]), "'now' is not expected here");
        assert_eq!(mistake(Role::Operator, &["--"]), "'--' is not expected here");
        assert!(mistake(Role::Operator, &["--leader-elect=perhaps"]).contains("neither"));
        assert!(mistake(Role::Operator, &["--server-cert=/x"]).contains("go together"));
        assert!(mistake(Role::Healthcheck, &["tcp"]).starts_with("healthcheck"));
        assert!(mistake(Role::Healthcheck, &[]).starts_with("healthcheck"));
    }

    #[test]
    fn an_unknown_level_is_the_default() {
        let parsed = parsed(Role::Instance, &["--log-level=loud"]).unwrap();
        assert_eq!((parsed.log.level, parsed.unknown_level.as_deref()), (Level::Info, Some("loud")));
    }
}
