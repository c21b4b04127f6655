//! `cargo xtask image`: the plugin's container image as an OCI archive, without a container engine.
//!
//! The image has no system in it: the static program, its names, the accounts of the two users that it runs as, and the
//! certificate authorities of the machine that made it. The same program and authorities give the same bytes.

mod elf;
mod oci;
mod rootfs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgbr_testkit::tools;

use crate::{Failure, cargo};

/// The image's version, and the tag of the manifest's images.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where distributions keep the certificate authorities as one file.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What the arguments say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Options {
    target: Option<String>,
    output: Option<PathBuf>,
    rootfs: Option<PathBuf>,
    binary: Option<PathBuf>,
    authorities: Option<PathBuf>,
    is_debug: bool,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let options = parse(arguments)?;
    let target = options.target.clone().unwrap_or_else(|| format!("{}-unknown-linux-musl", std::env::consts::ARCH));
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => build(&target, options.is_debug)?,
    };
    let program = read(&binary)?;
    let machine =
        elf::static_program(&program).map_err(|error| Failure::new(format!("{}: {error}", binary.display())))?;
    let entries = rootfs::entries(program, authorities(options.authorities.as_deref())?);
    if let Some(folder) = &options.rootfs {
        rootfs::write(&entries, folder)?;
        println!("{}", folder.display());
        return Ok(());
    }
    let output = options
        .output
        .unwrap_or_else(|| tools::workspace().join("target").join(format!("pgbr-{VERSION}-{}.oci.tar", machine.name)));
    let archive = oci::archive(&entries, machine, &format!("pgbr:{VERSION}"))?;
    fs::write(&output, &archive.bytes).map_err(|error| Failure::new(format!("{}: {error}", output.display())))?;
    println!("{} ({} MiB)\nmanifest {}", output.display(), archive.bytes.len() >> 20, archive.manifest_digest);
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failure::new(format!("{word} needs a value")));
        match word.as_str() {
            "--target" => options.target = Some(value()?.clone()),
            "--output" => options.output = Some(value()?.into()),
            "--rootfs" => options.rootfs = Some(value()?.into()),
            "--binary" => options.binary = Some(value()?.into()),
            "--ca-certificates" => options.authorities = Some(value()?.into()),
            "--debug" => options.is_debug = true,
            other => return Err(Failure::new(format!("{other:?} is no argument of image"))),
        }
    }
    if options.output.is_some() && options.rootfs.is_some() {
        return Err(Failure::new("--output makes an archive and --rootfs a folder: choose one"));
    }
    Ok(options)
}

/// Builds the static program, and answers where it is.
fn build(target: &str, is_debug: bool) -> Result<PathBuf, Failure> {
    if tools::in_path("rustup").is_some() {
        // Quick when it is there.
        let added = Command::new("rustup").args(["target", "add", target]).status()?;
        if !added.success() {
            return Err(Failure::new(format!("rustup target add {target}: {added}")));
        }
    }
    let mut command = cargo::command(&["build", "--package", "pgbr", "--locked", "--target", target]);
    if !is_debug {
        command.arg("--release");
    }
    let variable = format!("CC_{}", target.replace('-', "_"));
    if target.ends_with("-gnu") {
        command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    } else if std::env::var_os(&variable).is_none()
        && target == format!("{}-unknown-linux-musl", std::env::consts::ARCH)
    {
        command.env(variable, tools::musl::compiler()?);
    }
    cargo::run(&mut command)?;
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools::workspace().join("target"), PathBuf::from);
    Ok(folder.join(target).join(if is_debug { "debug" } else { "release" }).join("pgbr"))
}

/// The certificate authorities that the image trusts where an Archive names none.
fn authorities(named: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let found = named.or_else(|| AUTHORITIES.iter().map(Path::new).find(|path| path.is_file()));
    let path = found.ok_or_else(|| {
        Failure::new(
            "no certificate authorities here: install ca-certificates, or name a PEM file with --ca-certificates",
        )
    })?;
    let authorities = read(path)?;
    if !authorities.windows(CERTIFICATE.len()).any(|window| window == CERTIFICATE) {
        return Err(Failure::new(format!("{}: has no certificate in PEM", path.display())));
    }
    Ok(authorities)
}

const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
