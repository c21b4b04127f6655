//! `cargo xtask sbom`: which packages are linked into the program, as CycloneDX 1.5 in JSON.
//!
//! Which ones, and which needs which, is what cargo's resolver says for this package and target, without what only builds,
//! tests or expands it; their checksums are those of `Cargo.lock`. The same lock file gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use pgbr_testkit::tools;
use serde_json::{Value, json};

use crate::{Failure, cargo};

/// The package whose program is shipped.
const PROGRAM: &str = "pgbr";

/// What stands between the fields of a line; no name, path or licence has it.
const SEPARATOR: char = '|';

/// A package by name and version.
type Id = (String, String);

/// A package that is linked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    licence: String,
    needs: BTreeSet<Id>,
}

type Packages = BTreeMap<Id, Package>;

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let (mut target, mut output): (Option<String>, Option<PathBuf>) = (None, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failure::new(format!("{word} needs a value")));
        match word.as_str() {
            "--target" => target = Some(value()?.clone()),
            "--output" => output = Some(value()?.into()),
            other => return Err(Failure::new(format!("{other:?} is no argument of sbom"))),
        }
    }
    let target = target.unwrap_or_else(|| format!("{}-unknown-linux-musl", std::env::consts::ARCH));
    let text = of_program(&target)?;
    match output {
        Some(path) => fs::write(&path, text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?,
        None => print!("{text}"),
    }
    Ok(())
}

/// The bill of materials of the program for a target.
///
/// # Errors
/// When cargo cannot tell, for example because `Cargo.lock` is not up to date.
pub(crate) fn of_program(target: &str) -> Result<String, Failure> {
    let lock = tools::workspace().join("Cargo.lock");
    let lock = fs::read_to_string(&lock).map_err(|error| Failure::new(format!("{}: {error}", lock.display())))?;
    document(&linked(target)?, &checksums(&lock), time_of(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?)
}

/// The time of the document, where somebody fixes one; else it has none.
fn time_of(epoch: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(text) = epoch else { return Ok(None) };
    let time = text.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let time = time.ok_or_else(|| Failure::new(format!("SOURCE_DATE_EPOCH is no time in seconds: {text:?}")))?;
    Ok(Some(time.to_string()))
}

/// Asks cargo for the packages that are linked into the program.
fn linked(target: &str) -> Result<Packages, Failure> {
    let format = format!("{SEPARATOR}{{p}}{SEPARATOR}{{l}}");
    let edges = "normal,no-proc-macro";
    let mut command = cargo::command(&["tree", "--package", PROGRAM, "--edges", edges, "--target", target]);
    command.args(["--locked", "--prefix", "depth", "--charset", "ascii", "--format", &format]);
    let told = command.output()?;
    if !told.status.success() {
        return Err(Failure::new(format!("cargo tree: {}", String::from_utf8_lossy(&told.stderr).trim())));
    }
    parse(&String::from_utf8_lossy(&told.stdout))
}

/// Reads lines such as `2|libc v0.2.191|MIT OR Apache-2.0 (*)`: how deep, which package, its licence. One that was there
/// before has the mark at the end and not its own needs again.
fn parse(text: &str) -> Result<Packages, Failure> {
    let mut packages = Packages::new();
    let mut above: Vec<Id> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let wrong = || Failure::new(format!("cargo tree says what is not understood: {line:?}"));
        let line = line.strip_suffix(" (*)").unwrap_or(line);
        let mut fields = line.split(SEPARATOR);
        let (Some(depth), Some(package), Some(licence), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(wrong());
        };
        let depth: usize = depth.parse().map_err(|_| wrong())?;
        let mut words = package.split(' ');
        let name = words.next().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
        let version = words.next().and_then(|version| version.strip_prefix('v')).ok_or_else(wrong)?;
        let id = (name.to_owned(), version.to_owned());
        if depth > above.len() {
            return Err(wrong());
        }
        above.truncate(depth);
        if let Some(parent) = above.last().and_then(|parent| packages.get_mut(parent)) {
            parent.needs.insert(id.clone());
        }
        let licence = licence.trim().to_owned();
        packages.entry(id.clone()).or_insert(Package { licence, needs: BTreeSet::new() });
        above.push(id);
    }
    Ok(packages)
}

/// The checksums of `Cargo.lock`; a package of the workspace has none.
fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let packages = lock.split("[[package]]\n").skip(1);
    let found = packages.filter_map(|package| {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    });
    found.collect()
}

