//! Configuration files: sections, and keys that may repeat (pgBackRest's `common/ini.c`, not strict).

use std::collections::BTreeMap;

use crate::error::{ConfigError, ErrorClass};

/// Longest line that is read; pgBackRest's limit is its buffer of the same size.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Keys of one section in the order of their first appearance, each with all its values.
type Section = Vec<(String, Vec<String>)>;

/// Parsed configuration files.
#[derive(Default)]
pub(crate) struct Ini {
    sections: BTreeMap<String, Section>,
}

impl Ini {
    /// Parses one file and adds what it says. A file begins outside of every section, whatever came before.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), ConfigError> {
        let mut section: Option<String> = None;
        for (index, line) in text.split('\n').enumerate() {
            let number = index + 1;
            if line.len() >= LINE_BYTES_MAX {
                let message = format!("unable to find line in {LINE_BYTES_MAX} byte buffer");
                return Err(ConfigError::new(ErrorClass::FileRead, message));
            }
            let line = trim(line);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let Some(name) = rest.strip_suffix(']') else {
                    return Err(format_error(format!("ini section should end with ] at line {number}")));
                };
                if name.is_empty() {
                    return Err(format_error(format!("invalid empty section at line {number}")));
                }
                section = Some(name.to_owned());
                continue;
            }
            let Some(section) = &section else {
                return Err(format_error(format!("key/value found outside of section at line {number}")));
            };
            self.put(section, line, number)?;
        }
        Ok(())
    }

    fn put(&mut self, section: &str, line: &str, number: usize) -> Result<(), ConfigError> {
        // Lines are not quoted in errors: one that lacks its `=` may still hold a secret.
        let Some((key, value)) = line.split_once('=') else {
            return Err(format_error(format!("missing '=' in key/value at line {number}")));
        };
        let (key, value) = (trim(key), trim(value).to_owned());
        if key.is_empty() {
            return Err(format_error(format!("key is zero-length at line {number}")));
        }
        let keys = self.sections.entry(section.to_owned()).or_default();
        match keys.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) => values.push(value),
            None => keys.push((key.to_owned(), vec![value])),
        }
        Ok(())
    }

    /// Keys of a section and their values; nothing where there is no such section.
    pub(crate) fn section(&self, name: &str) -> &[(String, Vec<String>)] {
        self.sections.get(name).map_or(&[], Vec::as_slice)
    }

    /// Names of all sections.
    pub(crate) fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

fn format_error(message: String) -> ConfigError {
    ConfigError::new(ErrorClass::Format, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Ini {
        let mut ini = Ini::default();
        ini.add(text).unwrap();
        ini
    }

    #[test]
    fn keys_repeat_and_hashes_inside_a_line_are_values() {
        let ini = parsed("# top\n[global]\nrepo1-path = /x # y\n\n[demo]\r\ndb-include=a\n\tdb-include = b=c \n");
        assert_eq!(ini.section("global"), [("repo1-path".to_owned(), vec!["/x # y".to_owned()])]);
        assert_eq!(ini.section("demo"), [("db-include".to_owned(), vec!["a".to_owned(), "b=c".to_owned()])]);
        assert!(ini.section("other").is_empty());
    }

    #[test]
    fn files_share_sections_but_not_the_current_one() {
        let mut ini = parsed("[a]\nx=1");
        ini.add("[a]\nx=2\ny=").unwrap();
        assert_eq!(ini.section("a").len(), 2);
        assert_eq!(ini.add("x=3").unwrap_err().class, ErrorClass::Format);
    }

    #[test]
    fn broken_lines_are_named_by_number_and_not_shown() {
        for text in ["[a\n", "[]\n", "[a]\nsecret\n", "[a]\n=secret\n", "secret=1\n"] {
            let error = Ini::default().add(text).unwrap_err();
            assert_eq!(error.class, ErrorClass::Format, "{text}");
            assert!(error.message.contains("line") && !error.message.contains("secret"), "{}", error.message);
        }
        let long = format!("[a]\nk={}", "x".repeat(LINE_BYTES_MAX));
        assert_eq!(Ini::default().add(&long).unwrap_err().class, ErrorClass::FileRead);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s)[\\[\\]=#a-z \n\r\t]{0,200}") {
            let _result = Ini::default().add(&text);
        }

        #[test]
        fn what_is_written_is_read(pairs in proptest::collection::btree_map("[a-z][a-z0-9-]{0,20}", "[!-~]([ -~]{0,20}[!-~])?", 1..10)) {
            let text: String = pairs.iter().map(|(key, value)| format!(" {key} = {value} \n")).collect();
            let ini = parsed(&format!("[s]\n{text}"));
            let read: BTreeMap<String, String> =
                ini.section("s").iter().map(|(key, values)| (key.clone(), values.join("|"))).collect();
            prop_assert_eq!(read, pairs);
        }
    }
}
