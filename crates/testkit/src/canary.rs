//! Secrets of tests that cannot be mistaken for anything else, and the search for them in all that programs print and
//! leave (SEC-01 of the security requirements): every test that gives a program one of these looks for it, by running it.

use std::fs;
use std::path::Path;

/// What every secret of a test begins with, and nothing else has.
const MARK: &str = "canary-";

/// The passphrase of repositories that tests encrypt.
pub const PASSPHRASE: &str = "canary-passphrase";

/// The key id of the S3 server.
pub const S3_KEY: &str = "canary-key-id";

/// The secret key of the S3 server.
pub const S3_SECRET: &str = "canary-secret-key";

/// Files that are looked into are not larger than this: logs, markers and lock files, not WAL.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How the mark looks where it was not written as it is: in base64 at each of the three places that a byte can have in a
/// group, and in hexadecimal.
const FORMS: [&str; 5] = [MARK, "Y2FuYXJ5L", "NhbmFyeS", "jYW5hcnkt", "63616e6172792d"];

/// Looks for a secret in what `source` has printed or written.
///
/// # Panics
/// When there is one: the test that ran it fails, whatever it tests.
pub fn look(source: &str, text: &str) {
    if let Some(line) = text.lines().find(|line| FORMS.iter().any(|form| line.contains(form))) {
        panic!("{source} tells a secret: {line}");
    }
}

/// As [`look`], for every file of a folder that a program writes logs, markers or locks into.
///
/// # Panics
/// When there is one.
pub fn look_below(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What vanishes under this, or is somebody else's, is not looked at.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() && metadata.len() <= FILE_BYTES_MAX {
                let content = fs::read(entry.path()).unwrap_or_default();
                look(&entry.path().display().to_string(), &String::from_utf8_lossy(&content));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::process;
    use crate::running::Running;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn fails(work: impl FnOnce()) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err()
    }

    #[test]
    fn sec01_a_program_that_prints_a_secret_fails_its_test() {
        // The script itself has it in two halves.
        let tell = "echo in vain; echo \"the pass is canary\"-passphrase";
        assert!(fails(|| drop(process::run(&mut shell(tell), process::DEFAULT_LIMIT))));
        assert!(fails(|| drop(process::run(&mut shell(&format!("{{ {tell}; }} >&2")), process::DEFAULT_LIMIT))));
        assert!(!fails(|| drop(process::run(&mut shell("echo canary; exit 3"), process::DEFAULT_LIMIT))));
        let waiting = || Running::start(&mut shell(&format!("{tell}; sleep 60"))).unwrap();
        assert!(fails(|| {
            let running = waiting();
            while running.printed().unwrap().is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }));
        let running = waiting();
        std::thread::sleep(Duration::from_millis(500));
        assert!(fails(|| running.kill()), "one that is killed");
        let running = waiting();
        std::thread::sleep(Duration::from_millis(500));
        assert!(fails(|| drop(running)), "one that is dropped");
    }

    #[test]
    fn sec01_a_secret_is_found_in_files_and_in_other_forms() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        fs::write(folder.path().join("log/x.log"), "nothing\nnothing\n").unwrap();
        look_below(folder.path());
        for form in [
            "Y2FuYXJ5LXBhc3NwaHJhc2U=",     // "canary-passphrase"
            "OmNhbmFyeS1wYXNzcGhyYXNl",     // ":canary-passphrase"
            "YTpjYW5hcnktcGFzc3BocmFzZQ==", // "a:canary-passphrase"
            "63616e6172792d70617373706872617365",
        ] {
            fs::write(folder.path().join("log/x.log"), format!("first\n{form}\n")).unwrap();
            assert!(fails(|| look_below(folder.path())), "{form}");
        }
    }
}
