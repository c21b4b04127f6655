//! What a repository stores: pure values with their parsers and writers. No I/O, no clock.
//!
//! - [`ini`], [`json`] and [`info`]: the text dialect, and what all info files have in common
//! - [`mod@text`]: text that is bytes

pub mod cipher_pass;
pub mod error;
pub mod info;
pub mod ini;
pub mod json;
pub mod text;

pub use cipher_pass::CipherPass;
pub use error::FormatError;
pub use text::RawText;
