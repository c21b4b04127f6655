//! The log: JSON objects, one a line, as CloudNativePG's own processes write them, so that one query finds both.
//!
//! ```text
//! {"level":"info","ts":"2026-11-27T02:03:04.123456789Z","logger":"…","msg":"…","logging_pod":"…", …}
//! ```
//!
//! A line is written by a thread of its own. Whoever logs never waits for standard error: when nobody reads it, lines are
//! dropped and counted.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use jiff::Timestamp;
use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::progress::{Level as EngineLevel, Progress, Reporter};
use serde_json::Value;

/// Lines that wait for the writer; more are dropped.
const LINES_WAITING_MAX: usize = 1024;

/// The longest text in a line; what is longer is cut.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// How long the end of the program waits for its last lines.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something a person should look at.
    Warning,
    /// What was done.
    #[default]
    Info,
    /// For the developer.
    Debug,
    /// For the developer, all of it.
    Trace,
}

impl Level {
    /// Parses the value of `--log-level`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "error" => Self::Error,
            "warning" => Self::Warning,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return None,
        })
    }

    /// Its name, as flags and lines have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What the flags say about the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The least important level that is written.
    pub level: Level,
    /// A file or a pipe instead of standard error.
    pub destination: Option<PathBuf>,
    /// Another name for the field `level`.
    pub field_level: Option<String>,
    /// Another name for the field `ts`.
    pub field_timestamp: Option<String>,
    /// The value of `logging_pod` in every line.
    pub pod: Option<String>,
}

/// The log of the process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    lines: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line(String),
    Flush(SyncSender<()>),
}

/// The parts of one line.
struct Line<'a> {
    level: Level,
    logger: Option<&'a str>,
    message: &'a str,
    fields: &'a [(&'a str, Value)],
}

