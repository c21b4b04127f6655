//! What a repository stores: pure values with their parsers and writers. No I/O, no clock.
//!
//! - [`label`], [`archive_id`], [`stanza`], [`manifest_name`], [`checksum`]: names; [`path`]: where everything is
//! - [`archive_info`], [`backup_info`] (with [`backup_entry`]) and [`db_history`]: the two info files
//! - [`manifest`]: the complete list of what one backup holds
//! - [`ini`], [`json`] and [`info`]: the text dialect, and what all info files have in common

pub mod annotation;
pub mod archive_id;
pub mod archive_info;
pub mod backup_entry;
pub mod backup_info;
pub mod block_map;
pub mod checksum;
pub mod cipher_pass;
pub mod compress_type;
pub mod db_history;
pub mod error;
pub mod info;
pub mod ini;
pub mod json;
pub mod label;
pub mod manifest;
pub mod manifest_name;
pub mod path;
#[cfg(test)]
mod samples;
pub mod stanza;
pub mod stored_lsn;
pub mod text;
pub mod varint;

pub use annotation::Annotations;
pub use archive_id::{ArchiveId, HistoryId};
pub use archive_info::ArchiveInfo;
pub use backup_entry::BackupEntry;
pub use backup_info::BackupInfo;
pub use checksum::Checksum;
pub use cipher_pass::CipherPass;
pub use compress_type::CompressType;
pub use db_history::{DbGeneration, DbHistory};
pub use error::FormatError;
pub use label::{BackupLabel, BackupType, LabelTime};
pub use manifest::{Manifest, ManifestBuilder, ManifestReader};
pub use manifest_name::ManifestName;
pub use path::WalObjectName;
pub use stanza::Stanza;
pub use stored_lsn::StoredLsn;
pub use text::RawText;
