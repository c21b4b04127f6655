//! What a path in a data directory or tablespace means, by its name alone.
//!
//! Paths are the names that a manifest uses: `pg_data/...` below the data directory and `pg_tblspc/<oid>/...` below a
//! tablespace, as bytes, since PostgreSQL does not promise UTF-8. The rules are those of pgBackRest's
//! `src/info/manifest/build.c.inc`, `src/info/manifest/manifest.c` and `src/command/backup/process.c.inc`.

use super::PgVersion;

/// The name of the data directory in a manifest.
pub const PGDATA_NAME: &str = "pg_data";
/// The name of the directory of tablespaces in a manifest, and of the directory of their links in the data directory.
pub const TABLESPACES_NAME: &str = "pg_tblspc";
/// The directory of tablespace links as a manifest names it.
pub const TABLESPACE_LINKS: &str = "pg_data/pg_tblspc";
/// The control file as a manifest names it.
pub const CONTROL_FILE: &str = "pg_data/global/pg_control";
/// Bytes in a full segment of a relation unless PostgreSQL was built otherwise (`RELSEG_SIZE` pages of 8 KiB).
pub const RELATION_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;

/// Names of files in the data directory that more than one rule or command speaks of.
pub mod file_name {
    /// Process id of a running server.
    pub const POSTMASTER_PID: &str = "postmaster.pid";
    /// Major version of the cluster; proves that a directory is a data directory.
    pub const PG_VERSION: &str = "PG_VERSION";
    /// Start of a backup, read by recovery.
    pub const BACKUP_LABEL: &str = "backup_label";
    /// Tablespaces of a backup, read by recovery.
    pub const TABLESPACE_MAP: &str = "tablespace_map";
    /// Settings written by the server, and from version 12 by restore.
    pub const POSTGRESQL_AUTO_CONF: &str = "postgresql.auto.conf";
    /// Asks for archive recovery from version 12.
    pub const RECOVERY_SIGNAL: &str = "recovery.signal";
    /// Asks for standby mode from version 12.
    pub const STANDBY_SIGNAL: &str = "standby.signal";
    /// Recovery settings before version 12.
    pub const RECOVERY_CONF: &str = "recovery.conf";
    /// `recovery.conf` after recovery has ended, before version 12.
    pub const RECOVERY_DONE: &str = "recovery.done";
}

/// Directories directly in the data directory whose contents are worth nothing after a restore.
const VOLATILE_DIRECTORIES: [&[u8]; 7] =
    [b"pg_dynshmem", b"pg_notify", b"pg_replslot", b"pg_serial", b"pg_snapshots", b"pg_stat_tmp", b"pg_subtrans"];

/// Files directly in the data directory that are left out whatever the version.
const VOLATILE_FILES: [&[u8]; 5] =
    [b"postgresql.auto.conf.tmp", b"backup_label", b"backup_label.old", b"postmaster.opts", b"postmaster.pid"];

/// The layout of one cluster's data directory: what depends on the version and the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataLayout {
    version: PgVersion,
    tablespace_directory: String,
}

impl DataLayout {
    /// The layout of a cluster of `version` whose `pg_control` holds `catalog_version`.
    pub fn new(version: PgVersion, catalog_version: u32) -> Self {
        Self { version, tablespace_directory: version.tablespace_directory_of_catalog(catalog_version) }
    }

    /// The version that the rules follow.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// The one directory in a tablespace that belongs to this cluster: `PG_<version>_<catalog>`.
    pub fn tablespace_directory(&self) -> &str {
        &self.tablespace_directory
    }

    /// Whether `path` is a directory that holds relations: `global`, a database, or a database in a tablespace.
    pub fn is_database_directory(&self, path: &[u8]) -> bool {
        let mut names = path.split(|&byte| byte == b'/');
        match (names.next(), names.next(), names.next(), names.next(), names.next()) {
            (Some(b"pg_data"), Some(b"global"), None, ..) => true,
            (Some(b"pg_data"), Some(b"base"), Some(oid), None, _) => is_number(oid),
            (Some(b"pg_tblspc"), Some(tablespace), Some(directory), Some(oid), None) => {
                is_number(tablespace) && directory == self.tablespace_directory.as_bytes() && is_number(oid)
            }
            _ => false,
        }
    }

