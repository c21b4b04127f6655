//! A run from the command line to the exit code.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgbr_config::command::LockType;
use pgbr_config::{Command, HostFiles, Invocation, Parsed, Role, Source, opt, render};
use pgbr_repo::clock::{Random, SystemRandom};
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::progress::{Level, Reporter};
use rustix::process::{Resource, getrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Failure, Outcome};
use crate::lock;
use crate::log::{Logger, Settings, Threshold};
use crate::session::{Session, Start};
use crate::{command, version};

/// How long a command may tidy up after a signal.
const TIDY_TIME_MAX: Duration = Duration::from_secs(20);

/// The stack of a thread: filters keep their state on the heap.
const STACK_BYTES: usize = 1024 * 1024;

/// Threads for each worker: one of the runtime, one for its file and filters, one for the storage's blocking calls.
const THREADS_PER_WORKER: usize = 3;

/// Open files that a command with one worker may need, connections included.
const DESCRIPTORS_MIN: u64 = 32;

/// Runs the program and gives its exit code.
pub fn run(program: &str, arguments: &[String], environment: &[(String, String)]) -> u8 {
    let begin = Instant::now();
    let logger = Arc::new(Logger::default());
    let exec_id = exec_id();
    let invocation = Invocation {
        program,
        arguments,
        environment,
        root: rustix::process::geteuid().is_root(),
        exec_id: Some(&exec_id),
    };
    let parsed = match pgbr_config::parse(&invocation, &HostFiles) {
        Ok(parsed) => parsed,
        Err(error) => {
            let failure = Failure::from(error);
            logger.error(failure.code, &failure.message);
            return failure.code;
        }
    };
    if parsed.help.is_some() || matches!(parsed.command, Command::Help | Command::Version) {
        return match command::print_help_or_version(&parsed, program) {
            Ok(()) => 0,
            Err(failure) => {
                logger.error(failure.code, &failure.message);
                failure.code
            }
        };
    }
    let start = Start { program: program.to_owned(), arguments: arguments.to_vec(), environment: environment.to_vec() };
    run_parsed(parsed, &logger, start, begin)
}

/// How long the reader of the console may keep the command waiting with a message. PostgreSQL waits for the commands that
/// archive, and whoever holds a lock keeps others out. Of any other command, what it prints is what it is for.
fn patience(command: Command) -> Option<Duration> {
    match command {
        Command::ArchivePush | Command::ArchiveGet => Some(Duration::from_millis(100)),
        _ if command.facts().lock_required => Some(Duration::from_secs(10)),
        _ => None,
    }
}

fn run_parsed(parsed: Parsed, logger: &Arc<Logger>, start: Start, begin: Instant) -> u8 {
    configure_log(logger, &parsed);
    logger.wait_at_most(patience(parsed.command));
    if parsed.command == Command::Serve {
        logger.detach();
    }
    for warning in &parsed.warnings {
        logger.message(Level::Warn, 0, warning);
    }
    let session = Arc::new(Session::new(parsed, Arc::clone(logger), start));
    let code = run_command(&session, session.command(), logger, begin, |session| {
        prepare(session).and_then(|()| block_on(session, session.command()))
    });
    if code != 0 || session.command() != Command::Backup || !session.options().boolean(opt::EXPIRE_AUTO) {
        return code;
    }
    // The log goes on in the file of the other command, under the same lock.
    open_log_file(logger, Command::Expire, &session.parsed);
    session.forget_progress();
    run_command(&session, Command::Expire, logger, Instant::now(), |session| block_on(session, Command::Expire))
}

