//! The log in the original's form (repository-behaviour.md §10.3): one line for each message on console, stderr and file.
//!
//! ```text
//! 2026-11-22 06:18:17.123 P00   INFO: message
//!                               continuation
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::error::ErrorKind;
use pgbr_repo::progress::{Level, Progress, Reporter};

use crate::bar::Bar;
use crate::console::Console;
use crate::detached::Detached;

/// What separates the runs in a log file.
const BANNER: &str = "-------------------PROCESS START-------------------\n";

/// How much a sink is told; `off` below every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Threshold {
    /// Nothing.
    #[default]
    Off,
    /// Errors.
    Error,
    /// Warnings and errors.
    Warn,
    /// What was done.
    Info,
    /// What was done, file by file.
    Detail,
    /// For the developer.
    Debug,
    /// For the developer, all of it.
    Trace,
}

impl Threshold {
    /// Parses the value of a `log-level-*` option.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "off" => Self::Off,
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "detail" => Self::Detail,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return None,
        })
    }

    fn takes(self, level: Level) -> bool {
        self >= match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Detail => Self::Detail,
            Level::Debug => Self::Debug,
        }
    }
}

/// Where messages go.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Messages on standard output.
    pub console: Threshold,
    /// Messages on standard error, without time and process.
    pub stderr: Threshold,
    /// Messages in the file.
    pub file: Threshold,
    /// Time in front of each message.
    pub timestamp: bool,
    /// Digits of the process number: 3 when there may be more than 99 workers.
    pub process_digits: usize,
    /// Marks every message of a run that changes nothing.
    pub dry_run: bool,
}

impl Settings {
    /// Before the options are known: warnings and errors on the console without time.
    pub const INITIAL: Settings = Settings {
        console: Threshold::Warn,
        stderr: Threshold::Off,
        file: Threshold::Off,
        timestamp: false,
        process_digits: 2,
        dry_run: false,
    };
}

/// The log of one run; every message of every thread goes through it, a whole message at a time.
#[derive(Debug)]
pub struct Logger {
    sinks: Mutex<Sinks>,
}

#[derive(Debug)]
struct Sinks {
    settings: Settings,
    file: Option<File>,
    banner_written: bool,
    bar: Option<Bar>,
    console: Console,
    /// Writes to the console instead of the thread that has something to say.
    detached: Option<Detached>,
}

impl Default for Logger {
    fn default() -> Self {
        Self {
            sinks: Mutex::new(Sinks {
                settings: Settings::INITIAL,
                file: None,
                banner_written: false,
                bar: None,
                console: Console::new(None),
                detached: None,
            }),
        }
    }
}

impl Logger {
    /// Sets where messages go from now on.
    pub fn configure(&self, settings: Settings) {
        self.lock().settings = settings;
    }

    /// Opens the log file for the messages to come; its directory is created when it is missing.
    pub fn open_file(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            // As the original makes it: whatever the umask is, not for everybody.
            fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        let mut sinks = self.lock();
        sinks.file = Some(file);
        sinks.banner_written = false;
        Ok(())
    }

    /// How long the reader of the console may keep a message waiting from now on; `None` is as long as it likes.
    pub fn wait_at_most(&self, patience: Option<Duration>) {
        self.lock().console = Console::new(patience);
    }

    /// From now on nobody waits for the reader of the console.
    pub fn detach(&self) {
        // Without a thread it stays as it was.
        self.lock().detached = Detached::start().ok();
    }

    /// Waits a moment for what the reader of a detached console has not read yet.
    pub fn reattach(&self) {
        let detached = self.lock().detached.take();
        drop(detached);
    }

    /// Shows a progress bar on standard error while it is a terminal.
    pub fn show_progress(&self) {
        if io::stderr().is_terminal() {
            self.lock().bar = Some(Bar::new());
        }
    }

    /// Takes the progress bar away.
    pub fn hide_progress(&self) {
        if let Some(bar) = self.lock().bar.take() {
            bar.finish();
        }
    }

    /// Whether any sink takes messages of this level.
    pub fn any(&self, level: Level) -> bool {
        let sinks = self.lock();
        let settings = &sinks.settings;
        settings.console.takes(level)
            || settings.stderr.takes(level)
            || (settings.file.takes(level) && sinks.file.is_some())
    }

    /// Reports the error that ends the command, with its code.
    pub fn error(&self, code: u8, text: &str) {
        self.lock().write(Level::Error, 0, Some(code), text);
    }

    fn lock(&self) -> MutexGuard<'_, Sinks> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter for Logger {
    fn message(&self, level: Level, worker: usize, text: &str) {
        self.lock().write(level, worker, None, text);
    }