    /// Whether the file `name` in the directory `parent` is left out of a backup.
    ///
    /// Unlogged relations are not decided here, as that needs the rest of the directory: see
    /// [`RelationFile::init_fork_name`].
    pub fn excludes_file(&self, parent: &[u8], name: &[u8], online: bool) -> bool {
        if is_temporary_name(name) {
            return true;
        }
        if parent == PGDATA_NAME.as_bytes() {
            return self.excludes_root_file(name);
        }
        if online && self.is_wal_directory(parent) {
            return true;
        }
        self.is_database_directory(parent)
            && (is_relation_cache(name) || RelationFile::parse(name).is_some_and(|file| file.is_temporary()))
    }

    /// Whether the contents of the directory `name` in the directory `parent` are left out while the directory itself
    /// is kept.
    pub fn excludes_contents(&self, parent: &[u8], name: &[u8], online: bool) -> bool {
        if parent == PGDATA_NAME.as_bytes() {
            return VOLATILE_DIRECTORIES.contains(&name);
        }
        online && name == b"archive_status" && self.is_wal_directory(parent)
    }

    /// Whether the pages of file `path` carry checksums, if the cluster has them.
    pub fn is_page_checksummed(&self, path: &[u8]) -> bool {
        let Some((parent, name)) = split_name(path) else { return false };
        self.is_database_directory(parent)
            && name != b"pg_filenode.map"
            && name != file_name::PG_VERSION.as_bytes()
            && path != CONTROL_FILE.as_bytes()
    }

    /// Whether WAL replay repairs file `path`, so that it may be read from a standby and only up to the size it had
    /// when it was listed. Everything else comes from the primary and is read to its end.
    pub fn is_replayed(&self, path: &[u8]) -> bool {
        if path == CONTROL_FILE.as_bytes() {
            return false;
        }
        let mut names = path.split(|&byte| byte == b'/');
        match (names.next(), names.next(), names.next()) {
            (Some(b"pg_data"), Some(b"base" | b"global" | b"pg_multixact"), Some(_)) => true,
            (Some(b"pg_data"), Some(name), Some(_)) => name == self.version.xact_directory().as_bytes(),
            (Some(b"pg_tblspc"), Some(_), _) => true,
            _ => false,
        }
    }

    /// Whether `path` is the directory of WAL segments.
    pub fn is_wal_directory(&self, path: &[u8]) -> bool {
        path.strip_prefix(b"pg_data/").is_some_and(|name| name == self.version.wal_directory().as_bytes())
    }

    fn excludes_root_file(&self, name: &[u8]) -> bool {
        match name {
            b"recovery.signal" | b"standby.signal" => self.version >= PgVersion::V12,
            b"recovery.conf" | b"recovery.done" => self.version < PgVersion::V12,
            b"backup_manifest" | b"backup_manifest.tmp" => self.version >= PgVersion::V13,
            _ => VOLATILE_FILES.contains(&name),
        }
    }
}

/// Whether a file, directory or link of this name is left out wherever it stands: the server removes these when it
/// starts.
pub fn is_temporary_name(name: &[u8]) -> bool {
    name.starts_with(b"pgsql_tmp")
}

/// The number of the first page of a relation's file, counted over all of the relation's segments: a name that ends in
/// `.<n>` is segment `n`. `None` when the number is beyond 32 bits or `page_size_bytes` is zero, which no relation has.
pub fn first_page_number(path: &[u8], page_size_bytes: u32) -> Option<u64> {
    let pages_per_segment = RELATION_SEGMENT_BYTES.checked_div(u64::from(page_size_bytes))?;
    let segment = match path.rsplit(|&byte| byte == b'.').next() {
        Some(digits) if digits.len() < path.len() && is_number(digits) => parse_u32(digits)?,
        _ => 0,
    };
    u64::from(segment).checked_mul(pages_per_segment)
}

/// The fork of a relation that a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fork {
    /// The relation itself.
    Main,
    /// Free space map.
    FreeSpace,
    /// Visibility map.
    Visibility,
    /// What an unlogged relation is reset to after a crash.
    Init,
}

/// The parts of a relation's file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationFile<'a> {
    /// The backend number of a temporary relation, in digits.
    pub backend: Option<&'a [u8]>,
    /// The relation's file number, in digits.
    pub relation: &'a [u8],
    /// Which fork.
    pub fork: Fork,
    /// The segment number in digits; `None` is the first segment.
    pub segment: Option<&'a [u8]>,
}

