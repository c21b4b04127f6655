//! What a repository stores: pure values with their parsers and writers. No I/O, no clock.
//!
//! - [`label`], [`archive_id`], [`stanza`], [`manifest_name`], [`checksum`]: names; [`path`]: where everything is
//! - [`ini`], [`json`] and [`info`]: the text dialect, and what all info files have in common

pub mod archive_id;
pub mod checksum;
pub mod cipher_pass;
pub mod compress_type;
pub mod error;
pub mod info;
pub mod ini;
pub mod json;
pub mod label;
pub mod manifest_name;
pub mod path;
pub mod stanza;
pub mod text;

pub use archive_id::{ArchiveId, HistoryId};
pub use checksum::Checksum;
pub use cipher_pass::CipherPass;
pub use compress_type::CompressType;
pub use error::FormatError;
pub use label::{BackupLabel, BackupType, LabelTime};
pub use manifest_name::ManifestName;
pub use stanza::Stanza;
pub use text::RawText;
