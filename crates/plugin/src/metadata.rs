//! Addresses at which machines learn who they are, and get credentials: no store is there, and who writes an Archive must
//! not have a sidecar ask them and tell what they answered.
//!
//! What stands in an Archive is looked at, and not what a name leads to: a network policy keeps pods from the addresses
//! themselves. The sources of credentials that need them (`keyType: auto`) have their own addresses.

use std::net::{IpAddr, Ipv6Addr};

use pgbr_config::{OptionSet, opt};
use pgbr_repo::storage::s3::S3Endpoint;

/// Names of metadata services.
const NAMES: [&str; 2] = ["metadata.google.internal", "instance-data"];

/// The metadata service of AWS over IPv6.
const AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// Fails when a repository's store would be at such an address.
///
/// # Errors
/// Which one, for a person.
pub(crate) fn refuse(options: &OptionSet) -> Result<(), String> {
    options.repos().try_for_each(|index| {
        let repo = options.repo(index);
        let hosts =
            [opt::REPO_S3_ENDPOINT, opt::REPO_STORAGE_HOST, opt::REPO_S3_STS_HOST].map(|option| repo.text(option));
        let endpoints = hosts.into_iter().flatten().filter_map(|host| S3Endpoint::parse(host).ok());
        match endpoints.into_iter().find(|endpoint| is_metadata(endpoint.host())) {
            None => Ok(()),
            Some(endpoint) => Err(format!(
                "repo{}: '{}' is an address of metadata services, where no store is",
                index.number(),
                endpoint.host()
            )),
        }
    })
}

/// Whether a host is one by its name or its address, in any form that resolvers take for an address.
fn is_metadata(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if NAMES.contains(&host.as_str()) || host.starts_with("instance-data.") {
        return true;
    }
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address == AWS
                || address.is_unicast_link_local()
                || address.to_ipv4().is_some_and(|within| within.is_link_local())
        }
        // `2852039166`, `0xa9.254.43518` and the like are addresses for the system's resolver, and for nobody else.
        Err(_) => ends_in_number(&host),
    }
}

fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal || last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec05_an_address_of_metadata_is_no_store_in_whatever_form() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[::ffff:169.254.169.254]",
            "2852039166",
            "0xa9fea9fe",
            "169.254.43518",
            "0251.0376.0251.0376",
            "Metadata.Google.Internal.",
            "instance-data.ec2.internal",
        ] {
            assert!(is_metadata(host), "{host}");
        }
        for host in
            ["s3.amazonaws.com", "minio", "10.0.0.1", "127.0.0.1", "[::1]", "store-1.example", "minio.metadata.svc"]
        {
            assert!(!is_metadata(host), "{host}");
        }
    }
}
