//! No other program is ever started, and the kernel holds the process to it: a filter of system calls refuses `execve` and
//! `execveat` in every thread, for good (SEC-02 of the security requirements).
//!
//! It is no sandbox beyond that. What a mistake in a parser could be turned into is a process that still cannot become a
//! shell, or any other program with the rights and the environment of this one.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads};

/// `EPERM`, the same number on every architecture of Linux.
const NOT_PERMITTED: u32 = 1;

/// Marks the system calls of x32, the other ABI of x86-64 processes (`__X32_SYSCALL_BIT` of `asm/unistd.h`).
const X32: i64 = 0x4000_0000;

/// The calls that turn a process into another program, from the kernel's tables of system calls. x32 has numbers of
/// its own, and old kernels take those of x86-64 with the mark too. A call of another architecture, such as one of i386
/// in an x86-64 process, ends the process.
const CALLS: [(&str, &[i64]); 2] =
    [("x86_64", &[59, 322, X32 | 520, X32 | 545, X32 | 59, X32 | 322]), ("aarch64", &[221, 281])];

/// Lets no thread of this process, now or later, become another program, and takes away that one could gain rights by it
/// (`PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
/// Why that is not possible here, in words: another architecture, or a kernel that takes no filters.
pub fn forbid() -> Result<(), String> {
    let calls = CALLS.iter().find(|(name, _)| *name == std::env::consts::ARCH).map(|(_, calls)| *calls);
    let calls = calls.ok_or_else(|| format!("nothing is known about {}", std::env::consts::ARCH))?;
    let program = program(calls).map_err(|error| error.to_string())?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

/// Refuses these calls, whatever their arguments, and allows all others.
fn program(calls: &[i64]) -> Result<BpfProgram, seccompiler::BackendError> {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let target = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(NOT_PERMITTED), target)?.try_into()
}
