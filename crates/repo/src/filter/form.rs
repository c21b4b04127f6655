//! Whether compression and encryption write their usual headers.

/// The form of a stored stream (repository-format.md §5.5). Nothing in the bytes tells the two apart, so a reader must
/// know the form from the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// The formats' usual headers and checksums: WAL, info files, manifests, files that are not in a bundle.
    Standard,
    /// Without what a manifest makes superfluous: super blocks, block maps and the files of a raw bundle. gz becomes
    /// zlib, lz4 loses its content checksum, encryption loses its magic; bz2 and zst stay as they are.
    Raw,
}
