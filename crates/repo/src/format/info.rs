//! What archive.info, backup.info and every manifest have in common: format, version, checksum and the passphrase of
//! the files below.
//!
//! ```text
//! [backrest]
//! backrest-format=5
//! backrest-version="2.60.0"
//!
//! ... the file's own sections, with [cipher] among them when the repository is encrypted ...
//!
//! [backrest]
//! backrest-checksum="<sha-1, 40 hex digits>"
//! ```
//!
//! The checksum is over a byte string built from the entries in file order (`src/info/info.c` of pgBackRest):
//! `{"section":{"key":value,"key":value},"section":{...}}`, section names raw, keys escaped as JSON, values exactly as
//! they stand. The checksum's own key is left out.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use super::cipher_pass::CipherPass;
use super::error::{FormatError, ValueProblem};
use super::ini::{IniEntry, IniLimits, IniReader, SECTION_BACKREST};
use super::json::{self, JsonReader};
use super::text::{RawText, shown};

/// The repository format that is read and written (`REPOSITORY_FORMAT` in `src/version.h`).
pub const REPOSITORY_FORMAT: u64 = 5;

/// The version of pgBackRest whose format and semantics are implemented; written into every file.
pub const BACKREST_VERSION: &str = "2.60.0";

const KEY_CHECKSUM: &[u8] = b"backrest-checksum";
const KEY_FORMAT: &[u8] = b"backrest-format";
const KEY_VERSION: &[u8] = b"backrest-version";
const SECTION_CIPHER: &[u8] = b"cipher";
const KEY_CIPHER_PASS: &[u8] = b"cipher-pass";

/// The part of a file that every kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    version: RawText,
    cipher_pass: Option<CipherPass>,
    unknown: UnknownEntries,
}

impl Envelope {
    /// The envelope of a new file. `cipher_pass` is the passphrase of the files below, if they are encrypted.
    pub fn new(cipher_pass: Option<CipherPass>) -> Self {
        Self { version: RawText::from(BACKREST_VERSION), cipher_pass, unknown: UnknownEntries::default() }
    }

    /// The version of pgBackRest that wrote the file.
    pub fn version(&self) -> &RawText {
        &self.version
    }

    /// The passphrase of the files below; `None` when they are not encrypted.
    pub fn cipher_pass(&self) -> Option<&CipherPass> {
        self.cipher_pass.as_ref()
    }

    /// Entries that this code does not know; written again as they are.
    pub fn unknown(&self) -> &UnknownEntries {
        &self.unknown
    }

    /// States that this file is now written by the version implemented here.
    pub(crate) fn set_version_written(&mut self) {
        self.version = RawText::from(BACKREST_VERSION);
    }

    pub(crate) fn set_cipher_pass(&mut self, pass: Option<CipherPass>) {
        self.cipher_pass = pass;
    }

    /// Keeps entries of sections that the envelope does not read.
    pub(crate) fn add_unknown(&mut self, mut unknown: UnknownEntries) {
        self.unknown.0.append(&mut unknown.0);
    }
}

/// Entries of unknown sections and unknown keys of known sections, by section and key, values as they stood.
///
/// They are kept when a file is written again, so that what a newer version stored is not lost (faults.md IN07).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnknownEntries(BTreeMap<EntryName, Box<[u8]>>);

/// Section and key.
type EntryName = (Box<[u8]>, Box<[u8]>);

