//! Rebuilds a file.