/// Runs one command between the messages of its begin and its end, and gives the exit code.
fn run_command(
    session: &Arc<Session>,
    command: Command,
    logger: &Arc<Logger>,
    begin: Instant,
    work: impl FnOnce(&Arc<Session>) -> Result<Outcome, Failure>,
) -> u8 {
    let name = command.name_with_role(session.parsed.role);
    let level = if command.facts().log_begin_as_info { Level::Info } else { Level::Debug };
    if logger.any(level) {
        let options = render::begin_line(session.options(), command, &session.parsed.parameters);
        logger.message(level, 0, &format!("{name} command begin {}:{options}", version::IMPLEMENTED));
    }
    if matches!(command, Command::Backup | Command::Restore) {
        logger.show_progress();
    }
    let outcome = work(session);
    logger.hide_progress();
    let (code, end) = match outcome {
        Ok(outcome) if session.options().boolean(opt::LOG_TIMESTAMP) => {
            (outcome.code(), format!("completed successfully ({}ms)", begin.elapsed().as_millis()))
        }
        Ok(outcome) => (outcome.code(), "completed successfully".to_owned()),
        Err(failure) => {
            logger.error(failure.code, &failure.message);
            (failure.code, format!("aborted with exception [{:03}]", failure.code))
        }
    };
    logger.message(level, 0, &format!("{name} command end: {end}"));
    logger.reattach();
    code
}

/// The name of this run in lock files: process number and a random number.
fn exec_id() -> String {
    let mut bytes = [0; 4];
    // Without random bytes the process number alone tells the run from others on this host.
    drop(SystemRandom.fill(&mut bytes));
    format!("{}-{}", std::process::id(), hex::encode(bytes))
}

fn configure_log(logger: &Logger, parsed: &Parsed) {
    let options = &parsed.options;
    let level = |key| options.string_id(key).and_then(Threshold::parse);
    // A background half has nobody to talk to.
    let on_terminal = |key, default| match parsed.role {
        Role::Main => level(key).unwrap_or(default),
        Role::Async => Threshold::Off,
    };
    let workers = options.integer(opt::PROCESS_MAX).unwrap_or(1);
    logger.configure(Settings {
        console: on_terminal(opt::LOG_LEVEL_CONSOLE, Threshold::Warn),
        stderr: on_terminal(opt::LOG_LEVEL_STDERR, Threshold::Off),
        file: level(opt::LOG_LEVEL_FILE).unwrap_or(Threshold::Info),
        timestamp: options.get(opt::LOG_TIMESTAMP).unwrap_or(true),
        process_digits: if workers > 99 { 3 } else { 2 },
        dry_run: options.boolean(opt::DRY_RUN),
    });
    open_log_file(logger, parsed.command, parsed);
}

/// The log file is a convenience: a command runs without it.
fn open_log_file(logger: &Logger, command: Command, parsed: &Parsed) {
    let options = &parsed.options;
    let facts = command.facts();
    // As the original's `cfgLogFile`: a level that was asked for with the command is meant for it.
    let asked = matches!(options.source(opt::LOG_LEVEL_FILE), Some(Source::Argument | Source::Environment));
    let wanted = facts.log_file || asked || parsed.role == Role::Async;
    if !wanted || options.string_id(opt::LOG_LEVEL_FILE) == Some("off") {
        return;
    }
    let Some(directory) = options.path(opt::LOG_PATH) else { return };
    let stanza = options.text(opt::STANZA).unwrap_or("all");
    let suffix = if parsed.role == Role::Async { "-async" } else { "" };
    let path = PathBuf::from(directory).join(format!("{stanza}-{}{suffix}.log", command.name()));
    if let Err(error) = logger.open_file(&path) {
        logger.message(
            Level::Warn,
            0,
            &format!(
                "unable to open log file '{}': {error}\nNOTE: process will continue without log file.",
                path.display()
            ),
        );
    }
}

/// What has to hold before the command begins: its priority and its lock.
fn prepare(session: &Session) -> Result<(), Failure> {
    set_priority(session)?;
    let facts = session.command().facts();
    if !facts.lock_required {
        return Ok(());
    }
    let types: &[lock::LockType] = match facts.lock_type {
        LockType::None => return Ok(()),
        LockType::Archive => &[lock::LockType::Archive],
        LockType::Backup => &[lock::LockType::Backup],
        LockType::Restore => &[lock::LockType::Restore],
        LockType::All => &lock::LockType::ALL,
    };
    session.hold(session.lock(types)?);
    Ok(())
}

/// The `priority` option: how nice the process is to others.
fn set_priority(session: &Session) -> Result<(), Failure> {
    let Some(Ok(priority)) = session.options().integer(opt::PRIORITY).map(i32::try_from) else { return Ok(()) };
    rustix::process::setpriority_process(None, priority)
        .map_err(|errno| Failure::new(ErrorKind::Kernel, format!("unable to set priority {priority}: {errno}")))
}