impl<'a> RelationFile<'a> {
    /// Parses a name within a database directory: `[t<backend>_]<relation>[_fsm|_vm|_init][.<segment>]`. `None` when
    /// it is no relation's file, or a temporary relation with an init fork, which does not exist.
    pub fn parse(name: &'a [u8]) -> Option<Self> {
        let (backend, rest) = match name.strip_prefix(b"t") {
            Some(rest) => {
                let (backend, rest) = leading_number(rest)?;
                (Some(backend), rest.strip_prefix(b"_")?)
            }
            None => (None, name),
        };
        let (relation, rest) = leading_number(rest)?;
        let (fork, rest) = [(&b"_fsm"[..], Fork::FreeSpace), (b"_vm", Fork::Visibility), (b"_init", Fork::Init)]
            .into_iter()
            .find_map(|(suffix, fork)| rest.strip_prefix(suffix).map(|rest| (fork, rest)))
            .unwrap_or((Fork::Main, rest));
        let segment = match rest {
            [] => None,
            [b'.', digits @ ..] if is_number(digits) => Some(digits),
            _ => return None,
        };
        (backend.is_none() || fork != Fork::Init).then_some(Self { backend, relation, fork, segment })
    }

    /// Whether the relation is a session's temporary one.
    pub fn is_temporary(&self) -> bool {
        self.backend.is_some()
    }

    /// The name of the init fork whose presence in the same directory makes this file part of an unlogged relation;
    /// `None` for an init fork itself, which a backup keeps, and for a temporary relation.
    pub fn init_fork_name(&self) -> Option<Vec<u8>> {
        (self.fork != Fork::Init && !self.is_temporary()).then(|| [self.relation, b"_init"].concat())
    }
}

/// The relation cache `pg_internal.init`, or a left-over temporary of it.
fn is_relation_cache(name: &[u8]) -> bool {
    name.strip_prefix(b"pg_internal.init").is_some_and(|rest| {
        rest.is_empty() || rest.windows(2).any(|pair| matches!(pair, [b'.', digit] if digit.is_ascii_digit()))
    })
}

/// Splits the last name off a path.
fn split_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    Some((path.get(..slash)?, path.get(slash + 1..)?))
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

fn leading_number(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    (!digits.is_empty()).then_some((digits, rest))
}

