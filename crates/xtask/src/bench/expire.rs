//! `cargo xtask bench expire`: half of the backups and of the WAL of a large repository is removed.

use std::fs;
use std::path::{Path, PathBuf};

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::user;
use pgbr_testkit::world::{self, World};

use super::side::{self, Compared, Sample, Sides};
use super::store::Store;
use super::{machine, watch};
use crate::Failure;

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let names = [("--rounds", 3), ("--backups", 100), ("--segments", 100_000), ("--delay-ms", 0)];
    let [rounds, backups, segments, delay_ms] = side::numbers(arguments, names)?;
    let small = |number: usize| u32::try_from(number).map_err(|_| Failure::new(format!("{number} is too large")));
    let (backups, segments) = (small(backups)?, small(segments)?);
    let world = world::large(backups, segments);
    let sides = Sides::find()?;
    let folder = user::scratch()?;
    let mut store = Store::start(folder.path(), delay_ms)?;
    let machine = machine::describe();
    let mut ground =
        Ground { world: &world, keep: (backups / 2).max(1), store: &mut store, folder: folder.path(), runs: 0 };
    let mut all = Vec::new();
    for place in [Place::Directory, Place::S3] {
        let title = format!("expire, {}, {backups} backups, {segments} segments, half of them go", place.title());
        all.push(Compared::measure(title, 0, rounds, |side| ground.run(sides.engine(side), place))?);
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

/// Where runs happen, each in a repository of its own.
struct Ground<'a> {
    world: &'a World,
    keep: u32,
    store: &'a mut Store,
    folder: &'a Path,
    runs: usize,
}

impl Ground<'_> {
    fn run(&mut self, engine: &Engine, place: Place) -> Result<Sample, Failure> {
        self.runs += 1;
        let name = format!("expire-{}", self.runs);
        let folder = self.folder.join(&name);
        let mut conf = Conf::create(&folder, "demo")?;
        conf.global("log-level-console", "warn")?.global("repo1-retention-full", &self.keep.to_string())?;
        let repository = match place {
            Place::Directory => folder.join("repo"),
            Place::S3 => self.store.objects(&name),
        };
        match place {
            Place::Directory => self.world.write(&repository),
            Place::S3 => {
                self.world.write_objects(&repository);
                for (option, value) in self.store.options() {
                    conf.global(option, value)?;
                }
                conf.global("repo1-path", &format!("/{name}"))?;
            }
        }
        let before = self.store.requests()?;
        let run = watch::run(&mut engine.command(&conf, &["expire"]), &folder.join("output"))?;
        let requests = self.store.requests()? - before;
        self.check(engine, &repository)?;
        fs::remove_dir_all(&repository)?;
        Ok(Sample { run, requests })
    }

    /// As many backups are left as are kept.
    fn check(&self, engine: &Engine, repository: &Path) -> Result<(), Failure> {
        let backups: PathBuf = repository.join("backup/demo");
        let mut left = 0;
        for entry in fs::read_dir(backups)? {
            left += u32::from(entry?.path().join("backup.manifest").is_file());
        }
        // `latest` leads to one of them.
        if left == self.keep || left == self.keep + 1 {
            return Ok(());
        }
        Err(Failure::new(format!("{} left {left} backups, not {}", engine.name(), self.keep)))
    }
}
