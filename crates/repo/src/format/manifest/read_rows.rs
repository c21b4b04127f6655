//! Reads the lines of a manifest that are not files.

use super::owner::{Owner, OwnerNames};
use super::read_file::{MODE_DEFAULT, read_mode, read_owner};
use super::rows::{Database, LinkRow, PathRow, Target, TargetKind};
use crate::format::error::ValueProblem;
use crate::format::json::{JsonReader, UnknownAttributes};
use crate::format::manifest_name::ManifestName;
use crate::format::text::RawText;

fn impossible(attribute: &'static str, reason: &'static str) -> ValueProblem {
    ValueProblem::Attribute { attribute, reason }
}

fn read_text(reader: &mut JsonReader<'_>) -> Result<RawText, ValueProblem> {
    Ok(RawText::from(reader.string()?.into_owned()))
}

pub(super) fn read_target(name: ManifestName, value: &[u8]) -> Result<Target, ValueProblem> {
    let (mut file, mut path, mut oid, mut tablespace_name, mut kind) = (None, None, None, None, None);
    let mut unknown = UnknownAttributes::default();
    let mut reader = JsonReader::new(value);
    let mut object = reader.object()?;
    while let Some(key) = object.next_key(&mut reader)? {
        match key {
            b"file" => file = Some(read_text(&mut reader)?),
            b"path" => path = Some(read_text(&mut reader)?),
            b"tablespace-id" => oid = Some(read_oid_text(&mut reader)?),
            b"tablespace-name" => tablespace_name = Some(read_text(&mut reader)?),
            b"type" => kind = Some(read_text(&mut reader)?),
            _ => unknown.push(key, reader.raw()?),
        }
    }
    reader.end()?;
    let path = path.ok_or(ValueProblem::Missing("path"))?;
    let kind = kind.ok_or(ValueProblem::Missing("type"))?;
    let kind = match (kind.as_bytes(), file, oid, tablespace_name) {
        (b"path", None, None, None) => TargetKind::PgData { path },
        (b"link", None, None, None) => TargetKind::DirectoryLink { path },
        (b"link", Some(file), None, None) => TargetKind::FileLink { path, file },
        (b"link", None, Some(oid), Some(tablespace_name)) => TargetKind::Tablespace { path, oid, tablespace_name },
        (b"link", None, Some(_), None) => return Err(ValueProblem::Missing("tablespace-name")),
        (b"path" | b"link", ..) => return Err(impossible("type", "does not go with the other attributes")),
        _ => return Err(impossible("type", "is neither path nor link")),
    };
    let mut target = Target::new(name, kind).map_err(|error| {
        ValueProblem::Refused(match error {
            super::rows::TargetError::Name => "the name of the target does not go with its kind",
            super::rows::TargetError::Path => "the path of the target is empty or has a NUL byte",
            super::rows::TargetError::File => "the file of the target is not a single file name",
        })
    })?;
    target.unknown = unknown;
    Ok(target)
}

/// An oid as decimal text without leading zeros, as the original stores it in targets.
fn read_oid_text(reader: &mut JsonReader<'_>) -> Result<u32, ValueProblem> {
    let text = reader.string()?;
    let oid = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<u32>().ok());
    oid.filter(|oid| oid.to_string().as_bytes() == &*text).ok_or(impossible("tablespace-id", "is not an oid"))
}

pub(super) fn read_database(name: &[u8], value: &[u8]) -> Result<Database, ValueProblem> {
    let (mut oid, mut last_system_oid) = (None, None);
    let mut unknown = UnknownAttributes::default();
    let mut reader = JsonReader::new(value);
    let mut object = reader.object()?;
    while let Some(key) = object.next_key(&mut reader)? {
        match key {
            b"db-id" => oid = Some(reader.u32()?),
            b"db-last-system-id" => last_system_oid = Some(reader.u32()?),
            _ => unknown.push(key, reader.raw()?),
        }
    }
    reader.end()?;
    let oid = oid.ok_or(ValueProblem::Missing("db-id"))?;
    let mut database =
        Database::new(RawText::from(name), oid, last_system_oid.ok_or(ValueProblem::Missing("db-last-system-id"))?);
    database.unknown = unknown;
    Ok(database)
}

pub(super) fn read_path(name: ManifestName, value: &[u8], owners: &mut OwnerNames) -> Result<PathRow, ValueProblem> {
    let mut path = PathRow::new(name, Owner::DEFAULT, Owner::DEFAULT, MODE_DEFAULT);
    let mut reader = JsonReader::new(value);
    let mut object = reader.object()?;
    while let Some(key) = object.next_key(&mut reader)? {
        match key {
            b"group" => path.group = read_owner(&mut reader, "group", owners)?,
            b"mode" => path.mode = read_mode(&mut reader)?,
            b"user" => path.user = read_owner(&mut reader, "user", owners)?,
            _ => path.unknown.push(key, reader.raw()?),
        }
    }
    reader.end()?;
    Ok(path)
}

pub(super) fn read_link(name: ManifestName, value: &[u8], owners: &mut OwnerNames) -> Result<LinkRow, ValueProblem> {
    let (mut destination, mut user, mut group) = (None, Owner::DEFAULT, Owner::DEFAULT);
    let mut unknown = UnknownAttributes::default();
    let mut reader = JsonReader::new(value);
    let mut object = reader.object()?;
    while let Some(key) = object.next_key(&mut reader)? {
        match key {
            b"destination" => destination = Some(read_text(&mut reader)?),
            b"group" => group = read_owner(&mut reader, "group", owners)?,
            b"user" => user = read_owner(&mut reader, "user", owners)?,
            _ => unknown.push(key, reader.raw()?),
        }
    }
    reader.end()?;
    let destination = destination.ok_or(ValueProblem::Missing("destination"))?;
    let link = LinkRow::new(name, destination, user, group);
    let mut link = link.ok_or(impossible("destination", "is empty or has a NUL byte"))?;
    link.unknown = unknown;
    Ok(link)
}
