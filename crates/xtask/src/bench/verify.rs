//! `cargo xtask bench verify`: `verify` of one repository by ours and by the original, from an HTTPS S3 server on this
//! machine, and against what the decode chain alone takes of one core.

use std::path::Path;
use std::process::Command;

use pgbr_testkit::user;

use super::backup::{Ground, Stanza};
use super::case::{CASES, PASSPHRASE};
use super::side::{self, Compared, Sides};
use super::store::Store;
use super::{machine, programs, trees};
use crate::Failure;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let names = [("--rounds", 3), ("--mb", 1500), ("--files", 100_000)];
    let [rounds, mb, files] = side::numbers(arguments, names)?;
    let sides = Sides::find()?;
    let bench = programs::pgbr_bench()?;
    let folder = user::scratch()?;
    let mut store = Store::start(folder.path(), 0)?;
    let machine = machine::describe();
    let mut ground = Ground::new(&sides, &mut store, folder.path());
    let mut all = Vec::new();
    let mut chain_cpu_s_per_gib = None;
    if mb > 0 {
        let data = trees::tables(mb)?;
        all.push(measure(&mut ground, &format!("verify, {mb} MB"), &data, rounds)?);
        chain_cpu_s_per_gib = Some(decode_chain(&bench, &data)?);
    }
    if files > 0 {
        let data = trees::small_files(files)?;
        all.push(measure(&mut ground, &format!("verify, {files} files of 8 KiB"), &data, rounds)?);
    }
    side::print(&all, &sides.stock, rounds, &machine);
    if let (Some(chain), Some(tables)) = (chain_cpu_s_per_gib, all.first()) {
        let [ours, stock] = tables.cpu_s_per_gib();
        println!(
            "\nDecode chain alone over the same files, one thread: {chain:.2} CPU s/GiB. Of its speed a core reaches {:.0} % in \
             ours and {:.0} % in the original (bar: 80 %).",
            chain / ours * 100.0,
            chain / stock * 100.0
        );
    }
    Ok(())
}

/// One full backup by the original, looked at by both.
fn measure(ground: &mut Ground<'_>, title: &str, data: &Path, rounds: usize) -> Result<Compared, Failure> {
    trees::warm(data)?;
    let stanza: Stanza = ground.stanza(data, &[])?;
    ground.sides.stock.ok(&stanza.conf, &["backup", "--type=full", "--no-online"])?;
    let compared = Compared::measure(title, trees::size_bytes(data)?, rounds, |side| {
        ground.run(ground.sides.engine(side), &stanza, &["verify"])
    })?;
    ground.discard(&stanza)?;
    Ok(compared)
}

/// CPU seconds that hash, decrypt, decompress and hash take for a GiB of plain bytes.
fn decode_chain(bench: &Path, data: &Path) -> Result<f64, Failure> {
    let [zst, ..] = CASES;
    let mut command = Command::new(bench);
    command.args(["load", zst.compress_type, zst.compress_level, PASSPHRASE]).args(trees::files(data)?);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    match (output.status.success(), numbers.next(), numbers.next()) {
        (true, Some(Ok(cpu_ns)), Some(Ok(plain_bytes))) if plain_bytes > 0.0 => Ok(cpu_ns / 1e9 * GIB / plain_bytes),
        _ => Err(Failure::new(format!("pgbr-bench load said {text:?}: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}