impl UnknownEntries {
    /// Keeps an entry.
    ///
    /// # Errors
    /// [`FormatError::Value`] when the key stands twice.
    pub fn keep(&mut self, entry: &IniEntry<'_>) -> Result<(), FormatError> {
        let name = (entry.section.into(), entry.key.into());
        if self.0.insert(name, entry.value.into()).is_some() {
            return Err(entry.error(ValueProblem::Refused("the key stands twice")));
        }
        Ok(())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Refuses a key that does not stand after the one before it: in a section with fixed keys that is a repeated key, or
/// one that the original would not find.
pub(crate) fn require_ascending(entry: &IniEntry<'_>) -> Result<(), FormatError> {
    if entry.ascending {
        return Ok(());
    }
    Err(entry.error(ValueProblem::Refused("the key is repeated or out of order")))
}

/// The one value of an entry, read with one of the getters of [`JsonReader`].
pub(crate) fn read_value<'a, T>(
    entry: &IniEntry<'a>,
    read: impl FnOnce(&mut JsonReader<'a>) -> Result<T, json::JsonError>,
) -> Result<T, FormatError> {
    let mut reader = JsonReader::new(entry.value);
    let value = read(&mut reader).map_err(|error| entry.error(error))?;
    reader.end().map_err(|error| entry.error(error))?;
    Ok(value)
}

/// Reads a file in pieces: takes care of the envelope and of the checksum, hands out all other entries.
#[derive(Debug)]
pub struct InfoReader {
    ini: IniReader,
    envelope: EnvelopeReader,
}

#[derive(Debug, Default)]
struct EnvelopeReader {
    checksum: Checksum,
    checksum_stored: Option<Vec<u8>>,
    format_found: bool,
    version: Option<RawText>,
    cipher_pass: Option<CipherPass>,
    unknown: UnknownEntries,
}

impl InfoReader {
    /// A reader at the begin of a file.
    pub fn new(limits: IniLimits) -> Self {
        Self { ini: IniReader::new(limits), envelope: EnvelopeReader::default() }
    }

    /// Takes the next bytes; `sink` gets the entries that are not of the envelope.
    ///
    /// # Errors
    /// [`FormatError`]; the reader must not be used afterwards.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        sink: &mut dyn FnMut(&IniEntry<'_>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let envelope = &mut self.envelope;
        self.ini.feed(bytes, &mut |entry| envelope.take(entry, sink))
    }

    /// Ends the file and checks format and checksum. Nothing that `sink` got may be used before this has succeeded.
    ///
    /// # Errors
    /// [`FormatError`]; a checksum that does not hold answers true to [`FormatError::is_checksum`].
    pub fn finish(
        mut self,
        sink: &mut dyn FnMut(&IniEntry<'_>) -> Result<(), FormatError>,
    ) -> Result<Envelope, FormatError> {
        let envelope = &mut self.envelope;
        self.ini.finish(&mut |entry| envelope.take(entry, sink))?;
        self.envelope.finish()
    }
}

impl EnvelopeReader {
    fn take(
        &mut self,
        entry: &IniEntry<'_>,
        sink: &mut dyn FnMut(&IniEntry<'_>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        if (entry.section, entry.key) == (SECTION_BACKREST, KEY_CHECKSUM) {
            if self.checksum_stored.is_some() {
                return Err(entry.error(ValueProblem::Refused("the key stands twice")));
            }
            self.checksum_stored = Some(read_value(entry, JsonReader::string)?.into_owned());
            return Ok(());
        }
        self.checksum.entry(entry.section, entry.key, entry.value);
        match entry.section {
            SECTION_BACKREST => self.take_backrest(entry),
            SECTION_CIPHER => {
                require_ascending(entry)?;
                if entry.key == KEY_CIPHER_PASS {
                    self.cipher_pass = Some(CipherPass::new(read_value(entry, JsonReader::string)?.into_owned()));
                    return Ok(());
                }
                self.unknown.keep(entry)
            }
            _ => sink(entry),
        }
    }

    fn take_backrest(&mut self, entry: &IniEntry<'_>) -> Result<(), FormatError> {
        match entry.key {
            KEY_FORMAT if !self.format_found => {
                let found = read_value(entry, JsonReader::u64)?;
                if found != REPOSITORY_FORMAT {
                    return Err(FormatError::OtherFormat { found });
                }
                self.format_found = true;
                Ok(())
            }
            KEY_VERSION if self.version.is_none() => {
                self.version = Some(RawText::from(read_value(entry, JsonReader::string)?.into_owned()));
                Ok(())
            }
            KEY_FORMAT | KEY_VERSION => Err(entry.error(ValueProblem::Refused("the key stands twice"))),
            _ => self.unknown.keep(entry),
        }
    }

    fn finish(self) -> Result<Envelope, FormatError> {
        let actual = self.checksum.finish();
        let Some(expected) = self.checksum_stored else {
            return Err(FormatError::ChecksumMissing { actual: actual.into() });
        };
        if expected != actual.as_bytes() {
            return Err(FormatError::ChecksumMismatch { expected: shown(&expected), actual: actual.into() });
        }
        let missing = |key| FormatError::Missing { section: "backrest", key };
        if !self.format_found {
            return Err(missing("backrest-format"));
        }
        let version = self.version.ok_or_else(|| missing("backrest-version"))?;
        Ok(Envelope { version, cipher_pass: self.cipher_pass, unknown: self.unknown })
    }
}

/// The running checksum of a file that is read or written.
#[derive(Debug, Default)]
struct Checksum {
    sha1: Sha1,
    section: Vec<u8>,
    begun: bool,
    scratch: Vec<u8>,
}

impl Checksum {
    fn entry(&mut self, section: &[u8], key: &[u8], value: &[u8]) {
        let scratch = &mut self.scratch;
        scratch.clear();
        if !self.begun || self.section != section {
            scratch.extend_from_slice(if self.begun { b"},\"" } else { b"{\"" });
            scratch.extend_from_slice(section);
            scratch.extend_from_slice(b"\":{");
            self.section.clear();
            self.section.extend_from_slice(section);
            self.begun = true;
        } else {
            scratch.push(b',');
        }
        json::write_string(scratch, key);
        scratch.push(b':');
        self.sha1.update(scratch.as_slice());
        self.sha1.update(value);
    }

    fn finish(mut self) -> String {
        self.sha1.update(if self.begun { &b"}}"[..] } else { b"{}}" });
        hex::encode(self.sha1.finalize())
    }
}

/// Bytes that are collected before they go to the sink.
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Writes a file in pieces to a sink: the envelope, the file's own entries, the entries that were not understood when
/// the file was read, and the checksum. The memory used does not depend on the size of the file.
pub struct InfoWriter<'a, E> {
    sink: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
    out: Vec<u8>,
    value: Vec<u8>,
    section: Vec<u8>,
    checksum: Checksum,
    /// Entries of the envelope and unknown ones, in ascending order, not written yet.
    pending: std::iter::Peekable<std::vec::IntoIter<Pending<'a>>>,
}

struct Pending<'a> {
    section: &'a [u8],
    key: &'a [u8],
    value: std::borrow::Cow<'a, [u8]>,
}

