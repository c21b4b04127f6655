//! What a verification found. Pure.

use crate::error::{Error, ErrorKind};
use crate::format::{ArchiveId, BackupLabel, Stanza};
use crate::postgres::WalSegmentName;
use crate::repository::RepoIndex;
use crate::storage::{ErrorClass, StoragePath};

/// Everything that a verification found.
#[derive(Debug, Clone)]
pub struct VerifyReport {
    /// The stanza.
    pub stanza: Stanza,
    /// The repository.
    pub repository: RepoIndex,
    /// Why nothing, or not everything, could be looked at: info files that cannot be used, an unknown backup.
    pub obstacles: Vec<String>,
    /// The archives, oldest generation first.
    pub archives: Vec<ArchiveReport>,
    /// The backups, in the order of their labels.
    pub backups: Vec<BackupReport>,
    /// Each damaged object once, in the order in which they were found.
    pub damage: Vec<Damage>,
    /// Findings that make the status an error although no object is damaged, such as an archive id that is not in the
    /// history.
    pub other_errors: u64,
}

impl VerifyReport {
    /// Whether something is wrong.
    pub fn is_error(&self) -> bool {
        self.other_errors > 0
            || !self.obstacles.is_empty()
            || !self.damage.is_empty()
            || self.backups.iter().any(BackupReport::is_error)
    }

    /// Objects that could not be read, so that nothing is known about them.
    pub fn unreadable(&self) -> impl Iterator<Item = &Damage> {
        self.damage.iter().filter(|damage| damage.fault.kind == FaultKind::Unreadable)
    }
}

/// What is wrong with a stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In which way.
    pub kind: FaultKind,
    /// What exactly, where that is known.
    pub detail: String,
    /// The exit code that stands for it.
    pub code: u8,
}

/// In which way a stored file is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The store says that it is not there.
    Missing,
    /// It has other bytes than were stored.
    Checksum,
    /// It has another size.
    Size,
    /// It does not decode, or is not what it should be in some other way.
    Other,
    /// It could not be read. Nothing is known about it: it may be whole.
    Unreadable,
}

impl FaultKind {
    /// What it is called in JSON.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Missing => "missing",
            FaultKind::Checksum => "checksum",
            FaultKind::Size => "size",
            FaultKind::Other => "other",
            FaultKind::Unreadable => "unreadable",
        }
    }
}

impl Fault {
    /// The fault of a file whose bytes came and are wrong.
    pub(super) fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), code: ErrorKind::Checksum.code() }
    }

    /// The fault behind an error: the store's word, or bytes that do not decode.
    pub(super) fn of(error: &Error) -> Self {
        let kind = match (error.storage_class(), error.kind()) {
            (Some(ErrorClass::Missing), _) => FaultKind::Missing,
            (Some(_), _) => FaultKind::Unreadable,
            (None, ErrorKind::Checksum) => FaultKind::Checksum,
            (None, _) => FaultKind::Other,
        };
        Self { kind, detail: error.message().to_owned(), code: error.kind().code() }
    }

    /// The original's line about it.
    pub(super) fn line(&self, object: &str) -> String {
        match self.kind {
            FaultKind::Missing => format!("file missing '{object}'"),
            FaultKind::Checksum => format!("invalid checksum '{object}'"),
            FaultKind::Size => format!("invalid size '{object}'"),
            FaultKind::Other | FaultKind::Unreadable => {
                format!("invalid result {object}: [{}] {}", self.code, self.detail)
            }
        }
    }
}

/// A damaged object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The object.
    pub object: StoragePath,
    /// What is wrong with it; of a bundle with several wrong files, with the first that was found.
    pub fault: Fault,
}

/// Files by what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// Not there.
    pub missing: u64,
    /// Other bytes.
    pub checksum: u64,
    /// Another size.
    pub size: u64,
    /// Not decodable, or not readable.
    pub other: u64,
    /// Of these, not readable.
    pub unreadable: u64,
}

