//! What commands and the resident engine say to each other over a unix socket.
//!
//! A message is a frame: 4 bytes with the length of what follows (most significant first), a byte with the version of the
//! protocol, and JSON. One request and one answer a connection. Both ends are this program; an end that does not understand the
//! other says so, and the command does its work itself.

use serde_json::{Map, Value, json};

/// The version of the messages.
pub const VERSION: u8 = 1;

/// The longest frame: an answer with many warnings.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Bytes in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Stands for everything that the options decide: an engine with others must not answer.
    pub target: String,
    /// What is to be done.
    pub work: Work,
}

/// A kind of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// `archive-push` of this file.
    Push {
        /// Its path.
        path: String,
    },
    /// `archive-get`.
    Get {
        /// The file.
        name: String,
        /// Where it is to go.
        destination: String,
        /// A hole in the archive is an error.
        stop_at_gap: bool,
    },
}

/// What the engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It does not do this; the command has to.
    Declined {
        /// Why.
        reason: String,
    },
    /// It was done.
    Done(Report),
    /// `archive-get`: no repository has it.
    Missing(Report),
    /// It failed.
    Failed {
        /// The exit code.
        code: u8,
        /// The message.
        message: String,
        /// What was said before.
        report: Report,
    },
}

/// What there is to say beside the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Warnings.
    pub warnings: Vec<String>,
    /// What was done.
    pub done: Option<String>,
}

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The frame has an impossible length.
    #[error("a frame has {0} bytes: expected 1 to {FRAME_BYTES_MAX}")]
    Length(usize),
    /// The other end speaks another version.
    #[error("the other end speaks version {0} of the protocol: expected {VERSION}")]
    Version(u8),
    /// Something is missing or of the wrong kind.
    #[error("a message is not understood: {0}")]
    Content(String),
}

/// The length of the frame behind these bytes.
///
/// # Errors
/// [`ProtocolError::Length`].
pub fn frame_bytes(length: [u8; LENGTH_BYTES]) -> Result<usize, ProtocolError> {
    let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if (1..=FRAME_BYTES_MAX).contains(&bytes) { Ok(bytes) } else { Err(ProtocolError::Length(bytes)) }
}

impl Request {
    /// The frame, with its length.
    ///
    /// # Errors
    /// [`ProtocolError::Length`] when it would be too long.
    pub fn write(&self) -> Result<Vec<u8>, ProtocolError> {
        let content = match &self.work {
            Work::Push { path } => json!({"target": self.target, "work": "push", "path": path}),
            Work::Get { name, destination, stop_at_gap } => json!({
                "target": self.target, "work": "get", "name": name, "destination": destination, "stop-at-gap": stop_at_gap
            }),
        };
        frame(&content)
    }

    /// Reads a frame without its length.
    ///
    /// # Errors
    /// [`ProtocolError`].
    pub fn parse(frame: &[u8]) -> Result<Self, ProtocolError> {
        let content = content(frame)?;
        let work = match text(&content, "work")?.as_str() {
            "push" => Work::Push { path: text(&content, "path")? },
            "get" => Work::Get {
                name: text(&content, "name")?,
                destination: text(&content, "destination")?,
                stop_at_gap: content
                    .get("stop-at-gap")
                    .and_then(Value::as_bool)
                    .ok_or_else(|| ProtocolError::Content("it does not say what a gap is".to_owned()))?,
            },
            other => return Err(ProtocolError::Content(format!("work '{}'", other.escape_debug()))),
        };
        Ok(Self { target: text(&content, "target")?, work })
    }
}

impl Answer {
    /// The frame, with its length. Warnings that do not fit are left out, the last ones first.
    ///
    /// # Errors
    /// [`ProtocolError::Length`] when it would be too long without them.
    pub fn write(&self) -> Result<Vec<u8>, ProtocolError> {
        let mut answer = self.clone();
        loop {
            match (frame(&answer.json()), answer.report_mut()) {
                (Err(ProtocolError::Length(_)), Some(report)) if !report.warnings.is_empty() => {
                    report.warnings.pop();
                }
                (written, _) => return written,
            }
        }
    }

    /// Reads a frame without its length.
    ///
    /// # Errors
    /// [`ProtocolError`].
    pub fn parse(frame: &[u8]) -> Result<Self, ProtocolError> {
        let content = content(frame)?;
        Ok(match text(&content, "answer")?.as_str() {
            "declined" => Self::Declined { reason: text(&content, "reason")? },
            "done" => Self::Done(report(&content)?),
            "missing" => Self::Missing(report(&content)?),
            "failed" => {
                Self::Failed { code: code(&content)?, message: text(&content, "message")?, report: report(&content)? }
            }
            other => return Err(ProtocolError::Content(format!("answer '{}'", other.escape_debug()))),
        })
    }

    fn json(&self) -> Value {
        let with = |mut content: Value, report: &Report| {
            if let Some(content) = content.as_object_mut() {
                content.insert("warnings".to_owned(), report.warnings.clone().into());
                if let Some(done) = &report.done {
                    content.insert("done".to_owned(), done.clone().into());
                }
            }
            content
        };
        match self {
            Self::Declined { reason } => json!({"answer": "declined", "reason": reason}),
            Self::Done(report) => with(json!({"answer": "done"}), report),
            Self::Missing(report) => with(json!({"answer": "missing"}), report),
            Self::Failed { code, message, report } => {
                with(json!({"answer": "failed", "code": code, "message": message}), report)
            }
        }
    }

