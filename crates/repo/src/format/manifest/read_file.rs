//! Reads a line of `[target:file]`.

use super::file_row::{
    BLOCK_CHECKSUM_SIZE_MAX, BLOCK_CHECKSUM_SIZE_MIN, BLOCK_SIZE_UNIT, BlockIncr, BundlePlace, FileRow, PageChecksums,
    PageRange, ReferenceIndex, ScannedFile,
};
use super::owner::{Owner, OwnerNames};
use super::reference::References;
use crate::format::checksum::Checksum;
use crate::format::error::ValueProblem;
use crate::format::json::{JsonError, JsonKind, JsonReader, UnknownAttributes};
use crate::format::manifest_name::ManifestName;
use crate::format::path::BundleId;

/// Stands for "the row does not say" while a file is read: no file has all sixteen bits.
pub(super) const MODE_DEFAULT: u16 = u16::MAX;

/// The attributes of a row as they are found.
#[derive(Default)]
struct Attributes {
    block_size: Option<u64>,
    block_checksum_size: Option<u64>,
    map_size: Option<u64>,
    bundle_id: Option<u64>,
    bundle_offset: Option<u64>,
    checksum: Option<Checksum>,
    page_checksum: Option<bool>,
    page_errors: Option<Box<[PageRange]>>,
    group: Option<Owner>,
    mode: Option<u16>,
    checksum_repo: Option<Checksum>,
    reference: Option<ReferenceIndex>,
    size_repo: Option<u64>,
    size: Option<u64>,
    size_original: Option<u64>,
    timestamp: Option<i64>,
    user: Option<Owner>,
    unknown: Option<Box<UnknownAttributes>>,
}

/// Reads the value of a row. User, group and mode that the row does not state are the place holders.
pub(super) fn read_file_row(
    name: ManifestName,
    value: &[u8],
    owners: &mut OwnerNames,
    references: &mut References,
) -> Result<FileRow, ValueProblem> {
    let mut found = Attributes::default();
    let mut reader = JsonReader::new(value);
    let mut object = reader.object()?;
    while let Some(key) = object.next_key(&mut reader)? {
        let reader = &mut reader;
        match key {
            b"bi" => found.block_size = Some(reader.u64()?),
            b"bic" => found.block_checksum_size = Some(reader.u64()?),
            b"bim" => found.map_size = Some(reader.u64()?),
            b"bni" => found.bundle_id = Some(reader.u64()?),
            b"bno" => found.bundle_offset = Some(reader.u64()?),
            b"checksum" => found.checksum = Some(read_checksum(reader, "checksum")?),
            b"checksum-page" => found.page_checksum = Some(reader.bool()?),
            b"checksum-page-error" => found.page_errors = Some(read_page_errors(reader)?),
            b"group" => found.group = Some(read_owner(reader, "group", owners)?),
            b"mode" => found.mode = Some(read_mode(reader)?),
            b"rck" => found.checksum_repo = Some(read_checksum(reader, "rck")?),
            b"reference" => found.reference = Some(references.read(reader)?),
            b"repo-size" => found.size_repo = Some(reader.u64()?),
            b"size" => found.size = Some(reader.u64()?),
            b"szo" => found.size_original = Some(reader.u64()?),
            b"timestamp" => found.timestamp = Some(reader.i64()?),
            b"user" => found.user = Some(read_owner(reader, "user", owners)?),
            _ => found.unknown.get_or_insert_default().push(key, reader.raw()?),
        }
    }
    reader.end()?;
    found.into_row(name)
}

impl Attributes {
    fn into_row(self, name: ManifestName) -> Result<FileRow, ValueProblem> {
        let size_bytes = self.size.ok_or(ValueProblem::Missing("size"))?;
        let size_repo_bytes = self.size_repo.unwrap_or(size_bytes);
        let checksum = match self.checksum {
            Some(checksum) if size_bytes == 0 && checksum != Checksum::EMPTY => {
                return Err(impossible("checksum", "is not that of an empty file, though the size is 0"));
            }
            None if size_bytes == 0 => Some(Checksum::EMPTY),
            checksum => checksum,
        };
        let mut row = FileRow::scanned(ScannedFile {
            name,
            size_bytes,
            timestamp_s: self.timestamp.ok_or(ValueProblem::Missing("timestamp"))?,
            user: self.user.unwrap_or(Owner::DEFAULT),
            group: self.group.unwrap_or(Owner::DEFAULT),
            mode: self.mode.unwrap_or(MODE_DEFAULT),
        });
        row.size_original_bytes = self.size_original.unwrap_or(size_bytes);
        row.size_repo_bytes = size_repo_bytes;
        row.checksum = checksum;
        row.checksum_repo = self.checksum_repo;
        row.bundle = self.bundle(size_repo_bytes)?;
        row.block_incr = self.block_incr(size_repo_bytes)?;
        row.reference = self.reference;
        row.page_checksums = match (self.page_checksum, self.page_errors) {
            (None, None) => PageChecksums::NotChecked,
            (Some(true), None) => PageChecksums::Valid,
            (Some(false), errors) => PageChecksums::Errors(errors.unwrap_or_default()),
            (_, Some(_)) => return Err(impossible("checksum-page-error", "is there without 'checksum-page' false")),
        };
        row.unknown = self.unknown;
        Ok(row)
    }

