//! `cargo xtask bench wal-get`: `archive-get` of one segment after the other, as in recovery, against the original's, from an
//! HTTPS S3 server on this machine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pgbr_testkit::user;

use super::batch::{Ground, Resident, children_cpu_s};
use super::case::{Case, Mode};
use super::figures::{median, percentile};
use super::memory::Peak;
use super::store::{Requests, Store};
use super::wal_set::{SEGMENTS, WalSet};
use super::{detached, machine, number, programs};
use crate::Failure;

const USAGE: &str = "cargo xtask bench wal-get [--rounds N] [--segments N] [--delay-ms N] [--case zst|gz|lz4]";

/// What is compared, in the order of a round.
const MODES: [Mode; 5] =
    [Mode::OursOneByOne, Mode::StockOneByOne, Mode::OursResident, Mode::StockAsync, Mode::OursAsync];

/// Ours, against what.
const PAIRS: [(Mode, Mode); 4] = [
    (Mode::OursOneByOne, Mode::StockOneByOne),
    (Mode::OursResident, Mode::StockOneByOne),
    (Mode::OursResident, Mode::StockAsync),
    (Mode::OursAsync, Mode::StockAsync),
];

/// What the segments of the set took.
struct Measured {
    wall_s: f64,
    cpu_s: f64,
    gets: Vec<Duration>,
    requests: Requests,
    resident: Option<Peak>,
}

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let (mut rounds, mut segments, mut delay_ms, mut case) = (3, SEGMENTS, 0, Case::parse("zst")?);
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        match name.as_str() {
            "--rounds" => rounds = number(name, rest.next())?.max(1),
            "--segments" => segments = number(name, rest.next())?.max(1),
            "--delay-ms" => delay_ms = number(name, rest.next())?,
            "--case" => case = Case::parse(rest.next().map_or("", String::as_str))?,
            other => return Err(Failure::new(format!("unknown argument {other:?}\n\n{USAGE}"))),
        }
    }
    let (ours, stock) = (programs::ours()?, programs::stock()?);
    let wal = WalSet::open(segments)?;
    let folder = user::scratch()?;
    let mut store = Store::start(folder.path(), delay_ms)?;
    detached::adopt()?;
    let machine = machine::describe();
    let mut ground =
        Ground { ours: &ours, stock: &stock, wal: &wal, store: &mut store, folder: folder.path(), batches: 0 };
    let data = ground.data_with_status()?;
    let filled = ground.stanza(&ours, &case, Mode::OursTwo, data.clone())?;
    filled.push_all(wal.names(), 2)?;
    let path = filled.path().to_owned();
    let mut all = BTreeMap::<Mode, Vec<Measured>>::new();
    for round in 1..=rounds {
        eprintln!("{}: round {round} of {rounds}, load {}", case.title(), machine::load());
        let mut modes = MODES;
        if round % 2 == 0 {
            modes.reverse();
        }
        for mode in modes {
            let engine = if mode.is_ours() { &ours } else { &stock };
            let mut stanza = ground.configured(engine, &case, data.clone(), &path)?;
            stanza.archive_as(mode)?;
            let (requests, cpu_s) = (ground.store.requests()?, children_cpu_s()?);
            let resident = (mode == Mode::OursResident).then(|| Resident::start(&stanza)).transpose()?;
            let started = Instant::now();
            let gets = wal.names().iter().map(|name| stanza.get(name)).collect::<Result<Vec<_>, _>>()?;
            let wall_s = started.elapsed().as_secs_f64();
            let resident = resident.map(Resident::end).transpose()?;
            detached::wait_for_all_but(ground.store.process())?;
            let (requests, cpu_s) = (ground.store.requests()? - requests, children_cpu_s()? - cpu_s);
            eprintln!("  {}: {wall_s:.2} s, CPU {cpu_s:.2} s", mode.title());
            all.entry(mode).or_default().push(Measured { wall_s, cpu_s, gets, requests, resident });
        }
    }
    println!("\nMachine: {machine}; load after the run {}.\n", machine::load());
    println!(
        "{}; {rounds} rounds; {}; {delay_ms} ms of delay; against {}.\n",
        wal.describe(),
        case.title(),
        stock.name()
    );
    print(&all, wal.names().len());
    Ok(())
}

fn print(all: &BTreeMap<Mode, Vec<Measured>>, segments: usize) {
    let runs = |mode: Mode| all.get(&mode).map(Vec::as_slice).unwrap_or_default();
    let wall = |mode: Mode| median(runs(mode).iter().map(|run| run.wall_s));
    let cpu = |mode: Mode| median(runs(mode).iter().map(|run| run.cpu_s));
    println!("| ours ÷ stock | wall | CPU |\n| --- | --- | --- |");
    for (ours, stock) in PAIRS {
        println!(
            "| {} ÷ {} | {:.2} | {:.2} |",
            ours.title(),
            stock.title(),
            wall(ours) / wall(stock),
            cpu(ours) / cpu(stock)
        );
    }
    println!("\n| who | wall s | CPU s | p50 ms | p99 ms | requests a segment | engine resident MiB |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for mode in MODES {
        let ms = || runs(mode).iter().flat_map(|run| &run.gets).map(|taken| taken.as_secs_f64() * 1e3);
        let mut sum = Requests::default();
        runs(mode).iter().for_each(|run| sum += run.requests);
        let kib = runs(mode).iter().filter_map(|run| run.resident).map(|peak| peak.resident_kib).max();
        println!(
            "| {} | {:.2} | {:.2} | {:.0} | {:.0} | {} | {} |",
            mode.title(),
            wall(mode),
            cpu(mode),
            percentile(ms(), 50),
            percentile(ms(), 99),
            sum.a_segment(runs(mode).len() * segments),
            kib.map_or_else(|| "–".to_owned(), |kib| kib.div_ceil(1024).to_string()),
        );
    }
}