fn block_on(session: &Arc<Session>, command: Command) -> Result<Outcome, Failure> {
    let failed = |error: std::io::Error| {
        Failure::from(
            Error::new(ErrorKind::Kernel, format!("unable to start threads: {error}"))
                .hint("are the limits on processes and open files (ulimit -u, ulimit -n) too low?"),
        )
    };
    let mut builder = match command {
        Command::Backup | Command::Restore | Command::Verify if session.workers() > 1 => {
            try_threads(session.workers().saturating_mul(THREADS_PER_WORKER)).map_err(failed)?;
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(session.workers().min(4));
            builder
        }
        _ => {
            // The runtime panics where the system has no thread for it; an error can say what to do.
            try_threads(1).map_err(failed)?;
            tokio::runtime::Builder::new_current_thread()
        }
    };
    if let Some(threads) = session.blocking_threads() {
        builder.max_blocking_threads(threads);
    }
    require_descriptors()?;
    let runtime = builder.enable_all().thread_stack_size(STACK_BYTES).build().map_err(failed)?;
    let outcome = without_panic(|| runtime.block_on(until_signal(session, command::run(session, command))));
    // Work that a dropped command left on blocking threads ends with the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Starts and ends as many threads as the command will need at once. Later ones that the system refuses would be waited
/// for without end: the jobs that hold the others wait for them.
fn try_threads(count: usize) -> std::io::Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let mut threads = Vec::with_capacity(count);
    let mut refused = Ok(());
    for _ in 0..count {
        let gate = Arc::clone(&gate);
        let wait = move || drop(gate.lock().unwrap_or_else(PoisonError::into_inner));
        match std::thread::Builder::new().stack_size(STACK_BYTES).spawn(wait) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                refused = Err(error);
                break;
            }
        }
    }
    drop(closed);
    // They do nothing that could fail.
    threads.into_iter().for_each(|thread| drop(thread.join()));
    refused
}

/// Fails where the limit on open files is lower than what any command needs: the runtime would panic.
fn require_descriptors() -> Result<(), Failure> {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < DESCRIPTORS_MIN => Err(Failure::new(
            ErrorKind::Kernel,
            format!("the limit on open files (ulimit -n) is {limit}: at least {DESCRIPTORS_MIN} are needed"),
        )),
        _ => Ok(()),
    }
}

/// Turns a panic, which is a mistake of this program, into a failure of the command: locks are given back, and whoever
/// waits for the exit code gets one that the original uses.
fn without_panic<T>(command: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("no reason was given");
        Err(Error::new(ErrorKind::Unknown, format!("the command failed unexpectedly: {text}"))
            .hint("this is a mistake in pgbr: please report it with the lines above.")
            .into())
    })
}

/// Runs the command; a signal asks it to stop, a second one, or no answer, ends it.
async fn until_signal(
    session: &Session,
    command: impl Future<Output = Result<Outcome, Failure>>,
) -> Result<Outcome, Failure> {
    tokio::pin!(command);
    let name = tokio::select! {
        outcome = &mut command => return outcome,
        name = next_signal() => name,
    };
    session.context.cancel.cancel();
    let tidied = tokio::select! {
        outcome = tokio::time::timeout(TIDY_TIME_MAX, &mut command) => outcome.ok(),
        _ = next_signal() => None,
    };
    match tidied {
        // It was done, or failed by itself, before it could stop.
        Some(Ok(outcome)) => Ok(outcome),
        Some(Err(failure)) if failure.code != ErrorKind::Term.code() => Err(failure),
        _ => Err(Failure::new(ErrorKind::Term, format!("terminated on signal {name}"))),
    }
}

async fn next_signal() -> &'static str {
    let signals = (signal(SignalKind::hangup()), signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut hangup), Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = hangup.recv() => "SIGHUP",
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn re08_a_panic_is_a_failure_with_an_exit_code() {
        let failure = without_panic(|| -> Result<(), _> { panic!("{} is wrong", "something") }).unwrap_err();
        assert_eq!(failure.code, 125);
        assert!(failure.message.starts_with("the command failed unexpectedly: something is wrong\nHINT: "));
        assert_eq!(without_panic(|| Ok(7)).unwrap(), 7);
    }
}
