//! `cargo xtask bench manifest`: time and memory of a manifest with many rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use pgbr_testkit::user;

use super::figures::median;
use super::{machine, number, programs};
use crate::Failure;

const USAGE: &str = "cargo xtask bench manifest [--rows N] [--rounds N]";

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let (mut rows, mut rounds) = (1_000_000, 3);
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        match name.as_str() {
            "--rows" => rows = number(name, rest.next())?.max(1),
            "--rounds" => rounds = number(name, rest.next())?.max(1),
            other => return Err(Failure::new(format!("unknown argument {other:?}\n\n{USAGE}"))),
        }
    }
    let bench = programs::pgbr_bench()?;
    let folder = user::scratch()?;
    let file = folder.path().join("backup.manifest");
    // Two processes: memory that was freed after making the rows would be used again for reading them.
    call(&bench, &["manifest-generate", &rows.to_string()], &file)?;
    let mut figures = BTreeMap::<String, Vec<f64>>::new();
    for _ in 0..rounds {
        let printed = call(&bench, &["manifest-measure"], &file)?;
        for (name, value) in printed.lines().filter_map(|line| line.split_once('=')) {
            figures.entry(name.to_owned()).or_default().push(value.parse().unwrap_or(0.0));
        }
    }
    print(&figures, rounds);
    Ok(())
}

fn call(bench: &Path, arguments: &[&str], file: &Path) -> Result<String, Failure> {
    let output = Command::new(bench).args(arguments).arg(file).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(format!("pgbr-bench {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))))
}

fn print(figures: &BTreeMap<String, Vec<f64>>, rounds: usize) {
    let of = |name: &str| median(figures.get(name).into_iter().flatten().copied());
    let (rows, text_bytes) = (of("rows"), of("text_bytes"));
    let (parse_s, write_s) = (of("parse_us") / 1e6, of("write_us") / 1e6);
    println!("\nMachine: {}; median of {rounds} rounds.\n", machine::describe());
    println!("| manifest | |\n| --- | --- |");
    println!("| rows | {rows:.0} |");
    println!("| text | {:.0} MB, {:.0} bytes a row |", text_bytes / 1e6, text_bytes / rows);
    println!("| parse | {parse_s:.2} s, {:.0} MB/s |", text_bytes / 1e6 / parse_s);
    println!("| write | {write_s:.2} s, {:.0} MB/s |", text_bytes / 1e6 / write_s);
    println!("| parse + write | {:.2} s |", parse_s + write_s);
    println!("| memory held after parsing | {:.0} bytes a row |", of("held_bytes") / rows);
    println!("| peak memory while parsing | {:.0} bytes a row |", of("peak_bytes") / rows);
}