impl FaultCounts {
    /// Counts one more.
    pub(super) fn add(&mut self, kind: FaultKind) {
        match kind {
            FaultKind::Missing => self.missing += 1,
            FaultKind::Checksum => self.checksum += 1,
            FaultKind::Size => self.size += 1,
            FaultKind::Other => self.other += 1,
            FaultKind::Unreadable => {
                self.other += 1;
                self.unreadable += 1;
            }
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.missing + self.checksum + self.size + self.other
    }
}

/// One archive id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveReport {
    /// Which.
    pub id: ArchiveId,
    /// Segments that were listed.
    pub wal_total: u64,
    /// Segments that are whole, each stored once.
    pub wal_valid: u64,
    /// What is wrong with others.
    pub faults: FaultCounts,
    /// Objects that share their segment's name with another.
    pub duplicates: u64,
    /// Partial segments, timeline histories and backup history files that are damaged.
    pub other_faults: u64,
    /// Segments without a gap: first and last of each run.
    pub ranges: Vec<(WalSegmentName, WalSegmentName)>,
}

/// What became of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupStatus {
    /// Everything is as it was stored.
    Valid,
    /// Something is not.
    Invalid,
    /// It has no manifest.
    ManifestMissing,
    /// It is not listed, is the newest and has no manifest yet.
    InProgress,
}

impl BackupStatus {
    /// The original's word.
    pub fn name(self) -> &'static str {
        match self {
            BackupStatus::Valid => "valid",
            BackupStatus::Invalid => "invalid",
            BackupStatus::ManifestMissing => "manifest missing",
            BackupStatus::InProgress => "in-progress",
        }
    }
}

/// Whether a backup can be restored and made consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restorable {
    /// It can, even if something that is not needed for it is damaged.
    Yes,
    /// It cannot.
    No,
    /// Something that is needed could not be read.
    Unknown,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// Its name.
    pub label: BackupLabel,
    /// What became of it.
    pub status: BackupStatus,
    /// Whether backup.info lists it.
    pub is_listed: bool,
    /// Files of its manifest.
    pub files_total: u64,
    /// Files that are as they were stored.
    pub files_valid: u64,
    /// What is wrong with others.
    pub faults: FaultCounts,
    /// Whether it can be restored.
    pub restorable: Restorable,
    /// Files that had invalid pages when they were backed up, as the manifest lists them: without `--no-checksum-page-error`
    /// a restore refuses them.
    pub page_errors: u64,
    /// Why it cannot be restored, or why that is not known.
    pub reasons: Vec<String>,
    /// WAL that it needs and that is missing or damaged.
    pub wal_missing: Vec<WalSegmentName>,
}

impl BackupReport {
    pub(super) fn new(label: BackupLabel, is_listed: bool) -> Self {
        Self {
            label,
            status: BackupStatus::Valid,
            is_listed,
            files_total: 0,
            files_valid: 0,
            faults: FaultCounts::default(),
            restorable: Restorable::Yes,
            page_errors: 0,
            reasons: Vec::new(),
            wal_missing: Vec::new(),
        }
    }

    /// It cannot be restored.
    pub(super) fn refuse(&mut self, reason: impl Into<String>) {
        self.restorable = Restorable::No;
        self.reasons.push(reason.into());
    }

    /// Nobody knows whether it can be restored, unless it is known that it cannot.
    pub(super) fn doubt(&mut self, reason: impl Into<String>) {
        if self.restorable == Restorable::Yes {
            self.restorable = Restorable::Unknown;
        }
        self.reasons.push(reason.into());
    }

    /// A backup that is not listed is nobody's promise: its directory alone is no error, its wrong files are.
    pub fn is_error(&self) -> bool {
        match self.status {
            BackupStatus::InProgress => false,
            BackupStatus::ManifestMissing => self.is_listed,
            BackupStatus::Valid | BackupStatus::Invalid => {
                self.status == BackupStatus::Invalid || (self.is_listed && self.restorable != Restorable::Yes)
            }
        }
    }
}
