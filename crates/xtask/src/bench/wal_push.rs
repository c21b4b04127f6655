//! `cargo xtask bench wal-push`: `archive-push` against the original's, into an HTTPS S3 server on this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use pgbr_testkit::user;

use super::batch::{Ground, Measured};
use super::case::{CASES, Case, Mode, PASSPHRASE};
use super::memory::Peak;
use super::report::Report;
use super::store::Store;
use super::wal_set::{SEGMENTS, WalSet};
use super::{detached, machine, number, programs};
use crate::Failure;

const USAGE: &str = "\
cargo xtask bench wal-push [--rounds N] [--segments N] [--delay-ms N] [--case zst|gz|lz4]...";

#[derive(Debug)]
struct Options {
    rounds: usize,
    segments: usize,
    delay_ms: usize,
    cases: Vec<Case>,
}

/// The chain over one segment, by the library on one thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChainTime {
    pub(super) cpu_s: f64,
    pub(super) wall_s: f64,
}

/// All that was measured of a case.
#[derive(Debug)]
pub(super) struct CaseResult {
    pub(super) case: Case,
    pub(super) segments: usize,
    pub(super) batches: BTreeMap<Mode, Vec<Measured>>,
    pub(super) chain: Vec<ChainTime>,
    /// Ours and the original's, each for the set and for random bytes.
    pub(super) peaks: [[Peak; 2]; 2],
}

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let options = parse(arguments)?;
    let (ours, stock, bench) = (programs::ours()?, programs::stock()?, programs::pgbr_bench()?);
    let wal = WalSet::open(options.segments)?;
    let folder = user::scratch()?;
    let mut store = Store::start(folder.path(), options.delay_ms)?;
    detached::adopt()?;
    let machine = machine::describe();
    let mut ground =
        Ground { ours: &ours, stock: &stock, wal: &wal, store: &mut store, folder: folder.path(), batches: 0 };
    let mut results = Vec::new();
    for case in &options.cases {
        results.push(run_case(&mut ground, case, options.rounds, &bench)?);
    }
    let report = Report {
        machine,
        load_after: machine::load(),
        wal: wal.describe(),
        rounds: options.rounds,
        delay_ms: options.delay_ms,
        stock: stock.name().to_owned(),
        results: &results,
    };
    print!("{}", report.markdown());
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Options, Failure> {
    let mut options = Options { rounds: 3, segments: SEGMENTS, delay_ms: 0, cases: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        match name.as_str() {
            "--rounds" => options.rounds = number(name, rest.next())?.max(1),
            "--segments" => options.segments = number(name, rest.next())?.max(1),
            "--delay-ms" => options.delay_ms = number(name, rest.next())?,
            "--case" => options.cases.push(Case::parse(rest.next().map_or("", String::as_str))?),
            other => return Err(Failure::new(format!("unknown argument {other:?}\n\n{USAGE}"))),
        }
    }
    if options.cases.is_empty() {
        options.cases = CASES.to_vec();
    }
    Ok(options)
}

fn run_case(ground: &mut Ground<'_>, case: &Case, rounds: usize, bench: &Path) -> Result<CaseResult, Failure> {
    let mut batches = BTreeMap::<Mode, Vec<Measured>>::new();
    let mut chain = Vec::new();
    for round in 1..=rounds {
        eprintln!("{}: round {round} of {rounds}, load {}", case.title(), machine::load());
        chain.extend(run_chain(bench, case, ground.wal)?);
        // What comes second finds the machine warmer or more tired than what comes first: they change places.
        let mut modes = Mode::ALL;
        if round % 2 == 0 {
            modes.reverse();
        }
        for mode in modes {
            let measured = ground.run(case, mode)?;
            eprintln!("  {}: {:.2} s, CPU {:.2} s", mode.title(), measured.wall.as_secs_f64(), measured.cpu_s);
            batches.entry(mode).or_default().push(measured);
        }
    }
    let peaks = [ground.peaks(ground.ours, case)?, ground.peaks(ground.stock, case)?];
    Ok(CaseResult { case: *case, segments: ground.wal.names().len(), batches, chain, peaks })
}

fn run_chain(bench: &Path, case: &Case, wal: &WalSet) -> Result<Vec<ChainTime>, Failure> {
    let passphrase = if case.cipher { PASSPHRASE } else { "" };
    let mut command = Command::new(bench);
    command.args(["chain", case.compress_type, case.compress_level, passphrase]).args(wal.paths());
    let output = command.output()?;
    if !output.status.success() {
        return Err(Failure::new(format!("pgbr-bench chain: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let times = text.lines().map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<f64>);
        let mut next = || numbers.next()?.ok();
        Some(ChainTime { cpu_s: next()? / 1e9, wall_s: next()? / 1e9 })
    });
    times.collect::<Option<_>>().ok_or_else(|| Failure::new(format!("pgbr-bench chain said {text:?}")))
}