    fn failure(&self, kind: ErrorKind, text: &str) {
        self.error(kind.code(), text);
    }

    fn progress(&self, progress: Progress) {
        if let Some(bar) = &self.lock().bar {
            bar.set(progress);
        }
    }
}

impl Sinks {
    fn write(&mut self, level: Level, worker: usize, code: Option<u8>, text: &str) {
        let to_stderr = self.settings.stderr.takes(level);
        let to_file = self.settings.file.takes(level) && self.file.is_some();
        if !to_stderr && !to_file && !self.settings.console.takes(level) {
            // The local time of a line nobody sees would cost a walk through the time zone files.
            return;
        }
        let line = Line::new(&self.settings, level, worker, code, text);
        // A sink that cannot be written must not stop the command.
        let to_console = to_stderr || self.settings.console.takes(level);
        if let Some(detached) = self.detached.as_mut().filter(|_| to_console) {
            detached.write(to_stderr, if to_stderr { line.brief() } else { line.full() });
        } else if to_console {
            let text = if to_stderr { line.brief() } else { line.full() };
            match &self.bar {
                Some(bar) => bar.suspend(|| self.console.write(to_stderr, &text)),
                None => self.console.write(to_stderr, &text),
            }
        }
        if to_file {
            self.write_file(&line.full());
        }
    }

    fn write_file(&mut self, line: &str) {
        let Some(file) = &mut self.file else { return };
        let mut text = String::new();
        if !self.banner_written {
            if file.seek(SeekFrom::End(0)).is_ok_and(|end| end > 0) {
                text.push('\n');
            }
            text.push_str(BANNER);
            self.banner_written = true;
        }
        text.push_str(line);
        drop(file.write_all(text.as_bytes()));
    }
}

/// One message with what stands in front of it.
struct Line<'a> {
    head: String,
    level: &'static str,
    code: String,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn new(settings: &Settings, level: Level, worker: usize, code: Option<u8>, text: &'a str) -> Self {
        let level = match level {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Detail => "DETAIL",
            Level::Debug => "DEBUG",
        };
        let time = if settings.timestamp { local_time(SystemClock.now_ms()) } else { String::new() };
        let head = format!("{time}P{worker:0digits$} ", digits = settings.process_digits);
        let mut marks = code.map_or_else(String::new, |code| format!("[{code:03}]: "));
        if settings.dry_run {
            marks.push_str("[DRY-RUN] ");
        }
        Self { head, level, code: marks, text }
    }

    /// With time and process, continuation lines below the message.
    fn full(&self) -> String {
        let head = format!("{}{:>6}: ", self.head, self.level);
        let indent = " ".repeat(head.len());
        format!("{head}{}{}\n", self.code, self.text.replace('\n', &format!("\n{indent}")))
    }

    /// As standard error has it.
    fn brief(&self) -> String {
        let head = format!("{}: ", self.level);
        let indent = " ".repeat(head.len());
        format!("{head}{}{}\n", self.code, self.text.replace('\n', &format!("\n{indent}")))
    }
}

/// `2026-11-22 06:18:17.123 ` in the process's own time zone.
fn local_time(now_ms: i64) -> String {
    let zoned = Timestamp::from_millisecond(now_ms).unwrap_or_default().to_zoned(TimeZone::system());
    format!("{}.{:03} ", zoned.strftime("%Y-%m-%d %H:%M:%S"), now_ms.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { dry_run: false, ..Settings::INITIAL };

    #[test]
    fn a_message_looks_as_the_original_writes_it() {
        let line = Line::new(&SETTINGS, Level::Error, 0, Some(55), "unable to open\nHINT: look");
        assert_eq!(line.full(), "P00  ERROR: [055]: unable to open\n            HINT: look\n");
        assert_eq!(line.brief(), "ERROR: [055]: unable to open\n       HINT: look\n");
        let settings = Settings { dry_run: true, process_digits: 3, ..SETTINGS };
        assert_eq!(Line::new(&settings, Level::Info, 7, None, "done").full(), "P007   INFO: [DRY-RUN] done\n");
    }

    #[test]
    fn time_stands_in_front() {
        let settings = Settings { timestamp: true, ..SETTINGS };
        let full = Line::new(&settings, Level::Detail, 1, None, "x").full();
        assert_eq!(full.len(), "2026-11-22 06:18:17.123 P01 DETAIL: x\n".len());
        assert!(full.ends_with(" P01 DETAIL: x\n"));
    }
}
