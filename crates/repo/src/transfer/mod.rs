//! Joins asynchronous bytes and synchronous filters; the only place that does, within a memory budget.
