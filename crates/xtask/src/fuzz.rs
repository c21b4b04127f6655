//! `cargo xtask fuzz`: runs the fuzz targets on the stable toolchain.
//!
//! libFuzzer needs to see which code an input reaches: the targets are built with LLVM's coverage counters, by the flags
//! that cargo-fuzz gives the compiler too.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgbr_testkit::tools;

use crate::{Failure, cargo};

/// How long a target runs when nobody says.
const SECONDS_DEFAULT: u64 = 30;

/// What the compiler adds to every branch and comparison, and the switch that leaves the network out of the engine.
const RUSTFLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // With several units the linker drops counters of some of them.
    "-Ccodegen-units=1",
    "--cfg",
    "fuzzing",
];

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let run = Run::parse(arguments)?;
    let known = targets()?;
    let targets = match &run.target {
        Some(target) if known.contains(target) => vec![target.clone()],
        Some(target) => {
            return Err(Failure::new(format!("no fuzz target is called {target:?}, there are {}", known.join(", "))));
        }
        None => known,
    };
    let programs = build(&targets)?;
    if run.smoke {
        return smoke(&programs, &targets, &run);
    }
    for target in targets {
        println!("== fuzz {target} for {} s", run.seconds);
        let status = command(&programs, &target, &run)?.status()?;
        if !status.success() {
            return Err(Failure::new(format!("fuzz target {target}: {status}")));
        }
    }
    Ok(())
}

/// All targets for this long each, as many at once as there are processors; only what fails is printed.
pub(crate) fn smoke_all(seconds: u64) -> Result<(), Failure> {
    run(&["--smoke".to_owned(), seconds.to_string()])
}

fn smoke(programs: &Path, targets: &[String], run: &Run) -> Result<(), Failure> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = smoke_one(programs, target, run) {
                        failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(failure.reason);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if failed.is_empty() {
        println!("{} fuzz targets kept their promises for {} s each", targets.len(), run.seconds);
        return Ok(());
    }
    Err(Failure::new(failed.join("\n\n")))
}

fn smoke_one(programs: &Path, target: &str, run: &Run) -> Result<(), Failure> {
    let log = tools::workspace().join("fuzz/target").join(format!("{target}.log"));
    let output = File::create(&log)?;
    let mut command = command(programs, target, run)?;
    let status = command.stdout(output.try_clone()?).stderr(output).status()?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        return Err(Failure::new(format!("fuzz target {target}: {status}\n{text}")));
    }
    let executed = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executed: u64 = executed.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    // A target that did nothing would pass.
    let known = fs::read_dir(tools::workspace().join("fuzz/corpus").join(target))?.count();
    if executed < u64::try_from(known).unwrap_or(u64::MAX) {
        return Err(Failure::new(format!("fuzz target {target} ran {executed} inputs, and there are {known}\n{text}")));
    }
    println!("{target}: {executed} inputs");
    Ok(())
}

/// What is to be run.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    /// One target, or all.
    target: Option<String>,
    seconds: u64,
    /// Keep going over known ground only as long as a check needs.
    smoke: bool,
    /// Arguments for libFuzzer.
    rest: Vec<String>,
}

impl Run {
    fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut run = Self { target: None, seconds: SECONDS_DEFAULT, smoke: false, rest: Vec::new() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--" => {
                    run.rest = arguments.cloned().collect();
                    break;
                }
                "--smoke" => run.smoke = true,
                text => match text.parse() {
                    Ok(seconds) => run.seconds = seconds,
                    Err(_) if run.target.is_none() && !text.starts_with('-') => run.target = Some(text.to_owned()),
                    Err(_) => return Err(Failure::new(format!("{text:?} is neither a target nor seconds"))),
                },
            }
        }
        Ok(run)
    }
}

/// The names of all targets: one file each.
fn targets() -> Result<Vec<String>, Failure> {
    let folder = tools::workspace().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder)
        .map_err(|error| Failure::new(format!("no fuzz targets in {}: {error}", folder.display())))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("rs")) {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Builds the targets and answers the folder of the programs.
fn build(targets: &[String]) -> Result<PathBuf, Failure> {
    let (fuzz, host) = (tools::workspace().join("fuzz"), host()?);
    let mut build = cargo::command(&["build", "--release", "--locked", "--quiet", "--manifest-path"]);
    build.arg(fuzz.join("Cargo.toml"));
    // Naming the target keeps the flags away from build scripts, which have no counters to link with.
    build.args(["--target", &host]);
    for target in targets {
        build.args(["--bin", target]);
    }
    // The flags are others than elsewhere, so what is built has a folder of its own.
    cargo::run(build.env("RUSTFLAGS", RUSTFLAGS.join(" ")).env("CARGO_TARGET_DIR", fuzz.join("target")))?;
    Ok(fuzz.join("target").join(host).join("release"))
}

/// The toolchain's own target.
fn host() -> Result<String, Failure> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new(format!("rustc -vV names no host: {text}")))
}

fn command(programs: &Path, target: &str, run: &Run) -> Result<Command, Failure> {
    let fuzz = tools::workspace().join("fuzz");
    // New inputs go where nobody commits them; the committed ones are read.
    let (found, broken) = (fuzz.join("target/corpus").join(target), fuzz.join("artifacts").join(target));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&broken)?;
    let mut command = Command::new(programs.join(target));
    command.current_dir(&fuzz).stdin(Stdio::null()).arg(found).arg(fuzz.join("corpus").join(target));
    command.arg(format!("-artifact_prefix={}/", broken.display()));
    // The limits turn an allocation sized by a number from the input into a finding.
    command.arg(format!("-max_total_time={}", run.seconds)).args(["-rss_limit_mb=512", "-malloc_limit_mb=256"]);
    command.args(["-timeout=10", "-print_final_stats=1"]);
    if run.smoke {
        command.arg("-verbosity=0");
    }
    command.args(&run.rest);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Run, Failure> {
        Run::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read() {
        let all = Run { target: None, seconds: SECONDS_DEFAULT, smoke: false, rest: Vec::new() };
        assert_eq!(parse("").unwrap(), all);
        assert_eq!(parse("--smoke 2").unwrap(), Run { smoke: true, seconds: 2, ..all });
        let one = parse("zst 60 -- -runs=5 -seed=1").unwrap();
        assert_eq!((one.target.as_deref(), one.seconds, one.rest.len()), (Some("zst"), 60, 2));
        assert!(parse("zst gz").is_err());
        assert!(parse("--smok").is_err());
    }
}
