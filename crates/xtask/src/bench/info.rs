//! `cargo xtask bench info`: `info` over a repository with many backups and very many WAL files.

use std::fs;
use std::path::Path;

use pgbr_testkit::postgres::{Cluster, Options, Version};
use pgbr_testkit::user;

use super::backup::{Ground, Stanza};
use super::side::{self, Compared, Sides};
use super::store::Store;
use super::{machine, trees};
use crate::Failure;

/// Segments of 16 MiB in one folder of an archive.
const SEGMENTS_PER_FOLDER: usize = 256;

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let names = [("--rounds", 3), ("--backups", 100), ("--segments", 100_000)];
    let [rounds, backups, segments] = side::numbers(arguments, names)?;
    let sides = Sides::find()?;
    let folder = user::scratch()?;
    let mut store = Store::start(folder.path(), 0)?;
    let machine = machine::describe();
    let mut all = Vec::new();
    let mut ground = Ground::new(&sides, &mut store, folder.path());
    for place in [Place::Directory, Place::S3] {
        let stanza = make(&mut ground, place, backups, segments)?;
        for (format, argument) in [("text", "--output=text"), ("JSON", "--output=json")] {
            let title = format!("info, {format}, {}, {backups} backups, {segments} segments", place.title());
            all.push(Compared::measure(title, 0, rounds, |side| {
                ground.run(ground.sides.engine(side), &stanza, &["info", argument])
            })?);
        }
    }
    side::print(&all, &sides.stock, rounds, &machine);
    Ok(())
}

/// Where the repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Directory,
    S3,
}

impl Place {
    const fn title(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::S3 => "S3",
        }
    }
}

/// A stanza with as many backups of a tiny cluster, and an archive of empty files with the right names.
fn make(ground: &mut Ground<'_>, place: Place, backups: usize, segments: usize) -> Result<Stanza, Failure> {
    let data = ground.folder.join(format!("tiny-{}", place.title()));
    Cluster::create(Version::V17, &data, Options::default())?;
    strip(&data)?;
    let local = ground.folder.join("repo-of-info");
    let directory = local.display().to_string();
    let options: &[(&str, &str)] = match place {
        Place::Directory => &[("repo1-type", "posix"), ("repo1-path", &directory)],
        Place::S3 => &[],
    };
    user::create_dir(&local)?;
    let mut stanza = ground.stanza(&data, options)?;
    stanza.conf.global("log-level-console", "off")?;
    for _ in 0..backups {
        ground.sides.ours.ok(&stanza.conf, &["backup", "--type=full", "--no-online", "--no-resume"])?;
    }
    let repo = match place {
        Place::Directory => local,
        Place::S3 => ground.objects(&stanza),
    };
    fill_archive(&repo.join("archive/bench/17-1"), segments)?;
    user::own(&repo)?;
    trees::warm(&repo)?;
    Ok(stanza)
}

/// Leaves what a backup cannot do without.
fn strip(data: &Path) -> Result<(), Failure> {
    for database in ["1", "4", "5"] {
        let folder = data.join("base").join(database);
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name != "PG_VERSION") {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

fn fill_archive(archive: &Path, segments: usize) -> Result<(), Failure> {
    for number in 0..segments {
        let (log, segment) = (number / SEGMENTS_PER_FOLDER, number % SEGMENTS_PER_FOLDER);
        let folder = archive.join(format!("00000001{log:08X}"));
        if segment == 0 {
            fs::create_dir_all(&folder)?;
        }
        fs::write(folder.join(format!("00000001{log:08X}{segment:08X}-{number:040x}.zst")), "")?;
    }
    Ok(())
}
