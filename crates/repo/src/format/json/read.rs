//! Reads JSON from front to back.

use std::borrow::Cow;

use memchr::memchr2;

/// Deepest nesting of arrays and objects. Real files need three; the limit keeps hostile ones (faults.md HI07) cheap.
pub const DEPTH_MAX: usize = 64;

/// Why a JSON value is refused. Positions count bytes from the begin of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The value ends too early.
    #[error("the value ends where {expected} was expected")]
    End {
        /// What should have come.
        expected: &'static str,
    },
    /// Something else stands there.
    #[error("expected {expected} at byte {at}")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
        /// Position.
        at: usize,
    },
    /// The value is over and bytes follow.
    #[error("unexpected bytes after the value at byte {at}")]
    Trailing {
        /// Position.
        at: usize,
    },
    /// Arrays and objects are nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} levels at byte {at}")]
    TooDeep {
        /// Position.
        at: usize,
    },
    /// The number does not fit its type.
    #[error("the number at byte {at} is out of range for {kind}")]
    Range {
        /// Name of the type.
        kind: &'static str,
        /// Position.
        at: usize,
    },
    /// A backslash is followed by something that is not an escape.
    #[error("invalid escape at byte {at}")]
    Escape {
        /// Position.
        at: usize,
    },
    /// The keys of an object are not in ascending order, or one stands twice.
    #[error("the keys of an object are not in ascending order at byte {at}")]
    KeyOrder {
        /// Position.
        at: usize,
    },
}

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonKind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// A digit or `-`.
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// Reads one value from front to back. Each getter demands its type.
#[derive(Debug, Clone)]
pub struct JsonReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// An object or array that is being read. It holds no borrow of the reader, which goes in with each call.
#[derive(Debug, Default)]
pub struct ObjectReader<'a> {
    previous: Option<&'a [u8]>,
}

/// An array that is being read.
#[derive(Debug, Default)]
pub struct ArrayReader {
    begun: bool,
}

