//! `cargo xtask test`: all that CI runs, cheapest first.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::scratch::Scratch;
use crate::{Failure, cargo, fuzz, manifests, tools};

/// How long each fuzz target runs: enough to get past its corpus, and a minute for all.
const FUZZ_SECONDS: u64 = 3;

pub(crate) fn run() -> Result<(), Failure> {
    let started = Instant::now();
    let mut count = Count::default();
    let done = stages(&mut count);
    if done.is_err() && count.failed == 0 {
        count.failed = 1;
    }
    println!("\nall stages took {:.0} s", started.elapsed().as_secs_f64());
    println!("{} passed, {} failed", count.passed, count.failed);
    done
}

/// What a mistake is quickest found by comes first; the first stage that fails ends the run.
fn stages(count: &mut Count) -> Result<(), Failure> {
    stage("format", || cargo::run(&mut cargo::command(&["fmt", "--all", "--check"])))?;
    // The fuzz targets' workspace has a lock file of its own, which a new dependency of the engine makes stale unnoticed.
    stage("lock files", || {
        cargo::run(&mut cargo::command(&["fetch", "--locked", "--quiet"]))?;
        cargo::run(&mut cargo::command(&["fetch", "--locked", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]))
    })?;
    stage("lints", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
        cargo::run(&mut cargo::command(&arguments))
    })?;
    stage("documentation", || {
        let mut command = cargo::command(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
        cargo::run(command.env("RUSTDOCFLAGS", "--deny warnings"))
    })?;
    stage("manifests", || manifests::run(&["--check".to_owned()]))?;
    stage("tools", tools::run)?;
    // Tests run this program; cargo builds it for its own package's tests only.
    stage("build", || cargo::run(&mut cargo::command(&["build", "--workspace", "--locked"])))?;
    stage("tests", || {
        let scratch = Scratch::new();
        let mut command = cargo::command(&["test", "--workspace", "--locked", "--no-fail-fast"]);
        if let Some(path) = scratch.path() {
            println!("files of the tests: {}", path.display());
            // The tools stay where they are.
            command.env("TMPDIR", path).env("PGBR_TOOLS", pgbr_testkit::tools::root()?);
        }
        count_tests(&mut command, count)
    })?;
    stage("fuzz", || fuzz::smoke_all(FUZZ_SECONDS))
}

fn stage(name: &str, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    println!("== {name}");
    let started = Instant::now();
    work()?;
    println!("== {name}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Adds a line like `test result: ok. 10 passed; 0 failed; 0 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse::<u64>().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse::<u64>().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Runs cargo, passes its output on, and adds up the results of all test programs.
fn count_tests(command: &mut Command, count: &mut Count) -> Result<(), Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            count.add(&line);
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("cargo test: {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_test_programs_are_added_up() {
        let mut count = Count::default();
        count.add("test result: ok. 10 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.40s");
        count.add("test some::name ... ok");
        count.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(count, Count { passed: 13, failed: 2 });
    }
}
