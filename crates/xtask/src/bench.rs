//! `cargo xtask bench`: the benchmarks, optimised.

use crate::{Failure, cargo};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut command = cargo::command(&["bench", "--locked", "--package", "pgbr-benches", "--"]);
    cargo::run(command.args(arguments))
}
