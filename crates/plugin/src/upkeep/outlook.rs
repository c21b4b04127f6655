//! What somebody on call asks of a repository beyond what it lists: whether WAL is missing, and what expires next.
//!
//! Both are the engine's own answers: what `expire` plans, and which WAL it would never remove. A gap is told only when the
//! server does not hold the segment any more: what is archived ahead may be there before what it follows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgbr_config::engine::expire::{expire_request, expire_targets};
use pgbr_config::{Command, opt};
use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::command::expire::{
    ExpireRequest, ExpiryTime, FullUnit, NextExpiry, Retention, WalRetention, needed_wal, next_expiry,
};
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::format::{ArchiveInfo, BackupInfo, BackupType, Stanza};
use pgbr_repo::postgres::WalSegmentSize;
use pgbr_repo::progress::Context;
use pgbr_repo::repository::{ArchivedWals, NeededWal, Repository, WalGaps};

use super::pending::Pending;
use super::seen::Expected;
use crate::instance::surroundings::{Place, Surroundings, blocking};
use crate::resource::ArchiveSpec;
use crate::status::Failure;

/// What is expected of one repository.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// The WAL that backups and recovery need and that is not there, or why that is not known.
    pub gaps: Option<Result<WalGaps, Error>>,
    /// What retention removes next; `None` when that is nothing, or not known.
    pub next_expiry: Option<NextExpiry>,
}

impl Outlook {
    /// What metrics tell of it, for the repository of this number.
    pub fn expected(&self, number: u32) -> Expected {
        let gaps = self.gaps.as_ref().and_then(|gaps| gaps.as_ref().ok());
        let next_expiry_s = self.next_expiry.as_ref().and_then(|next| match next.time {
            ExpiryTime::At(at_s) => Some(at_s),
            ExpiryTime::NextFull | ExpiryTime::NextDifferential => None,
        });
        Expected { number, missing_wal: gaps.map(WalGaps::count), next_expiry_s }
    }
}

/// What is remembered of the repositories between rounds, as long as they are the same.
#[derive(Debug, Default)]
pub(super) struct Memory {
    of: Option<(Arc<ArchiveSpec>, Stanza)>,
    archives: BTreeMap<u32, ArchivedWals>,
}

/// The rules by which the repositories are kept.
#[derive(Debug)]
struct Rules {
    retention: BTreeMap<u32, Retention>,
    request: ExpireRequest,
    /// Whether anybody applies them without being asked.
    are_applied: bool,
}

/// No rule at all.
const KEEP_ALL: Retention = Retention {
    full_unit: FullUnit::Count,
    full: None,
    diff: None,
    wal: WalRetention { kind: BackupType::Full, count: None },
    history_days: None,
};

/// What is needed to look further than at what is listed.
#[derive(Debug)]
pub(super) struct Depth<'a> {
    memory: &'a mut Memory,
    /// Or why the options cannot be used, which every backup says too.
    rules: Result<Rules, Failure>,
    size: WalSegmentSize,
    wal_directory: PathBuf,
}

impl<'a> Depth<'a> {
    /// For the repositories of `place`, which the server of this pod archives into.
    pub(super) fn new(
        memory: &'a mut Memory,
        surroundings: &Surroundings,
        place: &Place,
        size: WalSegmentSize,
    ) -> Self {
        let now = (Arc::clone(&place.archive.spec), place.stanza.clone());
        if memory.of.as_ref() != Some(&now) {
            *memory = Memory { of: Some(now), archives: BTreeMap::new() };
        }
        let rules = Rules::of(surroundings, place);
        Self { memory, rules, size, wal_directory: surroundings.pod.wal_directory() }
    }

    /// Looks at the WAL of a repository: the newest segment, and the outlook.
    ///
    /// # Errors
    /// Those of listing.
    pub(super) async fn look(
        &mut self,
        repository: &Repository,
        backups: Option<&BackupInfo>,
        archive: &ArchiveInfo,
        context: &Context,
    ) -> Result<(Option<(String, i64)>, Outlook), Error> {
        let number = repository.index().number();
        let wals = self.memory.archives.entry(number).or_default();
        let needed = backups.map(|backups| match &self.rules {
            Ok(rules) => needed_wal(backups, archive, rules.retention(number)),
            Err(failure) => Err(Error::new(ErrorKind::OptionInvalid, failure.text())),
        });
        let listed = needed.as_ref().and_then(|needed| needed.as_ref().ok()).cloned().unwrap_or_default();
        wals.look(repository, archive, &listed, self.size, context).await?;
        let last = wals.last(archive.current_archive_id()).map(|(name, at_s)| (name.to_string(), at_s));
        let gaps = match needed {
            Some(Ok(needed)) => {
                let wal = Wal { repository, archive, needed: &needed, size: self.size, context };
                Some(wal.gaps(wals, &self.wal_directory).await)
            }
            Some(Err(error)) => Some(Err(error)),
            None => None,
        };
        let applied = self.rules.as_ref().ok().filter(|rules| rules.are_applied);
        let next_expiry = backups.zip(applied).and_then(|(backups, rules)| {
            let (index, now_s) = (repository.index(), SystemClock.now_s());
            next_expiry(index, backups, &rules.request, rules.retention(number), now_s).ok().flatten()
        });
        Ok((last, Outlook { gaps, next_expiry }))
    }
}

impl Rules {
    fn of(surroundings: &Surroundings, place: &Place) -> Result<Self, Failure> {
        let settings = surroundings.settings(Command::Backup, place)?;
        let targets = expire_targets(&settings.options, &place.stanza, &|name| settings.variable(name))?;
        let retention = targets.into_iter().map(|(repository, rules)| (repository.index().number(), rules.retention));
        Ok(Self {
            retention: retention.collect(),
            request: expire_request(&settings.options)?,
            are_applied: settings.options.boolean(opt::EXPIRE_AUTO),
        })
    }

    /// Of the repository of this number; one that the options leave out keeps everything.
    fn retention(&self, number: u32) -> &Retention {
        self.retention.get(&number).unwrap_or(&KEEP_ALL)
    }
}

/// The WAL of one repository.
struct Wal<'a> {
    repository: &'a Repository,
    archive: &'a ArchiveInfo,
    needed: &'a [NeededWal],
    size: WalSegmentSize,
    context: &'a Context,
}

impl Wal<'_> {
    /// What is missing for good. A segment that is not listed while a later one is was finished before that one; if it
    /// does not wait afterwards, it was acknowledged, and a listing after that must show it.
    async fn gaps(&self, wals: &mut ArchivedWals, wal_directory: &Path) -> Result<WalGaps, Error> {
        let doubts = wals.gaps(self.repository, self.archive, self.needed, self.context).await?;
        if doubts.count() == 0 {
            return Ok(doubts);
        }
        let wal_directory = wal_directory.to_owned();
        let pending = blocking(move || Pending::of(&wal_directory)).await?;
        wals.look_again(self.repository, self.archive, &doubts).await?;
        let gaps = wals.gaps(self.repository, self.archive, self.needed, self.context).await?;
        Ok(match pending.first_segment {
            Some(waiting) => gaps.before(waiting, self.size),
            None => gaps,
        })
    }
}