impl<'a> JsonReader<'a> {
    /// Begins to read `bytes`, which should be exactly one value.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The kind of the next value, without reading it.
    ///
    /// # Errors
    /// [`JsonError`] when no value begins here.
    pub fn kind(&mut self) -> Result<JsonKind, JsonError> {
        const EXPECTED: &str = "a value";
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => Ok(JsonKind::Object),
            Some(b'[') => Ok(JsonKind::Array),
            Some(b'"') => Ok(JsonKind::String),
            Some(b'-' | b'0'..=b'9') => Ok(JsonKind::Number),
            Some(b't' | b'f') => Ok(JsonKind::Bool),
            Some(b'n') => Ok(JsonKind::Null),
            _ => Err(self.unexpected(EXPECTED)),
        }
    }

    /// Begins an object.
    ///
    /// # Errors
    /// [`JsonError`] when the value is something else.
    pub fn object(&mut self) -> Result<ObjectReader<'a>, JsonError> {
        self.byte(b'{', "an object")?;
        Ok(ObjectReader::default())
    }

    /// Begins an array.
    ///
    /// # Errors
    /// [`JsonError`] when the value is something else.
    pub fn array(&mut self) -> Result<ArrayReader, JsonError> {
        self.byte(b'[', "an array")?;
        Ok(ArrayReader::default())
    }

    /// Reads a string.
    ///
    /// # Errors
    /// [`JsonError`] when the value is something else or has an unknown escape.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        self.byte(b'"', "a string")?;
        let start = self.at;
        let raw = self.string_rest()?;
        unescape(raw, start)
    }

    /// Reads a string or `null`.
    ///
    /// # Errors
    /// [`JsonError`] when the value is something else.
    pub fn string_or_null(&mut self) -> Result<Option<Cow<'a, [u8]>>, JsonError> {
        if self.kind()? == JsonKind::Null {
            self.word(b"null", "null")?;
            return Ok(None);
        }
        self.string().map(Some)
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// [`JsonError`] when the value is something else.
    pub fn bool(&mut self) -> Result<bool, JsonError> {
        self.skip_blanks();
        if self.peek() == Some(b't') {
            self.word(b"true", "true or false")?;
            return Ok(true);
        }
        self.word(b"false", "true or false")?;
        Ok(false)
    }

    /// Reads a number that is not negative.
    ///
    /// # Errors
    /// [`JsonError`] when the value is something else or out of range.
    pub fn u64(&mut self) -> Result<u64, JsonError> {
        self.skip_blanks();
        let start = self.at;
        if self.peek() == Some(b'-') {
            return Err(JsonError::Range { kind: "an unsigned number", at: start });
        }
        let digits = self.digits()?;
        let mut value: u64 = 0;
        for digit in digits {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(digit - b'0')))
                .ok_or(JsonError::Range { kind: "a 64-bit unsigned number", at: start })?;
        }
        Ok(value)
    }

    /// Reads a number that is not negative and has at most 32 bits.
    ///
    /// # Errors
    /// [`JsonError`] when the value is something else or out of range.
    pub fn u32(&mut self) -> Result<u32, JsonError> {
        self.skip_blanks();
        let at = self.at;
        let value = self.u64()?;
        u32::try_from(value).map_err(|_| JsonError::Range { kind: "a 32-bit unsigned number", at })
    }

    /// Reads a number with sign.
    ///
    /// # Errors
    /// [`JsonError`] when the value is something else or out of range.
    pub fn i64(&mut self) -> Result<i64, JsonError> {
        self.skip_blanks();
        let at = self.at;
        let range = JsonError::Range { kind: "a 64-bit signed number", at };
        if self.peek() != Some(b'-') {
            return i64::try_from(self.u64()?).map_err(|_| range);
        }
        self.at += 1;
        let magnitude = self.u64()?;
        if magnitude == 0 {
            return Err(JsonError::Unexpected { expected: "a number without a sign", at });
        }
        0_i64.checked_sub_unsigned(magnitude).ok_or(range)
    }

    /// Reads any value and gives its bytes as they stand.
    ///
    /// # Errors
    /// [`JsonError`] when this is not JSON.
    pub fn raw(&mut self) -> Result<&'a [u8], JsonError> {
        self.skip_blanks();
        let start = self.at;
        self.skip_value()?;
        Ok(self.since(start))
    }

    /// Ends the reading: only blanks may follow.
    ///
    /// # Errors
    /// [`JsonError::Trailing`] otherwise.
    pub fn end(&mut self) -> Result<(), JsonError> {
        self.skip_blanks();
        if self.at < self.bytes.len() {
            return Err(JsonError::Trailing { at: self.at });
        }
        Ok(())
    }

    /// Skips one value, checking its syntax (not the order of keys: what is not understood is not judged).
    fn skip_value(&mut self) -> Result<(), JsonError> {
        // One bit a level would do; a byte reads better. `{` waits for a key, `:` for the end of a member's value.
        let mut open = [0_u8; DEPTH_MAX];
        let mut depth = 0;
        loop {
            // A value begins here.
            let kind = self.kind()?;
            if matches!(kind, JsonKind::Object | JsonKind::Array) {
                let bracket = if kind == JsonKind::Object { b'{' } else { b'[' };
                let level = open.get_mut(depth).ok_or(JsonError::TooDeep { at: self.at })?;
                *level = bracket;
                depth += 1;
                self.at += 1;
                self.skip_blanks();
                if self.peek() != Some(bracket + 2) {
                    if bracket == b'{' {
                        self.skip_key()?;
                    }
                    continue;
                }
            } else {
                self.skip_scalar(kind)?;
            }
            // A value or the last value of a container is over: close what closes, then go on after a comma.
            loop {
                let Some(&bracket) = depth.checked_sub(1).and_then(|top| open.get(top)) else { return Ok(()) };
                self.skip_blanks();
                match self.peek() {
                    Some(byte) if byte == bracket + 2 => {
                        self.at += 1;
                        depth -= 1;
                    }
                    Some(b',') => {
                        self.at += 1;
                        if bracket == b'{' {
                            self.skip_key()?;
                        }
                        break;
                    }
                    _ => return Err(self.unexpected("',' or the end of the object or array")),
                }
            }
        }
    }

    fn skip_scalar(&mut self, kind: JsonKind) -> Result<(), JsonError> {
        match kind {
            JsonKind::String => {
                self.at += 1;
                self.string_rest()?;
            }
            JsonKind::Number => {
                if self.peek() == Some(b'-') {
                    self.at += 1;
                }
                self.digits()?;
            }
            JsonKind::Bool => {
                self.bool()?;
            }
            _ => self.word(b"null", "null")?,
        }
        Ok(())
    }

    fn skip_key(&mut self) -> Result<(), JsonError> {
        self.byte(b'"', "a key")?;
        self.string_rest()?;
        self.byte(b':', "':'")
    }

    /// The bytes up to the closing quote, escapes as they stand; checks the form of escapes.
    fn string_rest(&mut self) -> Result<&'a [u8], JsonError> {
        let start = self.at;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', rest) else {
                return Err(JsonError::End { expected: "the end of a string" });
            };
            self.at += found;
            if rest.get(found) == Some(&b'"') {
                let raw = self.since(start);
                self.at += 1;
                return Ok(raw);
            }
            let length = escape(rest.get(found..).unwrap_or_default(), self.at)?.1;
            self.at += length;
        }
    }

    fn digits(&mut self) -> Result<&'a [u8], JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        match self.since(start) {
            [] => Err(self.unexpected("a digit")),
            [b'0', _, ..] => Err(JsonError::Unexpected { expected: "a number without leading zeros", at: start }),
            digits => Ok(digits),
        }
    }

    fn word(&mut self, word: &'static [u8], expected: &'static str) -> Result<(), JsonError> {
        self.skip_blanks();
        if !self.bytes.get(self.at..).unwrap_or_default().starts_with(word) {
            return Err(self.unexpected(expected));
        }
        self.at += word.len();
        Ok(())
    }

    fn byte(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        self.skip_blanks();
        if self.peek() != Some(byte) {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    fn unexpected(&self, expected: &'static str) -> JsonError {
        if self.at < self.bytes.len() {
            JsonError::Unexpected { expected, at: self.at }
        } else {
            JsonError::End { expected }
        }
    }
}

impl<'a> ObjectReader<'a> {
    /// The next key as it stands between its quotes, escapes not resolved (no key of the format has any, and the
    /// original refuses them); `None` at the end of the object. The value must then be read from `reader`.
    ///
    /// # Errors
    /// [`JsonError`] for broken syntax, and for a key that does not sort after the one before it.
    pub fn next_key(&mut self, reader: &mut JsonReader<'a>) -> Result<Option<&'a [u8]>, JsonError> {
        reader.skip_blanks();
        match reader.peek() {
            Some(b'}') => {
                reader.at += 1;
                return Ok(None);
            }
            Some(b',') if self.previous.is_some() => reader.at += 1,
            _ if self.previous.is_some() => return Err(reader.unexpected("',' or '}'")),
            _ => {}
        }
        reader.byte(b'"', "a key")?;
        let at = reader.at;
        let key = reader.string_rest()?;
        if self.previous.is_some_and(|previous| previous >= key) {
            return Err(JsonError::KeyOrder { at });
        }
        self.previous = Some(key);
        reader.byte(b':', "':'")?;
        Ok(Some(key))
    }
}

impl ArrayReader {
    /// Whether another element follows, which must then be read from `reader`.
    ///
    /// # Errors
    /// [`JsonError`] for broken syntax.
    pub fn next_element(&mut self, reader: &mut JsonReader<'_>) -> Result<bool, JsonError> {
        reader.skip_blanks();
        match reader.peek() {
            Some(b']') => {
                reader.at += 1;
                Ok(false)
            }
            Some(b',') if self.begun => {
                reader.at += 1;
                Ok(true)
            }
            Some(_) if !self.begun => {
                self.begun = true;
                Ok(true)
            }
            _ => Err(reader.unexpected("',' or ']'")),
        }
    }
}

/// Checks that `bytes` is exactly one value.
///
/// # Errors
/// [`JsonError`] otherwise.
pub fn validate(bytes: &[u8]) -> Result<(), JsonError> {
    let mut reader = JsonReader::new(bytes);
    reader.skip_value()?;
    reader.end()
}

/// The byte that an escape stands for, and how many bytes it takes. `bytes` begins with the backslash.
fn escape(bytes: &[u8], at: usize) -> Result<(u8, usize), JsonError> {
    let fail = JsonError::Escape { at };
    let byte = match bytes.get(1) {
        Some(b'"') => b'"',
        Some(b'\\') => b'\\',
        Some(b'/') => b'/',
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'b') => 0x08,
        Some(b'f') => 0x0c,
        Some(b'u') => {
            let digits = bytes.get(2..6).ok_or(fail)?;
            let value = digits.strip_prefix(b"00").and_then(|digits| std::str::from_utf8(digits).ok()).ok_or(fail)?;
            // from_str_radix accepts a sign.
            if !value.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(fail);
            }
            return u8::from_str_radix(value, 16).map(|byte| (byte, 6)).map_err(|_| fail);
        }
        _ => return Err(fail),
    };
    Ok((byte, 2))
}

