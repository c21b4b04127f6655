//! Runs a program to its end with a deadline and keeps all that it printed.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::canary;
use crate::error::{Context, Error, Result};

/// Long enough for any single program a test starts on two busy cores.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(300);

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; `None` when a signal ended the program.
    pub exit_code: Option<i32>,
    /// How it ended, in words.
    pub status: String,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
    /// Wall clock time from start to end.
    pub elapsed: Duration,
}

impl Outcome {
    /// The outcome itself if the exit code is 0.
    ///
    /// # Errors
    /// [`Error::Failed`] with everything the program printed.
    pub fn success(self) -> Result<Self> {
        if self.exit_code == Some(0) {
            return Ok(self);
        }
        Err(Error::Failed { command: self.command, status: self.status, stdout: self.stdout, stderr: self.stderr })
    }

    /// Standard output and standard error, one after the other.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The most memory that a process had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peak {
    /// `VmHWM`: resident.
    pub resident_kib: u64,
    /// `VmPeak`: address space.
    pub address_kib: u64,
}

/// As [`run`], with the peaks of the process itself from when it is the program called `name`: a shell that sets limits
/// is not, and between fork and exec it is still the one that started it. They are looked up every two milliseconds,
/// and only grow.
///
/// # Errors
/// As [`run`], and when the program ended before it was looked at.
pub fn run_watched(command: &mut Command, name: &str, limit: Duration) -> Result<(Outcome, Peak)> {
    let mut peak = Peak::default();
    let outcome = run_and(command, limit, |process| {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else { return };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        if field("Name").map(str::trim) != Some(name) {
            return;
        }
        let kib = |name| field(name).and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        peak.resident_kib = peak.resident_kib.max(kib("VmHWM"));
        peak.address_kib = peak.address_kib.max(kib("VmPeak"));
    })?;
    if peak == Peak::default() {
        return Err(Error::Unexpected(format!("{}: was over before it was looked at", outcome.command)));
    }
    Ok((outcome, peak))
}

/// Runs `command` with empty standard input; kills its whole process group after `limit`.
///
/// Output goes to unnamed files and not through pipes: a program that leaves a child behind (an asynchronous
/// archiver) would hold a pipe open and the caller with it.
///
/// # Errors
/// When the program cannot be started or does not end in time. A non-zero exit code is not an error here.
pub fn run(command: &mut Command, limit: Duration) -> Result<Outcome> {
    run_and(command, limit, |_| {})
}

/// [`run`], showing the process to `look` while it runs.
fn run_and(command: &mut Command, limit: Duration, look: impl FnMut(u32)) -> Result<Outcome> {
    let line = describe(command);
    let program = Path::new(command.get_program()).to_owned();
    let mut stdout = tempfile::tempfile().context("create output file for", &program)?;
    let mut stderr = tempfile::tempfile().context("create output file for", &program)?;
    command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().context("share output file of", &program)?)
        .stderr(stderr.try_clone().context("share output file of", &program)?)
        .process_group(0);
    let started = Instant::now();
    let mut child = command.spawn().context("start", &program)?;
    let status = wait_and(&mut child, limit, look).context("wait for", &program)?;
    let elapsed = started.elapsed();
    let Some(status) = status else {
        kill_group(&mut child);
        let text = format!("{}{}", content(&mut stdout), content(&mut stderr));
        canary::look(&line, &text);
        return Err(Error::TimedOut { what: format!("{line}\n{text}"), limit });
    };
    Ok(outcome(line, status, &mut stdout, &mut stderr, elapsed))
}

/// What a program left that ended with `status`; a secret of a test is not among it.
pub(crate) fn outcome(
    command: String,
    status: ExitStatus,
    stdout: &mut File,
    stderr: &mut File,
    elapsed: Duration,
) -> Outcome {
    let outcome = Outcome {
        command,
        exit_code: status.code(),
        status: in_words(status),
        stdout: content(stdout),
        stderr: content(stderr),
        elapsed,
    };
    canary::look(&outcome.command, &outcome.stdout);
    canary::look(&outcome.command, &outcome.stderr);
    outcome
}

/// Waits for the end of `child`, at most `limit`; `None` when it still runs.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    wait_and(child, limit, |_| {})
}

fn wait_and(child: &mut Child, limit: Duration, mut look: impl FnMut(u32)) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        look(child.id());
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The command line as a person would type it, for messages only.
pub(crate) fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn kill_group(child: &mut Child) {
    // The group may be gone already; then there is nothing left to kill.
    let _gone = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _status = child.wait();
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn content(file: &mut File) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = file.rewind().and_then(|()| file.read_to_end(&mut bytes)) {
        return format!("(output not readable: {error})\n");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn keeps_output_and_exit_code() {
        let outcome = run(&mut shell("echo out; echo err >&2; exit 7"), DEFAULT_LIMIT).unwrap();
        assert_eq!((outcome.exit_code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(7), "out\n", "err\n"));
        let error = outcome.success().unwrap_err().to_string();
        assert!(error.contains("exit code 7") && error.contains("out\n") && error.contains("err\n"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let started = Instant::now();
        let error = run(&mut shell("echo seen; sleep 60 & sleep 60"), Duration::from_millis(200)).unwrap_err();
        assert!(matches!(&error, Error::TimedOut { what, .. } if what.contains("seen")), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_child_left_behind_does_not_hold_the_caller() {
        let started = Instant::now();
        run(&mut shell("sleep 30 & echo done"), DEFAULT_LIMIT).unwrap().success().unwrap();
        assert!(started.elapsed() < Duration::from_secs(15));
    }
}
