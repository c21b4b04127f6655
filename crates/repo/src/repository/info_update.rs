//! Changing archive.info and backup.info: read, change and write as one step, with other writers about.
//!
//! On one host lock files keep writers apart; between hosts nothing does (design: who excludes whom). A change is
//! therefore made to what is there now, and the main file is written only if it is still what was read:
//!
//! - a store that checks conditions refuses the write otherwise (`If-Match`);
//! - with another one the version is looked up just before the write, and what is there is compared with what was
//!   written just after it.
//!
//! Whoever was overtaken starts over from the read, so that both changes are in the file. The pair is written in the
//! order main file, copy; a crash between them leaves a copy that is older and never preferred while the main file can
//! be read (faults.md IN03). Which kind of store it is shows itself at the write: nothing is probed.

use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::Compression;
use crate::format::{ArchiveInfo, BackupInfo, FormatError, path};
use crate::progress::Context;
use crate::storage::{
    Condition, Durability, ErrorClass, ObjectInfo, ObjectVersion, StorageError, StorageExt, StoragePath,
};

use super::info_store::INFO_BYTES_MAX;
use super::open::WritableRepository;
use super::stored_file::encode_all;

/// Starts of one change. So many others in a row cannot have been faster by chance.
const STARTS_MAX: u32 = 20;

/// The longest pause before the second start; it grows with each.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// What a change makes of an info file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is to be written, even if nothing in it changed.
    Write,
    /// It is as it should be.
    Nothing,
}

/// What is under the name of a main file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Basis {
    /// Nothing, positively.
    Absent,
    /// This version; `None` where the store has no versions.
    Version(Option<ObjectVersion>),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// It is what is there.
    Ours,
    /// Somebody else wrote in the meantime.
    Overtaken,
}

impl WritableRepository {
    /// Writes the archive.info of a new stanza and its copy.
    ///
    /// # Errors
    /// [`ErrorKind::FileExists`] when there is one by now, and the storage's. After an error the copy may be missing.
    pub async fn create_archive_info(&self, info: &ArchiveInfo, context: &Context) -> Result<()> {
        self.create_info(&path::archive_info(self.stanza()), &info.write(), context).await
    }

    /// Writes the backup.info of a new stanza and its copy.
    ///
    /// # Errors
    /// As for [`WritableRepository::create_archive_info`].
    pub async fn create_backup_info(&self, info: &BackupInfo, context: &Context) -> Result<()> {
        self.create_info(&path::backup_info(self.stanza()), &info.write(), context).await
    }

    /// Reads archive.info, lets `change` change it, and writes it and its copy; the file as it then is.
    ///
    /// `change` is called again, with the file as another writer left it, when the write was overtaken: it must find out
    /// what is to be done from the file it is given.
    ///
    /// # Errors
    /// That of `change`; those of reading, also when the main file cannot be read for another reason than being missing
    /// or damaged (the copy may be old); [`ErrorKind::LockAcquire`] when others are always faster; the storage's. After
    /// an error the main file may be newer than the copy, which readers accept.
    pub async fn update_archive_info(
        &self,
        context: &Context,
        change: impl FnMut(&mut ArchiveInfo) -> Result<Change> + Send,
    ) -> Result<ArchiveInfo> {
        self.update_info(&path::archive_info(self.stanza()), &ARCHIVE_INFO, context, change).await
    }

    /// Reads backup.info, lets `change` change it, and writes it and its copy; the file as it then is.
    ///
    /// # Errors
    /// As for [`WritableRepository::update_archive_info`].
    pub async fn update_backup_info(
        &self,
        context: &Context,
        change: impl FnMut(&mut BackupInfo) -> Result<Change> + Send,
    ) -> Result<BackupInfo> {
        self.update_info(&path::backup_info(self.stanza()), &BACKUP_INFO, context, change).await
    }

    /// Replaces archive.info and its copy, whatever is there.
    ///
    /// # Errors
    /// The storage's.
    #[cfg(any(test, feature = "conformance"))]
    pub async fn save_archive_info(&self, info: &ArchiveInfo, context: &Context) -> Result<()> {
        let change = |now: &mut ArchiveInfo| {
            now.clone_from(info);
            Ok(Change::Write)
        };
        self.update_archive_info(context, change).await.map(drop)
    }

