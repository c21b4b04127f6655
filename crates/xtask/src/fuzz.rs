//! `cargo xtask fuzz`: runs the fuzz targets on the stable toolchain.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgbr_testkit::tools;

use crate::{Failure, cargo};

/// The release of cargo-fuzz that is known to work with `-s none` on stable.
const CARGO_FUZZ: &str = "0.13.2";

/// How long a target runs when nobody says.
const SECONDS_DEFAULT: u64 = 30;

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let run = Run::parse(arguments)?;
    let program = cargo_fuzz()?;
    let known = targets()?;
    let targets = match &run.target {
        Some(target) if known.contains(target) => vec![target.clone()],
        Some(target) => {
            return Err(Failure::new(format!("no fuzz target is called {target:?}, there are {}", known.join(", "))));
        }
        None => known,
    };
    for target in targets {
        println!("== fuzz {target} for {} s", run.seconds);
        run_target(&program, &target, &run)?;
    }
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
    let entries = std::fs::read_dir(&folder)
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

fn run_target(program: &Path, target: &str, run: &Run) -> Result<(), Failure> {
    let fuzz = tools::workspace().join("fuzz");
    // New inputs go where nobody commits them; the committed ones are read.
    let found = fuzz.join("target/corpus").join(target);
    std::fs::create_dir_all(&found)?;
    let mut command = Command::new(program);
    // The sanitizer finds what unsafe code does wrong, and there is none: coverage alone is faster. The limits turn an
    // allocation sized by a number from the input into a finding.
    command.current_dir(&fuzz).args(["fuzz", "run", "-s", "none", target]);
    command.arg(&found).arg(fuzz.join("corpus").join(target)).arg("--");
    command.arg(format!("-max_total_time={}", run.seconds)).args(["-rss_limit_mb=512", "-malloc_limit_mb=256"]);
    command.args(["-timeout=10", "-print_final_stats=1"]);
    if run.smoke {
        command.arg("-verbosity=0");
    }
    command.args(&run.rest);
    // Coverage instrumentation is an unstable flag; this lets the stable compiler take it, for this command only. The
    // flags are others than elsewhere, so what is built has a folder of its own.
    cargo::run(command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", fuzz.join("target")))
}

fn cargo_fuzz() -> Result<PathBuf, Failure> {
    let root = tools::root()?.join("cargo-fuzz");
    let program = root.join("bin/cargo-fuzz");
    if !program.is_file() {
        let _lock = tools::lock::exclusive("cargo-fuzz")?;
        if !program.is_file() {
            let mut install = cargo::command(&["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"]);
            cargo::run(install.arg(&root))?;
        }
    }
    Ok(program)
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
