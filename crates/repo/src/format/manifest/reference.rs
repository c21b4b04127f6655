//! The list of backups that may store files of a manifest.

use std::collections::HashMap;

use super::file_row::ReferenceIndex;
use crate::format::error::ValueProblem;
use crate::format::json::JsonReader;
use crate::format::label::BackupLabel;

/// Labels in the order of `backup-reference`: the prior manifest's list unchanged, then the own label. Block maps name
/// backups by their place in this list, so it never changes.
#[derive(Debug, Clone, Default)]
pub(super) struct References {
    labels: Vec<BackupLabel>,
    numbers: HashMap<BackupLabel, u32>,
    /// Whether the file has the list. One by a version before 2.42 has none, and the labels come from the rows.
    pub(super) stored: bool,
    /// The last label looked up: neighbours mostly have the same.
    last: Option<(BackupLabel, ReferenceIndex)>,
}

impl References {
    /// A list that is stored; `None` when a label stands twice.
    pub(super) fn new(labels: impl IntoIterator<Item = BackupLabel>) -> Option<Self> {
        let mut list = Self { stored: true, ..Self::default() };
        for label in labels {
            list.add(label)?;
        }
        Some(list)
    }

    pub(super) fn labels(&self) -> &[BackupLabel] {
        &self.labels
    }

    pub(super) fn label(&self, index: ReferenceIndex) -> Option<&BackupLabel> {
        self.labels.get(usize::try_from(index.0).ok()?)
    }

    pub(super) fn index(&self, label: &BackupLabel) -> Option<ReferenceIndex> {
        self.numbers.get(label).copied().map(ReferenceIndex)
    }

    /// Adds a label at the end; `None` when it is there.
    pub(super) fn add(&mut self, label: BackupLabel) -> Option<ReferenceIndex> {
        let number = u32::try_from(self.labels.len()).ok()?;
        if self.numbers.insert(label, number).is_some() {
            return None;
        }
        self.labels.push(label);
        Some(ReferenceIndex(number))
    }

    /// Replaces the last label, that of the backup itself.
    pub(super) fn rename_last(&mut self, label: BackupLabel) -> Option<ReferenceIndex> {
        if let Some(old) = self.labels.pop() {
            self.numbers.remove(&old);
        }
        self.last = None;
        self.add(label)
    }

    /// Reads the reference of a row.
    pub(super) fn read(&mut self, reader: &mut JsonReader<'_>) -> Result<ReferenceIndex, ValueProblem> {
        let text = reader.string()?;
        if let Some((label, index)) = &self.last
            && label.as_bytes() == &*text
        {
            return Ok(*index);
        }
        let impossible = |reason| ValueProblem::Attribute { attribute: "reference", reason };
        let label = BackupLabel::parse(&text).map_err(|_| impossible("is not a backup label"))?;
        let index = match self.index(&label) {
            Some(index) => Some(index),
            None if self.stored => return Err(impossible("is not in the list 'backup-reference'")),
            None => self.add(label),
        };
        let index = index.ok_or_else(|| impossible("is one of too many"))?;
        self.last = Some((label, index));
        Ok(index)
    }
}
