//! `cargo xtask fuzz`: runs the fuzz targets on the stable toolchain.

use std::path::PathBuf;
use std::process::Command;

use pgbr_testkit::tools;

use crate::{Failure, cargo};

/// The release of cargo-fuzz that is known to work with `-s none` on stable.
const CARGO_FUZZ: &str = "0.13.2";

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut seconds = 30;
    let mut wanted = None;
    for argument in arguments {
        match argument.parse::<u64>() {
            Ok(number) => seconds = number,
            Err(_) => wanted = Some(argument.clone()),
        }
    }
    let targets = match wanted {
        Some(target) => vec![target],
        None => targets()?,
    };
    let program = cargo_fuzz()?;
    for target in targets {
        println!("== fuzz {target} for {seconds} s");
        run_target(&program, &target, seconds)?;
    }
    Ok(())
}

/// The names of all targets: one file each.
pub(crate) fn targets() -> Result<Vec<String>, Failure> {
    let folder = tools::workspace().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "rs") {
                    names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
                }
            }
        }
        Err(error) => return Err(Failure::new(format!("no fuzz targets in {}: {error}", folder.display()))),
    }
    names.sort();
    Ok(names)
}

fn run_target(program: &PathBuf, target: &str, seconds: u64) -> Result<(), Failure> {
    let mut command = Command::new(program);
    // The sanitizer finds what unsafe code does wrong, and there is none: coverage alone is faster. The limits turn an
    // allocation sized by a number from the input into a finding.
    command.current_dir(tools::workspace()).args(["fuzz", "run", "-s", "none", target, "--"]);
    command.arg(format!("-max_total_time={seconds}")).args(["-rss_limit_mb=1024", "-malloc_limit_mb=256"]);
    // Coverage instrumentation is an unstable flag; this lets the stable compiler take it, for this command only.
    cargo::run(command.env("RUSTC_BOOTSTRAP", "1"))
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
