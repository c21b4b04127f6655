//! A repository as `expire` sees it: info files, small manifests, WAL without content. Written with this project's own
//! format code, read by both programs.
#![expect(clippy::unwrap_used, reason = "a world that cannot be told or written is a broken test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::user;
use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::format::db_history::CatalogNumbers;
use pgbr_repo::format::manifest::{
    BeginBackup, Completion, FileRow, ManifestOptions, PathRow, ScannedFile, Target, TargetKind,
};
use pgbr_repo::format::{
    Annotations, ArchiveId, ArchiveInfo, BackupEntry, BackupInfo, BackupLabel, BackupType, Checksum, CompressType,
    HistoryId, LabelTime, Manifest, ManifestBuilder, ManifestName, RawText, StoredLsn,
};
use pgbr_repo::postgres::{PgVersion, SystemId, Timeline, WalSegmentName};

/// A cluster of the stanza's history.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// PostgreSQL version.
    pub version: PgVersion,
    /// System identifier.
    pub system_id: SystemId,
}

/// A complete backup.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Its manifest, with one empty file.
    pub manifest: Manifest,
    /// Its line of backup.info.
    pub entry: BackupEntry,
}

impl Backup {
    /// Its name.
    pub fn label(&self) -> BackupLabel {
        self.entry.label
    }
}

/// What a new backup is.
#[derive(Debug, Clone, Copy)]
pub struct NewBackup<'a> {
    /// Its name.
    pub label: BackupLabel,
    /// What it is based on.
    pub prior: Option<&'a Backup>,
    /// When it started, seconds since the Unix epoch.
    pub start_s: i64,
    /// When it ended.
    pub stop_s: i64,
    /// First and last segment that it needs; `None` offline.
    pub wal: Option<(WalSegmentName, WalSegmentName)>,
    /// Its cluster.
    pub history_id: HistoryId,
    /// Whether backup.info says that it has page checksum errors.
    pub page_error: bool,
}

/// A repository in one directory.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The history, oldest first.
    pub clusters: Vec<Cluster>,
    /// By label; every one has a directory.
    pub backups: BTreeMap<BackupLabel, Backup>,
    /// Those with a directory that backup.info does not list.
    pub unlisted: BTreeSet<BackupLabel>,
    /// Those that backup.info lists and that have lost the manifest.
    pub lost: BTreeSet<BackupLabel>,
    /// Directories that hold no complete backup: with the copy of a manifest, or without.
    pub unfinished: BTreeMap<BackupLabel, Option<Manifest>>,
    /// Files of each archive, by path below it.
    pub archives: BTreeMap<ArchiveId, BTreeSet<String>>,
    /// Manifests in the history.
    pub history: BTreeSet<BackupLabel>,
}

/// The number of a cluster in the history.
pub fn history_id(number: u32) -> HistoryId {
    HistoryId::new(number).unwrap()
}

/// The label of a backup that starts at this second.
pub fn label(start_s: i64, prior: Option<BackupLabel>, kind: BackupType) -> BackupLabel {
    let time = jiff::Timestamp::from_second(start_s).unwrap().to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let time = LabelTime::new(time).unwrap();
    match prior {
        Some(prior) => BackupLabel::dependent(&prior, kind, time).unwrap(),
        None => BackupLabel::full(time),
    }
}

fn options(checksum_page: bool) -> ManifestOptions {
    ManifestOptions {
        archive_check: true,
        archive_copy: false,
        backup_standby: Some(false),
        buffer_size_bytes: Some(1024 * 1024),
        checksum_page: Some(checksum_page),
        compress_type: CompressType::None,
        compress_level: Some(0),
        compress_level_network: Some(1),
        delta: Some(false),
        hardlink: false,
        online: true,
        process_max: Some(1),
    }
}

