//! The dialect of info files: sections, keys, JSON values; bytes, line by line.
//!
//! ```text
//! [section]
//! key={"json":"value"}
//!
//! [next section]
//! ```
//!
//! No comments, no trimming (`src/common/ini.c` of pgBackRest, strict mode). A line whose first byte is `[` and last is
//! `]` is a section; every other line that is not empty is `key=value`. A key is raw bytes and may hold `=`: the right
//! `=` is the first one that is followed by exactly one JSON value.
//!
//! Sections stand in ascending byte order, once each, but for `[backrest]`, which begins the file and ends it again
//! with the checksum. The original never wrote anything else, though it would read it.

use memchr::{memchr, memchr_iter};

use super::error::{FormatError, LineProblem};
use super::json::{self, JsonError};
use super::text::shown;

/// The section that begins and ends a file.
pub(crate) const SECTION_BACKREST: &[u8] = b"backrest";

/// Most `=` that are tried in a line: more than a file name of 4,096 bytes (`PATH_MAX`) can have.
const EQUALS_MAX: usize = 4200;

/// Ceilings for what is read.
#[derive(Debug, Clone, Copy)]
pub struct IniLimits {
    /// Longest line, in bytes, without its end.
    pub line_bytes_max: usize,
    /// Largest file, in bytes.
    pub file_bytes_max: u64,
}

impl IniLimits {
    /// For archive.info and backup.info. Ten thousand backups of one set, each with its reference list of up to 36
    /// bytes a backup, have lines of 360 kB.
    pub const INFO: IniLimits = IniLimits { line_bytes_max: 16 << 20, file_bytes_max: 1 << 30 };
    /// For manifests: 16 GiB are about seventy million files. The longest lines are lists of page errors: a
    /// segment of 1 GiB with every other page broken has 460 kB.
    pub const MANIFEST: IniLimits = IniLimits { line_bytes_max: 16 << 20, file_bytes_max: 16 << 30 };
}

/// One `key=value` line.
#[derive(Debug, Clone, Copy)]
pub struct IniEntry<'a> {
    /// Line number, from 1.
    pub line: u64,
    /// Section name.
    pub section: &'a [u8],
    /// Key, not empty.
    pub key: &'a [u8],
    /// Exactly one JSON value, perhaps with blanks around it.
    pub value: &'a [u8],
    /// Whether the key sorts after the key before it in the section.
    pub ascending: bool,
}

impl IniEntry<'_> {
    /// This entry as the place of an error.
    pub(crate) fn error(&self, problem: impl Into<super::error::ValueProblem>) -> FormatError {
        FormatError::value(self.line, self.section, self.key, problem)
    }
}

/// Reads the dialect from pieces of any size and hands out each entry as it is complete.
#[derive(Debug)]
pub struct IniReader {
    limits: IniLimits,
    line: u64,
    read_bytes: u64,
    /// A line of which the end has not arrived.
    partial: Vec<u8>,
    section: Vec<u8>,
    /// The last key of this section; empty at its begin.
    key: Vec<u8>,
    /// The second `[backrest]` has begun.
    closing: bool,
}

impl IniReader {
    /// A reader at the begin of a file.
    pub fn new(limits: IniLimits) -> Self {
        Self {
            limits,
            line: 0,
            read_bytes: 0,
            partial: Vec::new(),
            section: Vec::new(),
            key: Vec::new(),
            closing: false,
        }
    }

