//! The running server over SQL.
