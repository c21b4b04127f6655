//! What a repository stores: pure values with their parsers and writers. No I/O, no clock.
