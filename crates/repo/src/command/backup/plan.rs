//! What is copied, in which order, and what goes into one bundle. Pure.

use super::changes::Action;
use super::options::BundleOptions;
use crate::format::Manifest;
use crate::format::manifest::{FileRow, TargetKind};
use crate::format::path::{BundleId, StoredFile};
use crate::postgres::data_path::CONTROL_FILE;

/// Files of the manifest, by position, in the order in which they are copied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// What is copied at once and in any order, started in this one: large files first, so that no transfer is left
    /// alone with one at the end; then the bundles.
    pub(super) jobs: Vec<Job>,
    /// What has to come from the primary when the rest is read from a standby; beside [`Plan::jobs`], in the same order.
    pub(super) from_primary: Vec<Job>,
    /// `pg_control`, which is copied after everything else.
    pub(super) control: Option<Job>,
    /// Empty files, which a bundled backup does not store.
    pub(super) empty: Vec<usize>,
    /// Plain bytes of all jobs.
    pub(super) total_bytes: u64,
}

/// What one transfer copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// A file into an object of its own.
    Single(usize),
    /// Files into a bundle, one behind the other.
    Bundle(BundleId, Vec<usize>),
}

/// Plans the copying of the files for which `actions`, by position, says so. `is_from_primary` tells of a file's name
/// whether it must not be read from a standby.
pub(super) fn plan(
    manifest: &Manifest,
    actions: &[Action],
    bundle: Option<BundleOptions>,
    is_from_primary: impl Fn(&[u8]) -> bool,
) -> Plan {
    let files = manifest.files();
    let mut plan =
        Plan { jobs: Vec::new(), from_primary: Vec::new(), control: None, empty: Vec::new(), total_bytes: 0 };
    let mut control = None;
    let mut single = Vec::new();
    let mut primary = Queue::default();
    // One queue for each tablespace and one for all else: a bundle holds files of one file system.
    let mut small: Vec<(Vec<u8>, Vec<usize>)> = tablespaces(manifest);
    for (position, file) in files.iter().enumerate() {
        if actions.get(position) == Some(&Action::Keep) {
            if file.reference.is_none() {
                plan.empty.push(position);
            }
            continue;
        }
        // The size at the scan decides, not that of the prior backup which the row may have until it is copied.
        let is_bundled = bundle.is_some_and(|bundle| file.size_original_bytes <= bundle.limit_bytes);
        plan.total_bytes = plan.total_bytes.saturating_add(file.size_original_bytes);
        if file.name().as_bytes() == CONTROL_FILE.as_bytes() {
            control = Some((position, is_bundled));
        } else if is_from_primary(file.name().as_bytes()) {
            let queue = if is_bundled { &mut primary.small } else { &mut primary.single };
            queue.push(position);
        } else if !is_bundled {
            single.push(position);
        } else if let Some((_, queue)) = small.iter_mut().find(|(prefix, _)| file.name().as_bytes().starts_with(prefix))
        {
            queue.push(position);
        }
    }
    plan.jobs = singles(files, single);
    plan.from_primary = singles(files, primary.single);

    let mut next_id = 1;
    let bundle_bytes = bundle.map_or(0, |bundle| bundle.size_bytes);
    for (_, queue) in small {
        plan.jobs.extend(bundles(manifest, queue, bundle_bytes, &mut next_id));
    }
    plan.from_primary.extend(bundles(manifest, primary.small, bundle_bytes, &mut next_id));
    plan.control = control.and_then(|(position, is_bundled)| match is_bundled {
        true => BundleId::new(next_id).map(|id| Job::Bundle(id, vec![position])),
        false => Some(Job::Single(position)),
    });
    plan
}

/// Files to copy, by position.
#[derive(Debug, Default)]
struct Queue {
    /// Into objects of their own.
    single: Vec<usize>,
    /// Into bundles.
    small: Vec<usize>,
}

fn singles(files: &[FileRow], mut queue: Vec<usize>) -> Vec<Job> {
    queue.sort_by(|one, other| largest_first(file(files, *one), file(files, *other)));
    queue.into_iter().map(Job::Single).collect()
}

fn bundles(manifest: &Manifest, mut queue: Vec<usize>, size_bytes: u64, next_id: &mut u64) -> Vec<Job> {
    let files = manifest.files();
    queue.sort_by(|one, other| neighbours(manifest, file(files, *one), file(files, *other)));
    let mut jobs = Vec::new();
    for mut group in groups(files, &queue, size_bytes) {
        // Maps hold the offsets of blocks, which are small numbers at the begin of the bundle.
        group.sort_by_key(|position| !is_in_blocks(manifest, *position));
        jobs.extend(BundleId::new(*next_id).map(|id| Job::Bundle(id, group)));
        *next_id += 1;
    }
    jobs
}

