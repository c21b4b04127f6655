//! What a repository stores: pure values with their parsers and writers. No I/O, no clock.

pub mod block_map;
pub mod compress_type;
pub mod varint;
