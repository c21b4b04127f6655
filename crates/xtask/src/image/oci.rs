//! An image as one file: OCI image layout 1.0 in a tar, which `docker load` reads too by its `manifest.json`.

use std::io::Write;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::VERSION;
use super::elf::Machine;
use super::rootfs::{Content, Entry, FOLDER_MODE};
use crate::Failure;

/// All times in the image: it has none, so that it is the same whenever it is made.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// The user where a pod names none, as in the original's image.
const USER: &str = "65532:65532";

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// A finished archive.
pub(super) struct Archive {
    pub(super) bytes: Vec<u8>,
    pub(super) manifest_digest: String,
}

/// An object that is named after its content.
struct Blob {
    digest: String,
    media_type: &'static str,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), media_type, bytes }
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len() })
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }
}

/// The image of these entries, with one layer. `tag` is `NAME:VERSION`.
pub(super) fn archive(entries: &[Entry], machine: Machine, tag: &str) -> Result<Archive, Failure> {
    let layer_tar = layer(entries)?;
    let diff_id = format!("sha256:{}", digest(&layer_tar));
    let layer = Blob::new(LAYER_TYPE, gzipped(&layer_tar)?);
    drop(layer_tar);
    let config = Blob::new(CONFIG_TYPE, config(machine, &diff_id).to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": config.descriptor(), "layers": [layer.descriptor()],
    });
    let manifest = Blob::new(MANIFEST_TYPE, manifest.to_string().into_bytes());
    let index = index(&manifest, machine, tag);
    // What Docker read before it knew the layout.
    let loaded = json!([{ "Config": config.path(), "RepoTags": [tag], "Layers": [layer.path()] }]);
    let manifest_digest = format!("sha256:{}", manifest.digest);
    let mut blobs = vec![layer, config, manifest];
    blobs.sort_by(|one, other| one.digest.cmp(&other.digest));
    let mut tar = tar::Builder::new(Vec::new());
    folder(&mut tar, "blobs/")?;
    folder(&mut tar, "blobs/sha256/")?;
    for blob in &blobs {
        file(&mut tar, &blob.path(), 0o644, &blob.bytes)?;
    }
    file(&mut tar, "index.json", 0o644, index.to_string().as_bytes())?;
    file(&mut tar, "manifest.json", 0o644, loaded.to_string().as_bytes())?;
    file(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(Archive { bytes: tar.into_inner()?, manifest_digest })
}

fn config(machine: Machine, diff_id: &str) -> Value {
    let mut config = json!({
        "architecture": machine.name, "os": "linux", "created": CREATED,
        "config": {
            "User": USER, "WorkingDir": "/", "Env": ["PATH=/usr/local/bin"], "Entrypoint": ["/manager"],
            "Labels": {
                "org.opencontainers.image.title": "pgbr",
                "org.opencontainers.image.version": VERSION,
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": CREATED, "created_by": "cargo xtask image" }],
    });
    if let (Some(variant), Value::Object(fields)) = (machine.variant, &mut config) {
        fields.insert("variant".to_owned(), json!(variant));
    }
    config
}

fn index(manifest: &Blob, machine: Machine, tag: &str) -> Value {
    let mut descriptor = manifest.descriptor();
    let mut platform = json!({ "architecture": machine.name, "os": "linux" });
    if let Some(variant) = machine.variant {
        platform["variant"] = json!(variant);
    }
    descriptor["platform"] = platform;
    let version = tag.rsplit(':').next().unwrap_or(tag);
    // The first is the layout's own; containerd imports under the second.
    descriptor["annotations"] = json!({
        "org.opencontainers.image.ref.name": version,
        "io.containerd.image.name": format!("docker.io/library/{tag}"),
    });
    json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor] })
}

fn layer(entries: &[Entry]) -> Result<Vec<u8>, Failure> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        match &entry.content {
            Content::Folder => folder(&mut tar, &format!("{}/", entry.path))?,
            Content::File { mode, bytes } => file(&mut tar, entry.path, *mode, bytes)?,
            Content::Link(target) => {
                let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, entry.path, target)?;
            }
        }
    }
    Ok(tar.into_inner()?)
}

type Tar = tar::Builder<Vec<u8>>;

fn folder(tar: &mut Tar, path: &str) -> Result<(), Failure> {
    let mut header = header(tar::EntryType::Directory, FOLDER_MODE, 0);
    Ok(tar.append_data(&mut header, path, std::io::empty())?)
}

fn file(tar: &mut Tar, path: &str, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let size = u64::try_from(bytes.len()).map_err(|_| Failure::new(format!("{path} is too large")))?;
    let mut header = header(tar::EntryType::Regular, mode, size);
    Ok(tar.append_data(&mut header, path, bytes)?)
}

/// Of root, and without a time.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn gzipped(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    // Neither a name nor a time in its header.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::new(6));
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