impl Log {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// When the destination cannot be opened or no thread is to be had.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = match &settings.destination {
            // A pipe is opened for reading too, so that opening it does not wait for its reader.
            Some(path) if is_pipe(path) => Box::new(File::options().read(true).write(true).open(path)?),
            Some(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
            None => Box::new(io::stderr()),
        };
        Self::write_to(settings, sink)
    }

    /// Writes the lines to `sink`.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn write_to(settings: Settings, sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let (lines, received) = sync_channel(LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let inner = Arc::new(Inner { settings: settings.clone(), lines, dropped: Arc::clone(&dropped) });
        std::thread::Builder::new()
            .name("log".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || write_lines(sink, &received, &settings, &dropped))?;
        Ok(Self { inner })
    }

    /// Writes an error.
    pub fn error(&self, message: &str, fields: &[(&str, Value)]) {
        self.write(&Line { level: Level::Error, logger: None, message, fields });
    }

    /// Writes a warning.
    pub fn warn(&self, message: &str, fields: &[(&str, Value)]) {
        self.write(&Line { level: Level::Warning, logger: None, message, fields });
    }

    /// Writes what was done.
    pub fn info(&self, message: &str, fields: &[(&str, Value)]) {
        self.write(&Line { level: Level::Info, logger: None, message, fields });
    }

    /// Writes something for the developer.
    pub fn debug(&self, message: &str, fields: &[(&str, Value)]) {
        self.write(&Line { level: Level::Debug, logger: None, message, fields });
    }

    /// Whether lines of this level are written.
    #[must_use]
    pub fn takes(&self, level: Level) -> bool {
        self.inner.settings.level >= level
    }

    /// What hears the engine for the command `logger`, with everything that the process's own level lets through.
    #[must_use]
    pub fn reporter(&self, logger: &str) -> Arc<dyn Reporter> {
        self.reporter_at(logger, Some(EngineLevel::Debug))
    }

    /// The same, with no message of the engine less important than `least`; none at all without it.
    #[must_use]
    pub fn reporter_at(&self, logger: &str, least: Option<EngineLevel>) -> Arc<dyn Reporter> {
        Arc::new(Ear { log: self.clone(), logger: logger.to_owned(), least })
    }

    /// Waits a moment until everything is written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.inner.lines.try_send(Entry::Flush(done)).is_ok() {
            // A reader that does not read any more must not hold the end up.
            let _late = wait.recv_timeout(FLUSH_TIME_MAX);
        }
    }

    fn write(&self, line: &Line<'_>) {
        if !self.takes(line.level) {
            return;
        }
        let text = line.text(&self.inner.settings, SystemClock.now_ms());
        if self.inner.lines.try_send(Entry::Line(text)).is_err() {
            self.inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_pipe(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

fn write_lines(mut sink: Box<dyn Write + Send>, lines: &Receiver<Entry>, settings: &Settings, dropped: &AtomicU64) {
    while let Ok(entry) = lines.recv() {
        // Nobody is left to be told when the log itself cannot be written.
        match entry {
            Entry::Line(line) => drop(sink.write_all(line.as_bytes())),
            Entry::Flush(done) => {
                drop(sink.flush());
                let _gone = done.send(());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let fields = [("lines", Value::from(lost))];
            let line = Line { level: Level::Warning, logger: None, message: "log lines were dropped", fields: &fields };
            drop(sink.write_all(line.text(settings, SystemClock.now_ms()).as_bytes()));
        }
    }
}

impl Line<'_> {
    fn text(&self, settings: &Settings, now_ms: i64) -> String {
        let mut text = String::with_capacity(256);
        text.push('{');
        put(&mut text, settings.field_level.as_deref().unwrap_or("level"), &Value::from(self.level.name()));
        let now = Timestamp::from_millisecond(now_ms).unwrap_or_default();
        put(&mut text, settings.field_timestamp.as_deref().unwrap_or("ts"), &Value::from(now.to_string()));
        if let Some(logger) = self.logger {
            put(&mut text, "logger", &Value::from(logger));
        }
        put(&mut text, "msg", &Value::from(cut(self.message)));
        if let Some(pod) = &settings.pod {
            put(&mut text, "logging_pod", &Value::from(pod.as_str()));
        }
        for (name, value) in self.fields {
            match value {
                Value::String(long) if long.len() > TEXT_BYTES_MAX => put(&mut text, name, &Value::from(cut(long))),
                value => put(&mut text, name, value),
            }
        }
        text.push_str("}\n");
        text
    }
}

/// Adds one field; `serde_json`'s own maps would sort them.
fn put(text: &mut String, name: &str, value: &Value) {
    if !text.ends_with('{') {
        text.push(',');
    }
    // Writing into a string cannot fail.
    let _written = write!(text, "{}:{value}", Value::from(name));
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    format!("{} [{} bytes more]", text.get(..end).unwrap_or_default(), text.len() - end)
}

/// Turns the engine's messages into lines under the name of a command.
#[derive(Debug)]
struct Ear {
    log: Log,
    logger: String,
    least: Option<EngineLevel>,
}

impl Reporter for Ear {
    fn message(&self, level: EngineLevel, worker: usize, text: &str) {
        if self.least.is_none_or(|least| level > least) {
            return;
        }
        let level = match level {
            EngineLevel::Error => Level::Error,
            EngineLevel::Warn => Level::Warning,
            EngineLevel::Info => Level::Info,
            EngineLevel::Detail | EngineLevel::Debug => Level::Debug,
        };
        let workers = [("worker", Value::from(worker))];
        let fields: &[(&str, Value)] = if worker == 0 { &[] } else { &workers };
        self.log.write(&Line { level, logger: Some(&self.logger), message: text, fields });
    }

    /// Nobody watches a sidecar at work: what it removes on its own is told to whoever reads its log later.
    fn announce(&self, text: &str) {
        self.message(EngineLevel::Info, 0, text);
    }

    fn progress(&self, _progress: Progress) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pgbr_repo::error::ErrorKind;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a log with these settings writes.
    fn written(settings: Settings, speak: impl FnOnce(&Log)) -> Vec<Value> {
        let sink = Written::default();
        let log = Log::write_to(settings, Box::new(sink.clone())).unwrap();
        speak(&log);
        log.flush();
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_looks_as_the_machinery_writes_it() {
        let settings = Settings { pod: Some("cluster-1".to_owned()), ..Settings::default() };
        let fields = [("walName", Value::from("00000001")), ("elapsedWalTime", Value::from(3))];
        let line = Line { level: Level::Warning, logger: Some("archive-push"), message: "a \"b\"\n", fields: &fields };
        assert_eq!(
            line.text(&settings, 1_795_745_384_123),
            "{\"level\":\"warning\",\"ts\":\"2026-11-27T02:09:44.123Z\",\"logger\":\"archive-push\",\
             \"msg\":\"a \\\"b\\\"\\n\",\"logging_pod\":\"cluster-1\",\"walName\":\"00000001\",\"elapsedWalTime\":3}\n"
        );
    }

    #[test]
    fn fields_have_the_names_that_the_flags_give_them() {
        let settings = Settings {
            field_level: Some("severity".to_owned()),
            field_timestamp: Some("time".to_owned()),
            ..Settings::default()
        };
        let lines = written(settings, |log| log.info("hello", &[]));
        assert_eq!(lines[0]["severity"], "info");
        assert!(lines[0]["time"].is_string() && lines[0].get("ts").is_none() && lines[0].get("level").is_none());
    }

    #[test]
    fn what_is_less_important_is_not_written() {
        let settings = Settings { level: Level::Warning, ..Settings::default() };
        let lines = written(settings, |log| {
            log.debug("no", &[]);
            log.info("no", &[]);
            log.warn("yes", &[]);
            log.error("yes", &[("error", Value::from("why"))]);
        });
        let levels: Vec<_> = lines.iter().map(|line| line["level"].clone()).collect();
        assert_eq!(levels, ["warning", "error"]);
    }

    #[test]
    fn the_engine_speaks_under_the_name_of_its_command() {
        let lines = written(Settings::default(), |log| {
            let reporter = log.reporter_at("pgbackrest backup", Some(EngineLevel::Warn));
            reporter.message(EngineLevel::Info, 0, "no");
            reporter.message(EngineLevel::Warn, 2, "careful");
            reporter.failure(ErrorKind::ArchiveMismatch, "another content");
            log.reporter_at("pgbackrest backup", None).message(EngineLevel::Error, 0, "no");
            log.reporter("x").message(EngineLevel::Info, 0, "all");
        });
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0]["logger"].as_str(), lines[0]["worker"].as_u64()), (Some("pgbackrest backup"), Some(2)));
        let code = ErrorKind::ArchiveMismatch.code();
        assert_eq!(lines[1]["msg"], format!("[{code:03}]: another content"));
        assert_eq!(lines[2]["logger"], "x");
    }

    #[test]
    fn a_line_is_bounded() {
        let long = "é".repeat(TEXT_BYTES_MAX);
        let lines = written(Settings::default(), |log| log.info(&long, &[("field", Value::from(long.as_str()))]));
        assert!(lines[0].to_string().len() < 3 * TEXT_BYTES_MAX);
        assert!(lines[0]["msg"].as_str().unwrap().ends_with("[16384 bytes more]"));
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        struct Stuck(Arc<Mutex<()>>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                drop(self.0.lock().unwrap());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let log = Log::write_to(Settings::default(), Box::new(Stuck(Arc::clone(&gate)))).unwrap();
        for _ in 0..LINES_WAITING_MAX + 10 {
            log.info("one more", &[]);
        }
        assert!(log.inner.dropped.load(Ordering::Relaxed) >= 8);
        drop(closed);
    }
}
