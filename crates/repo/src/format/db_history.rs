//! The clusters that a stanza has seen: sections `[db]` and `[db:history]`, which both info files have.
//!
//! Each file has its own keys for the same facts (`src/info/infoPg.c` of pgBackRest). In the history of archive.info
//! the key `db-id` holds the *system identifier*: a misnomer that format 5 keeps.

use super::archive_id::{ArchiveId, HistoryId};
use super::error::{FormatError, ValueProblem};
use super::info::{InfoWriter, UnknownEntries, read_value, require_ascending};
use super::ini::IniEntry;
use super::json::{self, JsonReader, ObjectWriter, UnknownAttributes};
use crate::postgres::{PgVersion, SystemId};

pub(crate) const SECTION_DB: &[u8] = b"db";
pub(crate) const SECTION_HISTORY: &[u8] = b"db:history";

/// The two numbers of `pg_control` that only backup.info keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogNumbers {
    /// Catalog version, such as 202209061.
    pub catalog_version: u32,
    /// Control version, such as 1300, of the table of versions and not of the cluster.
    pub control_version: u32,
}

/// One generation of a stanza's cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbGeneration {
    /// Its number.
    pub id: HistoryId,
    /// PostgreSQL version.
    pub version: PgVersion,
    /// System identifier.
    pub system_id: SystemId,
    catalog: Option<CatalogNumbers>,
    unknown: UnknownAttributes,
}

impl DbGeneration {
    /// The archive id of this generation.
    pub fn archive_id(&self) -> ArchiveId {
        ArchiveId { version: self.version, history_id: self.id }
    }

    /// Catalog and control version: always in backup.info, never in archive.info.
    pub fn catalog(&self) -> Option<CatalogNumbers> {
        self.catalog
    }

    /// Whether this is the same cluster: version and system identifier are equal.
    pub fn is_cluster(&self, version: PgVersion, system_id: SystemId) -> bool {
        (self.version, self.system_id) == (version, system_id)
    }
}

/// All generations of a stanza, oldest first, never empty; one of them is the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbHistory {
    generations: Vec<DbGeneration>,
    current: HistoryId,
}

/// There is no history id left for another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database history has no free id left")]
pub struct HistoryFull;

impl DbHistory {
    pub(crate) fn new(version: PgVersion, system_id: SystemId, catalog: Option<CatalogNumbers>) -> Self {
        let id = HistoryId::FIRST;
        let first = DbGeneration { id, version, system_id, catalog, unknown: UnknownAttributes::default() };
        Self { generations: vec![first], current: id }
    }

    /// The current generation.
    pub fn current(&self) -> &DbGeneration {
        self.generation(self.current).expect("the current id is in the history")
    }

    /// The generation with this id.
    pub fn generation(&self, id: HistoryId) -> Option<&DbGeneration> {
        self.generations.iter().find(|generation| generation.id == id)
    }

    /// All generations, oldest first.
    pub fn generations(&self) -> &[DbGeneration] {
        &self.generations
    }

    /// The archive ids where WAL of this cluster may be, newest first (`archive-get` searches in this order).
    pub fn archive_ids_of(&self, version: PgVersion, system_id: SystemId) -> impl Iterator<Item = ArchiveId> {
        let of_cluster = move |generation: &&DbGeneration| generation.is_cluster(version, system_id);
        self.generations.iter().rev().filter(of_cluster).map(DbGeneration::archive_id)
    }

    /// Adds a generation after all others and makes it the current one (stanza-upgrade).
    pub(crate) fn append(
        &mut self,
        version: PgVersion,
        system_id: SystemId,
        catalog: Option<CatalogNumbers>,
    ) -> Result<HistoryId, HistoryFull> {
        let newest = self.generations.iter().map(|generation| generation.id).max();
        let id = newest.map_or(Some(HistoryId::FIRST), HistoryId::next).ok_or(HistoryFull)?;
        self.generations.push(DbGeneration { id, version, system_id, catalog, unknown: UnknownAttributes::default() });
        self.current = id;
        Ok(id)
    }

    pub(crate) fn write<E>(&self, kind: HistoryKind, writer: &mut InfoWriter<'_, E>) -> Result<(), E> {
        let current = self.current();
        if let Some(catalog) = current.catalog {
            writer
                .entry(SECTION_DB, b"db-catalog-version", |out| json::write_u64(out, catalog.catalog_version.into()))?;
            writer
                .entry(SECTION_DB, b"db-control-version", |out| json::write_u64(out, catalog.control_version.into()))?;
        }
        writer.entry(SECTION_DB, b"db-id", |out| json::write_u64(out, current.id.number().into()))?;
        writer.entry(SECTION_DB, b"db-system-id", |out| json::write_u64(out, current.system_id.0))?;
        writer
            .entry(SECTION_DB, b"db-version", |out| json::write_string(out, current.version.to_string().as_bytes()))?;
        for generation in &self.generations {
            writer.entry(SECTION_HISTORY, generation.id.to_string().as_bytes(), |out| generation.write(kind, out))?;
        }
        Ok(())
    }
}