fn parse_u32(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(version: PgVersion) -> DataLayout {
        DataLayout::new(version, 202_209_061)
    }

    #[test]
    fn database_directories() {
        let layout = layout(PgVersion::V15);
        for yes in ["pg_data/global", "pg_data/base/1", "pg_data/base/16384", "pg_tblspc/7/PG_15_202209061/5"] {
            assert!(layout.is_database_directory(yes.as_bytes()), "{yes}");
        }
        for no in [
            "pg_data",
            "pg_data/base",
            "pg_data/base/x",
            "pg_data/base/1/2",
            "pg_data/base/",
            "pg_data/global/1",
            "pg_tblspc/7/PG_14_202107181/5",
            "pg_tblspc/7/PG_15_202209061",
            "pg_tblspc/7/PG_15_202209061/5/6",
            "pg_tblspc/x/PG_15_202209061/5",
            "pg_data/pg_tblspc/7/PG_15_202209061/5",
            "",
        ] {
            assert!(!layout.is_database_directory(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn files_that_are_left_out() {
        // parent, name, first version that leaves it out, version that keeps it again
        let v = |text: &str| PgVersion::parse(text).unwrap();
        let all = (v("9.6"), PgVersion::V19);
        let table: &[(&str, &str, (PgVersion, PgVersion))] = &[
            ("pg_data", "recovery.signal", (v("12"), PgVersion::V19)),
            ("pg_data", "standby.signal", (v("12"), PgVersion::V19)),
            ("pg_data", "recovery.conf", (v("9.6"), v("12"))),
            ("pg_data", "recovery.done", (v("9.6"), v("12"))),
            ("pg_data", "backup_manifest", (v("13"), PgVersion::V19)),
            ("pg_data", "backup_manifest.tmp", (v("13"), PgVersion::V19)),
            ("pg_data", "backup_label", all),
            ("pg_data", "backup_label.old", all),
            ("pg_data", "postmaster.pid", all),
            ("pg_data", "postmaster.opts", all),
            ("pg_data", "postgresql.auto.conf.tmp", all),
            ("pg_data", "pgsql_tmp1.0", all),
            ("pg_data/base/1", "pg_internal.init", all),
            ("pg_data/base/1", "pg_internal.init.1234", all),
            ("pg_data/global", "pg_internal.init", all),
            ("pg_data/base/1", "t3_16384", all),
            ("pg_data/base/1", "t3_16384_fsm.1", all),
            ("pg_data/base/1", "t3_16384_vm", all),
        ];
        for &(parent, name, (from, until)) in table {
            for text in ["9.6", "10", "11", "12", "13", "14", "15", "16", "17", "18"] {
                let version = v(text);
                assert_eq!(
                    layout(version).excludes_file(parent.as_bytes(), name.as_bytes(), true),
                    version >= from && version < until,
                    "{parent}/{name} on {text}"
                );
            }
        }
    }

    #[test]
    fn files_that_are_kept() {
        for (parent, name) in [
            ("pg_data", "postgresql.auto.conf"),
            ("pg_data", "tablespace_map"),
            ("pg_data", "pg_internal.init"),
            ("pg_data", "t3_16384"),
            ("pg_data/base/1", "pg_internal.initial"),
            ("pg_data/base/1", "t3_16384_init"),
            ("pg_data/base/1", "t3_16384_fsm_vm"),
            ("pg_data/base/1", "t_16384"),
            ("pg_data/base/1", "t3_"),
            ("pg_data/base/1", "postmaster.pid"),
            ("pg_data/base", "t3_16384"),
            ("pg_data/pg_wal/archive_status", "000000010000000000000001.done"),
        ] {
            assert!(!layout(PgVersion::V15).excludes_file(parent.as_bytes(), name.as_bytes(), true), "{parent}/{name}");
        }
    }

    #[test]
    fn wal_is_left_out_only_online() {
        let new = layout(PgVersion::V15);
        assert!(new.excludes_file(b"pg_data/pg_wal", b"000000010000000000000001", true));
        assert!(!new.excludes_file(b"pg_data/pg_wal", b"000000010000000000000001", false));
        assert!(!new.excludes_file(b"pg_data/pg_wal/summaries", b"x", true));
        assert!(!new.excludes_file(b"pg_data/pg_xlog", b"000000010000000000000001", true));
        assert!(new.excludes_contents(b"pg_data/pg_wal", b"archive_status", true));
        assert!(!new.excludes_contents(b"pg_data/pg_wal", b"archive_status", false));
        assert!(!new.excludes_contents(b"pg_data/pg_wal", b"summaries", true));
        let old = layout(PgVersion::V9_6);
        assert!(old.excludes_file(b"pg_data/pg_xlog", b"000000010000000000000001", true));
        assert!(!old.excludes_file(b"pg_data/pg_wal", b"000000010000000000000001", true));
    }

    #[test]
    fn contents_of_volatile_directories_are_left_out_at_the_root_only() {
        for name in VOLATILE_DIRECTORIES {
            assert!(layout(PgVersion::V13).excludes_contents(b"pg_data", name, false));
            assert!(!layout(PgVersion::V13).excludes_contents(b"pg_data/base", name, false));
        }
        assert!(!layout(PgVersion::V13).excludes_contents(b"pg_data", b"pg_stat", true));
    }

    #[test]
    fn page_checksums() {
        let layout = layout(PgVersion::V15);
        for (path, expected) in [
            ("pg_data/base/1/16384", true),
            ("pg_data/base/1/16384_fsm", true),
            ("pg_data/base/1/16384_init", true),
            ("pg_data/global/1262", true),
            ("pg_tblspc/7/PG_15_202209061/5/16385.1", true),
            ("pg_data/base/1/PG_VERSION", false),
            ("pg_data/base/1/pg_filenode.map", false),
            ("pg_data/global/pg_control", false),
            ("pg_data/base/1/sub/16384", false),
            ("pg_data/PG_VERSION", false),
            ("pg_data/pg_xact/0000", false),
            ("pg_data", false),
        ] {
            assert_eq!(layout.is_page_checksummed(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn replayed_files_may_come_from_a_standby() {
        for (path, version, expected) in [
            ("pg_data/base/1/16384", PgVersion::V15, true),
            ("pg_data/base/1/PG_VERSION", PgVersion::V15, true),
            ("pg_data/global/1262", PgVersion::V15, true),
            ("pg_data/global/pg_control", PgVersion::V15, false),
            ("pg_data/pg_xact/0000", PgVersion::V15, true),
            ("pg_data/pg_clog/0000", PgVersion::V15, false),
            ("pg_data/pg_clog/0000", PgVersion::V9_6, true),
            ("pg_data/pg_multixact/offsets/0000", PgVersion::V15, true),
            ("pg_tblspc/7/PG_15_202209061/5/16385", PgVersion::V15, true),
            ("pg_data/postgresql.conf", PgVersion::V15, false),
            ("pg_data/pg_logical/replorigin_checkpoint", PgVersion::V15, false),
            ("pg_data/base", PgVersion::V15, false),
            ("pg_data/basement/1", PgVersion::V15, false),
        ] {
            assert_eq!(layout(version).is_replayed(path.as_bytes()), expected, "{path} on {version:?}");
        }
    }

    #[test]
    fn relation_names() {
        let parse = |name: &'static str| {
            RelationFile::parse(name.as_bytes()).map(|file| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                (file.backend.map(text), text(file.relation), file.fork, file.segment.map(text))
            })
        };
        let s = |text: &str| text.to_owned();
        assert_eq!(parse("16384"), Some((None, s("16384"), Fork::Main, None)));
        assert_eq!(parse("16384.12"), Some((None, s("16384"), Fork::Main, Some(s("12")))));
        assert_eq!(parse("16384_fsm"), Some((None, s("16384"), Fork::FreeSpace, None)));
        assert_eq!(parse("16384_vm.1"), Some((None, s("16384"), Fork::Visibility, Some(s("1")))));
        assert_eq!(parse("16384_init"), Some((None, s("16384"), Fork::Init, None)));
        assert_eq!(parse("t4_16384.1"), Some((Some(s("4")), s("16384"), Fork::Main, Some(s("1")))));
        for no in
            ["", "t", "t4", "x", "16384_", "16384.", "16384.x", "16384_fsmx", "PG_VERSION", "16384_init_fsm", " 1"]
        {
            assert_eq!(parse(no), None, "{no}");
        }
    }

    #[test]
    fn unlogged_relations_are_found_by_their_init_fork() {
        let init = |name: &'static str| RelationFile::parse(name.as_bytes()).unwrap().init_fork_name();
        for name in ["16384", "16384_fsm", "16384_vm.3", "16384.1"] {
            assert_eq!(init(name).as_deref(), Some(&b"16384_init"[..]));
        }
        assert_eq!(init("16384_init"), None);
        assert_eq!(init("t3_16384"), None);
    }

    #[test]
    fn page_numbers_continue_over_segments() {
        for (path, size, expected) in [
            ("pg_data/base/1/16384", 8192, Some(0)),
            ("pg_data/base/1/16384.1", 8192, Some(131_072)),
            ("pg_data/base/1/16384_fsm.2", 8192, Some(262_144)),
            ("pg_data/base/1/16384.1", 32_768, Some(32_768)),
            ("pg_data/base/1/16384.", 8192, Some(0)),
            ("pg_data/base/1/16384.x1", 8192, Some(0)),
            ("16384", 8192, Some(0)),
            ("pg_data/base/1/16384.4294967296", 8192, None),
            ("pg_data/base/1/16384.4294967295", 1024, Some(4_294_967_295 * 1_048_576)),
            ("pg_data/base/1/16384", 0, None),
        ] {
            assert_eq!(first_page_number(path.as_bytes(), size), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn relation_names_round_trip(backend in proptest::option::of(any::<u32>()), relation: u32, fork in 0..4_usize,
                                     segment in proptest::option::of(any::<u32>())) {
            let suffix = ["", "_fsm", "_vm", "_init"][fork];
            let mut name = backend.map_or(String::new(), |backend| format!("t{backend}_"));
            name.push_str(&format!("{relation}{suffix}"));
            if let Some(segment) = segment {
                name.push_str(&format!(".{segment}"));
            }
            let parsed = RelationFile::parse(name.as_bytes());
            prop_assert_eq!(parsed.is_none(), backend.is_some() && fork == 3);
            if let Some(parsed) = parsed {
                let digits = relation.to_string();
                prop_assert_eq!(parsed.relation, digits.as_bytes());
                prop_assert_eq!(parsed.is_temporary(), backend.is_some());
            }
        }

        #[test]
        fn any_bytes_have_a_meaning(path: Vec<u8>, name: Vec<u8>, size: u32) {
            let layout = layout(PgVersion::V15);
            layout.is_database_directory(&path);
            layout.excludes_file(&path, &name, true);
            layout.is_page_checksummed(&path);
            layout.is_replayed(&path);
            first_page_number(&path, size);
            RelationFile::parse(&name);
        }
    }
}
