//! The Secrets of an Archive as files: the operator's side puts them into the sidecar's container, the sidecar reads them.
//!
//! So nobody needs a right to read Secrets through the API server: not the operator's side, and not the account of the
//! cluster's pods, whose token is in PostgreSQL's container too. The kubelet keeps the files up to date, a minute or two
//! behind the Secret, and goes on serving them while the API server is away (faults.md KG14).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::resource::SecretKey;
use crate::status::Failure;

/// The longest name of a Secret, and the longest key in one (Kubernetes: a DNS subdomain).
const NAME_BYTES_MAX: usize = 253;

/// The largest value: a whole Secret is not larger.
const VALUE_BYTES_MAX: u64 = 1024 * 1024;

/// Where the value of a key is, below the folder of Secrets; `None` for what is no name of a Secret or of a key, and would
/// have the whole pod refused.
pub fn file(reference: &SecretKey) -> Option<String> {
    let SecretKey { name, key } = reference;
    let is_short = |text: &str| (1..=NAME_BYTES_MAX).contains(&text.len());
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.iter().all(|byte| is_word(*byte) || *byte == b'-')
            && bytes.first().is_some_and(|byte| is_word(*byte))
            && bytes.last().is_some_and(|byte| is_word(*byte))
    };
    let is_name = is_short(name) && name.split('.').all(is_part);
    let is_key = is_short(key)
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        && key != "."
        && !key.starts_with("..");
    (is_name && is_key).then(|| format!("{name}/{key}"))
}

/// The value of a key. Blocking.
///
/// # Errors
/// [`Failure::Precondition`] for what is not there, [`Failure::Invalid`] for what cannot be a value,
/// [`Failure::Unavailable`] when the file cannot be read.
pub fn read(folder: &Path, reference: &SecretKey) -> Result<Vec<u8>, Failure> {
    let SecretKey { name, key } = reference;
    let what = || format!("key '{}' of Secret '{}'", key.escape_debug(), name.escape_debug());
    let Some(file) = file(reference) else {
        return Err(Failure::Invalid(format!("{} can be none: that is no name", what())));
    };
    let opened = File::open(folder.join(file)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::Precondition(format!(
            "{} is not in the pod: create it; if it is there, the pod is older than its mention in the Archive and has to be \
             replaced, which the operator does",
            what()
        )),
        _ => Failure::Unavailable(format!("unable to read {}: {error}", what())),
    })?;
    let mut value = Vec::new();
    let read = opened.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value);
    let read = read.map_err(|error| Failure::Unavailable(format!("unable to read {}: {error}", what())))?;
    if read as u64 > VALUE_BYTES_MAX {
        return Err(Failure::Invalid(format!("{} has more than {VALUE_BYTES_MAX} bytes", what())));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, key: &str) -> SecretKey {
        SecretKey { name: name.to_owned(), key: key.to_owned() }
    }

    #[test]
    fn sec18_only_names_that_kubernetes_takes_become_paths() {
        for (name, key) in [("minio", "ACCESS_KEY"), ("a-b.c1", "tls.crt"), ("0", "_"), ("s", ".hidden")] {
            assert_eq!(file(&reference(name, key)), Some(format!("{name}/{key}")));
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", "a..b", "/etc", "a/b", "../a", "A", "a_b", "-a", "a-", "a\0", "ä", &long] {
            assert_eq!(file(&reference(name, "key")), None, "{name}");
        }
        for key in ["", ".", "..", "..data", "a/b", "/a", "a b", "a\n", "ä", &long] {
            assert_eq!(file(&reference("name", key)), None, "{key}");
        }
    }

    #[test]
    fn what_is_missing_too_large_or_no_file_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        std::fs::create_dir_all(keys.join("folder")).unwrap();
        std::fs::write(keys.join("id"), b"value\n").unwrap();
        std::fs::write(keys.join("large"), vec![0; 1024 * 1024 + 1]).unwrap();
        let value = |name: &str, key: &str| read(folder.path(), &reference(name, key));
        // Byte for byte: a line break at the end belongs to a passphrase.
        assert_eq!(value("keys", "id").unwrap(), b"value\n");
        for (name, key) in [("keys", "other"), ("others", "id")] {
            let Err(Failure::Precondition(text)) = value(name, key) else { panic!("{name} {key}") };
            assert!(text.contains(&format!("key '{key}' of Secret '{name}'")), "{text}");
        }
        assert!(matches!(value("keys", "large"), Err(Failure::Invalid(_))));
        assert!(matches!(value("keys", "folder"), Err(Failure::Unavailable(_))));
        assert!(matches!(value("../keys", "id"), Err(Failure::Invalid(_))));
    }
}
