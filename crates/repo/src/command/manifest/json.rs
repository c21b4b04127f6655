//! The manifest as JSON: keys in the original's order.

use std::io::{self, Write};

use super::{Named, Shown};
use crate::format::manifest::FileRow;
use crate::format::{Manifest, json};

pub(super) fn write(shown: &Shown<'_>, out: &mut dyn Write) -> io::Result<()> {
    let manifest = shown.manifest;
    let (header, label) = (manifest.header(), manifest.label());
    let references: Vec<String> = manifest.references().iter().map(|label| format!("\"{label}\"")).collect();
    write!(out, "{{\"label\":\"{label}\",\"reference\":[{}]", references.join(","))?;
    write!(out, ",\"type\":\"{}\"", manifest.backup_type())?;
    write!(
        out,
        ",\"time\":{{\"start\":{},\"copy\":{},\"stop\":{}}}",
        header.timestamp_start_s, header.timestamp_copy_start_s, header.timestamp_stop_s
    )?;
    write!(out, ",\"bundle\":{{\"bundle\":{},\"raw\":{}}}", header.bundle, header.bundle_raw)?;
    write!(out, ",\"block\":{{\"block\":{}}},\"fileList\":[", header.block_incr)?;
    match &shown.named {
        Some(named) => file(manifest, named.row, Some(named), out)?,
        None => {
            for (at, row) in shown.rows().enumerate() {
                if at > 0 {
                    out.write_all(b",")?;
                }
                file(manifest, row, None, out)?;
            }
        }
    }
    out.write_all(b"]}")
}

fn file(manifest: &Manifest, row: &FileRow, named: Option<&Named<'_>>, out: &mut dyn Write) -> io::Result<()> {
    let mut name = Vec::new();
    json::write_string(&mut name, row.name().as_bytes());
    out.write_all(b"{\"name\":")?;
    out.write_all(&name)?;
    if row.reference.is_some() {
        write!(out, ",\"reference\":\"{}\"", manifest.stored_in(row))?;
    }
    write!(out, ",\"size\":{},\"checksum\":\"{}\"", row.size_bytes, super::text::checksum(row))?;
    write!(out, ",\"repo\":{{\"size\":{}}}", row.size_repo_bytes)?;
    if let Some(place) = row.bundle {
        write!(out, ",\"bundle\":{{\"id\":{},\"offset\":{}}}", place.id.number(), place.offset_bytes)?;
    }
    if let Some(block) = row.block_incr {
        write!(out, ",\"block\":{{\"size\":{},\"map\":{{\"size\":{}", block.block_size_bytes, block.map_size_bytes)?;
        if let Some(named) = named {
            delta(named, out)?;
        }
        write!(out, "}},\"checksum\":{{\"size\":{}}}}}", block.checksum_size_bytes)?;
    }
    out.write_all(b"}")
}

fn delta(named: &Named<'_>, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b",\"delta\":[")?;
    for (at, totals) in named.blocks.iter().flatten().enumerate() {
        let separator = if at > 0 { "," } else { "" };
        write!(
            out,
            "{separator}{{\"reference\":{},\"read\":{{\"total\":{},\"size\":{}}},\"superBlock\":{{\"total\":{},\
             \"size\":{}}},\"block\":{{\"total\":{}}}}}",
            totals.reference,
            totals.reads,
            totals.read_bytes,
            totals.super_blocks,
            totals.super_block_bytes,
            totals.blocks
        )?;
    }
    out.write_all(b"]")
}