impl DbGeneration {
    fn write(&self, kind: HistoryKind, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out, Some(&self.unknown));
        if let Some(catalog) = self.catalog {
            object.u64("db-catalog-version", catalog.catalog_version.into());
            object.u64("db-control-version", catalog.control_version.into());
        }
        object.u64(kind.system_id_key(), self.system_id.0);
        object.string("db-version", self.version.to_string().as_bytes());
        object.end();
    }
}

/// Which of the two info files: they spell the history differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistoryKind {
    /// archive.info
    Archive,
    /// backup.info
    Backup,
}

impl HistoryKind {
    fn system_id_key(self) -> &'static str {
        match self {
            Self::Archive => "db-id",
            Self::Backup => "db-system-id",
        }
    }
}

/// Collects the two sections while a file is read.
#[derive(Debug)]
pub(crate) struct DbHistoryReader {
    kind: HistoryKind,
    generations: Vec<DbGeneration>,
    current: Option<HistoryId>,
}

impl DbHistoryReader {
    pub(crate) fn new(kind: HistoryKind) -> Self {
        Self { kind, generations: Vec::new(), current: None }
    }

    /// Takes an entry; those of other sections are kept as unknown.
    pub(crate) fn take(&mut self, entry: &IniEntry<'_>, unknown: &mut UnknownEntries) -> Result<(), FormatError> {
        match entry.section {
            SECTION_DB => self.take_db(entry, unknown),
            SECTION_HISTORY => {
                let generation = read_generation(self.kind, entry)?;
                if self.generations.iter().any(|other| other.id == generation.id) {
                    return Err(entry.error(ValueProblem::Refused("the history id stands twice")));
                }
                self.generations.push(generation);
                Ok(())
            }
            _ => unknown.keep(entry),
        }
    }

    /// Of `[db]` only the current id counts: all else is told by the history, which is written from there.
    fn take_db(&mut self, entry: &IniEntry<'_>, unknown: &mut UnknownEntries) -> Result<(), FormatError> {
        require_ascending(entry)?;
        match entry.key {
            b"db-id" => {
                let id = read_value(entry, JsonReader::u32)?;
                self.current = Some(
                    HistoryId::new(id).ok_or_else(|| entry.error(ValueProblem::Refused("a history id is not zero")))?,
                );
                Ok(())
            }
            b"db-catalog-version" | b"db-control-version" if self.kind == HistoryKind::Backup => Ok(()),
            b"db-system-id" | b"db-version" => Ok(()),
            _ => unknown.keep(entry),
        }
    }

    pub(crate) fn finish(self) -> Result<DbHistory, FormatError> {
        let current = self.current.ok_or(FormatError::Missing { section: "db", key: "db-id" })?;
        if !self.generations.iter().any(|generation| generation.id == current) {
            let key = current.to_string();
            return Err(FormatError::content("db:history", key.as_bytes(), "the current id is not in the history"));
        }
        Ok(DbHistory { generations: self.generations, current })
    }
}

fn read_generation(kind: HistoryKind, entry: &IniEntry<'_>) -> Result<DbGeneration, FormatError> {
    let id = HistoryId::parse(entry.key)
        .ok_or_else(|| entry.error(ValueProblem::Refused("the key is not a history id from 1")))?;
    read_generation_value(kind, id, entry.value).map_err(|problem| entry.error(problem))
}

fn read_generation_value(kind: HistoryKind, id: HistoryId, value: &[u8]) -> Result<DbGeneration, ValueProblem> {
    let (mut catalog_version, mut control_version, mut system_id, mut version) = (None, None, None, None);
    let mut unknown = UnknownAttributes::default();
    let mut reader = JsonReader::new(value);
    let mut object = reader.object()?;
    while let Some(key) = object.next_key(&mut reader)? {
        match key {
            b"db-catalog-version" if kind == HistoryKind::Backup => catalog_version = Some(reader.u32()?),
            b"db-control-version" if kind == HistoryKind::Backup => control_version = Some(reader.u32()?),
            b"db-version" => version = Some(read_version(&mut reader)?),
            _ if key == kind.system_id_key().as_bytes() => system_id = Some(SystemId(reader.u64()?)),
            _ => unknown.push(key, reader.raw()?),
        }
    }
    reader.end()?;
    let catalog = match kind {
        HistoryKind::Archive => None,
        HistoryKind::Backup => Some(CatalogNumbers {
            catalog_version: catalog_version.ok_or(ValueProblem::Missing("db-catalog-version"))?,
            control_version: control_version.ok_or(ValueProblem::Missing("db-control-version"))?,
        }),
    };
    Ok(DbGeneration {
        id,
        version: version.ok_or(ValueProblem::Missing("db-version"))?,
        system_id: system_id.ok_or(ValueProblem::Missing(kind.system_id_key()))?,
        catalog,
        unknown,
    })
}

/// Reads a PostgreSQL version. One that this program does not know is still a version.
pub(crate) fn read_version(reader: &mut JsonReader<'_>) -> Result<PgVersion, ValueProblem> {
    let text = reader.string()?;
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| PgVersion::parse(text).ok())
        .ok_or(ValueProblem::Attribute { attribute: "db-version", reason: "is not a PostgreSQL version" })
}
