//! Builds the static program, the same bytes in whatever folder: no path of the machine gets into it.

use std::path::PathBuf;
use std::process::Command;

use pgbr_testkit::tools;

use crate::{Failure, cargo};

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`, where those of `RUSTFLAGS` cannot have spaces.
const BETWEEN_FLAGS: &str = "\x1f";

/// Builds the static program, and answers where it is.
pub(super) fn program(target: &str, is_debug: bool) -> Result<PathBuf, Failure> {
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
    let (mut flags, c_flags) = renamed(&places());
    let with_target = |name: &str| format!("{name}_{}", target.replace('-', "_"));
    let compiler = with_target("CC");
    if target.ends_with("-gnu") {
        flags.push("-Ctarget-feature=+crt-static".to_owned());
    } else if std::env::var_os(&compiler).is_none()
        && target == format!("{}-unknown-linux-musl", std::env::consts::ARCH)
    {
        command.env(compiler, tools::musl::compiler()?);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join(BETWEEN_FLAGS)).env_remove("RUSTFLAGS");
    // What is set for the target is all that counts: the more general ones go into it.
    let own = [with_target("CFLAGS"), "TARGET_CFLAGS".to_owned(), "CFLAGS".to_owned()];
    let own = own.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    command.env(with_target("CFLAGS"), format!("{own} {c_flags}").trim_start());
    cargo::run(&mut command)?;
    Ok(target_folder().join(target).join(if is_debug { "debug" } else { "release" }).join("pgbr"))
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools::workspace().join("target"), PathBuf::from)
}

/// The folders that sources are compiled from, with what they are called in the program. Of two prefixes of a path the
/// later counts.
pub(super) fn places() -> Vec<(PathBuf, &'static str)> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| home.map(|home| home.join(".cargo")));
    let mut places = vec![(tools::workspace(), "pgbr"), (target_folder(), "target")];
    places.extend(cargo.map(|cargo| (cargo, "cargo")));
    places
}

/// The flags that have the compilers of Rust and of C call these folders by their names.
pub(super) fn renamed(places: &[(PathBuf, &str)]) -> (Vec<String>, String) {
    let map = |option: &str| -> Vec<String> {
        places.iter().map(|(place, name)| format!("{option}={}=/{name}", place.display())).collect()
    };
    (map("--remap-path-prefix"), map("-ffile-prefix-map").join(" "))
}

/// Fails when one of these folders is named in the program: it would not be the same elsewhere, and tell of this machine.
pub(super) fn names_no_place(program: &[u8], places: &[(PathBuf, &str)]) -> Result<(), Failure> {
    for (place, _) in places {
        let name = place.as_os_str().as_encoded_bytes();
        if let Some(at) = program.windows(name.len()).position(|window| window == name) {
            let context = program.get(at..(at + 120).min(program.len())).unwrap_or_default();
            let text: String =
                String::from_utf8_lossy(context).chars().take_while(|letter| !letter.is_control()).collect();
            return Err(Failure::new(format!("the program names a folder of this machine: {text}")));
        }
    }
    Ok(())
}
