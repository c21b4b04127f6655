//! `cargo xtask interop`: the whole interoperation matrix, of which the tests run a slice.

use std::time::Instant;

use crate::{Failure, cargo};

pub(crate) fn run() -> Result<(), Failure> {
    let started = Instant::now();
    cargo::run(&mut cargo::command(&["build", "--locked", "--package", "pgbr"]))?;
    let arguments = ["test", "--locked", "--package", "pgbr-tests", "--test", "interop", "--", "--nocapture"];
    cargo::run(cargo::command(&arguments).env("PGBR_INTEROP", "all"))?;
    println!("the whole matrix took {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}
