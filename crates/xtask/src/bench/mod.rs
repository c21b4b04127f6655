//! `cargo xtask bench`: the benchmarks, optimised (benches/README.md says how to read them).

mod archive_calls;
mod backup;
mod batch;
mod case;
mod detached;
mod expire;
mod figures;
mod info;
mod machine;
mod manifest;
mod memory;
mod programs;
mod report;
mod restore;
mod side;
mod store;
mod trees;
mod verify;
mod wal_get;
mod wal_push;
mod wal_set;
mod watch;

use crate::{Failure, cargo};

/// The benchmarks of single functions.
const SINGLE: [&str; 5] = ["bench", "--locked", "--package", "pgbr-benches", "--benches"];

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    match arguments.split_first() {
        Some((first, rest)) if first == "wal-push" => wal_push::run(rest),
        Some((first, rest)) if first == "archive-calls" => archive_calls::run(rest),
        Some((first, rest)) if first == "wal-get" => wal_get::run(rest),
        Some((first, rest)) if first == "backup" => backup::run(rest),
        Some((first, rest)) if first == "restore" => restore::run(rest),
        Some((first, rest)) if first == "expire" => expire::run(rest),
        Some((first, rest)) if first == "info" => info::run(rest),
        Some((first, rest)) if first == "verify" => verify::run(rest),
        Some((first, rest)) if first == "manifest" => manifest::run(rest),
        Some((first, rest)) if first == store::SERVE => store::serve(rest),
        _ => run_single(arguments),
    }
}

fn run_single(arguments: &[String]) -> Result<(), Failure> {
    let mut command = cargo::command(&SINGLE);
    if let Some(folder) = wal_set::cached_folder()? {
        command.env("PGBR_BENCH_WAL", folder);
    }
    cargo::run(command.arg("--").args(arguments))
}

/// The number behind an option such as `--rounds`.
fn number(name: &str, value: Option<&String>) -> Result<usize, Failure> {
    let number = value.and_then(|value| value.parse().ok());
    number.ok_or_else(|| Failure::new(format!("{name} expects a number")))
}