    /// Replaces backup.info and its copy, whatever is there.
    ///
    /// # Errors
    /// The storage's.
    #[cfg(any(test, feature = "conformance"))]
    pub async fn save_backup_info(&self, info: &BackupInfo, context: &Context) -> Result<()> {
        let change = |now: &mut BackupInfo| {
            now.clone_from(info);
            Ok(Change::Write)
        };
        self.update_backup_info(context, change).await.map(drop)
    }

    async fn create_info(&self, main: &StoragePath, plain: &[u8], context: &Context) -> Result<()> {
        let body = self.encode_info(main, plain, context)?;
        match self.write_pair(main, body, &Basis::Absent).await? {
            Written::Ours => Ok(()),
            Written::Overtaken => Err(Error::new(
                ErrorKind::FileExists,
                format!("'{main}' on {} was created by another process at the same time", self.index()),
            )),
        }
    }

    async fn update_info<T: Send>(
        &self,
        main: &StoragePath,
        kind: &InfoKind<T>,
        context: &Context,
        mut change: impl FnMut(&mut T) -> Result<Change> + Send,
    ) -> Result<T> {
        let mut overtaken = false;
        for start in 1..=STARTS_MAX {
            let (mut info, basis) = self.load_to_change(main, kind, context).await?;
            match change(&mut info)? {
                Change::Nothing if !overtaken => return Ok(info),
                // What we wrote is in the file that the other writer left; the pair may be torn.
                Change::Nothing if basis != Basis::Absent => {
                    self.repair_copy(main).await?;
                    return Ok(info);
                }
                Change::Nothing | Change::Write => {}
            }
            let body = self.encode_info(main, &(kind.write)(&info), context)?;
            match self.write_pair(main, body, &basis).await? {
                Written::Ours => return Ok(info),
                Written::Overtaken => {
                    context.check_cancelled()?;
                    overtaken = true;
                    pause(start, context).await;
                }
            }
        }
        let message = format!("'{main}' on {} is changed by others all the time", self.index());
        Err(Error::new(ErrorKind::LockAcquire, message).hint("do other hosts write to this stanza?"))
    }

    /// The file, or its copy if the file is missing or damaged, and what is under the main name.
    async fn load_to_change<T>(&self, main: &StoragePath, kind: &InfoKind<T>, context: &Context) -> Result<(T, Basis)> {
        let found = self.load_one(main, kind.parse, context).await;
        let basis = match &found.content {
            Err(error) if error.storage_class() == Some(ErrorClass::Missing) => Basis::Absent,
            // What was not read may be newer than the copy.
            Err(error) if error.storage_class().is_some() => return Err(error.clone()),
            _ => Basis::Version(found.version.clone()),
        };
        let info = self.or_copy(main, kind.name, found.content, kind.parse, context).await?;
        Ok((info, basis))
    }

    fn encode_info(&self, main: &StoragePath, plain: &[u8], context: &Context) -> Result<Bytes> {
        let random = context.random.as_ref();
        encode_all(main.as_str(), plain, Compression::NONE, self.passphrase(), &context.codecs, random)
    }

    /// Writes a main file over `basis` and then its copy, and makes sure that nobody else did at the same time.
    async fn write_pair(&self, main: &StoragePath, body: Bytes, basis: &Basis) -> Result<Written> {
        let Some(guard) = self.write_main(main, &body, basis).await? else { return Ok(Written::Overtaken) };
        self.storage().write_all(&path::copy_of(main), body.clone()).await?;
        // Another writer may have put its copy before ours, and its main file over ours or ours over its.
        let is_ours = match guard {
            Guard::Version(version) => {
                self.storage().info_optional(main).await?.is_some_and(|info| info.version.as_ref() == Some(&version))
            }
            Guard::Content => {
                self.storage().read_all_optional(main, INFO_BYTES_MAX).await?.is_some_and(|there| there == body)
            }
        };
        Ok(if is_ours { Written::Ours } else { Written::Overtaken })
    }

