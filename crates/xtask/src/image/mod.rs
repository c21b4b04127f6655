//! `cargo xtask image`: the plugin's container image as an OCI archive, without a container engine.
//!
//! The image has no system in it: the static program, its names, the accounts of the two users that it runs as, the
//! certificate authorities of the machine that made it, and the list of the packages in the program. The same program and
//! authorities give the same bytes, and the program is the same wherever it is built.

mod build;
mod elf;
mod oci;
mod rootfs;

use std::fs;
use std::path::{Path, PathBuf};

use pgbr_testkit::tools;

use crate::{Failure, sbom};

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
    // Of a program that was built elsewhere it is not known what is in it.
    let (binary, materials) = match &options.binary {
        Some(binary) => (binary.clone(), None),
        None => (build::program(&target, options.is_debug)?, Some(sbom::of_program(&target)?)),
    };
    let program = read(&binary)?;
    if options.binary.is_none() {
        build::names_no_place(&program, &build::places())?;
    }
    let machine =
        elf::static_program(&program).map_err(|error| Failure::new(format!("{}: {error}", binary.display())))?;
    let authorities = authorities(options.authorities.as_deref())?;
    let entries = rootfs::entries(program, authorities, materials.as_deref());
    if let Some(folder) = &options.rootfs {
        rootfs::write(&entries, folder)?;
        println!("{}", folder.display());
        return Ok(());
    }
    let output = options
        .output
        .unwrap_or_else(|| tools::workspace().join("target").join(format!("pgbr-{VERSION}-{}.oci.tar", machine.name)));
    let archive = oci::archive(&entries, machine, &format!("pgbr:{VERSION}"))?;
    write(&output, &archive.bytes)?;
    if let Some(materials) = &materials {
        let beside = beside(&output);
        write(&beside, materials.as_bytes())?;
        println!("{}", beside.display());
    }
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

/// Where the bill of materials goes: `x.cdx.json` beside `x.oci.tar`.
fn beside(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".tar").unwrap_or(&name);
    output.with_file_name(format!("{}.cdx.json", stem.strip_suffix(".oci").unwrap_or(stem)))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
