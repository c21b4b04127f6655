//! Tests over real parts: `PostgreSQL`, the original pgBackRest, an HTTPS S3 server and the `pgbr` binary.
//!
//! Nothing lives here but this sentence: each file of `tests/tests` is one subject, and the parts come from
//! `pgbr_testkit`.
