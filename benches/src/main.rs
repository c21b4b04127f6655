//! `pgbr-bench`: what `cargo xtask bench` needs optimised and in a process of its own.
//!
//! ```text
//! pgbr-bench chain TYPE LEVEL PASSPHRASE FILE...    a line a file: CPU ns, wall ns, stored bytes
//! pgbr-bench load TYPE LEVEL PASSPHRASE FILE...     the way back, piece by piece; one line: CPU ns, plain bytes, stored bytes
//! pgbr-bench manifest-generate ROWS FILE            writes a manifest
//! pgbr-bench manifest-measure FILE                  reads and writes it; a line a figure: name=value
//! ```
//!
//! An empty passphrase is no encryption.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is the result")]

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pgbr_benches::chain::{LoadRun, StoreRun};
use pgbr_benches::manifest;
use pgbr_repo::filter::{Compression, Passphrase};
use pgbr_repo::format::{CompressType, Manifest, ManifestReader};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["chain", kind, level, passphrase, files @ ..] => measure_chain(kind, level, passphrase, files),
        ["load", kind, level, passphrase, files @ ..] => measure_load(kind, level, passphrase, files),
        ["manifest-generate", rows, file] => generate_manifest(rows, file),
        ["manifest-measure", file] => measure_manifest(file),
        _ => Err("expected chain, load, manifest-generate or manifest-measure with their arguments".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pgbr-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure_chain(kind: &str, level: &str, passphrase: &str, files: &[&str]) -> Result<(), Failure> {
    let compress = Compression::new(CompressType::parse(kind)?, level.parse()?)?;
    let cipher = if passphrase.is_empty() { None } else { Some(Passphrase::new(passphrase)?) };
    let run = StoreRun::new(compress, cipher);
    let mut plain = Vec::new();
    for file in files {
        plain.clear();
        File::open(file)?.read_to_end(&mut plain)?;
        let (cpu, wall) = (thread_cpu()?, Instant::now());
        let report = run.run(&plain)?;
        let (cpu, wall) = (thread_cpu()?.saturating_sub(cpu), wall.elapsed());
        println!("{} {} {}", cpu.as_nanos(), wall.as_nanos(), report.stored.size_bytes);
    }
    Ok(())
}

/// Bytes that are stored, and loaded again, at once.
const LOAD_PIECE_BYTES: u64 = 16 * 1024 * 1024;

fn measure_load(kind: &str, level: &str, passphrase: &str, files: &[&str]) -> Result<(), Failure> {
    let compress = Compression::new(CompressType::parse(kind)?, level.parse()?)?;
    let cipher = if passphrase.is_empty() { None } else { Some(Passphrase::new(passphrase)?) };
    let (store, load) = (StoreRun::new(compress, cipher.clone()), LoadRun::new(compress.kind(), cipher));
    let (mut total, mut plain_bytes, mut stored_bytes) = (Duration::ZERO, 0, 0);
    let mut plain = Vec::new();
    for file in files {
        let mut file = File::open(file)?;
        loop {
            plain.clear();
            if Read::by_ref(&mut file).take(LOAD_PIECE_BYTES).read_to_end(&mut plain)? == 0 {
                break;
            }
            let stored = store.stored(&plain)?;
            let cpu = thread_cpu()?;
            let report = load.run(&stored, plain.len() as u64)?;
            total += thread_cpu()?.saturating_sub(cpu);
            plain_bytes += report.plain.size_bytes;
            stored_bytes += stored.len();
        }
    }
    println!("{} {plain_bytes} {stored_bytes}", total.as_nanos());
    Ok(())
}

/// CPU time of this thread: the first number of schedstat (Linux `Documentation/scheduler/sched-stats.rst`).
fn thread_cpu() -> Result<Duration, Failure> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split_whitespace().next().ok_or("schedstat is empty")?;
    Ok(Duration::from_nanos(first.parse()?))
}

fn generate_manifest(rows: &str, file: &str) -> Result<(), Failure> {
    let manifest = manifest::generate(rows.parse()?)?;
    let mut out = BufWriter::new(File::create(file)?);
    manifest.write(&mut |bytes| out.write_all(bytes))?;
    Ok(out.flush()?)
}

/// The file is read in pieces, as from a repository, so that memory is that of the rows.
fn measure_manifest(path: &str) -> Result<(), Failure> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; 64 * 1024];
    let mut reader = ManifestReader::new();
    let before_bytes = memory("VmRSS")?;
    let mut parse = Duration::ZERO;
    let mut text_bytes = 0;
    loop {
        let count = file.read(&mut piece)?;
        let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        text_bytes += bytes.len();
        let started = Instant::now();
        reader.feed(bytes)?;
        parse += started.elapsed();
    }
    let started = Instant::now();
    let manifest: Manifest = reader.finish()?;
    parse += started.elapsed();
    let after_bytes = memory("VmRSS")?;
    let peak_bytes = memory("VmHWM")?;
    let started = Instant::now();
    let mut written_bytes = 0;
    manifest.write(&mut |bytes: &[u8]| -> Result<(), io::Error> {
        written_bytes += bytes.len();
        Ok(())
    })?;
    let write = started.elapsed();
    if written_bytes != text_bytes {
        return Err(format!("read {text_bytes} bytes and wrote {written_bytes}").into());
    }
    println!("rows={}", manifest.files().len());
    println!("text_bytes={text_bytes}");
    println!("parse_us={}", parse.as_micros());
    println!("write_us={}", write.as_micros());
    println!("held_bytes={}", after_bytes.saturating_sub(before_bytes));
    println!("peak_bytes={}", peak_bytes.saturating_sub(before_bytes));
    Ok(())
}

/// A figure of `/proc/self/status`, in bytes.
fn memory(name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no such line in status")?;
    Ok(number.parse::<u64>()? * 1024)
}
