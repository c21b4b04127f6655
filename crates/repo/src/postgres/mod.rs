//! Facts about PostgreSQL: versions, LSNs, timelines, WAL segments, `pg_control`, pages and paths. Pure; no I/O.
