//! Rules that the API server checks, in CEL: mistakes with which no command ever worked, neither here nor with the original.
//!
//! A rule is a tightening, and objects of the original have to stay good. So each of these is about something that the
//! original's own code or pgBackRest refuses for every command that uses the repository: what was accepted and of use to
//! anybody passes. What is missing here may still come from `PGBACKREST_*` variables or argument lists, and so is no
//! rule: an endpoint, a region, repositories at all. From Kubernetes 1.30 on an object that breaks a rule and is stored
//! already may be changed elsewhere (ratcheting of validation); before that it has to be corrected first.
//!
//! To rules a field that is `null` is not there. The API server estimates what a rule can cost at most, times as many
//! repositories as there can be, and refuses a definition that is too expensive: so there are 256 at most, as in pgBackRest,
//! and no loop or search in any of these.

use serde_json::{Value, json};

fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

/// About one repository.
pub(super) fn repository() -> Value {
    json!([
        rule(
            "self.destinationPath.startsWith('/')",
            "destinationPath has to begin with a slash: it is a path in the bucket",
        ),
        // The original: "missing encryption key".
        rule(
            "!has(self.encryption) || self.encryption == '' || self.encryption == 'none' || has(self.encryptionKey)",
            "encryption needs encryptionKey: the Secret, and the key in it, that has the passphrase",
        ),
    ])
}

/// About the credentials of one repository.
pub(super) fn credentials() -> Value {
    json!([
        // The original: "missing access key ID", "missing secret access key".
        rule(
            "(has(self.keyType) && self.keyType != '' && self.keyType != 'shared') || \
             (has(self.accessKeyId) && has(self.secretAccessKey))",
            "keyType shared, which is the default, needs accessKeyId and secretAccessKey: the Secrets that have them",
        ),
        rule(
            "!has(self.keyType) || self.keyType == '' || self.keyType == 'shared' || self.keyType == 'auto' || \
             self.keyType == 'web-id' || self.keyType == 'pod-id' || self.keyType == 'process'",
            "keyType has to be shared, auto, web-id, pod-id or process",
        ),
        rule(
            "!has(self.uriStyle) || self.uriStyle == '' || self.uriStyle == 'host' || self.uriStyle == 'path'",
            "uriStyle has to be host or path",
        ),
    ])
}
