//! [`S3Endpoint`]: where a service is, and the resolver that gives the SDK exactly the address that was configured.

use std::fmt;

use aws_sdk_s3::config::endpoint::{Endpoint, EndpointFuture, Params, ResolveEndpoint};
use aws_smithy_types::endpoint::EndpointAuthScheme;

/// The address of an S3 or STS service: a host, perhaps with scheme and port, as `repo-s3-endpoint`,
/// `repo-storage-host` and `repo-s3-sts-host` take it. Without a scheme it is HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Endpoint {
    plain_http: bool,
    host: String,
    port: Option<u16>,
}

/// A text is not the address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not the address of a service, expected [http[s]://]host[:port]")]
pub struct EndpointError {
    text: String,
}

impl S3Endpoint {
    /// Parses `[http[s]://]host[:port][/]`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`EndpointError`] for anything else: another scheme, a path, a user, an unusable host or port.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let fail = || EndpointError { text: text.escape_debug().take(200).collect() };
        let (plain_http, rest) = match text.split_once("://") {
            None => (false, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (true, rest),
            Some(_) => return Err(fail()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let colon = match authority.rfind(']') {
            Some(bracket) => authority.get(bracket..).and_then(|tail| tail.find(':')).map(|at| bracket + at),
            None => authority.find(':'),
        };
        let (host, port) = match colon.and_then(|at| authority.split_at_checked(at)) {
            None => (authority, None),
            Some((host, port)) => (host, Some(parse_port(port).ok_or_else(fail)?)),
        };
        if !is_host(host) {
            return Err(fail());
        }
        Ok(Self { plain_http, host: host.to_owned(), port })
    }

    /// Whether the scheme is `http`: no TLS at all.
    pub fn is_plain_http(&self) -> bool {
        self.plain_http
    }

    /// The host name or address; an IPv6 address with its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port that was written, if one was.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port to connect to: as written, else that of the scheme.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(if self.plain_http { 80 } else { 443 })
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.plain_http { "http" } else { "https" }
    }
}

impl fmt::Display for S3Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme(), self.host)?;
        match self.port {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port != 0)
}

fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(name)
}

/// Gives every request the one configured address.
///
/// The SDK's own rules know AWS: they turn bucket names with dots to path style, read ARNs and fix the name of the
/// signed service. pgBackRest does none of that (`storage/s3/storage.c`), and repositories must be found where it put
/// them. The address has no port: the `Host` header and the signature then carry none either, as pgBackRest's do; the
/// transport knows the port.
#[derive(Debug)]
pub(super) struct FixedEndpoint(Endpoint);

impl FixedEndpoint {
    pub(super) fn new(url: String, service: &str, region: &str) -> Self {
        let signing = EndpointAuthScheme::with_capacity("sigv4", 3)
            .put("disableDoubleEncoding", true)
            .put("signingName", service.to_owned())
            .put("signingRegion", region.to_owned());
        Self(Endpoint::builder().url(url).auth_scheme(signing).build())
    }
}

impl ResolveEndpoint for FixedEndpoint {
    fn resolve_endpoint<'a>(&'a self, _: &'a Params) -> EndpointFuture<'a> {
        EndpointFuture::ready(Ok(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_pgbackrest_takes() {
        for (text, plain_http, host, port) in [
            ("s3.amazonaws.com", false, "s3.amazonaws.com", 443),
            ("https://minio.local:9000", false, "minio.local", 9000),
            ("http://minio.local/", true, "minio.local", 80),
            ("127.0.0.1:8443", false, "127.0.0.1", 8443),
            ("https://[::1]:9000", false, "[::1]", 9000),
            ("[fe80::1]", false, "[fe80::1]", 443),
        ] {
            let endpoint = S3Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.plain_http, endpoint.host(), endpoint.port_or_default()), (plain_http, host, port));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "ftp://host",
            "host/path",
            "user@host",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "ho st",
            "::1",
            "[x]",
        ] {
            assert!(S3Endpoint::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
