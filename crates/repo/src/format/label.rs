//! [`BackupLabel`]: the name of a backup.
//!
//! ```text
//! 20261122-061730F                     full
//! 20261122-061730F_20261122-061736D    differential
//! 20261122-061730F_20261122-061738I    incremental
//! ```
//!
//! The times are local times of the host that made the backup. A differential or incremental label begins with the
//! label of its full backup, whatever its prior backup is (`src/command/backup/common.c` of pgBackRest).

use std::fmt;
use std::str::FromStr;

use super::text::shown;

/// `YYYYMMDD-HHMMSS`
const TIME_LEN: usize = 15;
/// A time and `F`.
const FULL_LEN: usize = TIME_LEN + 1;
/// A full label, `_`, a time and `D` or `I`.
const DEPENDENT_LEN: usize = FULL_LEN + 1 + TIME_LEN + 1;

/// What a backup contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackupType {
    /// Everything.
    Full,
    /// What changed since the full backup.
    Differential,
    /// What changed since the backup before it.
    Incremental,
}

impl BackupType {
    /// The name in options and info files: `full`, `diff`, `incr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Differential => "diff",
            Self::Incremental => "incr",
        }
    }

    /// Finds a type by its name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Full, Self::Differential, Self::Incremental].into_iter().find(|kind| kind.name().as_bytes() == name)
    }
}

impl fmt::Display for BackupType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The time within a label: `YYYYMMDD-HHMMSS`. Only the form is fixed: the original does not look at a calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelTime([u8; TIME_LEN]);

/// A text is no label, or a label cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The text has another form.
    #[error("'{0}' is not a backup label: expected YYYYMMDD-HHMMSSF, perhaps followed by _YYYYMMDD-HHMMSS and D or I")]
    Form(Box<str>),
    /// The time has no form in four digits of a year.
    #[error("the time {0} cannot be written in a backup label")]
    Time(String),
    /// A differential or incremental label was asked for with type full.
    #[error("a full backup cannot depend on backup {0}")]
    Dependent(BackupLabel),
}

impl LabelTime {
    /// The form of a local time; fractions of a second are cut.
    ///
    /// # Errors
    /// [`LabelError::Time`] for a year before 0.
    pub fn new(time: jiff::civil::DateTime) -> Result<Self, LabelError> {
        let text = format!(
            "{:04}{:02}{:02}-{:02}{:02}{:02}",
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        Self::parse(text.as_bytes()).ok_or_else(|| LabelError::Time(time.to_string()))
    }

    /// Reads `YYYYMMDD-HHMMSS`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let time = Self(text.try_into().ok()?);
        let formed =
            time.0.iter().enumerate().all(|(at, byte)| if at == 8 { *byte == b'-' } else { byte.is_ascii_digit() });
        formed.then_some(time)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        ascii(&self.0)
    }
}

impl fmt::Display for LabelTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for LabelTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The name of a backup. Ordered as texts are, by bytes: a full backup before its dependents, those by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupLabel {
    /// Padded with zero bytes, which sort before every other.
    text: [u8; DEPENDENT_LEN],
}

impl BackupLabel {
    /// Reads a label.
    ///
    /// # Errors
    /// [`LabelError::Form`] for every other text.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, LabelError> {
        let text = text.as_ref();
        Self::from_bytes(text).ok_or_else(|| LabelError::Form(shown(text)))
    }

    fn from_bytes(text: &[u8]) -> Option<Self> {
        let (full, dependent) = text.split_at_checked(FULL_LEN)?;
        let (&last, time) = full.split_last()?;
        if last != b'F' {
            return None;
        }
        LabelTime::parse(time)?;
        if let Some((b'_', dependent)) = dependent.split_first() {
            let (&last, time) = dependent.split_last()?;
            if !matches!(last, b'D' | b'I') {
                return None;
            }
            LabelTime::parse(time)?;
        } else if !dependent.is_empty() {
            return None;
        }
        Some(Self::padded(text))
    }

    /// The label of a full backup.
    pub fn full(time: LabelTime) -> Self {
        Self::padded(&[time.0.as_slice(), b"F"].concat())
    }

    /// The label of a differential or incremental backup of the set that `prior`, any backup of it, belongs to.
    ///
    /// # Errors
    /// [`LabelError::Dependent`] when `kind` is full.
    pub fn dependent(prior: &BackupLabel, kind: BackupType, time: LabelTime) -> Result<Self, LabelError> {
        let last = match kind {
            BackupType::Full => return Err(LabelError::Dependent(*prior)),
            BackupType::Differential => b"D",
            BackupType::Incremental => b"I",
        };
        Ok(Self::padded(&[prior.full_label().as_bytes(), b"_", time.0.as_slice(), last].concat()))
    }

    /// The type, told by the last letter.
    pub fn backup_type(&self) -> BackupType {
        match self.as_bytes().last() {
            Some(b'D') => BackupType::Differential,
            Some(b'I') => BackupType::Incremental,
            _ => BackupType::Full,
        }
    }

    /// The label of the full backup of this set; the label itself for a full backup.
    pub fn full_label(&self) -> Self {
        Self::padded(self.text.get(..FULL_LEN).unwrap_or_default())
    }

    /// Whether both belong to one full backup.
    pub fn same_set(&self, other: &Self) -> bool {
        self.full_label() == other.full_label()
    }

    /// The time of this backup: of a dependent one its own, not that of the full backup.
    pub fn time(&self) -> LabelTime {
        let own = if self.as_bytes().len() == FULL_LEN { 0 } else { FULL_LEN + 1 };
        // Both places hold a time by construction.
        LabelTime(self.text.get(own..own + TIME_LEN).and_then(|time| time.try_into().ok()).unwrap_or([b'0'; TIME_LEN]))
    }

    /// The four digits by which the manifest history is grouped: the year of the full backup.
    pub fn year(&self) -> &str {
        ascii(self.text.get(..4).unwrap_or_default())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        ascii(self.as_bytes())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        let length = if self.text.get(FULL_LEN).is_some_and(|byte| *byte == 0) { FULL_LEN } else { DEPENDENT_LEN };
        self.text.get(..length).unwrap_or_default()
    }

    fn padded(text: &[u8]) -> Self {
        let mut padded = [0; DEPENDENT_LEN];
        for (to, from) in padded.iter_mut().zip(text) {
            *to = *from;
        }
        Self { text: padded }
    }
}

