//! Data directories at rest to back up: one of real tables, one of very many small files. Made once and kept with the
//! tools.

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::{tools, user};

use crate::Failure;

const VERSION: Version = Version::V17;

/// MB of tables that one unit of pgbench's scale makes.
const MB_PER_SCALE: usize = 15;

const PAGE_BYTES: usize = 8192;

/// Real tables and indexes of about this size, with page checksums.
pub(super) fn tables(mb: usize) -> Result<PathBuf, Failure> {
    let scale = (mb / MB_PER_SCALE).max(1);
    made(&format!("bench-tables-{VERSION}-{scale}"), |data| {
        let mut cluster = Cluster::started(VERSION, data, options(true))?;
        cluster.pgbench_init(u32::try_from(scale).unwrap_or(u32::MAX))?;
        cluster.sql("VACUUM (FREEZE, ANALYZE)")?;
        cluster.sql("CHECKPOINT")?;
        Ok(cluster.stop(Shutdown::Fast)?)
    })
}

/// A cluster with this many files of one page, in a database of their own.
pub(super) fn small_files(count: usize) -> Result<PathBuf, Failure> {
    made(&format!("bench-files-{VERSION}-{count}"), |data| {
        Cluster::create(VERSION, data, options(false))?;
        let folder = data.join("base/99999");
        user::create_dir(&folder)?;
        // Half of a page can be compressed away, as of most pages.
        let mut random = vec![0; PAGE_BYTES / 2];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let mut page = vec![0; PAGE_BYTES];
        for number in 0..count {
            random.rotate_left(1);
            if let Some(tail) = page.get_mut(PAGE_BYTES / 2..) {
                tail.copy_from_slice(&random);
            }
            fs::write(folder.join((100_000 + number).to_string()), &page)?;
        }
        Ok(user::own(&folder)?)
    })
}

/// Changes about `percent` of the pages of the largest tables in place, on a copy: whoever measures an incremental
/// backup of it comes after a full one of the original.
pub(super) fn change_pages(data: &Path, percent: usize) -> Result<(), Failure> {
    let step = u64::try_from(100 / percent.clamp(1, 100)).unwrap_or(1);
    for path in files(data)? {
        let pages = fs::metadata(&path)?.len() / PAGE_BYTES as u64;
        let is_table = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().iter().all(|byte| byte.is_ascii_digit() || *byte == b'.'));
        if pages < 128 || !is_table {
            continue;
        }
        let file = fs::File::options().read(true).write(true).open(&path)?;
        for page in (0..pages).step_by(usize::try_from(step).unwrap_or(1)) {
            // In the middle of the page's rows; a benchmark of an offline backup does not check pages.
            let mut bytes = [0; 8];
            let at = page * PAGE_BYTES as u64 + 6000;
            file.read_exact_at(&mut bytes, at)?;
            file.write_all_at(&bytes.map(|byte| byte.wrapping_add(1)), at)?;
        }
    }
    Ok(())
}

/// Bytes of all files.
pub(super) fn size_bytes(data: &Path) -> Result<u64, Failure> {
    let mut sum = 0;
    for path in files(data)? {
        sum += fs::metadata(path)?.len();
    }
    Ok(sum)
}

/// A copy with the same times, which decide what an incremental backup looks at.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status()?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("cp -a {}: {status}", from.display()))) }
}

/// Reads everything once, so that no run waits for the disk where another finds the files in memory.
pub(super) fn warm(data: &Path) -> Result<(), Failure> {
    let mut buffer = vec![0; 1 << 20];
    for path in files(data)? {
        let mut file = fs::File::open(path)?;
        while file.read(&mut buffer)? > 0 {}
    }
    Ok(())
}

/// Every file of a tree.
pub(super) fn files(data: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (mut found, mut folders) = (Vec::new(), vec![data.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    Ok(found)
}

fn options(checksums: bool) -> Options {
    let conf = ["shared_buffers = 128MB", "max_wal_size = 64MB", "min_wal_size = 32MB", "autovacuum = off"];
    Options {
        checksums,
        archive_command: Some("true".to_owned()),
        conf: conf.map(str::to_owned).into(),
        ..Options::default()
    }
}

fn made(name: &str, make: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<PathBuf, Failure> {
    let root = tools::root()?.join("bench-data");
    user::create_dir(&root)?;
    let _lock = tools::lock::exclusive(name)?;
    let (data, partial) = (root.join(name), root.join(format!("{name}.partial")));
    if !data.is_dir() {
        println!("making {}", data.display());
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        make(&partial)?;
        fs::rename(&partial, &data)?;
    }
    Ok(data)
}