    fn bundle(&self, size_repo_bytes: u64) -> Result<Option<BundlePlace>, ValueProblem> {
        let Some(id) = self.bundle_id else {
            return match self.bundle_offset {
                Some(_) => Err(impossible("bno", "is there without 'bni'")),
                None => Ok(None),
            };
        };
        let id = BundleId::new(id).ok_or(impossible("bni", "is zero"))?;
        let offset_bytes = self.bundle_offset.unwrap_or_default();
        if offset_bytes.checked_add(size_repo_bytes).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(impossible("bno", "and 'repo-size' reach beyond any file"));
        }
        Ok(Some(BundlePlace { id, offset_bytes }))
    }

    fn block_incr(&self, size_repo_bytes: u64) -> Result<Option<BlockIncr>, ValueProblem> {
        let Some(units) = self.block_size else {
            return match (self.block_checksum_size, self.map_size) {
                (None, None) => Ok(None),
                _ => Err(impossible("bi", "is missing beside 'bic' or 'bim'")),
            };
        };
        let block_size_bytes = u32::try_from(units).ok().filter(|units| *units > 0);
        let block_size_bytes = block_size_bytes.and_then(|units| units.checked_mul(BLOCK_SIZE_UNIT));
        let checksum_size = self.block_checksum_size.unwrap_or(BLOCK_CHECKSUM_SIZE_MIN.into());
        let checksum_size_bytes = u8::try_from(checksum_size).ok();
        let checksum_size_bytes =
            checksum_size_bytes.filter(|size| (BLOCK_CHECKSUM_SIZE_MIN..=BLOCK_CHECKSUM_SIZE_MAX).contains(size));
        let map_size_bytes = self.map_size.unwrap_or_default();
        if map_size_bytes > size_repo_bytes {
            return Err(impossible("bim", "is larger than the stored file"));
        }
        Ok(Some(BlockIncr {
            block_size_bytes: block_size_bytes.ok_or(impossible("bi", "is not a block size of at most 4 GiB"))?,
            checksum_size_bytes: checksum_size_bytes.ok_or(impossible("bic", "is not between 6 and 16"))?,
            map_size_bytes,
        }))
    }
}

fn impossible(attribute: &'static str, reason: &'static str) -> ValueProblem {
    ValueProblem::Attribute { attribute, reason }
}

fn read_checksum(reader: &mut JsonReader<'_>, attribute: &'static str) -> Result<Checksum, ValueProblem> {
    Checksum::parse(&reader.string()?).ok_or(impossible(attribute, "is not 40 lower-case hexadecimal digits"))
}

/// A name, or `false` for none. Anything else, `true` too, is no owner.
pub(super) fn read_owner(
    reader: &mut JsonReader<'_>,
    attribute: &'static str,
    owners: &mut OwnerNames,
) -> Result<Owner, ValueProblem> {
    if reader.kind()? == JsonKind::Bool {
        if reader.bool()? {
            return Err(impossible(attribute, "is true: an owner is a name or false"));
        }
        return Ok(Owner::UNNAMED);
    }
    let name = reader.string()?;
    if name.is_empty() {
        return Err(impossible(attribute, "is empty"));
    }
    Ok(owners.intern(&name))
}

/// Octal digits in a string, `"0600"`.
pub(super) fn read_mode(reader: &mut JsonReader<'_>) -> Result<u16, ValueProblem> {
    let text = reader.string()?;
    let octal = (1..=5).contains(&text.len()) && text.iter().all(|digit| (b'0'..=b'7').contains(digit));
    let mode = std::str::from_utf8(&text).ok().filter(|_| octal).and_then(|text| u16::from_str_radix(text, 8).ok());
    mode.filter(|mode| *mode <= 0o7777).ok_or(impossible("mode", "is not an octal mode of at most 7777"))
}

/// `[1,[3,5],9]`: pages and ranges of pages in ascending order.
fn read_page_errors(reader: &mut JsonReader<'_>) -> Result<Box<[PageRange]>, ValueProblem> {
    let mut ranges: Vec<PageRange> = Vec::new();
    let mut array = reader.array()?;
    while array.next_element(reader)? {
        let range = read_page_range(reader)?;
        if range.last < range.first || ranges.last().is_some_and(|previous| previous.last >= range.first) {
            return Err(impossible("checksum-page-error", "is not in ascending order"));
        }
        ranges.push(range);
    }
    Ok(ranges.into())
}

fn read_page_range(reader: &mut JsonReader<'_>) -> Result<PageRange, ValueProblem> {
    if reader.kind()? == JsonKind::Number {
        let page = reader.u64()?;
        return Ok(PageRange { first: page, last: page });
    }
    let mut range = reader.array()?;
    let mut next = |reader: &mut JsonReader<'_>| -> Result<u64, ValueProblem> {
        if range.next_element(reader)? {
            return reader.u64().map_err(JsonError::into);
        }
        Err(impossible("checksum-page-error", "has a range without two ends"))
    };
    let found = PageRange { first: next(reader)?, last: next(reader)? };
    if range.next_element(reader)? {
        return Err(impossible("checksum-page-error", "has a range of more than two ends"));
    }
    Ok(found)
}
