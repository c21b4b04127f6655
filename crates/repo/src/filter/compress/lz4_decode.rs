//! Reads any LZ4 frame (LZ4 Frame Format 1.6): all block sizes, linked or not, with or without checksums and content
//! size. Dictionaries, skippable and legacy frames are refused: a repository has none.
//!
//! ```text
//! magic 04224d18 | FLG | BD | content size (8)? | header checksum (1)
//! block: size (4; bit 31: stored as it is) | bytes | checksum (4)?   ...   end mark 00000000 | content checksum (4)?
//! ```
//!
//! The frame reader of the library pulls from a blocking source; a chain is pushed, hence this one. It holds one block
//! and the 64 KiB before it: with the original's 64 KiB blocks 192 KiB, with the format's largest blocks 8 MiB.

use xxhash_rust::xxh32::{Xxh32, xxh32};

use super::super::error::{FilterError, StreamFault};
use super::super::piece::PIECE_BYTES_MAX;
use super::super::transform::{Next, Transform};
use crate::format::compress_type::CompressType;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Magic, FLG and BD: what says how long the header is.
const HEADER_START_BYTES: usize = 6;

const FLG_VERSION_MASK: u8 = 0b1100_0000;
const FLG_VERSION: u8 = 0b0100_0000;
const FLG_INDEPENDENT: u8 = 0b0010_0000;
const FLG_BLOCK_CHECKSUM: u8 = 0b0001_0000;
const FLG_CONTENT_SIZE: u8 = 0b0000_1000;
const FLG_CONTENT_CHECKSUM: u8 = 0b0000_0100;
const FLG_RESERVED: u8 = 0b0000_0010;
const FLG_DICTIONARY: u8 = 0b0000_0001;
const BD_RESERVED: u8 = 0b1000_1111;

/// Set in a block's size when its bytes are not compressed.
const BLOCK_STORED: u32 = 0x8000_0000;

/// How far back a block can refer.
const WINDOW_BYTES: usize = 64 * 1024;

/// What a frame's header says.
#[derive(Debug, Clone, Copy)]
struct Frame {
    is_independent: bool,
    has_block_checksums: bool,
    has_content_checksum: bool,
    content_size: Option<u64>,
    block_bytes_max: usize,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy)]
enum Expect {
    HeaderStart,
    HeaderRest,
    BlockSize(Frame),
    Block { frame: Frame, is_stored: bool, size_bytes: usize },
    ContentChecksum,
    Nothing,
}

impl Expect {
    /// How many bytes it takes; `seen` are those that are there.
    fn size_bytes(self, seen: &[u8]) -> usize {
        match self {
            Self::HeaderStart => HEADER_START_BYTES,
            Self::HeaderRest => {
                let has_content_size = seen.get(4).is_some_and(|flg| flg & FLG_CONTENT_SIZE != 0);
                HEADER_START_BYTES + if has_content_size { 8 } else { 0 } + 1
            }
            Self::BlockSize(_) | Self::ContentChecksum => 4,
            Self::Block { frame, size_bytes, .. } => size_bytes + if frame.has_block_checksums { 4 } else { 0 },
            Self::Nothing => 0,
        }
    }
}

/// The transform that decodes one frame.
pub(super) struct Lz4Decoder {
    expect: Expect,
    /// The bytes of what is expected, as far as they are there. Never larger than one block.
    gathered: Vec<u8>,
    /// The end of what was decoded before, for linked blocks.
    window: Vec<u8>,
    block: Vec<u8>,
    content_hash: Xxh32,
    content_bytes: u64,
}

impl Lz4Decoder {
    pub(super) fn new() -> Self {
        Self {
            expect: Expect::HeaderStart,
            gathered: Vec::new(),
            window: Vec::new(),
            block: Vec::new(),
            content_hash: Xxh32::new(0),
            content_bytes: 0,
        }
    }

    /// Deals with what was expected, which is gathered wholly, and says what comes then.
    fn advance(&mut self, next: &mut Next<'_>) -> Result<Expect, FilterError> {
        let expect = match self.expect {
            Expect::HeaderStart => check_header_start(&self.gathered).map_err(fault)?,
            Expect::HeaderRest => Expect::BlockSize(parse_header(&self.gathered).map_err(fault)?),
            Expect::BlockSize(frame) => self.begin_block(frame).map_err(fault)?,
            Expect::Block { frame, is_stored, size_bytes } => {
                self.decode_block(frame, is_stored, size_bytes).map_err(fault)?;
                self.block.chunks(PIECE_BYTES_MAX).try_for_each(next)?;
                self.slide_window(frame);
                Expect::BlockSize(frame)
            }
            Expect::ContentChecksum => {
                if little_endian(&self.gathered) != Some(self.content_hash.digest()) {
                    return Err(fault(corrupt("wrong content checksum")));
                }
                Expect::Nothing
            }
            Expect::Nothing => return Err(fault(StreamFault::TrailingBytes)),
        };
        // The header is checked as a whole, so its start stays.
        if !matches!(expect, Expect::HeaderRest) {
            self.gathered.clear();
        }
        Ok(expect)
    }

