//! Eight upper-case hexadecimal digits: the form in which PostgreSQL writes a number into the name of a WAL file.

/// Digits of one field.
pub(super) const HEX_FIELD_LEN: usize = 8;

/// Reads a field that is exactly [`HEX_FIELD_LEN`] digits of `0-9A-F`.
///
/// Lower case is refused: PostgreSQL never writes it, and a name that differs in case only would be a second name for
/// the same segment.
#[must_use]
pub(super) fn parse_hex_field(field: &[u8]) -> Option<u32> {
    if field.len() != HEX_FIELD_LEN {
        return None;
    }
    field.iter().try_fold(0_u32, |number, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return None,
        };
        Some(number << 4 | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_whole_range() {
        assert_eq!(parse_hex_field(b"00000000"), Some(0));
        assert_eq!(parse_hex_field(b"0000000A"), Some(10));
        assert_eq!(parse_hex_field(b"FFFFFFFF"), Some(u32::MAX));
    }

    #[test]
    fn refuses_everything_else() {
        for field in [
            &b""[..],
            b"0",
            b"0000000",
            b"000000000",
            b"0000000a",
            b"0000000G",
            b"+0000001",
            b" 0000001",
            b"0000000:",
            b"0x000001",
        ] {
            assert_eq!(parse_hex_field(field), None, "{}", String::from_utf8_lossy(field));
        }
    }
}