impl<'a, E> InfoWriter<'a, E> {
    /// Begins a file.
    pub fn new(envelope: &'a Envelope, sink: &'a mut dyn FnMut(&[u8]) -> Result<(), E>) -> Self {
        let text = |text: &[u8]| {
            let mut value = Vec::with_capacity(text.len() + 2);
            json::write_string(&mut value, text);
            value.into()
        };
        let mut pending = vec![
            Pending {
                section: SECTION_BACKREST,
                key: KEY_FORMAT,
                value: REPOSITORY_FORMAT.to_string().into_bytes().into(),
            },
            Pending { section: SECTION_BACKREST, key: KEY_VERSION, value: text(envelope.version.as_bytes()) },
        ];
        if let Some(pass) = &envelope.cipher_pass {
            pending.push(Pending { section: SECTION_CIPHER, key: KEY_CIPHER_PASS, value: text(pass.expose()) });
        }
        for ((section, key), value) in &envelope.unknown.0 {
            pending.push(Pending { section, key, value: (&**value).into() });
        }
        pending.sort_by(|one, other| (one.section, one.key).cmp(&(other.section, other.key)));
        Self {
            sink,
            out: Vec::with_capacity(WRITE_BUFFER_BYTES + 4096),
            value: Vec::new(),
            section: Vec::new(),
            checksum: Checksum::default(),
            pending: pending.into_iter().peekable(),
        }
    }

