//! Which versions this program is: its own, and that of the pgBackRest whose behaviour it has.

/// The version of pgBackRest whose format and commands are implemented; what other programs are told.
pub const IMPLEMENTED: &str = "2.60.0";

/// The same as a number, as `version --output=num` prints it.
pub const IMPLEMENTED_NUMBER: u32 = 2_060_000;

/// This program's own version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");
