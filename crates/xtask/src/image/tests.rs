//! The archive as a container engine reads it, and its layer as a kernel runs it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use pgbr_testkit::pgbr;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::elf::Machine;
use super::*;

const MACHINE: Machine = Machine { name: "amd64", variant: None };
const MATERIALS: &str = "{\"bomFormat\":\"CycloneDX\"}";
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";

fn archive_of(program: &[u8]) -> Vec<u8> {
    oci::archive(&rootfs::entries(program.to_vec(), PEM.to_vec(), Some(MATERIALS)), MACHINE, "pgbr:1.2.3")
        .unwrap()
        .bytes
}

/// Names in their order, and contents of the files.
fn unpacked(archive: &[u8]) -> (Vec<String>, BTreeMap<String, Vec<u8>>) {
    let mut names = Vec::new();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let name = entry.path().unwrap().display().to_string();
        names.push(name.clone());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    (names, files)
}

/// The object that a descriptor is about, whose digest and size are checked.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value, media_type: &str) -> &'a [u8] {
    assert_eq!(descriptor["mediaType"], media_type);
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = &files[&format!("blobs/sha256/{digest}")];
    assert_eq!(hex::encode(Sha256::digest(bytes)), digest);
    assert_eq!(descriptor["size"], json!(bytes.len()));
    bytes
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// The layer's tar, after all that is said about it was checked.
fn layer(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    assert_eq!(parsed(&files["oci-layout"]), json!({ "imageLayoutVersion": "1.0.0" }));
    let index = parsed(&files["index.json"]);
    let descriptor = &index["manifests"][0];
    assert_eq!(descriptor["platform"], json!({ "architecture": "amd64", "os": "linux" }));
    assert_eq!(descriptor["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
    let manifest = parsed(blob(files, descriptor, "application/vnd.oci.image.manifest.v1+json"));
    let config = parsed(blob(files, &manifest["config"], "application/vnd.oci.image.config.v1+json"));
    assert_eq!(config["config"]["Entrypoint"], json!(["/manager"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!((&config["architecture"], &config["os"]), (&json!("amd64"), &json!("linux")));
    let packed = blob(files, &manifest["layers"][0], "application/vnd.oci.image.layer.v1.tar+gzip");
    let mut layer = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut layer).unwrap();
    let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    assert_eq!(config["rootfs"], json!({ "type": "layers", "diff_ids": [diff_id] }));
    let loaded = parsed(&files["manifest.json"]);
    assert_eq!(loaded[0]["RepoTags"], json!(["pgbr:1.2.3"]));
    assert!(files.contains_key(loaded[0]["Config"].as_str().unwrap()));
    assert!(files.contains_key(loaded[0]["Layers"][0].as_str().unwrap()));
    layer
}

fn run_in(root: &Path, program: &str, arguments: &[&str]) -> Output {
    // The socket is looked for where none is.
    let mut command = Command::new(root.join(program));
    command.args(arguments).env("PLUGIN_SOCKET_DIR", root).output().unwrap()
}

#[test]
fn sec22_two_runs_give_the_same_bytes_and_entries_are_sorted() {
    let archive = archive_of(b"a program");
    assert_eq!(archive, archive_of(b"a program"));
    assert_ne!(archive, archive_of(b"another program"));
    let (names, files) = unpacked(&archive);
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    let (names, files) = unpacked(&layer(&files));
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    assert_eq!(files["pgbr"], b"a program");
    assert_eq!(files["etc/ssl/certs/ca-certificates.crt"], PEM);
    assert_eq!(files["usr/share/pgbr/sbom.cdx.json"], MATERIALS.as_bytes());
    let accounts = String::from_utf8(files["etc/passwd"].clone()).unwrap();
    assert!(accounts.contains("postgres:x:26:26:") && accounts.contains(":65532:65532:"));
}

#[test]
fn the_program_of_the_layer_runs_by_all_its_names() {
    let (_, files) = unpacked(&archive_of(&fs::read(pgbr::binary()).unwrap()));
    let root = tempfile::tempdir().unwrap();
    tar::Archive::new(layer(&files).as_slice()).unpack(root.path()).unwrap();
    assert_eq!(fs::read_link(root.path().join("usr/local/bin/pgbr")).unwrap(), Path::new("/pgbr"));
    let version = run_in(root.path(), "pgbr", &["version"]);
    assert!(version.status.success(), "{version:?}");
    // Nobody serves here: that is 1 and a line, not a panic.
    let health = run_in(root.path(), "manager", &["healthcheck", "unix"]);
    assert_eq!(health.status.code(), Some(1), "{health:?}");
    assert!(String::from_utf8_lossy(&health.stderr).contains("Unreachable"), "{health:?}");
    // Under its name `manager` the word is a role, not pgBackRest's command.
    let role = run_in(root.path(), "manager", &["restore", "--stanza=x"]);
    assert_eq!(role.status.code(), Some(1), "{role:?}");
    assert!(String::from_utf8_lossy(&role.stderr).contains("unknown flag: --stanza"), "{role:?}");
}

#[test]
fn a_folder_for_a_containerfile_has_the_same_entries() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("rootfs");
    rootfs::write(&rootfs::entries(b"x".to_vec(), PEM.to_vec(), None), &root).unwrap();
    assert_eq!(fs::read(root.join("manager")).unwrap(), b"x");
    assert_eq!(fs::read(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap(), PEM);
    assert!(rootfs::write(&[], &root).unwrap_err().reason.contains("exists"));
}

#[test]
fn arguments_are_read_and_mistakes_named() {
    let words = |words: &[&str]| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let options = words(&["--target", "x-unknown-linux-musl", "--output", "o.tar", "--debug"]).unwrap();
    assert_eq!(options.target.as_deref(), Some("x-unknown-linux-musl"));
    assert!(options.is_debug && options.output == Some("o.tar".into()));
    assert!(words(&["--target"]).unwrap_err().reason.contains("needs a value"));
    assert!(words(&["--release"]).unwrap_err().reason.contains("no argument"));
    assert!(words(&["--output", "a", "--rootfs", "b"]).unwrap_err().reason.contains("choose one"));
}

#[test]
fn sec22_a_program_that_names_this_machine_is_refused() {
    let places = [(PathBuf::from("/home/somebody/pgbr"), "pgbr"), (PathBuf::from("/home/somebody/.cargo"), "cargo")];
    build::names_no_place(b"\0/pgbr/crates/cli/src/main.rs\0/rustc/abc/library", &places).unwrap();
    let error = build::names_no_place(b"\0/home/somebody/.cargo/registry/src/x.rs\0", &places).unwrap_err();
    assert!(error.reason.contains("/home/somebody/.cargo"), "{}", error.reason);
    // A debug build of a test has them, so looking for them is no vain exercise.
    let this = fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(build::names_no_place(&this, &build::places()).is_err());
}

#[test]
fn sec22_every_place_of_this_machine_is_given_another_name_to_both_compilers() {
    let places = [(PathBuf::from("/w"), "pgbr"), (PathBuf::from("/c"), "cargo")];
    let (rust, c) = build::renamed(&places);
    assert_eq!(rust, ["--remap-path-prefix=/w=/pgbr", "--remap-path-prefix=/c=/cargo"]);
    assert_eq!(c, "-ffile-prefix-map=/w=/pgbr -ffile-prefix-map=/c=/cargo");
}
