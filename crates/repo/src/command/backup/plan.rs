//! What is copied, in which order, and what goes into one bundle. Pure.

use super::options::BundleOptions;
use crate::format::Manifest;
use crate::format::manifest::{FileRow, TargetKind};
use crate::format::path::BundleId;
use crate::postgres::data_path::CONTROL_FILE;

/// Files of the manifest, by position, in the order in which they are copied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// What is copied at once and in any order, started in this one: large files first, so that no transfer is left
    /// alone with one at the end; then the bundles.
    pub(super) jobs: Vec<Job>,
    /// `pg_control`, which is copied after everything else.
    pub(super) control: Option<Job>,
    /// Empty files that a bundled backup does not store.
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

/// Plans a full backup.
pub(super) fn plan(manifest: &Manifest, bundle: Option<BundleOptions>) -> Plan {
    let files = manifest.files();
    let mut plan = Plan { jobs: Vec::new(), control: None, empty: Vec::new(), total_bytes: 0 };
    let mut control = None;
    let mut single = Vec::new();
    // One queue for each tablespace and one for all else: a bundle holds files of one file system.
    let mut small: Vec<(Vec<u8>, Vec<usize>)> = tablespaces(manifest);
    for (position, file) in files.iter().enumerate() {
        let is_bundled = bundle.is_some_and(|bundle| file.size_original_bytes <= bundle.limit_bytes);
        if bundle.is_some() && file.size_original_bytes == 0 {
            plan.empty.push(position);
            continue;
        }
        plan.total_bytes = plan.total_bytes.saturating_add(file.size_original_bytes);
        if file.name().as_bytes() == CONTROL_FILE.as_bytes() {
            control = Some((position, is_bundled));
        } else if !is_bundled {
            single.push(position);
        } else if let Some((_, queue)) = small.iter_mut().find(|(prefix, _)| file.name().as_bytes().starts_with(prefix))
        {
            queue.push(position);
        }
    }
    single.sort_by(|one, other| largest_first(file(files, *one), file(files, *other)));
    plan.jobs.extend(single.into_iter().map(Job::Single));

    let mut next_id = 1;
    for (_, mut queue) in small {
        // Files of one age are read again together.
        queue.sort_by(|one, other| oldest_first(file(files, *one), file(files, *other)));
        for group in groups(files, &queue, bundle.map_or(0, |bundle| bundle.size_bytes)) {
            plan.jobs.extend(BundleId::new(next_id).map(|id| Job::Bundle(id, group)));
            next_id += 1;
        }
    }
    plan.control = control.and_then(|(position, is_bundled)| match is_bundled {
        true => BundleId::new(next_id).map(|id| Job::Bundle(id, vec![position])),
        false => Some(Job::Single(position)),
    });
    plan
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

fn file(files: &[FileRow], position: usize) -> Option<&FileRow> {
    files.get(position)
}

fn largest_first(one: Option<&FileRow>, other: Option<&FileRow>) -> std::cmp::Ordering {
    let key = |file: Option<&FileRow>| file.map(|file| file.size_original_bytes);
    key(other).cmp(&key(one)).then_with(|| by_name(one, other))
}

fn oldest_first(one: Option<&FileRow>, other: Option<&FileRow>) -> std::cmp::Ordering {
    let key = |file: Option<&FileRow>| file.map(|file| file.timestamp_s);
    key(one).cmp(&key(other)).then_with(|| by_name(one, other))
}

fn by_name(one: Option<&FileRow>, other: Option<&FileRow>) -> std::cmp::Ordering {
    one.map(FileRow::name).cmp(&other.map(FileRow::name))
}