fn unescape(raw: &[u8], start: usize) -> Result<Cow<'_, [u8]>, JsonError> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Ok(Cow::Borrowed(raw));
    }
    let mut text = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        if byte == b'\\' {
            let (byte, length) = escape(raw.get(at..).unwrap_or_default(), start + at)?;
            text.push(byte);
            at += length;
        } else {
            text.push(byte);
            at += 1;
        }
    }
    Ok(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(text: &[u8]) -> Result<Vec<u8>, JsonError> {
        let mut reader = JsonReader::new(text);
        let value = reader.string()?.into_owned();
        reader.end()?;
        Ok(value)
    }

    #[test]
    fn reads_escapes_and_raw_bytes() {
        assert_eq!(
            string(b"\"a\\\"\\\\\\/\\n\\r\\t\\b\\f\\u0041\\u00e9\x01\xff\"").unwrap(),
            b"a\"\\/\n\r\t\x08\x0cA\xe9\x01\xff"
        );
        for bad in [&b"\"\\u0141\""[..], b"\"\\x\"", b"\"\\u00+1\"", b"\"\\u00", b"\"", b"\"\\"] {
            assert!(string(bad).is_err(), "{:?}", bad.escape_ascii().to_string());
        }
    }

    #[test]
    fn hi06_numbers_are_exact_or_refused() {
        let u64_of = |text: &str| JsonReader::new(text.as_bytes()).u64();
        assert_eq!(u64_of("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(u64_of("0"), Ok(0));
        for bad in ["18446744073709551616", "-1", "01", "", "x", "00", "99999999999999999999999999"] {
            assert!(u64_of(bad).is_err(), "{bad}");
        }
        let i64_of = |text: &str| JsonReader::new(text.as_bytes()).i64();
        assert_eq!(i64_of("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(i64_of("9223372036854775807"), Ok(i64::MAX));
        for bad in ["-9223372036854775809", "9223372036854775808", "-0", "--1", "-"] {
            assert!(i64_of(bad).is_err(), "{bad}");
        }
        assert!(JsonReader::new(b"4294967296").u32().is_err());
        for not_whole in ["1.5", "1e400", "0x10", "1 2"] {
            assert!(validate(not_whole.as_bytes()).is_err(), "{not_whole}");
        }
    }

    #[test]
    fn hi07_sec10_nested_json_is_refused() {
        let nested = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert_eq!(validate(&nested(DEPTH_MAX)), Ok(()));
        assert_eq!(validate(&nested(DEPTH_MAX + 1)), Err(JsonError::TooDeep { at: DEPTH_MAX }));
        assert!(validate(&vec![b'['; 100_000]).is_err());
        assert!(validate("{\"a\":".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn validates_like_the_original() {
        for good in ["{}", "[]", " { \"a\" : [ 1 , -2 , { } ] } ", "null", "true", "\"\"", "{\"b\":1,\"a\":2}"] {
            assert_eq!(validate(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "",
            " ",
            "{",
            "{]",
            "[}",
            "{\"a\"}",
            "{\"a\":}",
            "[1,]",
            "{\"a\":1,}",
            "[1 2]",
            "nul",
            "tru",
            "{}x",
            "-",
            "{1:2}",
        ] {
            assert!(validate(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn hi07_duplicate_and_unsorted_keys_are_refused() {
        for bad in ["{\"a\":1,\"a\":2}", "{\"b\":1,\"a\":2}"] {
            let mut reader = JsonReader::new(bad.as_bytes());
            let mut object = reader.object().unwrap();
            assert!(object.next_key(&mut reader).unwrap().is_some());
            reader.u64().unwrap();
            assert_eq!(object.next_key(&mut reader), Err(JsonError::KeyOrder { at: 8 }), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'"'), Just(b':'), Just(b','), Just(b'['), Just(b']'), Just(b'}'), Just(b'\\'), any::<u8>()], 0..80)) {
            _ = validate(&bytes);
            let mut reader = JsonReader::new(&bytes);
            if let Ok(mut object) = reader.object() {
                while let Ok(Some(_)) = object.next_key(&mut reader) {
                    if reader.raw().is_err() {
                        break;
                    }
                }
            }
        }
    }
}
