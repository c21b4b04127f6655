//! The JSON dialect of info files: a pull reader and a writer, both on bytes.
//!
//! What differs from plain JSON, as `src/common/type/json.c` of pgBackRest has it:
//!
//! - strings are bytes: every byte but `"` and `\` may stand raw, control characters and invalid UTF-8 too; `\u00XX`
//!   is the single byte XX and no other `\u` exists;
//! - numbers are whole, `u64` or `i64`;
//! - the keys of an object are in ascending byte order, each once.
//!
//! Written JSON has no blanks and escapes only what must be. Leading zeros and `-0` are refused, since they could not
//! be written again as they were.

mod read;
mod report;
mod write;

pub use read::{ArrayReader, DEPTH_MAX, JsonError, JsonKind, JsonReader, ObjectReader, validate};
pub use report::{printable, write_array, write_object};
pub use write::{ObjectWriter, UnknownAttributes, write_bool, write_i64, write_string, write_u64};