fn purl((name, version): &Id) -> String {
    // The `+` of build metadata is written as its code there.
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// A licence of the manifest as an SPDX expression: older packages have a slash for a choice.
fn expression(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

fn component(id: &Id, package: &Package, kind: &str, checksum: Option<&String>) -> Value {
    let mut component = json!({
        "type": kind, "bom-ref": purl(id), "name": id.0, "version": id.1, "purl": purl(id),
        "licenses": [{ "expression": expression(&package.licence) }],
    });
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

fn document(packages: &Packages, checksums: &BTreeMap<Id, String>, time: Option<String>) -> Result<String, Failure> {
    let program = packages.iter().find(|((name, _), _)| name == PROGRAM);
    let (own, program) = program.ok_or_else(|| Failure::new("cargo tree does not name the program"))?;
    let components: Vec<Value> = packages
        .iter()
        .filter(|(id, _)| *id != own)
        .map(|(id, package)| component(id, package, "library", checksums.get(id)))
        .collect();
    let dependencies: Vec<Value> = packages
        .iter()
        .map(
            |(id, package)| json!({ "ref": purl(id), "dependsOn": package.needs.iter().map(purl).collect::<Vec<_>>() }),
        )
        .collect();
    let mut document = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "tools": { "components": [{ "type": "application", "name": "cargo xtask sbom", "version": own.1 }] },
            "component": component(own, program, "application", None),
        },
        "components": components,
        "dependencies": dependencies,
    });
    if let Some(time) = time {
        document["metadata"]["timestamp"] = json!(time);
    }
    let text = serde_json::to_string_pretty(&document).map_err(|error| Failure::new(error.to_string()))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        if cfg!(target_arch = "x86_64") { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" };

    fn listed(text: &str) -> BTreeSet<Id> {
        let document: Value = serde_json::from_str(text).unwrap();
        let field = |component: &Value, name: &str| component[name].as_str().unwrap().to_owned();
        let components = document["components"].as_array().unwrap();
        components.iter().map(|component| (field(component, "name"), field(component, "version"))).collect()
    }

    /// Names and versions of packages whose sources the debugging information of a program names: what has code in it.
    fn compiled_into(program: &[u8]) -> BTreeSet<Id> {
        const PLACE: &[u8] = b"/registry/src/";
        let mut found = BTreeSet::new();
        for at in memory_find(program, PLACE) {
            let rest = &program[at + PLACE.len()..(at + 400).min(program.len())];
            // `index.crates.io-HASH/NAME-VERSION`
            let Some(part) = rest.split(|byte| *byte == b'/').nth(1) else { continue };
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(byte);
            let part = &part[..part.iter().position(|byte| !is_name(byte)).unwrap_or(part.len())];
            let part = std::str::from_utf8(part).unwrap();
            let Some(split) = part.match_indices('-').find(|(at, _)| {
                let rest = part[at + 1..].trim_start_matches(|letter: char| letter.is_ascii_digit());
                rest.starts_with('.') && rest.len() < part.len() - at - 1
            }) else {
                continue;
            };
            found.insert((part[..split.0].to_owned(), part[split.0 + 1..].to_owned()));
        }
        found
    }

    fn memory_find(haystack: &[u8], needle: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut start = 0;
        while let Some(at) = haystack[start..].iter().position(|byte| *byte == needle[0]) {
            let at = start + at;
            if haystack[at..].starts_with(needle) {
                found.push(at);
            }
            start = at + 1;
        }
        found
    }

    /// Nothing is missing: every package that has left a line of code in the program is listed. Nothing is too much: what
    /// cargo builds for the program alone, without what builds or tests it, is all there is.
    #[test]
    fn sec22_the_bill_lists_what_is_linked_and_nothing_else() {
        let text = of_program(HOST).unwrap();
        assert_eq!(text, of_program(HOST).unwrap());
        let listed = listed(&text);
        let compiled = compiled_into(&fs::read(pgbr_testkit::pgbr::binary()).unwrap());
        assert!(compiled.len() > 100, "{}", compiled.len());
        let missing: Vec<_> = compiled.difference(&listed).collect();
        assert!(missing.is_empty(), "{missing:?} are in the program and not in the bill");
        // Those without a line of their own are traits, macros, tables, and generic code that is compiled elsewhere.
        let unseen = listed.difference(&compiled).count();
        assert!(unseen * 5 < listed.len(), "{unseen} of {} have left no code", listed.len());
        // What is linked for tests, or runs in the compiler, is none of it.
        for other in ["tempfile", "proptest", "s3s", "s3s-fs", "rcgen", "serde_derive", "prost-build", "cc", "syn"] {
            assert!(!listed.iter().any(|(name, _)| name == other), "{other}");
        }
        let said: Value = serde_json::from_str(&text).unwrap();
        for component in said["components"].as_array().unwrap() {
            let name = component["name"].as_str().unwrap();
            let has_checksum = component["hashes"][0]["content"].as_str().is_some_and(|text| text.len() == 64);
            assert_eq!(has_checksum, !name.starts_with("pgbr"), "{name}");
            assert!(!component["licenses"][0]["expression"].as_str().unwrap().is_empty(), "{name}");
        }
        assert!(!text.contains(tools::workspace().to_str().unwrap()) && said["metadata"]["timestamp"].is_null());
        // Each is needed by something that is listed, from the program on.
        let needs: BTreeMap<&str, &Value> = said["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["ref"].as_str().unwrap(), &it["dependsOn"]))
            .collect();
        let mut reached = BTreeSet::new();
        let mut next = vec![said["metadata"]["component"]["bom-ref"].as_str().unwrap()];
        while let Some(reference) = next.pop() {
            if reached.insert(reference) {
                next.extend(needs[reference].as_array().unwrap().iter().map(|it| it.as_str().unwrap()));
            }
        }
        assert_eq!(reached.len(), listed.len() + 1);
    }

    #[test]
    fn lines_of_cargo_are_understood_or_refused() {
        let text =
            "0|pgbr v0.1.0 (/a place)|Apache-2.0\n1|a v1.0.0+b|MIT/Apache-2.0\n2|b v2.0.0|MIT\n1|b v2.0.0|MIT (*)\n";
        let packages = parse(text).unwrap();
        let id = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(packages[&id("pgbr", "0.1.0")].needs, [id("a", "1.0.0+b"), id("b", "2.0.0")].into());
        assert_eq!(packages[&id("a", "1.0.0+b")].needs, [id("b", "2.0.0")].into());
        assert_eq!(expression(&packages[&id("a", "1.0.0+b")].licence), "MIT OR Apache-2.0");
        assert_eq!(purl(&id("a", "1.0.0+b")), "pkg:cargo/a@1.0.0%2Bb");
        for wrong in ["x|a v1|MIT", "0|a|MIT", "1|a v1|MIT", "0|a v1", "0|a v1|MIT|more"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time_of(Some("0")).unwrap().as_deref(), Some("1970-01-01T00:00:00Z"));
        assert!(time_of(Some("now")).is_err());
    }
}
