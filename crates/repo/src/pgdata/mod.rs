//! The cluster directory: scanning, reading and writing PGDATA and its tablespaces. Local files only.
