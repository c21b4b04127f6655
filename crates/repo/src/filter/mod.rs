//! Bytes in, bytes or a result out: compression, encryption, hashes, block maps applied. Synchronous; no I/O.
