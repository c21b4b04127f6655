//! What a remote side says is shown only without secrets, escaped and shortened (faults.md SEC-01, SEC-03, SEC-06).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};

/// Longest text of a remote side in a message, in characters.
const TEXT_LENGTH_MAX: usize = 300;

/// Secrets remembered at most: fixed ones and some generations of temporary ones.
const SECRETS_MAX: usize = 64;

/// The secrets that must not appear in any message.
#[derive(Clone, Default)]
pub(super) struct Redactions(Arc<Mutex<Vec<SecretString>>>);

impl fmt::Debug for Redactions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Redactions")
    }
}

impl Redactions {
    /// Remembers a secret; very short ones would redact ordinary words.
    pub(super) fn add(&self, secret: &str) {
        if secret.len() < 4 {
            return;
        }
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if secrets.iter().any(|known| known.expose_secret() == secret) {
            return;
        }
        if secrets.len() == SECRETS_MAX {
            secrets.remove(0);
        }
        secrets.push(SecretString::from(secret));
    }

    /// `text` fit for a message.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        {
            let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for secret in secrets.iter() {
                text = text.replace(secret.expose_secret(), "<redacted>");
            }
        }
        // An answer that echoes the request may have its signature.
        if let Some(at) = text.find("AWS4-HMAC-SHA256") {
            text.truncate(at);
            text.push_str("<redacted>");
        }
        let mut clean: String = text.chars().take(TEXT_LENGTH_MAX).flat_map(char::escape_debug).collect();
        if text.chars().nth(TEXT_LENGTH_MAX).is_some() {
            clean.push_str("...");
        }
        clean.replace("\\\"", "\"").replace("\\'", "'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec06_remote_text_is_bounded_escaped_and_without_secrets() {
        let redactions = Redactions::default();
        redactions.add("SECRETVALUE");
        let hostile = format!("no \x1b[31m\nP00 INFO: ok SECRETVALUE {}", "x".repeat(1_000_000));
        let clean = redactions.clean(&hostile);
        assert!(clean.len() < 3 * TEXT_LENGTH_MAX, "{} characters", clean.len());
        assert!(!clean.contains("SECRETVALUE") && !clean.contains('\n') && !clean.contains('\x1b'), "{clean}");
        assert!(!redactions.clean("Authorization: AWS4-HMAC-SHA256 Credential=A/B, Signature=1").contains("Signature"));
        assert!(!format!("{redactions:?}").contains("SECRETVALUE"));
    }
}
