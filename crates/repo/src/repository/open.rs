//! What a repository is made of, and who may write to it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::filter::Passphrase;
use crate::format::Stanza;
use crate::storage::Storage;

/// The number of a repository in the configuration, from 1 to 256, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoIndex(u16);

impl RepoIndex {
    /// The repository with this number; `None` outside 1 to 256.
    pub fn new(number: u32) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| (1..=256).contains(number)).map(Self)
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0.into()
    }
}

impl fmt::Display for RepoIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "repo{}", self.0)
    }
}

/// One place where backups of one stanza go. Reads only.
#[derive(Debug, Clone)]
pub struct Repository {
    index: RepoIndex,
    stanza: Stanza,
    storage: Arc<dyn Storage>,
    passphrase: Option<Passphrase>,
}

impl Repository {
    /// The stanza's part of the repository in `storage`. `passphrase` is the user's own (`repo-cipher-pass`).
    pub fn new(index: RepoIndex, stanza: Stanza, storage: Arc<dyn Storage>, passphrase: Option<Passphrase>) -> Self {
        Self { index, stanza, storage, passphrase }
    }

    /// Its number, which messages begin with.
    pub fn index(&self) -> RepoIndex {
        self.index
    }

    /// The stanza.
    pub fn stanza(&self) -> &Stanza {
        &self.stanza
    }

    /// Where its objects live.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The user's passphrase; `None` for a repository without encryption.
    pub fn passphrase(&self) -> Option<&Passphrase> {
        self.passphrase.as_ref()
    }

    /// Whether the repository is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.passphrase.is_some()
    }
}

impl AsRef<Repository> for Repository {
    fn as_ref(&self) -> &Repository {
        self
    }
}

/// A repository that may be written to.
#[derive(Debug, Clone)]
pub struct WritableRepository(Repository);

impl WritableRepository {
    /// Allows writing to `repository`.
    pub fn new(repository: Repository) -> Self {
        Self(repository)
    }
}

impl Deref for WritableRepository {
    type Target = Repository;

    fn deref(&self) -> &Repository {
        &self.0
    }
}

impl AsRef<Repository> for WritableRepository {
    fn as_ref(&self) -> &Repository {
        &self.0
    }
}
