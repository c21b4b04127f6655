//! `info`: what the repositories hold, and what is wrong with them (repository-behaviour.md §7.2, §7.3).
//!
//! - [`info`] gathers a typed [`InfoReport`]; a repository that cannot be read is a status in it, not an error
//! - [`render_text`] and [`render_json`] print it exactly as the original does: other programs read both

mod archive_range;
mod details;
mod gather;
mod groups;
mod json;
mod load;
mod report;
mod text;

pub use details::{BackupDetails, LinkDetail, TablespaceDetail};
pub use gather::{Activities, Activity, InfoOptions, InfoSource, Selection, info};
pub use json::render_json;
pub use report::{
    ArchiveRange, BackupReport, Cipher, GenerationReport, InfoReport, RepositoryReport, RepositoryStatus,
    RunningBackup, StanzaContent, StanzaReport, Status, WalRange,
};
pub use text::render_text;