fn begun(cluster: &Cluster, new: NewBackup<'_>) -> Manifest {
    let facts = cluster.version.facts().unwrap();
    let begin = BeginBackup {
        label: new.label,
        backup_pass: None,
        timestamp_start_s: new.start_s,
        version: cluster.version,
        catalog_version: facts.catalog_version,
        control_version: facts.control_version,
        bundle: false,
        block_incr: false,
        options: options(true),
    };
    let mut builder = ManifestBuilder::new(begin, new.prior.map(|prior| &prior.manifest)).unwrap();
    let owner = builder.owners_mut().intern(b"postgres");
    let name = || ManifestName::parse(b"pg_data").unwrap();
    let kind = TargetKind::PgData { path: RawText::from(&b"/pg"[..]) };
    builder.add_target(Target::new(name(), kind).unwrap());
    builder.add_path(PathRow::new(name(), owner, owner, 0o700));
    let file = ScannedFile {
        name: ManifestName::parse(b"pg_data/PG_VERSION").unwrap(),
        size_bytes: 0,
        timestamp_s: new.start_s,
        user: owner,
        group: owner,
        mode: 0o600,
    };
    let mut file = FileRow::scanned(file);
    file.checksum = Some(Checksum::EMPTY);
    builder.add_file(file);
    builder.finish().unwrap()
}

impl World {
    /// A stanza with one cluster and no backup.
    pub fn new() -> Self {
        let mut world = Self::default();
        world.upgrade();
        world
    }

    /// The stanza gets another cluster.
    pub fn upgrade(&mut self) -> HistoryId {
        const VERSIONS: [PgVersion; 4] = [PgVersion::V13, PgVersion::V15, PgVersion::V16, PgVersion::V17];
        let number = self.clusters.len();
        let system_id = SystemId(7_000_000_000_000_000_001 + u64::try_from(number).unwrap());
        self.clusters.push(Cluster { version: VERSIONS[number % VERSIONS.len()], system_id });
        history_id(u32::try_from(number + 1).unwrap())
    }

    /// The archive of a cluster.
    pub fn archive_id(&self, history_id: HistoryId) -> ArchiveId {
        let number = usize::try_from(history_id.number()).unwrap();
        ArchiveId { version: self.clusters[number - 1].version, history_id }
    }

    /// Adds a complete backup.
    pub fn add(&mut self, new: NewBackup<'_>) -> Backup {
        let cluster = &self.clusters[usize::try_from(new.history_id.number()).unwrap() - 1];
        let mut manifest = begun(cluster, new);
        let lsn = |segment: WalSegmentName| StoredLsn::parse(format!("{:X}/28", segment.log()).as_bytes()).unwrap();
        manifest.complete(Completion {
            timestamp_stop_s: new.stop_s,
            archive: new.wal,
            lsn: new.wal.map(|(start, stop)| (lsn(start), lsn(stop))),
            history_id: new.history_id,
            system_id: cluster.system_id,
            databases: Vec::new(),
            annotations: Annotations::default(),
            options: ManifestOptions { online: new.wal.is_some(), ..options(true) },
        });
        let mut entry = manifest.backup_entry().unwrap();
        entry.error = Some(new.page_error);
        let backup = Backup { manifest, entry };
        self.backups.insert(new.label, backup.clone());
        backup
    }

    /// Adds a directory with an unfinished backup: with its manifest's copy, or without.
    pub fn add_unfinished(&mut self, new: NewBackup<'_>, with_copy: bool) {
        let cluster = &self.clusters[usize::try_from(new.history_id.number()).unwrap() - 1];
        let manifest = begun(cluster, new);
        self.unfinished.insert(new.label, with_copy.then_some(manifest));
    }

    /// Adds a file to an archive.
    pub fn add_wal(&mut self, history_id: HistoryId, path: String) {
        let id = self.archive_id(history_id);
        self.archives.entry(id).or_default().insert(path);
    }

    /// backup.info with these backups.
    pub fn backup_info(&self) -> BackupInfo {
        let catalog = |cluster: &Cluster| {
            let facts = cluster.version.facts().unwrap();
            CatalogNumbers { catalog_version: facts.catalog_version, control_version: facts.control_version }
        };
        let (first, more) = self.clusters.split_first().unwrap();
        let mut info = BackupInfo::new(None, first.version, first.system_id, catalog(first));
        for cluster in more {
            _ = info.upgrade(cluster.version, cluster.system_id, catalog(cluster)).unwrap();
        }
        for (label, backup) in &self.backups {
            if !self.unlisted.contains(label) {
                info.add(backup.entry.clone()).unwrap();
            }
        }
        info
    }

