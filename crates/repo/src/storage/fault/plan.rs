//! What a [`super::FaultStorage`] does, and when.

use std::time::Duration;

use bytes::Bytes;

use crate::storage::{ErrorClass, Operation};

/// A method of [`crate::storage::Storage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as the methods")]
pub enum Call {
    Read,
    Info,
    ListPage,
    Put,
    UploadCreate,
    UploadPart,
    UploadComplete,
    UploadAbort,
    Remove,
    RemoveMany,
    RemoveTree,
    RemoveStaleUploads,
    Flush,
    /// Any method of [`crate::storage::PosixStorage`].
    Posix,
}

impl Call {
    /// Whether the call changes what the store holds.
    pub fn is_mutating(self) -> bool {
        !matches!(self, Call::Read | Call::Info | Call::ListPage)
    }

    /// The operation that its errors name.
    pub fn operation(self) -> Operation {
        match self {
            Call::Read => Operation::Read,
            Call::Info => Operation::Info,
            Call::ListPage => Operation::List,
            Call::Remove | Call::RemoveMany | Call::RemoveTree | Call::RemoveStaleUploads => Operation::Remove,
            Call::Posix => Operation::Link,
            _ => Operation::Write,
        }
    }
}

/// Which paths a rule is for.
#[derive(Debug, Clone)]
pub enum KeyPattern {
    /// All.
    Any,
    /// This one.
    Exact(String),
    /// Those that begin so.
    Prefix(String),
    /// Those that end so.
    Suffix(String),
    /// Those that contain this.
    Contains(String),
}

impl KeyPattern {
    /// Whether `path` is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            KeyPattern::Any => true,
            KeyPattern::Exact(text) => path == text,
            KeyPattern::Prefix(text) => path.starts_with(text),
            KeyPattern::Suffix(text) => path.ends_with(text),
            KeyPattern::Contains(text) => path.contains(text),
        }
    }
}

/// At which of the matching calls a rule acts; the first is 1.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// At all of them.
    Always,
    /// At this one.
    Nth(u64),
    /// At the first so many.
    First(u64),
    /// At this one and all behind it.
    From(u64),
    /// By the dice, so many times in a thousand.
    Chance {
        /// 0 to 1000.
        per_mille: u16,
    },
}

/// Whether the store has done what it was asked when the call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has not.
    Before,
    /// It has; only the answer is lost.
    After,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The call fails.
    Fail(ErrorClass, Phase),
    /// The store asks to come back later (faults.md OS01).
    SlowDown {
        /// When.
        retry_after: Option<Duration>,
    },
    /// The call takes longer.
    Delay(Duration),
    /// The call is never answered (OS24).
    Hang,
    /// A body breaks with an error after so many bytes; by the dice where it is `None` (OS07).
    CutBody {
        /// Bytes given out before.
        after_bytes: Option<u64>,
    },
    /// A body ends early, without an error (OS08): what the trait forbids and a broken store does.
    EndBody {
        /// Bytes given out before.
        after_bytes: u64,
    },
    /// A body stops in the middle, for ever (OS24).
    StallBody {
        /// Bytes given out before.
        after_bytes: u64,
    },
    /// A body comes slowly (OS25, NP04).
    SlowBody {
        /// Bytes in a piece.
        piece_bytes: usize,
        /// Wait before each piece.
        every: Duration,
    },
    /// One bit of a body arrives wrong (OS11).
    FlipBit {
        /// Offset in the body, not in the object.
        byte: u64,
        /// 0 to 7.
        bit: u8,
    },
    /// Only the beginning of a `put` or a part is stored, and success reported (OS06).
    Truncate {
        /// Bytes stored.
        keep_bytes: usize,
    },
    /// The object is replaced by another before the call (OS10).
    Swap(Bytes),
    /// A listing does not show what was written within the last so many calls (OS12).
    HideRecent {
        /// How long a listing lags.
        calls: u64,
    },
    /// A listing still shows what was removed within the last so many calls (OS13).
    Ghosts {
        /// How long a listing lags.
        calls: u64,
    },
    /// A listing does not show entries whose path matches (OS16).
    Hide(KeyPattern),
    /// A page of a listing sends the reader to itself again (OS14); the first page by an empty token, as
    /// [`crate::storage::MemoryStorage`] understands it.
    RepeatPage,
}

/// One line of a plan.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The method, or any.
    pub call: Option<Call>,
    /// The paths.
    pub key: KeyPattern,
    /// Which of the matching calls.
    pub when: When,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// A rule for `call` on any path.
    pub fn new(call: Call, when: When, fault: Fault) -> Self {
        Self { call: Some(call), key: KeyPattern::Any, when, fault }
    }

    /// A rule for every call on any path.
    pub fn any(when: When, fault: Fault) -> Self {
        Self { call: None, key: KeyPattern::Any, when, fault }
    }

    /// The same rule for some paths only.
    #[must_use]
    pub fn on(mut self, key: KeyPattern) -> Self {
        self.key = key;
        self
    }
}

/// A plan of faults that all pass by themselves, each with this chance: what a retry must hide.
pub fn rough_weather(per_mille: u16) -> Vec<Rule> {
    let when = When::Chance { per_mille };
    let mut rules = vec![
        Rule::any(when, Fault::Fail(ErrorClass::Transient, Phase::Before)),
        Rule::any(when, Fault::SlowDown { retry_after: None }),
        Rule::any(when, Fault::SlowDown { retry_after: Some(Duration::from_secs(2)) }),
        Rule::any(when, Fault::Delay(Duration::from_millis(700))),
        Rule::any(when, Fault::Hang),
        Rule::new(Call::Read, when, Fault::CutBody { after_bytes: None }),
        Rule::new(Call::Read, when, Fault::EndBody { after_bytes: 1 }),
        Rule::new(Call::Read, when, Fault::StallBody { after_bytes: 10 }),
    ];
    let mut lost = vec![Call::Read, Call::Info, Call::ListPage, Call::Put, Call::UploadCreate, Call::UploadPart];
    lost.extend([Call::UploadComplete, Call::UploadAbort, Call::Remove, Call::RemoveMany, Call::RemoveTree]);
    lost.extend([Call::RemoveStaleUploads, Call::Posix]);
    rules.extend(lost.into_iter().map(|call| Rule::new(call, when, Fault::Fail(ErrorClass::Transient, Phase::After))));
    rules
}
