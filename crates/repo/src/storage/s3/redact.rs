//! What a remote side says is shown only without secrets, escaped and shortened (faults.md SEC-01, SEC-03, SEC-06).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};

/// Longest text of a remote side in a message, in characters.
const TEXT_LENGTH_MAX: usize = 300;

/// Secrets remembered at most: fixed ones and some generations of temporary ones.
const SECRETS_MAX: usize = 64;

/// Words of a request that a secret, or a signature made with one, follows: headers, parameters of a signed query, and
/// what S3 servers name in their answers to a wrong signature. In lower case.
const BEFORE_SECRETS: [&str; 10] = [
    "authorization",
    "aws4-hmac-sha256",
    "canonicalrequest",
    "signature",
    "stringtosign",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-signature",
];

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
        // An answer that echoes the request has more than what is known here.
        let lower = text.to_ascii_lowercase();
        if let Some(at) = BEFORE_SECRETS.iter().filter_map(|word| echoed(&lower, word)).min() {
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

/// Where the word stands with something behind it that looks like its value, and not as a word of a sentence.
fn echoed(text: &str, word: &str) -> Option<usize> {
    let mut places = text.match_indices(word).map(|(at, _)| at);
    places.find(|at| {
        let behind = text.get(at + word.len()..).unwrap_or_default().trim_start_matches("provided");
        let is_scheme = word.starts_with("aws4");
        is_scheme || behind.trim_start().starts_with([':', '=', '>', '"', '\'', '&', '%', '-'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec03_what_a_request_is_signed_with_is_cut_off_wherever_it_is_echoed() {
        let redactions = Redactions::default();
        for echo in [
            "Authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, SignedHeaders=host, Signature=c0ffee",
            "authorization: c0ffee",
            "X-Amz-Security-Token: c0ffee",
            "{\"x-amz-security-token\": \"c0ffee\"}",
            "('x-amz-security-token', 'c0ffee')",
            "x-amz-server-side-encryption-customer-key: c0ffee",
            "x-amz-server-side-encryption-customer-key-MD5: c0ffee",
            "x-amz-copy-source-server-side-encryption-customer-key: c0ffee",
            "GET /b/k?X-Amz-Algorithm=x&X-Amz-Credential=c0ffee%2F20261127",
            "GET /b/k?partNumber=1&X-Amz-Signature=c0ffee",
            "GET /b/k?AWSAccessKeyId=x&Signature=c0ffee&Expires=1",
            "<SignatureProvided>c0ffee</SignatureProvided>",
            "<StringToSign>AWS4 c0ffee</StringToSign>",
            "<CanonicalRequest>GET c0ffee</CanonicalRequest>",
        ] {
            let clean = redactions.clean(&format!("denied: {echo}"));
            assert!(clean.starts_with("denied: ") && clean.contains("<redacted>"), "{clean}");
            assert!(!clean.contains("c0ffee"), "{clean}");
        }
        let plain = "The request signature we calculated does not match the signature you provided. Check your key";
        assert_eq!(redactions.clean(plain), plain);
    }

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
