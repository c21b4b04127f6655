//! What an administrator lets the Archives of a namespace point at (faults.md KG07).
//!
//! A store's own credentials are what keeps tenants apart; this keeps a mistake, or a borrowed key, from writing into another
//! tenant's prefix. The operator reads the limit of a namespace from a file of that name (a mounted ConfigMap in its own
//! namespace) and writes it into the arguments of the sidecar, where nobody who writes Archives can change it. The sidecar
//! compares it with the options as they will be used, whoever set them.
//!
//! A limit is a list of lines; a repository must fit one. Each line has words `bucket=`, `endpoint=` and `path=`; what a line
//! does not mention may be anything. `*` stands for any text in a bucket or host; a path allows what lies below it.

use std::io;
use std::path::Path;

use pgbr_config::{OptionSet, opt};
use pgbr_repo::storage::s3::S3Endpoint;

use crate::resource::Repository;

/// The file for namespaces without one of their own. No namespace has such a name.
const OTHERS: &str = "_others";

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Between the name and the lines in an argument, and between lines.
const SEPARATOR: &str = "; ";

/// What the Archives of a namespace may point at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    name: String,
    rules: Vec<Rule>,
}

/// One line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rule {
    text: String,
    bucket: Option<String>,
    /// Host and, if it matters, port.
    endpoint: Option<(String, Option<u16>)>,
    path: Option<String>,
}

/// A limit that cannot be understood. Then nothing is allowed, rather than everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A line means nothing.
    #[error("the limit '{name}' has a line that is none: '{}' (bucket=, endpoint= and path= are known)", line.escape_debug())]
    Line {
        /// The limit.
        name: String,
        /// The line.
        line: String,
    },
    /// The file cannot be read.
    #[error("the limit of namespace '{name}' cannot be read: {reason}")]
    File {
        /// The namespace.
        name: String,
        /// Why.
        reason: String,
    },
}

/// A repository that is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted<'a> {
    number: usize,
    is_s3: bool,
    bucket: &'a str,
    path: &'a str,
    /// Every address that may be asked.
    addresses: Vec<(String, u16)>,
}

impl Limit {
    /// The limit of a namespace in a folder with a file for each; `None` without such a file, and then there is no limit.
    ///
    /// # Errors
    /// [`LimitError`]
    pub fn of_namespace(folder: &Path, namespace: &str) -> Result<Option<Self>, LimitError> {
        for name in [namespace, OTHERS] {
            let failed = |error: io::Error| LimitError::File { name: name.to_owned(), reason: error.to_string() };
            let path = folder.join(name);
            let size = match std::fs::metadata(&path) {
                Ok(file) => file.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            if size > FILE_BYTES_MAX {
                return Err(failed(io::Error::other("it is too large")));
            }
            return Self::parse(name, std::fs::read_to_string(&path).map_err(failed)?.lines()).map(Some);
        }
        Ok(None)
    }

    /// Reads it from an argument of the sidecar.
    ///
    /// # Errors
    /// [`LimitError`]
    pub fn from_argument(text: &str) -> Result<Self, LimitError> {
        let mut parts = text.split(SEPARATOR);
        let name = parts.next().unwrap_or_default();
        Self::parse(name, parts)
    }

    /// The argument of the sidecar.
    #[must_use]
    pub fn argument(&self) -> String {
        let rules = self.rules.iter().map(|rule| rule.text.as_str());
        std::iter::once(self.name.as_str()).chain(rules).collect::<Vec<_>>().join(SEPARATOR)
    }

    fn parse<'a>(name: &str, lines: impl Iterator<Item = &'a str>) -> Result<Self, LimitError> {
        let lines = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let rules = lines.map(|line| {
            Rule::parse(line).ok_or_else(|| LimitError::Line { name: name.to_owned(), line: line.to_owned() })
        });
        Ok(Self { name: name.to_owned(), rules: rules.collect::<Result<_, _>>()? })
    }