    /// Takes the next bytes of the file and gives each complete entry to `sink`.
    ///
    /// # Errors
    /// [`FormatError`] of this dialect or of `sink`. The reader must not be used after an error.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(&IniEntry<'_>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        self.read_bytes = self.read_bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.read_bytes > self.limits.file_bytes_max {
            return Err(FormatError::TooLarge { limit_bytes: self.limits.file_bytes_max });
        }
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.partial.is_empty() {
                self.take_line(line, sink)?;
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.take_line(&whole, sink)?;
                whole.clear();
                self.partial = whole;
            }
        }
        // Refused before it is kept: a line without end must not grow without end.
        if self.partial.len().saturating_add(bytes.len()) > self.limits.line_bytes_max {
            self.line += 1;
            return Err(self.problem(LineProblem::TooLong { limit_bytes: self.limits.line_bytes_max }));
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the file. A last line without its end is accepted.
    ///
    /// # Errors
    /// As [`IniReader::feed`].
    pub fn finish(mut self, sink: &mut dyn FnMut(&IniEntry<'_>) -> Result<(), FormatError>) -> Result<(), FormatError> {
        let last = std::mem::take(&mut self.partial);
        if last.is_empty() { Ok(()) } else { self.take_line(&last, sink) }
    }

    fn take_line(
        &mut self,
        line: &[u8],
        sink: &mut dyn FnMut(&IniEntry<'_>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        self.line += 1;
        if line.len() > self.limits.line_bytes_max {
            return Err(self.problem(LineProblem::TooLong { limit_bytes: self.limits.line_bytes_max }));
        }
        if memchr(0, line).is_some() {
            return Err(self.problem(LineProblem::Nul));
        }
        match line {
            [] => Ok(()),
            [b'[', name @ .., b']'] => self.begin_section(name),
            _ => {
                if self.section.is_empty() {
                    return Err(self.problem(LineProblem::NoSection));
                }
                let (key, value) = split_entry(line).map_err(|problem| self.problem(problem))?;
                let ascending = self.key.as_slice() < key;
                sink(&IniEntry { line: self.line, section: &self.section, key, value, ascending })?;
                self.key.clear();
                self.key.extend_from_slice(key);
                Ok(())
            }
        }
    }

    fn begin_section(&mut self, name: &[u8]) -> Result<(), FormatError> {
        if name.is_empty() {
            return Err(self.problem(LineProblem::EmptySection));
        }
        let again = name == SECTION_BACKREST && self.section.as_slice() >= SECTION_BACKREST;
        if self.closing || (!again && self.section.as_slice() >= name) {
            return Err(self.problem(LineProblem::SectionOrder(shown(name))));
        }
        self.closing = again;
        self.section.clear();
        self.section.extend_from_slice(name);
        self.key.clear();
        Ok(())
    }

    fn problem(&self, problem: LineProblem) -> FormatError {
        FormatError::Line { line: self.line, problem }
    }
}

/// Splits at the first `=` that is followed by exactly one JSON value.
fn split_entry(line: &[u8]) -> Result<(&[u8], &[u8]), LineProblem> {
    let mut refused: Option<JsonError> = None;
    for (tries, at) in memchr_iter(b'=', line).enumerate() {
        if tries == EQUALS_MAX {
            return Err(LineProblem::TooManyEquals(EQUALS_MAX));
        }
        let (key, rest) = line.split_at(at);
        let value = rest.get(1..).unwrap_or_default();
        match json::validate(value) {
            Ok(()) if key.is_empty() => return Err(LineProblem::EmptyKey),
            Ok(()) => return Ok((key, value)),
            // The first refusal is the telling one: a later `=` is most often a part of the value.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.map_or(LineProblem::NoEquals, LineProblem::Json))
}

/// Reads a whole file at once, for tests and fuzzing.
///
/// # Errors
/// [`FormatError`] with the line.
pub fn parse_ini(
    bytes: &[u8],
    limits: IniLimits,
    sink: &mut dyn FnMut(&IniEntry<'_>) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let mut reader = IniReader::new(limits);
    reader.feed(bytes, sink)?;
    reader.finish(sink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Row = (String, Vec<u8>, Vec<u8>);

    fn rows_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Row>, FormatError> {
        let mut rows = Vec::new();
        let mut sink = |entry: &IniEntry<'_>| {
            let section = String::from_utf8_lossy(entry.section).into_owned();
            rows.push((section, entry.key.to_vec(), entry.value.to_vec()));
            Ok(())
        };
        let mut reader = IniReader::new(IniLimits { line_bytes_max: 1000, file_bytes_max: 100_000 });
        for piece in bytes.chunks(piece.max(1)) {
            reader.feed(piece, &mut sink)?;
        }
        reader.finish(&mut sink)?;
        Ok(rows)
    }

    fn rows(bytes: &[u8]) -> Result<Vec<Row>, FormatError> {
        rows_in_pieces(bytes, bytes.len())
    }

    fn problem(bytes: &[u8]) -> (u64, LineProblem) {
        match rows(bytes) {
            Err(FormatError::Line { line, problem }) => (line, problem),
            other => panic!("{:?} gave {other:?}", bytes.escape_ascii().to_string()),
        }
    }

    #[test]
    fn bk22_keys_are_raw_bytes_and_may_have_equals() {
        for key in [
            &b"a=b"[..],
            b"eq={\"a\":1}x",
            b"q\"uo",
            b"back\\slash",
            b" lead",
            b"trail ",
            b"tab\t",
            b"#x",
            b"[x",
            b"\xff\x01",
        ] {
            let file = [b"[s]\n", key, b"={\"size\":0}\n"].concat();
            assert_eq!(rows(&file).unwrap(), vec![("s".to_owned(), key.to_vec(), b"{\"size\":0}".to_vec())]);
        }
        // As in the original: the first place that fits wins, whatever was meant.
        assert_eq!(rows(b"[s]\na=1=2\n").unwrap().first().unwrap().1, b"a=1");
    }

    #[test]
    fn hi10_tricks_are_refused_with_the_line() {
        assert_eq!(problem(b"a=1\n"), (1, LineProblem::NoSection));
        assert_eq!(problem(b"[]\n"), (1, LineProblem::EmptySection));
        assert_eq!(problem(b"[s]\n\nx\n"), (3, LineProblem::NoEquals));
        assert_eq!(problem(b"[s]\n=1\n"), (2, LineProblem::EmptyKey));
        assert_eq!(problem(b"[s]\na=1\0\n"), (2, LineProblem::Nul));
        assert_eq!(problem(b"\xef\xbb\xbf[s]\na=1\n").0, 1);
        assert_eq!(problem(b"[t]\na=1\n[s]\na=1\n"), (3, LineProblem::SectionOrder("s".into())));
        assert_eq!(problem(b"[s]\na=1\n[s]\nb=1\n"), (3, LineProblem::SectionOrder("s".into())));
        assert_eq!(problem(b"[backrest]\n[s]\n[backrest]\n[t]\n"), (4, LineProblem::SectionOrder("t".into())));
        assert!(matches!(problem(b"[s]\n# comment\n"), (2, LineProblem::NoEquals)));
        assert!(matches!(problem(b"[s]\r\na=1\r\n"), (1, LineProblem::NoSection | LineProblem::NoEquals)));
        assert!(matches!(problem(b"[s]\na=x\n"), (2, LineProblem::Json(_))));
    }

    #[test]
    fn hi07_sec10_long_lines_are_refused_before_they_are_kept() {
        let long = [b"[s]\na=\"".to_vec(), vec![b'x'; 5000], b"\"\n".to_vec()].concat();
        for piece in [1, 7, 4096, long.len()] {
            let error = rows_in_pieces(&long, piece).unwrap_err();
            assert_eq!(error, FormatError::Line { line: 2, problem: LineProblem::TooLong { limit_bytes: 1000 } });
        }
        let many = b"[s]\n".iter().copied().chain(b"a=1\n".repeat(30_000)).collect::<Vec<u8>>();
        assert_eq!(rows(&many), Err(FormatError::TooLarge { limit_bytes: 100_000 }));
    }

    #[test]
    fn hi07_many_equals_do_not_cost_a_quadratic_time() {
        let mut reader = IniReader::new(IniLimits::INFO);
        let line = [b"[s]\n".to_vec(), b"=\"".repeat(1 << 20), b"\n".to_vec()].concat();
        let error = reader.feed(&line, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error, FormatError::Line { line: 2, problem: LineProblem::TooManyEquals(EQUALS_MAX) });
    }

    #[test]
    fn a_last_line_without_end_is_accepted() {
        assert_eq!(rows(b"[s]\na=1").unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            bytes in proptest::collection::vec(prop_oneof![Just(b'['), Just(b']'), Just(b'='), Just(b'\n'), Just(b'1'), Just(b'"'), any::<u8>()], 0..120),
            piece in 1_usize..20,
        ) {
            prop_assert_eq!(rows_in_pieces(&bytes, piece), rows(&bytes));
        }

        #[test]
        fn any_key_without_newline_or_nul_is_found_again(key in proptest::collection::vec(1_u8..=255, 1..40)) {
            // A key that ends in `=value` is ambiguous in the dialect itself, and a row begins with `{` in any file.
            prop_assume!(!key.contains(&b'\n'));
            let value = b"{\"size\":0}";
            let file = [b"[s]\n", key.as_slice(), b"=", value, b"\n"].concat();
            prop_assert_eq!(rows(&file).unwrap(), vec![("s".to_owned(), key, value.to_vec())]);
        }
    }
}