    /// Writes an entry whose value `write` appends to the buffer it gets: JSON without blanks, not an array. Sections
    /// come in ascending order.
    ///
    /// # Errors
    /// What the sink returns.
    pub fn entry(&mut self, section: &[u8], key: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Result<(), E> {
        self.write_pending(Some((section, key)))?;
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        write(&mut value);
        let written = self.write(section, key, &value);
        self.value = value;
        written
    }

    /// Writes what is left and the checksum.
    ///
    /// # Errors
    /// What the sink returns.
    pub fn finish(mut self) -> Result<(), E> {
        self.write_pending(None)?;
        self.out.extend_from_slice(b"\n[backrest]\nbackrest-checksum=\"");
        self.out.extend_from_slice(std::mem::take(&mut self.checksum).finish().as_bytes());
        self.out.extend_from_slice(b"\"\n");
        (self.sink)(&self.out)
    }

    /// Writes the pending entries that stand before `next`.
    fn write_pending(&mut self, next: Option<(&[u8], &[u8])>) -> Result<(), E> {
        while let Some(pending) =
            self.pending.next_if(|pending| next.is_none_or(|next| (pending.section, pending.key) < next))
        {
            self.write(pending.section, pending.key, &pending.value)?;
        }
        Ok(())
    }

    fn write(&mut self, section: &[u8], key: &[u8], value: &[u8]) -> Result<(), E> {
        debug_assert!(self.section.as_slice() <= section, "sections are written in ascending order");
        if self.section != section {
            if !self.section.is_empty() {
                self.out.push(b'\n');
            }
            self.out.push(b'[');
            self.out.extend_from_slice(section);
            self.out.extend_from_slice(b"]\n");
            self.section.clear();
            self.section.extend_from_slice(section);
        }
        self.checksum.entry(section, key, value);
        self.out.extend_from_slice(key);
        self.out.push(b'=');
        self.out.extend_from_slice(value);
        self.out.push(b'\n');
        if self.out.len() >= WRITE_BUFFER_BYTES {
            (self.sink)(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// A small file as bytes, written by `write`.
pub(crate) fn write_to_vec(
    envelope: &Envelope,
    write: impl FnOnce(&mut InfoWriter<'_, std::convert::Infallible>) -> Result<(), std::convert::Infallible>,
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut sink = |bytes: &[u8]| {
        file.extend_from_slice(bytes);
        Ok(())
    };
    let mut writer = InfoWriter::new(envelope, &mut sink);
    let Ok(()) = write(&mut writer).and_then(|()| writer.finish());
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    /// repository-format.md B.1.
    const VECTOR: &str = "[backrest]\nbackrest-format=5\nbackrest-version=\"2.60.0dev\"\n\n[db]\ndb-id=1\n\
        db-system-id=7000000000000000001\ndb-version=\"16\"\n\n[db:history]\n\
        1={\"db-id\":7000000000000000001,\"db-version\":\"16\"}\n\n[backrest]\n\
        backrest-checksum=\"dfe40935642c2445b4783ef3796135d93d10442f\"\n";

    type Rows = Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>;

    fn read(bytes: &[u8]) -> Result<(Envelope, Rows), FormatError> {
        let mut rows = Rows::new();
        let mut sink = |entry: &IniEntry<'_>| {
            rows.push((entry.section.to_vec(), entry.key.to_vec(), entry.value.to_vec()));
            Ok(())
        };
        let mut reader = InfoReader::new(IniLimits::INFO);
        reader.feed(bytes, &mut sink)?;
        let envelope = reader.finish(&mut sink)?;
        Ok((envelope, rows))
    }

    fn write(envelope: &Envelope, rows: &Rows) -> Vec<u8> {
        write_to_vec(envelope, |writer| {
            rows.iter()
                .try_for_each(|(section, key, value)| writer.entry(section, key, |out| out.extend_from_slice(value)))
        })
    }

    /// A file with the checksum that its content has.
    fn sealed(text: &str) -> Vec<u8> {
        let with = |checksum: &str| format!("{text}\n[backrest]\nbackrest-checksum=\"{checksum}\"\n").into_bytes();
        match read(&with("")) {
            Err(FormatError::ChecksumMismatch { actual, .. }) => with(&actual),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn in08_the_checksum_vector_holds_and_is_written_again() {
        let (envelope, rows) = read(VECTOR.as_bytes()).unwrap();
        assert_eq!(rows.len(), 4);
        assert_eq!(write(&envelope, &rows), VECTOR.as_bytes());
    }

    #[test]
    fn in08_keys_are_escaped_in_the_checksum_and_raw_in_the_file() {
        // repository-format.md B.2.
        let text = "[backrest]\nbackrest-format=5\nbackrest-version=\"2.60.0dev\"\n\n[target:file]\n\
            pg_data/a=b\\c\"d={\"size\":0,\"timestamp\":1700000000}\n\n[backrest]\n\
            backrest-checksum=\"7e55c524818217136a19f851178988b505fc8383\"\n";
        let (envelope, rows) = read(text.as_bytes()).unwrap();
        assert_eq!(rows.first().unwrap().1, b"pg_data/a=b\\c\"d");
        assert_eq!(write(&envelope, &rows), text.as_bytes());
    }

    #[test]
    fn a_changed_byte_is_a_checksum_error() {
        let changed = VECTOR.replace("db-id=1\n", "db-id=2\n");
        assert!(read(changed.as_bytes()).unwrap_err().is_checksum());
        let cut = VECTOR.split("\n[backrest]\nbackrest-checksum").next().unwrap();
        assert!(matches!(read(cut.as_bytes()), Err(FormatError::ChecksumMissing { .. })));
    }

    #[test]
    fn a_checksum_in_the_first_section_is_read() {
        // As versions before 2.17 wrote it.
        let checksum = "backrest-checksum=\"dfe40935642c2445b4783ef3796135d93d10442f\"\n";
        let old = VECTOR
            .replace(checksum, "")
            .replace("[backrest]\nbackrest-f", &format!("[backrest]\n{checksum}backrest-f"));
        assert!(read(old.as_bytes()).is_ok());
    }

    #[test]
    fn in07_sec24_another_format_is_refused() {
        let other = VECTOR.replace("backrest-format=5", "backrest-format=6");
        assert_eq!(read(other.as_bytes()).unwrap_err(), FormatError::OtherFormat { found: 6 });
    }

    #[test]
    fn in07_unknown_entries_of_the_envelope_are_kept() {
        let file = sealed(
            "[a]\nx={\"b\": 1}\n\n[backrest]\nbackrest-format=5\nbackrest-new=true\nbackrest-version=\"3.1\"\n\n\
             [cipher]\ncipher-new=[1]\ncipher-pass=\"p\\\"q\"\n\n[db]\ndb-id=1\n",
        );
        let (mut envelope, rows) = read(&file).unwrap();
        assert_eq!(envelope.cipher_pass().unwrap().expose(), b"p\"q");
        assert_eq!(rows.len(), 2);
        let mut unknown = UnknownEntries::default();
        unknown.keep(&IniEntry { line: 1, section: b"a", key: b"x", value: b"{\"b\": 1}", ascending: true }).unwrap();
        envelope.add_unknown(unknown);
        assert_eq!(write(&envelope, &rows.get(1..).unwrap().to_vec()), file);
    }

    #[test]
    fn truncation_at_every_length_is_an_error() {
        for length in 0..VECTOR.len() - 1 {
            assert!(read(VECTOR.as_bytes().get(..length).unwrap()).is_err(), "{length} bytes were accepted");
        }
    }
}
