//! An opened repository: typed reads and writes of the files in it.
