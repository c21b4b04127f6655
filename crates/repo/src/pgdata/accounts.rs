//! Names of users and groups, both ways, as the system's account files list them.
//!
//! Accounts that only a name service knows (LDAP, SSSD) have no name here: such owners are recorded as unnamed, as an
//! id without a name is.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The largest account file that is read: far beyond any real one.
const ACCOUNT_FILE_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Users and groups, loaded once.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    users: Names,
    groups: Names,
}

#[derive(Debug, Clone, Default)]
struct Names {
    by_id: HashMap<u32, Arc<str>>,
    by_name: HashMap<Arc<str>, u32>,
}

/// A user and a group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ids {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

impl Ids {
    /// The effective ids of this process.
    pub fn current() -> Self {
        Self { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }

    /// Whether the user is root.
    pub fn is_root(self) -> bool {
        self.user == 0
    }
}

impl Accounts {
    /// Reads the system's account files. One that does not exist, as in a minimal container, has no names.
    ///
    /// # Errors
    /// When a file exists and cannot be read, or is absurdly large.
    pub fn system() -> io::Result<Self> {
        Ok(Self::parse(&read_bounded(Path::new("/etc/passwd"))?, &read_bounded(Path::new("/etc/group"))?))
    }

    /// Parses the contents of `passwd(5)` and `group(5)`. Lines that are not entries are skipped, as the system's own
    /// readers do; the first entry of a name or id wins.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: Names::parse(passwd), groups: Names::parse(group) }
    }

    /// The name of a user.
    pub fn user_name(&self, id: u32) -> Option<&Arc<str>> {
        self.users.by_id.get(&id)
    }

    /// The name of a group.
    pub fn group_name(&self, id: u32) -> Option<&Arc<str>> {
        self.groups.by_id.get(&id)
    }

    /// The id of a user.
    pub fn user_id(&self, name: &str) -> Option<u32> {
        self.users.by_name.get(name).copied()
    }

    /// The id of a group.
    pub fn group_id(&self, name: &str) -> Option<u32> {
        self.groups.by_name.get(name).copied()
    }
}

impl Names {
    /// Both files have the name first and the id third, with `:` between.
    fn parse(content: &[u8]) -> Self {
        let mut names = Self::default();
        for line in content.split(|&byte| byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let mut fields = line.split(':');
            let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else { continue };
            // The largest id means "no change" to chown and is no account.
            let Some(id) = id.parse().ok().filter(|&id: &u32| id != u32::MAX) else { continue };
            if name.is_empty() || name.starts_with(['#', '+', '-']) {
                continue;
            }
            let name: Arc<str> = name.into();
            names.by_id.entry(id).or_insert_with(|| Arc::clone(&name));
            names.by_name.entry(name).or_insert(id);
        }
        names
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(u64::try_from(ACCOUNT_FILE_MAX_BYTES).unwrap_or(u64::MAX)).read_to_end(&mut content)?;
    if content.len() == ACCOUNT_FILE_MAX_BYTES {
        return Err(io::Error::other(format!("'{}' is too large", path.display())));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_ids_both_ways() {
        let accounts = Accounts::parse(
            b"root:x:0:0:root:/root:/bin/sh\npostgres:x:26:26::/:\ntoor:x:0:0::/:\nbad\n#c:x:1:1\n+nis:x:2:2\nx:x:y:1\nm:x:4294967295:1\n",
            b"root:x:0:\npostgres:x:26:a,b\n",
        );
        assert_eq!(accounts.user_name(0).map(|name| &**name), Some("root"));
        assert_eq!(accounts.user_id("toor"), Some(0));
        assert_eq!(accounts.user_id("postgres"), Some(26));
        assert_eq!(accounts.group_id("postgres"), Some(26));
        assert_eq!(accounts.group_name(26).map(|name| &**name), Some("postgres"));
        for none in [1, 2, 4_294_967_295] {
            assert_eq!(accounts.user_name(none), None);
        }
        assert_eq!(accounts.user_id("x"), None);
    }

    #[test]
    fn the_system_knows_root() {
        assert_eq!(Accounts::system().unwrap().user_id("root"), Some(0));
    }

    proptest! {
        #[test]
        fn any_bytes_parse(content: Vec<u8>) {
            Accounts::parse(&content, &content);
        }
    }
}
