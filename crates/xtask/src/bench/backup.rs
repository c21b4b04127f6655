//! `cargo xtask bench backup`: backups of a data directory at rest against the original's, into an HTTPS S3 server on
//! this machine.

use std::path::{Path, PathBuf};

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::user;

use super::case::CASES;
use super::side::{self, Compared, Sample, Side, Sides};
use super::store::Store;
use super::{machine, trees, watch};
use crate::Failure;

const STANZA: &str = "bench";

/// Where repositories lie while they are measured.
pub(super) struct Ground<'a> {
    pub(super) sides: &'a Sides,
    pub(super) store: &'a mut Store,
    pub(super) folder: &'a Path,
    made: usize,
}

/// A stanza in a repository of its own.
pub(super) struct Stanza {
    pub(super) conf: Conf,
    pub(super) folder: PathBuf,
    /// The repository's folder in the bucket.
    path: String,
}

impl<'a> Ground<'a> {
    pub(super) fn new(sides: &'a Sides, store: &'a mut Store, folder: &'a Path) -> Self {
        Self { sides, store, folder, made: 0 }
    }

    /// A new stanza over the cluster in `data`, encrypted and bundled, with these options on top.
    pub(super) fn stanza(&mut self, data: &Path, more: &[(&str, &str)]) -> Result<Stanza, Failure> {
        self.made += 1;
        let path = format!("repo-{}", self.made);
        let folder = self.folder.join(&path);
        let mut conf = Conf::create(&folder, STANZA)?;
        conf.local("pg1-path", &data.display().to_string())?;
        for (option, value) in self.store.options() {
            conf.global(option, value)?;
        }
        let [zst, ..] = CASES;
        let fixed = [("repo1-bundle", "y"), ("process-max", "2"), ("log-level-console", "warn")];
        conf.global("repo1-path", &format!("/{path}"))?;
        for (option, value) in zst.options().iter().chain(&fixed).chain(more) {
            conf.global(option, value)?;
        }
        self.sides.stock.ok(&conf, &["stanza-create", "--no-online"])?;
        Ok(Stanza { conf, folder, path })
    }

    /// Runs one command of `side` and counts its requests.
    pub(super) fn run(&mut self, engine: &Engine, stanza: &Stanza, arguments: &[&str]) -> Result<Sample, Failure> {
        let requests = self.store.requests()?;
        let mut command = engine.command(&stanza.conf, arguments);
        let run = watch::run(&mut command, &stanza.folder.join("output"))?;
        Ok(Sample { run, requests: self.store.requests()? - requests })
    }

    /// The folder in which the server keeps the repository's objects as files.
    pub(super) fn objects(&self, stanza: &Stanza) -> PathBuf {
        self.store.objects(&stanza.path)
    }

    pub(super) fn discard(&self, stanza: &Stanza) -> Result<(), Failure> {
        self.store.remove(&stanza.path)?;
        Ok(std::fs::remove_dir_all(&stanza.folder)?)
    }
}

/// A full backup of a cluster at rest; the original then has to find it whole.
const FULL: [&str; 3] = ["backup", "--type=full", "--no-online"];

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let names = [("--rounds", 3), ("--mb", 1500), ("--files", 100_000), ("--changed-percent", 5)];
    let [rounds, mb, files, percent] = side::numbers(arguments, names)?;
    let sides = Sides::find()?;
    let folder = user::scratch()?;
    let mut store = Store::start(folder.path(), 0)?;
    let machine = machine::describe();
    let mut ground = Ground::new(&sides, &mut store, folder.path());
    let mut all = Vec::new();
    if mb > 0 {
        all.push(full(&mut ground, &format!("full, {mb} MB"), &trees::tables(mb)?, rounds)?);
    }
    if files > 0 {
        all.push(full(&mut ground, &format!("full, {files} files of 8 KiB"), &trees::small_files(files)?, rounds)?);
    }
    if mb > 0 && percent > 0 {
        all.push(incremental(&mut ground, mb, percent, rounds)?);
    }
    side::print(&all, &sides.stock, rounds, &machine);
    Ok(())
}

fn full(ground: &mut Ground<'_>, title: &str, data: &Path, rounds: usize) -> Result<Compared, Failure> {
    trees::warm(data)?;
    Compared::measure(format!("{title}: zst-3 + aes, bundles"), trees::size_bytes(data)?, rounds, |side| {
        let stanza = ground.stanza(data, &[])?;
        let sample = ground.run(ground.sides.engine(side), &stanza, &FULL)?;
        if side == Side::Ours {
            ground.sides.stock.ok(&stanza.conf, &["verify"])?;
        }
        ground.discard(&stanza)?;
        Ok(sample)
    })
}

/// Each on its own full backup with blocks, of a copy in which a part of the pages is changed afterwards.
fn incremental(ground: &mut Ground<'_>, mb: usize, percent: usize, rounds: usize) -> Result<Compared, Failure> {
    let original = trees::tables(mb)?;
    let size_bytes = trees::size_bytes(&original)?;
    let title = format!("incremental with blocks, {percent} % of the pages of {mb} MB changed");
    Compared::measure(title, size_bytes, rounds, |side: Side| {
        let data = ground.folder.join("changed");
        trees::copy(&original, &data)?;
        let engine = ground.sides.engine(side);
        let stanza = ground.stanza(&data, &[("repo1-block", "y")])?;
        engine.ok(&stanza.conf, &FULL)?;
        trees::change_pages(&data, percent)?;
        let sample = ground.run(engine, &stanza, &["backup", "--type=incr", "--no-online"])?;
        if side == Side::Ours {
            ground.sides.stock.ok(&stanza.conf, &["verify"])?;
        }
        ground.discard(&stanza)?;
        std::fs::remove_dir_all(&data)?;
        Ok(sample)
    })
}
