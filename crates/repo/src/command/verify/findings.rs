//! What was found so far: each damaged object once.

use std::collections::HashSet;

use super::report::{Damage, Fault, FaultKind};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::StoragePath;

/// Objects that may fail to be read before the store is given up: each of them may take as long as the store is tried.
const UNREADABLE_MAX: usize = 20;

/// Damaged objects and other errors.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Each damaged object once.
    pub damage: Vec<Damage>,
    /// Errors that are not about an object.
    pub other_errors: u64,
    seen: HashSet<StoragePath>,
    unreadable: usize,
}

impl Findings {
    /// Notes what is wrong with an object; `true` the first time.
    ///
    /// # Errors
    /// [`ErrorKind::Command`] when too many objects could not be read.
    pub(super) fn note(&mut self, object: &StoragePath, fault: &Fault) -> Result<bool> {
        if !self.seen.insert(object.clone()) {
            return Ok(false);
        }
        self.damage.push(Damage { object: object.clone(), fault: fault.clone() });
        if fault.kind == FaultKind::Unreadable {
            self.unreadable += 1;
            if self.unreadable >= UNREADABLE_MAX {
                return Err(Error::new(
                    ErrorKind::Command,
                    format!("{} objects could not be read, the last is '{object}': {}", self.unreadable, fault.detail),
                )
                .hint("nothing is known about them; verify again when the repository can be read."));
            }
        }
        Ok(true)
    }
}
