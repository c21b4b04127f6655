//! `cargo xtask bench restore`: restores of one backup by ours and by the original, from an HTTPS S3 server on this
//! machine into new directories and over unchanged ones.

use std::path::Path;

use pgbr_testkit::user;

use super::backup::{Ground, Stanza};
use super::side::{self, Compared, Sides};
use super::store::Store;
use super::{machine, trees};
use crate::Failure;

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let names = [("--rounds", 3), ("--mb", 1500), ("--files", 100_000)];
    let [rounds, mb, files] = side::numbers(arguments, names)?;
    let sides = Sides::find()?;
    let folder = user::scratch()?;
    let mut store = Store::start(folder.path(), 0)?;
    let machine = machine::describe();
    let mut ground = Ground::new(&sides, &mut store, folder.path());
    let mut all = Vec::new();
    if mb > 0 {
        all.extend(both(&mut ground, &format!("{mb} MB"), &trees::tables(mb)?, rounds)?);
    }
    if files > 0 {
        all.extend(both(&mut ground, &format!("{files} files of 8 KiB"), &trees::small_files(files)?, rounds)?);
    }
    side::print(&all, &sides.stock, rounds, &machine);
    Ok(())
}

/// Into a new directory, and with `--delta` over one that is as the backup has it.
fn both(ground: &mut Ground<'_>, title: &str, data: &Path, rounds: usize) -> Result<[Compared; 2], Failure> {
    trees::warm(data)?;
    let size_bytes = trees::size_bytes(data)?;
    let stanza = ground.stanza(data, &[])?;
    // One backup for both, by the original.
    ground.sides.stock.ok(&stanza.conf, &["backup", "--type=full", "--no-online"])?;
    let fresh = Compared::measure(format!("restore, {title}"), size_bytes, rounds, |side| {
        let target = ground.folder.join("restored");
        user::create_dir(&target)?;
        let sample = restore(ground, side, &stanza, &target, &[])?;
        std::fs::remove_dir_all(&target)?;
        Ok(sample)
    })?;
    let target = ground.folder.join("unchanged");
    user::create_dir(&target)?;
    restore(ground, side::Side::Ours, &stanza, &target, &[])?;
    let delta =
        Compared::measure(format!("delta restore of an unchanged directory, {title}"), size_bytes, rounds, |side| {
            restore(ground, side, &stanza, &target, &["--delta"])
        })?;
    std::fs::remove_dir_all(&target)?;
    ground.discard(&stanza)?;
    Ok([fresh, delta])
}

fn restore(
    ground: &mut Ground<'_>,
    side: side::Side,
    stanza: &Stanza,
    target: &Path,
    more: &[&str],
) -> Result<side::Sample, Failure> {
    // What the run before has left to be written is not this run's to wait for.
    rustix::fs::sync();
    let path = format!("--pg1-path={}", target.display());
    ground.run(ground.sides.engine(side), stanza, &[&["restore", &path, "--type=none"], more].concat())
}
