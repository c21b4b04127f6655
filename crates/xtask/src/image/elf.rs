//! What a program needs to run: nothing, if it may go into an image without a system.

/// A processor architecture in the words of OCI images (Go's `GOARCH`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) name: &'static str,
    /// Its variant, where there are several.
    pub(super) variant: Option<&'static str>,
}

/// By `e_machine` of the ELF header.
const MACHINES: [(u16, Machine); 2] =
    [(62, Machine { name: "amd64", variant: None }), (183, Machine { name: "arm64", variant: Some("v8") })];

/// The type of the program header that names a dynamic loader (`PT_INTERP`).
const LOADER: u32 = 3;

/// The machine of a static program of 64 bits.
///
/// # Errors
/// Why the file is none.
pub(super) fn static_program(file: &[u8]) -> Result<Machine, &'static str> {
    const CUT: &str = "is cut short";
    if file.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("is no ELF program of 64 bits, little-endian");
    }
    let number = u16_at(file, 18).ok_or(CUT)?;
    let machine = MACHINES.iter().find(|(known, _)| *known == number).map(|(_, machine)| *machine);
    let machine = machine.ok_or("is for a machine that no image is made for")?;
    let start = usize::try_from(u64_at(file, 32).ok_or(CUT)?).map_err(|_| CUT)?;
    let (size, count) = (u16_at(file, 54).ok_or(CUT)?, u16_at(file, 56).ok_or(CUT)?);
    for at in 0..usize::from(count) {
        let header = at.checked_mul(usize::from(size)).and_then(|offset| offset.checked_add(start)).ok_or(CUT)?;
        if u32_at(file, header).ok_or(CUT)? == LOADER {
            return Err("needs a dynamic loader, which the image does not have: build it statically");
        }
    }
    Ok(machine)
}

fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    bytes_at(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    bytes_at(file, at).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], at: usize) -> Option<u64> {
    bytes_at(file, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(machine: u16, kinds: &[u32]) -> Vec<u8> {
        let mut file = vec![0_u8; 64 + kinds.len() * 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&u16::try_from(kinds.len()).unwrap().to_le_bytes());
        for (at, kind) in kinds.iter().enumerate() {
            file[64 + at * 56..68 + at * 56].copy_from_slice(&kind.to_le_bytes());
        }
        file
    }

    #[test]
    fn a_static_program_is_told_by_its_headers() {
        assert_eq!(static_program(&program(62, &[1, 2])).unwrap().name, "amd64");
        assert_eq!(static_program(&program(183, &[1])).unwrap().variant, Some("v8"));
        assert!(static_program(&program(62, &[1, 3])).unwrap_err().contains("dynamic loader"));
        assert!(static_program(&program(243, &[1])).unwrap_err().contains("machine"));
        assert!(static_program(b"#!/bin/sh").unwrap_err().contains("no ELF"));
        let whole = program(62, &[1, 2]);
        for length in 0..whole.len() - 52 {
            assert!(static_program(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn this_test_is_no_static_program() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(static_program(&this).unwrap_err().contains("dynamic loader"));
    }
}
