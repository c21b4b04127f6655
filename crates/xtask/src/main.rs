//! Developer commands: `cargo xtask COMMAND`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "these commands talk to a person")]

mod bench;
mod cargo;
mod compatibility;
mod demo;
mod faults;
mod fuzz;
mod image;
mod interop;
mod manifests;
mod sbom;
mod scratch;
mod test;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  demo                   back up and restore a real cluster through an HTTPS S3 server, and show what happened
  test                   all that CI runs: format, lints, documentation, every test
  faults [S1|S2|S3]      fault rows without a test, by section; with a severity only those, and fail if there are any
  fuzz [TARGET] [SECONDS] [-- ARGUMENTS]
                         run one fuzz target, or all, for this long each (default 30); arguments are libFuzzer's
  fuzz --smoke SECONDS   the same for all, with little output
  interop                our commands and those of three releases of pgBackRest in turns in one repository: all pairs of
                         compression, cipher, layout, storage, server and release
  compatibility          write the tables of COMPATIBILITY.md
  manifests [--check]    assemble the plugin's manifest, or say whether it is up to date
  image [--target TRIPLE] [--output FILE]
                         the plugin's container image as an OCI archive, from a static program, without a container
                         engine; further: --rootfs FOLDER (for manifests/Containerfile), --binary FILE, --debug,
                         --ca-certificates FILE
  sbom [--target TRIPLE] [--output FILE]
                         the packages that are linked into the program, as CycloneDX 1.5; part of the image too
  bench [ARGUMENTS]      run the benchmarks of single functions
  bench wal-push         archive-push against stock pgBackRest on an HTTPS S3 server
  bench backup           full and incremental backups against stock pgBackRest on an HTTPS S3 server
  bench restore          restores of new and of unchanged directories against stock pgBackRest, the same way
  bench info             info over 100 backups and 100,000 WAL files against stock pgBackRest
  bench expire           half of 100 backups and 100,000 WAL segments removed, against stock, directory and S3
  bench manifest         a manifest of a million rows: time and memory
  tools                  install PostgreSQL, its clients and the releases of pgBackRest that tests compare with
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", [].as_slice()),
    };
    let done = match command {
        "demo" => demo::run(),
        "test" => test::run(),
        "faults" => faults::run(rest),
        "fuzz" => fuzz::run(rest),
        "interop" => interop::run(),
        "bench" => bench::run(rest),
        "tools" => tools::run(),
        "compatibility" => compatibility::run(rest),
        "image" => image::run(rest),
        "manifests" => manifests::run(rest),
        "sbom" => sbom::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(Failure::new(format!("no command is called {other:?}\n\n{USAGE}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask {command}: {}", failure.reason);
            ExitCode::FAILURE
        }
    }
}

/// Why a command failed, for the person who typed it.
#[derive(Debug)]
struct Failure {
    reason: String,
}

impl Failure {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl From<pgbr_testkit::Error> for Failure {
    fn from(error: pgbr_testkit::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