    fn begin_block(&self, frame: Frame) -> Result<Expect, StreamFault> {
        let size = little_endian(&self.gathered).unwrap_or_default();
        if size == 0 {
            if frame.content_size.is_some_and(|size| size != self.content_bytes) {
                return Err(corrupt("the content size is not the one in the header"));
            }
            return Ok(if frame.has_content_checksum { Expect::ContentChecksum } else { Expect::Nothing });
        }
        let size_bytes = usize::try_from(size & !BLOCK_STORED).unwrap_or(usize::MAX);
        if size_bytes > frame.block_bytes_max {
            return Err(corrupt("a block is larger than the header allows"));
        }
        Ok(Expect::Block { frame, is_stored: size & BLOCK_STORED != 0, size_bytes })
    }

    /// Decodes the gathered block into `self.block`.
    fn decode_block(&mut self, frame: Frame, is_stored: bool, size_bytes: usize) -> Result<(), StreamFault> {
        let (bytes, checksum) = self.gathered.split_at(size_bytes.min(self.gathered.len()));
        if frame.has_block_checksums && little_endian(checksum) != Some(xxh32(bytes, 0)) {
            return Err(corrupt("wrong block checksum"));
        }
        if is_stored {
            self.block.clear();
            self.block.extend_from_slice(bytes);
        } else {
            self.block.resize(frame.block_bytes_max, 0);
            let decoded = if self.window.is_empty() {
                lz4_flex::block::decompress_into(bytes, &mut self.block)
            } else {
                lz4_flex::block::decompress_into_with_dict(bytes, &mut self.block, &self.window)
            };
            let decoded_bytes = decoded.map_err(|error| corrupt(&error.to_string()))?;
            self.block.truncate(decoded_bytes);
        }
        self.content_bytes = self.content_bytes.saturating_add(self.block.len() as u64);
        if frame.has_content_checksum {
            self.content_hash.update(&self.block);
        }
        Ok(())
    }

    /// Keeps the end of the block for the next one.
    fn slide_window(&mut self, frame: Frame) {
        if frame.is_independent {
            return;
        }
        if self.block.len() >= WINDOW_BYTES {
            self.block.drain(..self.block.len() - WINDOW_BYTES);
            std::mem::swap(&mut self.block, &mut self.window);
        } else {
            let surplus = (self.window.len() + self.block.len()).saturating_sub(WINDOW_BYTES);
            self.window.drain(..surplus.min(self.window.len()));
            self.window.extend_from_slice(&self.block);
        }
    }
}

impl Transform for Lz4Decoder {
    fn write(&mut self, input: &[u8], next: &mut Next<'_>) -> Result<(), FilterError> {
        let mut rest = input;
        while !rest.is_empty() {
            if matches!(self.expect, Expect::Nothing) {
                return Err(fault(StreamFault::TrailingBytes));
            }
            let missing = self.expect.size_bytes(&self.gathered).saturating_sub(self.gathered.len());
            let (taken, left) = rest.split_at(missing.min(rest.len()));
            self.gathered.extend_from_slice(taken);
            rest = left;
            if taken.len() == missing {
                self.expect = self.advance(next)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Next<'_>) -> Result<(), FilterError> {
        match self.expect {
            Expect::Nothing => Ok(()),
            _ => Err(fault(StreamFault::Truncated)),
        }
    }
}

fn check_header_start(header: &[u8]) -> Result<Expect, StreamFault> {
    let [magic @ .., flg, bd] = header else {
        return Err(StreamFault::Truncated);
    };
    if magic != MAGIC {
        return Err(corrupt("not an LZ4 frame"));
    }
    if flg & FLG_VERSION_MASK != FLG_VERSION || flg & FLG_RESERVED != 0 || bd & BD_RESERVED != 0 {
        return Err(corrupt("unknown frame version or flag"));
    }
    if flg & FLG_DICTIONARY != 0 {
        return Err(corrupt("the frame needs a dictionary"));
    }
    Ok(Expect::HeaderRest)
}

fn parse_header(header: &[u8]) -> Result<Frame, StreamFault> {
    let [_, _, _, _, flg, bd, content_size @ .., checksum] = header else {
        return Err(StreamFault::Truncated);
    };
    let descriptor = header.get(MAGIC.len()..header.len() - 1).unwrap_or_default();
    // The header checksum is the second byte of the descriptor's hash.
    if xxh32(descriptor, 0).to_le_bytes()[1] != *checksum {
        return Err(corrupt("wrong header checksum"));
    }
    // 4 to 7 stand for 64 KiB, 256 KiB, 1 MiB and 4 MiB.
    let block_bytes_max = match bd >> 4 {
        4 => 64 * 1024,
        5 => 256 * 1024,
        6 => 1024 * 1024,
        7 => 4 * 1024 * 1024,
        _ => return Err(corrupt("unknown block size")),
    };
    Ok(Frame {
        is_independent: flg & FLG_INDEPENDENT != 0,
        has_block_checksums: flg & FLG_BLOCK_CHECKSUM != 0,
        has_content_checksum: flg & FLG_CONTENT_CHECKSUM != 0,
        content_size: content_size.try_into().ok().map(u64::from_le_bytes),
        block_bytes_max,
    })
}

fn little_endian(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_le_bytes)
}

fn corrupt(what: &str) -> StreamFault {
    StreamFault::Corrupt(what.to_owned())
}

fn fault(fault: StreamFault) -> FilterError {
    FilterError::Decompress { kind: CompressType::Lz4, fault }
}
