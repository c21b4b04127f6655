//! The integers of block maps: base 128, least significant digits first, bit 7 says that more follow
//! (repository-format.md §8; pgBackRest `src/common/type/convert.c`).

/// No integer of 64 bits has more bytes.
pub const VARINT_BYTES_MAX: usize = 10;

/// Bytes that are no integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The bytes end inside of it.
    #[error("the bytes end inside a number")]
    Truncated,
    /// It does not fit 64 bits.
    #[error("a number is larger than 64 bits")]
    TooLarge,
    /// It ends with a zero digit, which a writer leaves out; the same number has one spelling only.
    #[error("a number is longer than needed")]
    Overlong,
}

/// Appends `value`.
pub fn write(value: u64, output: &mut Vec<u8>) {
    let mut rest = value;
    while rest >= 0x80 {
        output.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    output.push((rest & 0x7f) as u8);
}

/// Reads a number from the start of `input`; tells it and how many bytes it has.
///
/// # Errors
/// [`VarintError`]
pub fn read(input: &[u8]) -> Result<(u64, usize), VarintError> {
    let mut value = 0_u64;
    for (index, byte) in input.iter().take(VARINT_BYTES_MAX).enumerate() {
        let digit = u64::from(byte & 0x7f);
        let shift = 7 * index;
        // The tenth digit has room for one bit.
        if index + 1 == VARINT_BYTES_MAX && digit > 1 {
            return Err(VarintError::TooLarge);
        }
        value |= digit << shift;
        if byte & 0x80 == 0 {
            return if digit == 0 && index > 0 { Err(VarintError::Overlong) } else { Ok((value, index + 1)) };
        }
    }
    Err(if input.len() < VARINT_BYTES_MAX { VarintError::Truncated } else { VarintError::TooLarge })
}

/// Maps a signed number to an unsigned one that is small when the number is near zero: 0, -1, 1, -2 become 0, 1, 2, 3.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[must_use]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: u64) -> Vec<u8> {
        let mut output = Vec::new();
        write(value, &mut output);
        output
    }

    /// repository-format.md B.5.
    #[test]
    fn known_numbers() {
        for (value, expected) in [
            (0, "00"),
            (1, "01"),
            (127, "7f"),
            (128, "8001"),
            (300, "ac02"),
            (16_384, "808001"),
            (2_097_151, "ffff7f"),
            (1_029_203, "d3e83e"),
            (1 << 32, "8080808010"),
            (u64::MAX, "ffffffffffffffffff01"),
        ] {
            assert_eq!(hex::encode(written(value)), expected);
            let bytes = hex::decode(expected).unwrap();
            assert_eq!(read(&bytes), Ok((value, bytes.len())));
        }
        for (value, expected) in [(0, 0), (-1, 1), (1, 2), (-2, 3), (2, 4), (-64, 127), (64, 128), (i64::MIN, u64::MAX)]
        {
            assert_eq!(zigzag(value), expected);
            assert_eq!(unzigzag(expected), value);
        }
    }

    #[test]
    fn hi09_overlong_and_too_large_numbers_are_refused() {
        for (bytes, expected) in [
            ("", VarintError::Truncated),
            ("80", VarintError::Truncated),
            ("8000", VarintError::Overlong),
            ("808000", VarintError::Overlong),
            ("ffffffffffffffffff02", VarintError::TooLarge),
            ("ffffffffffffffffff7f", VarintError::TooLarge),
            ("ffffffffffffffffffff01", VarintError::TooLarge),
            ("8080808080808080808080808000", VarintError::TooLarge),
        ] {
            assert_eq!(read(&hex::decode(bytes).unwrap()), Err(expected), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn any_number_round_trips(value: u64, signed: i64, behind: Vec<u8>) {
            let mut bytes = written(value);
            let size = bytes.len();
            bytes.extend(behind);
            prop_assert_eq!(read(&bytes), Ok((value, size)));
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
            for length in 0..size {
                prop_assert_eq!(read(&bytes[..length]), Err(VarintError::Truncated));
            }
        }

        #[test]
        fn what_reads_is_written_the_same(bytes: Vec<u8>) {
            if let Ok((value, size)) = read(&bytes) {
                prop_assert_eq!(&written(value), &bytes[..size]);
            }
        }
    }
}