    fn archive_info(&self) -> ArchiveInfo {
        let (first, more) = self.clusters.split_first().unwrap();
        let mut info = ArchiveInfo::new(None, first.version, first.system_id);
        for cluster in more {
            _ = info.upgrade(cluster.version, cluster.system_id).unwrap();
        }
        info
    }

    /// The files by path, with their content.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for name in ["", ".copy"] {
            files.insert(format!("backup/demo/backup.info{name}"), self.backup_info().write());
            files.insert(format!("archive/demo/archive.info{name}"), self.archive_info().write());
        }
        for (label, backup) in &self.backups {
            let content = backup.manifest.write_to_vec();
            if !self.lost.contains(label) {
                files.insert(format!("backup/demo/{label}/backup.manifest"), content.clone());
                files.insert(format!("backup/demo/{label}/backup.manifest.copy"), content);
            }
            files.insert(format!("backup/demo/{label}/pg_data/PG_VERSION"), Vec::new());
        }
        for (label, copy) in &self.unfinished {
            if let Some(manifest) = copy {
                files.insert(format!("backup/demo/{label}/backup.manifest.copy"), manifest.write_to_vec());
            }
            files.insert(format!("backup/demo/{label}/pg_data/PG_VERSION"), Vec::new());
        }
        for (id, names) in &self.archives {
            for name in names {
                files.insert(format!("archive/demo/{id}/{name}"), Vec::new());
            }
        }
        for label in &self.history {
            let year = label.year();
            files.insert(format!("backup/demo/backup.history/{year}/{label}.manifest.gz"), Vec::new());
        }
        files
    }

    /// Writes the repository into a directory that the unprivileged user then owns.
    pub fn write(&self, repository: &Path) {
        self.write_objects(repository);
        if let Some(newest) = self.backups.keys().next_back() {
            symlink(newest.as_str(), repository.join("backup/demo/latest")).unwrap();
        }
        user::own(repository).unwrap();
    }

    /// Writes the repository as a bucket holds it.
    pub fn write_objects(&self, repository: &Path) {
        for (path, content) in self.files() {
            let path = repository.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }
}

/// A stanza with one full backup a day up to now, and as many segments of 16 MiB in all, without gaps.
#[must_use]
pub fn large(backups: u32, segments: u32) -> World {
    const DAY_S: i64 = 24 * 60 * 60;
    const SEGMENTS_PER_LOG: u32 = 256;
    let now_s = SystemClock.now_s();
    let mut world = World::new();
    let segment =
        |number: u32| WalSegmentName::new(Timeline::FIRST, number / SEGMENTS_PER_LOG, number % SEGMENTS_PER_LOG);
    for number in 0..segments {
        let name = segment(number);
        world.add_wal(HistoryId::FIRST, format!("{}/{name}-{number:040x}.zst", name.first16()));
    }
    let step = segments / backups.max(1);
    for number in 0..backups {
        let start_s = now_s - i64::from(backups - number) * DAY_S;
        let start = segment(number * step);
        let label = label(start_s, None, BackupType::Full);
        let stop_s = start_s + 60;
        let (prior, wal, history_id) = (None, Some((start, start)), HistoryId::FIRST);
        world.add(NewBackup { label, prior, start_s, stop_s, wal, history_id, page_error: false });
        world.history.insert(label);
    }
    world
}

/// What is below a directory: a line for each file with its content, for each link with its text, for each empty
/// directory.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries: Vec<_> = fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        if entries.is_empty() {
            found.insert(format!("{}/", name(&folder)), Vec::new());
        }
        for entry in entries {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_symlink() {
                let text = fs::read_link(entry.path()).unwrap();
                found.insert(name(&entry.path()), text.display().to_string().into_bytes());
            } else {
                found.insert(name(&entry.path()), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}
