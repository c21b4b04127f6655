//! A program under a test's control: stopped in the middle, continued, killed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::canary;
use crate::error::{Context, Error, Result};
use crate::process::{Outcome, describe, outcome, wait};

/// A started program with everything that it starts; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    line: String,
    stdout: File,
    stderr: File,
    started: Instant,
}

impl Running {
    /// Starts `command` in a process group of its own, with empty standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let line = describe(command);
        let program = Path::new(command.get_program()).to_owned();
        let stdout = tempfile::tempfile().context("create output file for", &program)?;
        let stderr = tempfile::tempfile().context("create output file for", &program)?;
        command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().context("share output file of", &program)?)
            .stderr(stderr.try_clone().context("share output file of", &program)?)
            .process_group(0);
        let child = command.spawn().context("start", &program)?;
        Ok(Self { child: Some(child), line, stdout, stderr, started: Instant::now() })
    }

    /// The number of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What it has printed until now, standard output first.
    ///
    /// # Errors
    /// When its output cannot be read.
    pub fn printed(&self) -> Result<String> {
        let mut text = String::new();
        for file in [&self.stdout, &self.stderr] {
            // The program writes where the file's own position is: that one must stay.
            let (mut bytes, mut part) = (Vec::new(), [0; 16 * 1024]);
            loop {
                let read =
                    file.read_at(&mut part, bytes.len() as u64).context("read output of", Path::new(&self.line))?;
                match part.get(..read) {
                    None | Some([]) => break,
                    Some(read) => bytes.extend_from_slice(read),
                }
            }
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        canary::look(&self.line, &text);
        Ok(text)
    }

    /// Holds the program and its children where they are (SIGSTOP).
    pub fn pause(&self) {
        self.signal_group(Signal::STOP);
    }

    /// Lets them go on (SIGCONT).
    pub fn go_on(&self) {
        self.signal_group(Signal::CONT);
    }

    /// Ends the program and its children at once (SIGKILL) and waits for its end.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks the program itself to end (SIGTERM), as an operator would.
    pub fn ask_to_end(&self) {
        if let Some(child) = &self.child {
            // It may have ended by itself.
            let _gone = kill_process(Pid::from_child(child), Signal::TERM);
        }
    }

    /// Waits for its end, at most `limit`.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn finish(mut self, limit: Duration) -> Result<Outcome> {
        let Some(mut child) = self.child.take() else {
            return Err(Error::Unexpected(format!("{} has ended before", self.line)));
        };
        let status = wait(&mut child, limit).context("wait for", Path::new(&self.line))?;
        self.child = Some(child);
        let Some(status) = status else {
            return Err(Error::TimedOut { what: self.line.clone(), limit });
        };
        Ok(outcome(self.line.clone(), status, &mut self.stdout, &mut self.stderr, self.started.elapsed()))
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _gone = kill_process_group(Pid::from_child(child), signal);
        }
    }

    fn end(&mut self) {
        self.signal_group(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _status = child.wait();
            // A test that fails anyway has its own reason.
            if !std::thread::panicking() {
                drop(self.printed());
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
