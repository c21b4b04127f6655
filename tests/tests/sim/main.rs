//! Everything at once, from a seed: three hosts push, fetch, back up, restore and look at one repository, while requests
//! fail, answers get lost, clocks are wrong, hosts die and rivals are promoted (faults.md TC06, TC08, PU01, TC01).
//!
//! `PGBR_SIM_SEEDS=n` runs so many seeds, `PGBR_SIM_SEED=n` runs that one and prints what happened.

mod cluster;
mod dice;
mod host;
mod model;
mod run;
mod turnstile;
mod weather;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use dice::Dice;
use host::Trace;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::{stock, user};
use run::{Place, Report, Run, Tally};
use weather::Weather;

/// Seeds of every run of the tests.
const SEEDS: u64 = 24;

/// Of these the original looks at what they leave.
const SEEDS_FOR_THE_ORIGINAL: u64 = 3;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Runs a seed; when it fails, says how to run it again.
fn simulate(seed: u64, place: &Place) -> Report {
    let (trace, log) = (Arc::new(Trace::default()), Arc::new(Trace::default()));
    let done = catch_unwind(AssertUnwindSafe(|| Run::of(seed, place, &trace, &log)));
    done.unwrap_or_else(|panic| {
        let (trace, log) = (trace.lines(), log.lines());
        let last = |lines: &[String], count: usize| lines[lines.len().saturating_sub(count)..].join("\n");
        eprintln!("{}\n-- messages:\n{}", last(&trace, 150), last(&log, 40));
        eprintln!("{}\nagain with PGBR_SIM_SEED={seed}", trace.first().map_or("", String::as_str));
        resume_unwind(panic)
    })
}

#[test]
fn tc06_tc08_pu01_tc01_everything_at_once() {
    let mut tally = Tally::new();
    if let Some(seed) = number("PGBR_SIM_SEED") {
        let report = simulate(seed, &Place::Memory);
        eprintln!("{}\n{:#?}", report.trace.join("\n"), report.tally);
        return;
    }
    let first = number("PGBR_SIM_FIRST").unwrap_or(0);
    for seed in first..first + number("PGBR_SIM_SEEDS").unwrap_or(SEEDS) {
        for (what, count) in simulate(seed, &Place::Memory).tally {
            *tally.entry(what).or_default() += count;
        }
    }
    eprintln!("{tally:#?}");
    for (what, at_least) in [
        ("push ok", 100),
        ("get ok", 50),
        ("backup ok", 30),
        ("restore ok", 20),
        ("info ok", 20),
        ("expire ok", 20),
        ("push killed", 1),
        ("backup killed", 3),
        ("push ArchiveDuplicateError", 1),
        ("audit", 50),
    ] {
        assert!(tally.get(what).is_some_and(|count| *count >= at_least), "there was hardly any '{what}': {tally:#?}");
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in [3, 5] {
        let (one, again) = (simulate(seed, &Place::Memory), simulate(seed, &Place::Memory));
        let differs = one.trace.iter().zip(&again.trace).position(|(one, again)| one != again);
        if let Some(at) = differs {
            panic!("seed {seed} differs at line {at}: {} and {}", one.trace[at], again.trace[at]);
        }
        assert_eq!(one.trace.len(), again.trace.len(), "seed {seed}");
    }
}

/// The test can fail: of a store that loses what was acknowledged, every seed tells.
#[test]
fn a_store_that_lies_is_caught() {
    for seed in [2, 8] {
        let (trace, log) = (Arc::new(Trace::default()), Arc::new(Trace::default()));
        let run = || Run::of(seed, &Place::LyingMemory, &trace, &log);
        let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { panic!("seed {seed} saw nothing") };
        let text = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(["INV-01", "INV-04", "INV-12"].iter().any(|name| text.starts_with(name)), "seed {seed}: {text}");
    }
}

/// The original can go on with what a run leaves in a directory: it reads, verifies and expires it.
#[test]
fn tc06_the_original_goes_on_after_everything_at_once() {
    let stock = stock::newest();
    // With rivals there may be two contents of a segment that neither was told to be archived, and verify says so.
    let seeds = (1..).filter(|seed| !Weather::of(*seed, &mut Dice::new(*seed)).rivals);
    let count = usize::try_from(number("PGBR_SIM_SEEDS").map_or(SEEDS_FOR_THE_ORIGINAL, |seeds| seeds / 8)).unwrap();
    for seed in seeds.take(count) {
        let dir = user::scratch().unwrap();
        let folder = dir.path().join("backrest");
        simulate(seed, &Place::Directory(folder.join("repo")));
        let conf = Conf::create(&folder, "demo").unwrap();
        user::own(dir.path()).unwrap();
        let before = stock.engine.ok(&conf, &["info"]).unwrap().text();
        assert!(before.contains("status: ok"), "seed {seed}: {before}");
        let text = stock.engine.ok(&conf, &["verify", "--log-level-console=detail"]).unwrap().text();
        for word in ["ERROR", "invalid checksum", "missing file", "status: error"] {
            assert!(!text.contains(word), "seed {seed}: {text}");
        }
        stock.engine.ok(&conf, &["expire", "--repo1-retention-full=1"]).unwrap();
        let after = stock.engine.ok(&conf, &["info"]).unwrap().text();
        assert_eq!(after.matches("full backup: ").count(), 1, "seed {seed}: {after}");
        assert!(!stock.engine.ok(&conf, &["verify"]).unwrap().text().contains("ERROR"), "seed {seed}");
    }
}