impl FromStr for BackupLabel {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::parse(text)
    }
}

impl fmt::Display for BackupLabel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl fmt::Debug for BackupLabel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BackupLabel({self})")
    }
}

/// Bytes that are ASCII by construction.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: &str = "20261122-061730F";
    const DIFF: &str = "20261122-061730F_20261122-061736D";
    const INCR: &str = "20261122-061730F_20261122-061738I";

    fn label(text: &str) -> BackupLabel {
        BackupLabel::parse(text).unwrap()
    }

    #[test]
    fn reads_the_three_forms() {
        for (text, kind, time) in [
            (FULL, BackupType::Full, "20261122-061730"),
            (DIFF, BackupType::Differential, "20261122-061736"),
            (INCR, BackupType::Incremental, "20261122-061738"),
        ] {
            let label = label(text);
            assert_eq!(label.to_string(), text);
            assert_eq!(label.backup_type(), kind);
            assert_eq!(label.time().as_str(), time);
            assert_eq!(label.full_label(), BackupLabel::parse(FULL).unwrap());
            assert_eq!(label.year(), "2026");
        }
        assert!(label(FULL).same_set(&label(INCR)));
        assert!(!label(FULL).same_set(&label("20261122-061731F")));
    }

    #[test]
    fn hi04_sec09_other_texts_are_refused() {
        for bad in [
            "",
            "latest",
            "20261122-061730",
            "20261122-061730D",
            "20261122-061730F_",
            "20261122-061730F/..",
            "../20261122-0617F",
            "20261122-061730F_20261122-061736F",
            "20261122-061730F_20261122-061736Dx",
            "2026112 -061730F",
            "20261122_061730F",
            "20261122-061730F\n",
            "20261122-061730F\0",
            "２0261122-061730F",
        ] {
            assert!(BackupLabel::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_made_from_times() {
        let time = LabelTime::new(jiff::civil::date(2026, 11, 22).at(6, 17, 30, 999)).unwrap();
        assert_eq!(BackupLabel::full(time), label(FULL));
        let later = LabelTime::parse(b"20261122-061738").unwrap();
        // The prior is a differential backup; the label still begins with the full one.
        assert_eq!(BackupLabel::dependent(&label(DIFF), BackupType::Incremental, later).unwrap(), label(INCR));
        assert!(BackupLabel::dependent(&label(DIFF), BackupType::Full, later).is_err());
        assert!(LabelTime::new(jiff::civil::date(-1, 1, 1).at(0, 0, 0, 0)).is_err());
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_texts(one in "[0-9]{8}-[0-9]{6}F(_[0-9]{8}-[0-9]{6}[DI])?", other in "2[0-9]{7}-[0-9]{6}F(_[0-9]{8}-[0-9]{6}[DI])?") {
            let labels = (label(&one), label(&other));
            prop_assert_eq!(labels.0.as_str(), one.as_str());
            prop_assert_eq!(labels.0.cmp(&labels.1), one.cmp(&other));
            prop_assert_eq!(labels.0.full_label().cmp(&labels.0).is_le(), true);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(label) = BackupLabel::parse(&bytes) {
                prop_assert_eq!(label.as_str().as_bytes(), bytes);
            }
        }
    }
}