    /// Checks the fields of an Archive, as far as they say it all.
    ///
    /// # Errors
    /// What is not allowed, and by which limit.
    pub fn check_fields(&self, repositories: &[Repository]) -> Result<(), String> {
        let mut numbered = (1..).zip(repositories);
        numbered.try_for_each(|(number, repository)| {
            let endpoint = repository.endpoint_url.as_deref().unwrap_or_default();
            self.check(&Wanted {
                number,
                is_s3: true,
                bucket: &repository.bucket,
                path: &repository.destination_path,
                addresses: vec![address(endpoint, None)],
            })
        })
    }

    /// Checks the options that will be used, wherever they come from.
    ///
    /// # Errors
    /// What is not allowed, and by which limit.
    pub fn check_options(&self, options: &OptionSet) -> Result<(), String> {
        options.repos().try_for_each(|index| {
            let repo = options.repo(index);
            let port = repo.integer(opt::REPO_STORAGE_PORT).filter(|_| repo.is_given(opt::REPO_STORAGE_PORT));
            let port = port.and_then(|port| u16::try_from(port).ok());
            let hosts = [repo.text(opt::REPO_S3_ENDPOINT), repo.text(opt::REPO_STORAGE_HOST)];
            self.check(&Wanted {
                number: usize::from(index.number()),
                is_s3: repo.string_id(opt::REPO_TYPE) == Some("s3"),
                bucket: repo.text(opt::REPO_S3_BUCKET).unwrap_or_default(),
                path: repo.path(opt::REPO_PATH).unwrap_or_default(),
                addresses: hosts.into_iter().flatten().map(|host| address(host, port)).collect(),
            })
        })
    }

    fn check(&self, wanted: &Wanted<'_>) -> Result<(), String> {
        if self.rules.iter().any(|rule| rule.allows(wanted)) {
            return Ok(());
        }
        let rules: Vec<&str> = self.rules.iter().map(|rule| rule.text.as_str()).collect();
        let allowed = if rules.is_empty() { "nothing".to_owned() } else { rules.join(", or ") };
        Err(format!(
            "repo{} (bucket '{}', path '{}') is not allowed here: the administrator's limit '{}' allows {allowed}",
            wanted.number, wanted.bucket, wanted.path, self.name
        ))
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let mut rule = Self::default();
        for word in line.split_whitespace() {
            let (key, value) = word.split_once('=').filter(|(_, value)| !value.is_empty() && !value.contains(';'))?;
            match key {
                "bucket" if rule.bucket.is_none() => rule.bucket = Some(value.to_owned()),
                "endpoint" if rule.endpoint.is_none() => rule.endpoint = Some(pattern(value)?),
                "path" if rule.path.is_none() && value.starts_with('/') => {
                    rule.path = Some(value.trim_end_matches('/').to_owned());
                }
                _ => return None,
            }
        }
        rule.text = line.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(rule)
    }

    fn allows(&self, wanted: &Wanted<'_>) -> bool {
        let is_address = |(host, port): &(String, u16)| match &self.endpoint {
            None => true,
            Some((pattern, wanted_port)) => fits(pattern, host) && wanted_port.is_none_or(|wanted| wanted == *port),
        };
        wanted.is_s3
            && self.bucket.as_ref().is_none_or(|pattern| fits(pattern, wanted.bucket))
            && self.path.as_ref().is_none_or(|path| is_below(path, wanted.path))
            && wanted.addresses.iter().all(is_address)
    }
}

/// Host and port of an endpoint in a rule; the host may have a `*`.
fn pattern(text: &str) -> Option<(String, Option<u16>)> {
    // The port stands behind the last colon, unless that is inside an IPv6 address.
    match text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => Some((host.to_ascii_lowercase(), Some(port.parse().ok()?))),
        None => Some((text.to_ascii_lowercase(), None)),
    }
}

/// Host and port of an endpoint in use. What cannot be understood fits no rule that names an endpoint.
fn address(text: &str, port: Option<u16>) -> (String, u16) {
    match S3Endpoint::parse(text) {
        Ok(endpoint) => (endpoint.host().to_ascii_lowercase(), port.unwrap_or(endpoint.port_or_default())),
        Err(_) => (String::new(), 0),
    }
}

