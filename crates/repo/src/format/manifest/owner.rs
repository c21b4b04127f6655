//! Names of users and groups, each kept once for all rows of a manifest.

use std::collections::HashMap;

use crate::format::text::RawText;

/// A user or group of a row: a name in the manifest's [`OwnerNames`], or none, when the number had no name where the
/// backup was made (JSON `false`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u32);

impl Owner {
    /// The number had no name.
    pub const UNNAMED: Owner = Owner(u32::MAX);
    /// The row does not say; a place holder while a file is read.
    pub(super) const DEFAULT: Owner = Owner(u32::MAX - 1);
}

/// The names.
#[derive(Debug, Clone, Default)]
pub struct OwnerNames {
    names: Vec<RawText>,
    numbers: HashMap<RawText, u32>,
}

impl OwnerNames {
    /// The owner with this name.
    pub fn intern(&mut self, name: &[u8]) -> Owner {
        if let Some(number) = self.numbers.get(name) {
            return Owner(*number);
        }
        // Four billion names do not fit the memory; the ceiling only keeps the place holders free.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX).min(u32::MAX - 2);
        self.names.push(RawText::from(name));
        self.numbers.insert(RawText::from(name), number);
        Owner(number)
    }

    /// The name of an owner; `None` when it has none.
    pub fn name(&self, owner: Owner) -> Option<&RawText> {
        self.names.get(usize::try_from(owner.0).ok()?)
    }
}