    /// Writes a main file if `basis` still holds, and says how to recognise it; `None` when the basis does not hold.
    async fn write_main(&self, main: &StoragePath, body: &Bytes, basis: &Basis) -> Result<Option<Guard>> {
        let storage = self.storage();
        let put = |condition| storage.put(main, body.clone(), condition, Durability::Now);
        let checks = storage.capabilities().conditional_put;
        if !checks && !self.still_holds(main, basis).await? {
            return Ok(None);
        }
        let outcome = match basis {
            Basis::Absent => Attempt::of(put(Condition::Absent).await, checks)?,
            Basis::Version(Some(version)) if checks => {
                Attempt::of(put(Condition::Version(version.clone())).await, true)?
            }
            Basis::Version(Some(version)) => match Attempt::of(put(Condition::Never).await, false)? {
                // It checks after all.
                Attempt::Refused => Attempt::of(put(Condition::Version(version.clone())).await, true)?,
                outcome => outcome,
            },
            Basis::Version(None) => Attempt::Unsupported,
        };
        Ok(match outcome {
            Attempt::Done(guard) => Some(guard),
            Attempt::Refused => None,
            Attempt::Unsupported => {
                put(Condition::None).await?;
                Some(Guard::Content)
            }
        })
    }

    async fn still_holds(&self, main: &StoragePath, basis: &Basis) -> Result<bool> {
        let there = self.storage().info_optional(main).await?;
        Ok(match (there, basis) {
            (None, Basis::Absent) => true,
            (Some(info), Basis::Version(version)) => info.version == *version,
            _ => false,
        })
    }

    /// Gives the copy the content of the main file, when two writers left them different.
    async fn repair_copy(&self, main: &StoragePath) -> Result<()> {
        let copy = path::copy_of(main);
        let content = self.storage().read_all(main, INFO_BYTES_MAX).await?;
        if self.storage().read_all_optional(&copy, INFO_BYTES_MAX).await?.is_none_or(|there| there != content) {
            self.storage().write_all(&copy, content).await?;
        }
        Ok(())
    }
}

/// How a written main file is recognised.
enum Guard {
    /// By the version that the store gave it: nobody else's write can have passed before it.
    Version(ObjectVersion),
    /// By its bytes.
    Content,
}

/// The outcome of one write on condition.
enum Attempt {
    Done(Guard),
    /// The condition does not hold.
    Refused,
    /// The store does not have this kind of condition.
    Unsupported,
}

impl Attempt {
    /// `checks` says that the store is known to check the condition.
    fn of(outcome: Result<ObjectInfo, StorageError>, checks: bool) -> Result<Self> {
        match outcome {
            Ok(ObjectInfo { version: Some(version), .. }) if checks => Ok(Self::Done(Guard::Version(version))),
            Ok(_) => Ok(Self::Done(Guard::Content)),
            Err(error) if error.class() == ErrorClass::Conflict => Ok(Self::Refused),
            Err(error) if error.class() == ErrorClass::Permanent && !checks => Ok(Self::Unsupported),
            Err(error) => Err(error.into()),
        }
    }
}

/// What differs between the two info files.
struct InfoKind<T> {
    name: &'static str,
    parse: fn(&[u8]) -> Result<T, FormatError>,
    write: fn(&T) -> Vec<u8>,
}

const ARCHIVE_INFO: InfoKind<ArchiveInfo> =
    InfoKind { name: "archive.info", parse: ArchiveInfo::parse, write: ArchiveInfo::write };
const BACKUP_INFO: InfoKind<BackupInfo> =
    InfoKind { name: "backup.info", parse: BackupInfo::parse, write: BackupInfo::write };

/// Lets the other writer finish; of different length for each, so that two do not keep in step.
async fn pause(start: u32, context: &Context) {
    let mut dice = [0; 1];
    // Without dice two writers only take longer to part.
    drop(context.random.fill(&mut dice));
    let longest = PAUSE_MAX.saturating_mul(start);
    tokio::time::sleep(longest.mul_f32(f32::from(dice[0]) / 255.0)).await;
}

#[cfg(test)]
#[path = "info_update_test.rs"]
mod tests;