    fn report_mut(&mut self) -> Option<&mut Report> {
        match self {
            Self::Declined { .. } => None,
            Self::Done(report) | Self::Missing(report) | Self::Failed { report, .. } => Some(report),
        }
    }
}

fn frame(content: &Value) -> Result<Vec<u8>, ProtocolError> {
    let content = content.to_string();
    let bytes = content.len() + 1;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= FRAME_BYTES_MAX);
    let Some(length) = length else { return Err(ProtocolError::Length(bytes)) };
    let mut frame = length.to_be_bytes().to_vec();
    frame.push(VERSION);
    frame.extend_from_slice(content.as_bytes());
    Ok(frame)
}

fn content(frame: &[u8]) -> Result<Map<String, Value>, ProtocolError> {
    let bad = |what: &str| ProtocolError::Content(what.to_owned());
    match frame.split_first() {
        None => Err(ProtocolError::Length(0)),
        Some((&VERSION, json)) => match serde_json::from_slice(json) {
            Ok(Value::Object(content)) => Ok(content),
            _ => Err(bad("it is no JSON object")),
        },
        Some((version, _)) => Err(ProtocolError::Version(*version)),
    }
}

fn text(content: &Map<String, Value>, key: &str) -> Result<String, ProtocolError> {
    let found = content.get(key).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| ProtocolError::Content(format!("it has no text '{key}'")))
}

/// Never success, which has an answer of its own.
fn code(content: &Map<String, Value>) -> Result<u8, ProtocolError> {
    let found = content.get("code").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
    found.filter(|code| *code > 1).ok_or_else(|| ProtocolError::Content("it has no exit code of a failure".to_owned()))
}

fn report(content: &Map<String, Value>) -> Result<Report, ProtocolError> {
    let bad = || ProtocolError::Content("its warnings are no list of texts".to_owned());
    let warnings = content.get("warnings").and_then(Value::as_array).ok_or_else(bad)?;
    let warnings = warnings.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(bad));
    let done = match content.get("done") {
        None => None,
        Some(done) => Some(done.as_str().ok_or_else(bad)?.to_owned()),
    };
    Ok(Report { warnings: warnings.collect::<Result<_, _>>()?, done })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unframed(written: &[u8]) -> &[u8] {
        let (length, frame) = written.split_first_chunk().unwrap();
        assert_eq!(frame_bytes(*length).unwrap(), frame.len());
        frame
    }

    fn answers() -> Vec<Answer> {
        let report = Report { warnings: vec!["one\ntwo".to_owned()], done: Some("pushed".to_owned()) };
        vec![
            Answer::Declined { reason: "other options".to_owned() },
            Answer::Done(report.clone()),
            Answer::Missing(Report::default()),
            Answer::Failed { code: 103, message: "no".to_owned(), report },
        ]
    }

    #[test]
    fn messages_come_back_as_they_were_and_cut_ones_are_refused() {
        for answer in answers() {
            let written = answer.write().unwrap();
            assert_eq!(Answer::parse(unframed(&written)).unwrap(), answer);
            for cut in LENGTH_BYTES..written.len() {
                assert!(Answer::parse(&written[LENGTH_BYTES..cut]).is_err());
            }
        }
        assert_eq!(Answer::parse(&[2, b'{', b'}']), Err(ProtocolError::Version(2)));
        // Success never comes out of a failure.
        let bad = b"\x01{\"answer\":\"failed\",\"code\":0,\"message\":\"\",\"warnings\":[]}";
        assert!(matches!(Answer::parse(bad), Err(ProtocolError::Content(_))));
        assert_eq!(frame_bytes([0; 4]), Err(ProtocolError::Length(0)));
        assert!(frame_bytes([0, 255, 255, 255]).is_err());
    }

    #[test]
    fn too_many_warnings_are_left_out() {
        let report = Report { warnings: vec!["x".repeat(1000); 1000], done: None };
        let written = Answer::Done(report).write().unwrap();
        let Answer::Done(report) = Answer::parse(unframed(&written)).unwrap() else { panic!("another answer") };
        assert!((200..300).contains(&report.warnings.len()), "{}", report.warnings.len());
        let path = "x".repeat(FRAME_BYTES_MAX);
        let request = Request { target: String::new(), work: Work::Push { path } };
        assert!(matches!(request.write(), Err(ProtocolError::Length(_))));
    }

    proptest! {
        #[test]
        fn requests_come_back_as_they_were(target in ".*", path in ".*", name in ".*", destination in ".*") {
            let get = Work::Get { name, destination, stop_at_gap: true };
            for work in [Work::Push { path }, get] {
                let request = Request { target: target.clone(), work };
                prop_assert_eq!(Request::parse(unframed(&request.write().unwrap())).unwrap(), request);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Request::parse(&bytes));
            drop(Answer::parse(&bytes));
        }
    }
}
