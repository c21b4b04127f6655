//! A role of the program: from its arguments to its exit code.

pub mod environment;
pub mod flags;
pub mod no_exec;
mod signals;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

pub use self::environment::{Environment, InstanceRole};
pub use self::flags::{OperatorOptions, UsageError};
use crate::log::Log;
use crate::{health, instance, operator};

/// The exit code of a mistake in the arguments, and of a role that failed.
const FAILED: u8 = 1;

/// The exit code of a health check that was not understood, and of a mistake of this program.
const UNEXPECTED: u8 = 125;

/// Threads of the runtime; what works for long has threads of its own.
const WORKERS: usize = 2;

/// The stack of a thread, as in the program's own commands.
const STACK_BYTES: usize = 1024 * 1024;

/// How long threads may go on after their role has ended.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Beside the operator: hooks and the Archive's controller.
    Operator,
    /// Beside PostgreSQL in every pod of a cluster.
    Instance,
    /// Beside the job that bootstraps a cluster from a backup.
    Restore,
    /// A probe of one of the others.
    Healthcheck,
}

impl Role {
    /// The role that the command line asks for, and the arguments after its words.
    ///
    /// Started as `manager`, which is how the containers of the original's pods start, the first word is the role. Under
    /// another name `restore` belongs to pgBackRest, so that role is `plugin restore`.
    #[must_use]
    pub fn from_command_line<'a>(program: &str, arguments: &'a [String]) -> Option<(Self, &'a [String])> {
        let (first, rest) = arguments.split_first()?;
        let manager = program.rsplit('/').next() == Some("manager");
        match (first.as_str(), rest) {
            ("operator", rest) => Some((Self::Operator, rest)),
            ("instance", rest) => Some((Self::Instance, rest)),
            ("healthcheck", rest) => Some((Self::Healthcheck, rest)),
            ("restore", rest) if manager => Some((Self::Restore, rest)),
            ("plugin", [second, rest @ ..]) if second == "restore" => Some((Self::Restore, rest)),
            _ => None,
        }
    }
}

/// Runs a role with the arguments after its words, and gives the exit code.
#[must_use]
pub fn run(role: Role, arguments: &[String], environment: &[(String, String)]) -> u8 {
    let environment = Environment::new(environment);
    let parsed = match flags::parse(role, arguments, &environment) {
        Ok(parsed) => parsed,
        Err(error) => {
            say(&error.to_string());
            return if role == Role::Healthcheck { UNEXPECTED } else { FAILED };
        }
    };
    if role == Role::Healthcheck {
        return check_health(&environment);
    }
    // Before there is any thread: every one that begins later inherits it.
    let forbidden = no_exec::forbid();
    let log = match Log::start(parsed.log.clone()) {
        Ok(log) => log,
        Err(error) => {
            say(&format!("unable to open the log: {error}"));
            return FAILED;
        }
    };
    log_panics(&log);
    if let Err(error) = forbidden {
        let text = "the kernel does not keep this process from starting programs; it starts none all the same";
        log.warn(text, &[("error", Value::from(error))]);
    }
    if !leaves_no_core() {
        log.warn("core dumps cannot be turned off: one would hold keys and passphrases", &[]);
    }
    if let Some(level) = &parsed.unknown_level {
        let fields = [("level", Value::from(level.as_str())), ("default", Value::from(parsed.log.level.name()))];
        log.info("Invalid log level, defaulting", &fields);
    }
    let code = serve(role, parsed, environment, &log);
    log.flush();
    code
}

/// Turns core dumps off for good: the memory of a role holds keys and passphrases. Whether that was possible.
fn leaves_no_core() -> bool {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).is_ok()
}

/// Runs a role until it ends or is told to.
fn serve(role: Role, parsed: flags::Parsed, environment: Environment, log: &Log) -> u8 {
    let runtime = match runtime(&mut Builder::new_multi_thread()) {
        Ok(runtime) => runtime,
        Err(error) => {
            log.error("unable to start threads", &[("error", Value::from(error.to_string()))]);
            return FAILED;
        }
    };
    let shutdown = CancellationToken::new();
    let work = async {
        match role {
            Role::Operator => operator::run(parsed.operator, environment, log.clone(), shutdown.clone())
                .await
                .map_err(|error| error.to_string()),
            Role::Restore => {
                instance::run(InstanceRole::Restore, environment, parsed.limit, log.clone(), shutdown.clone())
                    .await
                    .map_err(|error| error.to_string())
            }
            Role::Instance | Role::Healthcheck => {
                instance::run(InstanceRole::Instance, environment, parsed.limit, log.clone(), shutdown.clone())
                    .await
                    .map_err(|error| error.to_string())
            }
        }
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(signals::until_told_twice(work, &shutdown, log))));
    let code = match ended {
        Ok(Some(Ok(()))) => 0,
        Ok(Some(Err(error))) => {
            log.error("the process ends", &[("error", Value::from(error))]);
            FAILED
        }
        Ok(None) => FAILED,
        Err(_panic) => UNEXPECTED,
    };
    runtime.shutdown_timeout(END_TIME_MAX);
    code
}

fn runtime(builder: &mut Builder) -> std::io::Result<Runtime> {
    builder.worker_threads(WORKERS).thread_stack_size(STACK_BYTES).enable_all().build()
}

fn check_health(environment: &Environment) -> u8 {
    let socket = environment.socket();
    let runtime = match runtime(&mut Builder::new_current_thread()) {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("unable to start threads: {error}"));
            return UNEXPECTED;
        }
    };
    let health = runtime.block_on(health::check(&socket));
    if health != health::Health::Serving {
        // What a probe prints is shown with the pod's events.
        say(&format!("socket '{}': {health:?}", socket.display()));
    }
    health.code()
}

/// Panics are lines of the log like everything else; a request that panics is answered all the same.
fn log_panics(log: &Log) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or("no reason was given");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        log.error("panic", &[("error", Value::from(text)), ("caller", Value::from(place))]);
    }));
}

/// Where there is no log.
fn say(text: &str) {
    use std::io::Write;
    // Nobody is left to be told when standard error is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(program: &str, words: &[&str]) -> Option<(Role, Vec<String>)> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Role::from_command_line(program, &words).map(|(role, rest)| (role, rest.to_vec()))
    }

    #[test]
    fn the_first_word_is_the_role() {
        for program in ["/manager", "pgbr"] {
            assert_eq!(
                role(program, &["operator", "--leader-elect"]),
                Some((Role::Operator, vec!["--leader-elect".into()]))
            );
            assert_eq!(role(program, &["instance"]), Some((Role::Instance, vec![])));
            assert_eq!(role(program, &["healthcheck", "unix"]), Some((Role::Healthcheck, vec!["unix".into()])));
            assert_eq!(role(program, &["plugin", "restore"]), Some((Role::Restore, vec![])));
            assert_eq!(role(program, &["backup"]), None);
            assert_eq!(role(program, &[]), None);
        }
    }

    #[test]
    fn restore_is_pgbackrests_unless_the_program_is_the_manager() {
        assert_eq!(role("/manager", &["restore"]), Some((Role::Restore, vec![])));
        assert_eq!(role("/usr/bin/pgbr", &["restore"]), None);
    }
}
