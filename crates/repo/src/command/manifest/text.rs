//! The manifest for people.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::delta::BlockTotals;
use super::{Named, Shown};
use crate::format::manifest::FileRow;
use crate::format::path::{self, BundleId, StoredFile};
use crate::format::{BackupLabel, Checksum};
use crate::progress::size_text;

pub(super) fn write(shown: &Shown<'_>, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let manifest = shown.manifest;
    let header = manifest.header();
    let references: Vec<&str> = manifest.references().iter().map(BackupLabel::as_str).collect();
    writeln!(out, "label: {}", manifest.label())?;
    writeln!(out, "reference: {}", references.join(", "))?;
    writeln!(out, "type: {}", manifest.backup_type())?;
    let duration_s = header.timestamp_stop_s.saturating_sub(header.timestamp_start_s);
    writeln!(
        out,
        "time: start: {}, stop: {}, duration: {}:{:02}:{:02}",
        time(header.timestamp_start_s, zone),
        time(header.timestamp_stop_s, zone),
        duration_s / 3600,
        duration_s % 3600 / 60,
        duration_s % 60
    )?;
    writeln!(out, "bundle: {}", header.bundle)?;
    writeln!(out, "block: {}\n", header.block_incr)?;
    writeln!(out, "file list:")?;
    if let Some(named) = &shown.named {
        return file(shown, named.row, Some(named), out);
    }
    for (at, row) in shown.rows().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        file(shown, row, None, out)?;
    }
    Ok(())
}

/// The checksum of the plain file; zeros where the file is not copied yet, as the original prints it.
pub(super) fn checksum(row: &FileRow) -> String {
    row.checksum.map_or_else(|| "0".repeat(40), |checksum: Checksum| checksum.to_string())
}

fn file(shown: &Shown<'_>, row: &FileRow, named: Option<&Named<'_>>, out: &mut dyn Write) -> io::Result<()> {
    let manifest = shown.manifest;
    out.write_all(b"  - ")?;
    out.write_all(row.name().as_bytes())?;
    writeln!(out)?;
    if row.reference.is_some() {
        writeln!(out, "      reference: {}", manifest.stored_in(row))?;
    }
    writeln!(out, "      size: {}, repo {}", size_text(row.size_bytes), size_text(row.size_repo_bytes))?;
    writeln!(out, "      checksum: {}", checksum(row))?;
    if let Some(place) = row.bundle {
        writeln!(out, "      bundle: {}", place.id.number())?;
    }
    let Some(block) = row.block_incr else { return Ok(()) };
    writeln!(
        out,
        "      block: size {}, map size {}, checksum size {}",
        size_text(block.block_size_bytes.into()),
        size_text(block.map_size_bytes),
        size_text(block.checksum_size_bytes.into())
    )?;
    match named.and_then(|named| named.blocks.as_ref()) {
        Some(blocks) => delta(shown, row, blocks, block.block_size_bytes.into(), out),
        None => Ok(()),
    }
}

fn delta(
    shown: &Shown<'_>,
    row: &FileRow,
    blocks: &[BlockTotals],
    block_size_bytes: u64,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "      block delta:")?;
    let mut sum = BlockTotals {
        reference: 0,
        bundle: 0,
        reads: 0,
        read_bytes: 0,
        super_blocks: 0,
        super_block_bytes: 0,
        blocks: 0,
    };
    for totals in blocks {
        let place = place(shown, row, totals);
        writeln!(out, "        reference: {place}, {}", counts(totals, block_size_bytes))?;
        sum.reads = sum.reads.saturating_add(totals.reads);
        sum.read_bytes = sum.read_bytes.saturating_add(totals.read_bytes);
        sum.super_blocks = sum.super_blocks.saturating_add(totals.super_blocks);
        sum.super_block_bytes = sum.super_block_bytes.saturating_add(totals.super_block_bytes);
        sum.blocks = sum.blocks.saturating_add(totals.blocks);
    }
    writeln!(out, "        total {}", counts(&sum, block_size_bytes))
}

fn counts(totals: &BlockTotals, block_size_bytes: u64) -> String {
    format!(
        "read: {}/{}, superBlock: {}/{}, block: {}/{}",
        totals.reads,
        size_text(totals.read_bytes),
        totals.super_blocks,
        size_text(totals.super_block_bytes),
        totals.blocks,
        size_text(totals.blocks.saturating_mul(block_size_bytes))
    )
}

/// Where the blocks are, from the directory of the backups on.
fn place(shown: &Shown<'_>, row: &FileRow, totals: &BlockTotals) -> String {
    let index = usize::try_from(totals.reference).unwrap_or(usize::MAX);
    let Some(label) = shown.manifest.references().get(index) else { return format!("reference {index}") };
    let object = match BundleId::new(totals.bundle) {
        Some(bundle) => Ok(path::bundle(shown.stanza, label, bundle)),
        None => path::file(shown.stanza, label, row.name(), StoredFile::BlockIncremental),
    };
    let Ok(object) = object else { return label.to_string() };
    let backups = path::backup_stanza(shown.stanza);
    object.as_str().strip_prefix(backups.as_str()).unwrap_or(object.as_str()).trim_start_matches('/').to_owned()
}

fn time(seconds: i64, zone: &TimeZone) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else { return seconds.to_string() };
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
