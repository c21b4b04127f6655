//! Variables of the container: all reach the engine, except those that Kubernetes makes of a Service called `pgbackrest`.

/// The variables that may be options, and all others.
pub(super) fn usable(variables: &[(String, String)]) -> impl Iterator<Item = (String, String)> + '_ {
    // An empty variable is how a manifest says "not set".
    variables
        .iter()
        .filter(|(name, value)| !(is_service_link(name) || name.starts_with("PGBACKREST_") && value.is_empty()))
        .cloned()
}

/// Whether Kubernetes made the variable for a Service (`PGBACKREST_PORT_9090_TCP`): no option of pgBackRest, but the same
/// prefix. Options of repositories and clusters that have such words in their name are kept.
fn is_service_link(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("PGBACKREST_") else { return false };
    let numbered = |group: &str| {
        rest.strip_prefix(group)
            .is_some_and(|rest| rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).starts_with('_'))
            && rest.strip_prefix(group).is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
    };
    if numbered("REPO") || numbered("PG") {
        return false;
    }
    rest.split('_').any(|word| word.starts_with("PORT") || word.starts_with("SERVICE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_a_service_are_no_options() {
        for name in [
            "PGBACKREST_PORT",
            "PGBACKREST_PORT_9090_TCP_ADDR",
            "PGBACKREST_SERVICE_HOST",
            "PGBACKREST_S3_SERVICE_PORT",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in ["PGBACKREST_REPO1_STORAGE_PORT", "PGBACKREST_REPO2_S3_SERVICE", "PGBACKREST_IO_TIMEOUT", "PORT"] {
            assert!(!is_service_link(name), "{name}");
        }
    }
}
