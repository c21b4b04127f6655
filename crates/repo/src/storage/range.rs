//! Which bytes a [`ByteRange`] means in an object of known size; the same answer for every backend.

use std::ops::Range;

use super::{ByteRange, ErrorClass, Operation, StorageError, StoragePath};

impl ByteRange {
    /// The bytes of this range in an object of `size_bytes`. The end of the object is a valid, empty place to start.
    ///
    /// # Errors
    /// [`ErrorClass::Permanent`] when the range starts or ends beyond the object: trying again finds no more bytes.
    pub fn within(self, path: &StoragePath, size_bytes: u64) -> Result<Range<u64>, StorageError> {
        let fail = |what: String| StorageError::new(ErrorClass::Permanent, Operation::Read, path, what);
        if self.offset > size_bytes {
            return Err(fail(format!("byte {} wanted, but it has {size_bytes} bytes", self.offset)));
        }
        let end =
            match self.length {
                None => size_bytes,
                Some(length) => self.offset.checked_add(length).filter(|end| *end <= size_bytes).ok_or_else(|| {
                    fail(format!("{length} bytes from {} wanted, but it has {size_bytes}", self.offset))
                })?,
            };
        Ok(self.offset..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_lies_within_the_object() {
        let path = StoragePath::parse("a").unwrap();
        let range = |offset, length| ByteRange { offset, length };
        assert_eq!(ByteRange::ALL.within(&path, 0).unwrap(), 0..0);
        assert_eq!(range(3, None).within(&path, 10).unwrap(), 3..10);
        assert_eq!(range(3, Some(7)).within(&path, 10).unwrap(), 3..10);
        assert_eq!(range(10, None).within(&path, 10).unwrap(), 10..10);
        for beyond in [range(11, None), range(3, Some(8)), range(1, Some(u64::MAX))] {
            assert_eq!(beyond.within(&path, 10).unwrap_err().class(), ErrorClass::Permanent);
        }
    }
}