/// Whether a text fits a pattern, whose first `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, end)) => text.len() >= begin.len() + end.len() && text.starts_with(begin) && text.ends_with(end),
    }
}

/// Whether a path is this one or below it, part by part. One that goes up is below nothing.
fn is_below(path: &str, wanted: &str) -> bool {
    let rest = wanted.strip_prefix(path);
    wanted.starts_with('/')
        && !wanted.split('/').any(|part| part == "." || part == "..")
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(bucket: &str, endpoint: &str, path: &str) -> Repository {
        Repository {
            bucket: bucket.to_owned(),
            endpoint_url: Some(endpoint.to_owned()),
            destination_path: path.to_owned(),
            ..Repository::default()
        }
    }

    fn allows(lines: &str, bucket: &str, endpoint: &str, path: &str) -> bool {
        let limit = Limit::parse("apps", lines.lines()).unwrap();
        let again = Limit::from_argument(&limit.argument()).unwrap();
        assert_eq!(again, limit);
        limit.check_fields(&[repository(bucket, endpoint, path)]).is_ok()
    }

    #[test]
    fn kg07_a_repository_fits_one_line_in_every_word() {
        let one = "bucket=team-a endpoint=s3.example:443 path=/a";
        for (bucket, endpoint, path, wanted) in [
            ("team-a", "s3.example", "/a", true),
            ("team-a", "https://S3.example:443", "/a/b", true),
            ("team-a", "s3.example", "/a/", true),
            ("team-b", "s3.example", "/a", false),
            ("team-a", "s3.example:444", "/a", false),
            ("team-a", "s3.example.evil", "/a", false),
            ("team-a", "s3.example", "/ab", false),
            ("team-a", "s3.example", "/", false),
            ("team-a", "s3.example", "/a/../b", false),
            ("team-a", "s3.example", "a", false),
            ("team-a", "", "/a", false),
            ("", "s3.example", "/a", false),
        ] {
            assert_eq!(allows(one, bucket, endpoint, path), wanted, "{bucket} {endpoint} {path}");
        }
        assert!(allows("# none\nbucket=x\nbucket=team-*-prod", "team-a-prod", "h", "/"));
        assert!(!allows("bucket=team-*-prod", "team-prod", "h", "/"));
        assert!(allows("endpoint=*.example", "b", "s3.eu.example:9000", "/"));
        assert!(allows("path=/", "b", "h", "/anything"));
        assert!(allows("endpoint=[::1]:9000", "b", "[::1]:9000", "/"));
        // An empty limit allows nothing, and every repository must fit.
        assert!(!allows("", "b", "h", "/"));
        let limit = Limit::parse("apps", ["bucket=a"].into_iter()).unwrap();
        let refused = limit.check_fields(&[repository("a", "h", "/"), repository("b", "h", "/")]).unwrap_err();
        assert!(refused.contains("repo2") && refused.contains("limit 'apps' allows bucket=a"), "{refused}");
    }

    #[test]
    fn kg07_a_limit_that_is_not_understood_is_no_permission() {
        for line in ["bucket", "bucket=", "buckets=a", "path=a", "endpoint=h:x", "bucket=a;b", "bucket=a bucket=b"] {
            assert!(Limit::parse("apps", [line].into_iter()).is_err(), "{line}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Limit::of_namespace(folder.path(), "apps").unwrap(), None);
        assert_eq!(Limit::of_namespace(&folder.path().join("nothing"), "apps").unwrap(), None);
        std::fs::write(folder.path().join("_others"), "bucket=shared\n").unwrap();
        let argument = |namespace: &str| Limit::of_namespace(folder.path(), namespace).unwrap().unwrap().argument();
        assert_eq!(argument("apps"), "_others; bucket=shared");
        std::fs::write(folder.path().join("apps"), "bucket=a   path=/x/\n\nbucket=b\n").unwrap();
        assert_eq!(argument("apps"), "apps; bucket=a path=/x/; bucket=b");
        std::fs::create_dir(folder.path().join("bad")).unwrap();
        assert!(Limit::of_namespace(folder.path(), "bad").is_err());
    }
}