/// The prefixes of the queues; the last one takes what is in no tablespace.
fn tablespaces(manifest: &Manifest) -> Vec<(Vec<u8>, Vec<usize>)> {
    let is_tablespace = |kind: &TargetKind| matches!(kind, TargetKind::Tablespace { .. });
    let spaces = manifest.targets().iter().filter(|target| is_tablespace(target.kind()));
    let prefixes = spaces.map(|target| [target.name().as_bytes(), b"/"].concat());
    prefixes.chain([Vec::new()]).map(|prefix| (prefix, Vec::new())).collect()
}

/// Cuts a queue where the sum of sizes reaches the size of a bundle.
fn groups(files: &[FileRow], queue: &[usize], size_bytes: u64) -> Vec<Vec<usize>> {
    let mut groups = Vec::new();
    let (mut group, mut sum) = (Vec::new(), 0_u64);
    for &position in queue {
        group.push(position);
        sum = sum.saturating_add(file(files, position).map_or(0, |file| file.size_original_bytes));
        if sum >= size_bytes {
            groups.push(std::mem::take(&mut group));
            sum = 0;
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// In which form the file at `position` is stored in an object of its own; `None` when it is in a bundle or nowhere.
pub(super) fn form(
    manifest: &Manifest,
    actions: &[Action],
    bundle: Option<BundleOptions>,
    position: usize,
) -> Option<StoredFile> {
    let file = file(manifest.files(), position)?;
    let is_bundled = bundle.is_some_and(|bundle| file.size_original_bytes <= bundle.limit_bytes);
    if is_bundled || actions.get(position) == Some(&Action::Keep) {
        return None;
    }
    Some(match is_in_blocks(manifest, position) {
        true => StoredFile::BlockIncremental,
        false => StoredFile::Whole(manifest.options().compress_type),
    })
}

/// Whether a file is to be stored in blocks.
pub(super) fn is_in_blocks(manifest: &Manifest, position: usize) -> bool {
    let is_cut = |file: &FileRow| file.block_incr.is_some() && file.name().as_bytes() != CONTROL_FILE.as_bytes();
    manifest.header().block_incr && file(manifest.files(), position).is_some_and(is_cut)
}

fn file(files: &[FileRow], position: usize) -> Option<&FileRow> {
    files.get(position)
}

fn largest_first(one: Option<&FileRow>, other: Option<&FileRow>) -> std::cmp::Ordering {
    let key = |file: Option<&FileRow>| file.map(|file| file.size_original_bytes);
    key(other).cmp(&key(one)).then_with(|| by_name(one, other))
}

/// Files that the prior backups have come first and lie as they do there, so that what is read of them is read in order;
/// then new ones, with files of one age next to each other, since they are read again together.
fn neighbours(manifest: &Manifest, one: Option<&FileRow>, other: Option<&FileRow>) -> std::cmp::Ordering {
    let key = |file: Option<&FileRow>| {
        let reference = file.filter(|file| file.reference.is_some());
        let place = reference.and_then(|file| file.bundle).map(|place| (place.id.number(), place.offset_bytes));
        let stored = reference.map(|file| (manifest.stored_in(file), place));
        (stored.is_none(), stored, file.map(|file| file.timestamp_s))
    };
    key(one).cmp(&key(other)).then_with(|| by_name(one, other))
}

fn by_name(one: Option<&FileRow>, other: Option<&FileRow>) -> std::cmp::Ordering {
    one.map(FileRow::name).cmp(&other.map(FileRow::name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::{BeginBackup, ManifestOptions, Owner, PathRow, ScannedFile, Target};
    use crate::format::{BackupLabel, CompressType, ManifestBuilder, ManifestName, RawText};
    use crate::postgres::PgVersion;

    fn name(text: &str) -> ManifestName {
        ManifestName::parse(text.as_bytes()).unwrap()
    }

    /// A manifest with these files: name, size, time.
    fn manifest(files: &[(&str, u64, i64)]) -> Manifest {
        let begin = BeginBackup {
            label: BackupLabel::parse("20261122-061817F").unwrap(),
            backup_pass: None,
            timestamp_start_s: 1,
            version: PgVersion::V15,
            catalog_version: 1,
            control_version: 1,
            bundle: true,
            block_incr: false,
            options: ManifestOptions {
                archive_check: false,
                archive_copy: false,
                backup_standby: None,
                buffer_size_bytes: None,
                checksum_page: None,
                compress_type: CompressType::None,
                compress_level: None,
                compress_level_network: None,
                delta: None,
                hardlink: false,
                online: true,
                process_max: None,
            },
        };
        let mut builder = ManifestBuilder::new(begin, None).unwrap();
        let path = RawText::from("/data");
        builder.add_target(Target::new(name("pg_data"), TargetKind::PgData { path: path.clone() }).unwrap());
        let space = TargetKind::Tablespace { path, oid: 7, tablespace_name: RawText::from("space") };
        builder.add_target(Target::new(name("pg_tblspc/7"), space).unwrap());
        builder.add_path(PathRow::new(name("pg_data"), Owner::UNNAMED, Owner::UNNAMED, 0o700));
        for (file, size_bytes, timestamp_s) in files {
            builder.add_file(FileRow::scanned(ScannedFile {
                name: name(file),
                size_bytes: *size_bytes,
                timestamp_s: *timestamp_s,
                user: Owner::UNNAMED,
                group: Owner::UNNAMED,
                mode: 0o600,
            }));
        }
        builder.finish().unwrap()
    }

    const FILES: [(&str, u64, i64); 9] = [
        ("pg_data/base/1/1", 100, 5),
        ("pg_data/base/1/2", 60, 4),
        ("pg_data/base/1/3", 0, 4),
        ("pg_data/base/1/4", 50, 4),
        ("pg_data/base/1/5", 101, 1),
        ("pg_data/base/1/6", 500, 1),
        ("pg_data/global/pg_control", 80, 1),
        ("pg_tblspc/7/PG_15_1/1/8", 70, 9),
        ("pg_tblspc/7/PG_15_1/1/9", 200, 9),
    ];

    /// The jobs with names instead of positions.
    fn jobs(plan: &Plan, manifest: &Manifest) -> Vec<(u64, Vec<String>)> {
        let name = |position: &usize| {
            let name = manifest.files()[*position].name().to_string();
            name.rsplit('/').next().unwrap().to_owned()
        };
        let all = plan.jobs.iter().chain(&plan.control);
        all.map(|job| match job {
            Job::Single(position) => (0, vec![name(position)]),
            Job::Bundle(id, positions) => (id.number(), positions.iter().map(name).collect()),
        })
        .collect()
    }

    #[test]
    fn large_files_come_first_and_pg_control_last() {
        let manifest = manifest(&FILES);
        let plan = plan(&manifest, &[Action::Copy; FILES.len()], None, |_| false);
        let order: Vec<String> = jobs(&plan, &manifest).into_iter().flat_map(|(_, names)| names).collect();
        assert_eq!(order, ["6", "9", "5", "1", "8", "2", "4", "3", "pg_control"]);
        assert_eq!(plan.empty, [] as [usize; 0]);
        assert_eq!(plan.total_bytes, FILES.iter().map(|(_, size, _)| size).sum::<u64>());
    }

    #[test]
    fn a_bundle_holds_small_files_of_one_tablespace_until_it_is_full() {
        let manifest = manifest(&FILES);
        let mut actions = [Action::Copy; FILES.len()];
        actions[2] = Action::Keep;
        let bundle = Some(BundleOptions { size_bytes: 110, limit_bytes: 100 });
        let plan = plan(&manifest, &actions, bundle, |_| false);
        let expected: [(u64, &[&str]); 7] =
            [(0, &["6"]), (0, &["9"]), (0, &["5"]), (1, &["8"]), (2, &["2", "4"]), (3, &["1"]), (4, &["pg_control"])];
        let found = jobs(&plan, &manifest);
        let found: Vec<(u64, Vec<&str>)> =
            found.iter().map(|(id, names)| (*id, names.iter().map(String::as_str).collect())).collect();
        assert_eq!(found, expected.map(|(id, names)| (id, names.to_vec())));
        assert_eq!(plan.empty, [2]);
    }

    #[test]
    fn a_bundle_holds_files_of_one_server() {
        let manifest = manifest(&FILES);
        let bundle = Some(BundleOptions { size_bytes: 1000, limit_bytes: 100 });
        let mut actions = [Action::Copy; FILES.len()];
        actions[2] = Action::Keep;
        let plan = plan(&manifest, &actions, bundle, |name| {
            [b"pg_data/base/1/2", b"pg_data/base/1/6"].iter().any(|file| name == *file)
        });
        let position = |text: &str| manifest.file_position(text.as_bytes()).unwrap();
        let bundled = BundleId::new(3).unwrap();
        assert_eq!(
            plan.from_primary,
            [Job::Single(position("pg_data/base/1/6")), Job::Bundle(bundled, vec![position("pg_data/base/1/2")])]
        );
        assert!(!jobs(&plan, &manifest).iter().any(|(_, names)| names.iter().any(|name| name == "2" || name == "6")));
    }
}
