//! Which of pgBackRest's options may be given where (plugin-surface.md §8): a typed list for Backup parameters, which any
//! user of the namespace may write, and what makes no sense without a pgBackRest process for the argument lists of an
//! Archive.

/// What becomes of an option of an argument list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Goes to the engine, which may still refuse it for this command.
    Use,
    /// Tunes pgBackRest's own processes: accepted, without effect.
    NoEffect,
    /// Refused, with the reason.
    Refuse(&'static str),
}

/// Options that a Backup may carry. None names a program, a path outside the cluster, a place or a credential.
const PARAMETERS: [&str; 33] = [
    "annotation",
    "archive-check",
    "archive-copy",
    "archive-mode-check",
    "archive-timeout",
    "backup-standby",
    "checksum-page",
    "compress-level",
    "compress-type",
    "db-timeout",
    "delta",
    "exclude",
    "expire-auto",
    "io-timeout",
    "page-header-check",
    "process-max",
    "repo",
    "repo-block",
    "repo-block-age-map",
    "repo-block-checksum-size-map",
    "repo-block-size-map",
    "repo-block-size-super",
    "repo-block-size-super-full",
    "repo-bundle",
    "repo-bundle-limit",
    "repo-bundle-size",
    "repo-retention-archive",
    "repo-retention-archive-type",
    "repo-retention-diff",
    "repo-retention-full",
    "repo-retention-full-type",
    "repo-retention-history",
    "resume",
];

/// The same, of one word that reads better apart: those above are sorted.
const MORE_PARAMETERS: [&str; 2] = ["start-fast", "type"];

/// Options that tune what this program does not have.
const NO_EFFECT: [&str; 22] = [
    "archive-async",
    "buffer-size",
    "cmd",
    "compress-level-network",
    "config",
    "config-include-path",
    "config-path",
    "exec-id",
    "job-retry",
    "job-retry-interval",
    "lock-path",
    "log-level-console",
    "log-level-file",
    "log-path",
    "log-subprocess",
    "log-timestamp",
    "manifest-save-threshold",
    "neutral-umask",
    "priority",
    "protocol-timeout",
    "spool-path",
    "stop-auto",
];

/// As [`NO_EFFECT`], by the beginning of the name.
const NO_EFFECT_BEGIN: [&str; 2] = ["tcp-keep-alive", "sck-"];

/// The name without the number of its repository or cluster: `repo2-path` is `repo-path`.
pub(super) fn unnumbered(name: &str) -> String {
    for group in ["repo", "pg"] {
        let Some(rest) = name.strip_prefix(group) else { continue };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && rest.as_bytes().get(digits) == Some(&b'-') {
            return format!("{group}{}", rest.get(digits..).unwrap_or_default());
        }
    }
    name.to_owned()
}

/// Whether a Backup may carry the option.
pub(super) fn is_parameter(name: &str) -> bool {
    let name = unnumbered(name);
    PARAMETERS.contains(&name.as_str()) || MORE_PARAMETERS.contains(&name.as_str())
}

/// Whether the option only tunes pgBackRest's own processes.
pub(super) fn has_no_effect(name: &str) -> bool {
    NO_EFFECT.contains(&name) || NO_EFFECT_BEGIN.iter().any(|begin| name.starts_with(begin))
}

/// What becomes of the option in an argument list of an Archive.
pub(super) fn class(name: &str) -> Class {
    let plain = unnumbered(name);
    if has_no_effect(&plain) {
        return Class::NoEffect;
    }
    match plain.as_str() {
        "stanza" => Class::Refuse("the stanza is chosen by the parameter 'stanza' or spec.configuration.stanza"),
        "online" => Class::Refuse("the cluster is always running"),
        "force" => Class::Refuse("it switches off checks that protect the data"),
        "repo-type" => Class::Refuse("an Archive has repositories of type s3 alone"),
        "allow-root" | "process" | "lock" | "remote-type" => Class::Refuse("it is not for people"),
        _ if plain.starts_with("repo-host") => Class::Refuse("there are no repository hosts here"),
        _ if plain.starts_with("pg-") && plain != "pg-version-force" => {
            Class::Refuse("the cluster is the one of the pod")
        }
        _ => Class::Use,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kg06_a_parameter_names_no_program_path_or_credential() {
        for name in [
            "cmd",
            "cmd-ssh",
            "config",
            "lock-path",
            "log-path",
            "spool-path",
            "pg1-path",
            "pg1-socket-path",
            "repo1-path",
            "repo1-s3-bucket",
            "repo1-s3-endpoint",
            "repo1-s3-key",
            "repo1-s3-key-secret",
            "repo1-cipher-pass",
            "repo1-storage-ca-file",
            "repo1-storage-host",
            "repo1-host",
            "stanza",
            "recovery-option",
            "force",
            "online",
            "",
            " type",
            "TYPE",
            "type ",
        ] {
            assert!(!is_parameter(name), "{name}");
        }
        for name in ["type", "repo", "start-fast", "repo1-retention-full", "repo12-bundle", "annotation"] {
            assert!(is_parameter(name), "{name}");
        }
    }

    #[test]
    fn numbers_are_taken_off_names_alone() {
        assert_eq!(unnumbered("repo12-s3-key"), "repo-s3-key");
        assert_eq!(unnumbered("repo"), "repo");
        assert_eq!(unnumbered("repo-path"), "repo-path");
        assert_eq!(unnumbered("pg1-path"), "pg-path");
        assert_eq!(unnumbered("page-header-check"), "page-header-check");
    }

    #[test]
    fn what_is_refused_and_what_is_passed_over() {
        assert_eq!(class("buffer-size"), Class::NoEffect);
        assert_eq!(class("tcp-keep-alive-idle"), Class::NoEffect);
        assert_eq!(class("repo1-s3-token"), Class::Use);
        assert!(matches!(class("repo1-host"), Class::Refuse(_)));
        assert!(matches!(class("pg1-path"), Class::Refuse(_)));
        assert!(matches!(class("stanza"), Class::Refuse(_)));
    }
}
