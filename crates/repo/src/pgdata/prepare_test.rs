use super::*;
use crate::pgdata::clean::{ExpectedLink, ignored_files};
use crate::pgdata::{EntryMode, check_not_running, is_data_directory};
use crate::postgres::PgVersion;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

/// A manifest with a WAL link, a file link and a tablespace, and the places that it is restored to.
struct Restore {
    temporary: tempfile::TempDir,
    targets: Vec<Target>,
    layout: DataLayout,
    links: LinkPolicy,
}

const FILES: [&str; 5] = [
    "pg_data/PG_VERSION",
    "pg_data/global/pg_control",
    "pg_data/base/1/2",
    "pg_data/postgresql.conf",
    "pg_tblspc/7/PG_15_202209061/5/6",
];

impl Restore {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let path = |name: &str| temporary.path().join(name).as_os_str().as_bytes().to_vec();
        let targets = vec![
            Target::data(&path("pg")),
            Target { name: b"pg_data/pg_wal".to_vec(), path: b"../wal".to_vec(), kind: TargetKind::DirectoryLink },
            Target {
                name: b"pg_data/postgresql.conf".to_vec(),
                path: path("etc"),
                kind: TargetKind::FileLink(b"pg.conf".to_vec()),
            },
            Target {
                name: b"pg_tblspc/7".to_vec(),
                path: path("ts"),
                kind: TargetKind::Tablespace { oid: 7, name: b"fast".to_vec() },
            },
        ];
        let layout = DataLayout::new(PgVersion::V15, 202_209_061);
        Self { targets, layout, links: LinkPolicy::Any, temporary }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.temporary.path().join(path)
    }

    fn plant(&self, path: &str) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), "planted").unwrap();
    }

    fn prepare(&self, overwrite: Overwrite) -> Result<(DataRoots, Vec<Cleaned>), PgDataError> {
        let expected = |mode| Expected { mode: EntryMode::directory(mode), owner: Ids::current() };
        let link = |destination: &[u8]| ExpectedLink { destination: destination.to_vec(), owner: Ids::current() };
        let file = |name: &[u8]| {
            let known = FILES.iter().any(|file| file.as_bytes() == name);
            known.then(|| Expected { mode: EntryMode::file(0o600), owner: Ids::current() })
        };
        let paths = [
            "pg_data",
            "pg_data/base",
            "pg_data/base/1",
            "pg_data/global",
            "pg_data/pg_tblspc",
            "pg_data/pg_wal",
            "pg_data/pg_wal/archive_status",
            "pg_tblspc",
            "pg_tblspc/7",
            "pg_tblspc/7/PG_15_202209061",
            "pg_tblspc/7/PG_15_202209061/5",
        ];
        let tree = ExpectedTree {
            file: &file,
            paths: paths.iter().map(|path| (path.as_bytes().to_vec(), expected(0o700))).collect(),
            links: BTreeMap::from([
                (b"pg_data/pg_wal".to_vec(), link(b"../wal")),
                (b"pg_data/postgresql.conf".to_vec(), link(self.at("etc/pg.conf").as_os_str().as_bytes())),
                (b"pg_data/pg_tblspc/7".to_vec(), link(self.at("ts").as_os_str().as_bytes())),
            ]),
        };
        let options = PrepareOptions {
            layout: &self.layout,
            overwrite,
            ignored: &ignored_files(PgVersion::V15, false),
            links: &self.links,
            current: Ids::current(),
        };
        prepare_destinations(&self.targets, &tree, options)
    }

    fn refusal(&self, overwrite: Overwrite) -> PgDataErrorKind {
        self.prepare(overwrite).unwrap_err().kind()
    }

    /// Every path below the temporary directory, links with their text.
    fn tree(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.temporary.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.temporary.path()).unwrap().display().to_string();
                let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
                if kind.is_symlink() {
                    found.insert(format!("{name} -> {}", std::fs::read_link(&path).unwrap().display()));
                } else {
                    found.insert(name);
                }
                if kind.is_dir() {
                    open.push(path);
                }
            }
        }
        found
    }

    fn prepared(&self) -> BTreeSet<String> {
        let base = self.temporary.path().display();
        [
            "etc".to_owned(),
            "pg".to_owned(),
            "pg/base".to_owned(),
            "pg/base/1".to_owned(),
            "pg/global".to_owned(),
            "pg/pg_tblspc".to_owned(),
            format!("pg/pg_tblspc/7 -> {base}/ts"),
            "pg/pg_wal -> ../wal".to_owned(),
            format!("pg/postgresql.conf -> {base}/etc/pg.conf"),
            "ts".to_owned(),
            "ts/PG_15_202209061".to_owned(),
            "ts/PG_15_202209061/5".to_owned(),
            "wal".to_owned(),
            "wal/archive_status".to_owned(),
        ]
        .into()
    }
}

#[test]
fn an_empty_machine_gets_directories_and_links() {
    let restore = Restore::new();
    let (roots, cleaned) = restore.prepare(Overwrite::Never).unwrap();
    assert!(cleaned.is_empty());
    assert_eq!(restore.tree(), restore.prepared());
    let (directory, below) = roots.locate(b"pg_data/pg_wal/archive_status/x").unwrap();
    assert_eq!(directory.path(), restore.at("wal").as_os_str().as_bytes());
    assert_eq!(below.as_bytes(), b"archive_status/x");
    assert_eq!(std::fs::metadata(restore.at("pg")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn rs09_surplus_entries_are_removed_everywhere() {
    let restore = Restore::new();
    restore.prepare(Overwrite::Never).unwrap();
    for path in [
        "pg/PG_VERSION",
        "pg/global/pg_control",
        "pg/base/1/2",
        "pg/backup.manifest",
        "pg/recovery.signal",
        "pg/base/1/3",
        "pg/base/9/1",
        "wal/000000010000000000000001",
        "wal/archive_status/000000010000000000000001.ready",
        "ts/PG_15_202209061/5/6",
        "ts/PG_15_202209061/5/7",
        "ts/PG_15_202209061/6/7",
        "ts/PG_14_202107181/5/6",
        "ts/other",
        "etc/pg.conf",
        "etc/other",
        "outside/canary",
    ] {
        restore.plant(path);
    }
    std::fs::remove_file(restore.at("pg/pg_wal")).unwrap();
    symlink(restore.at("outside"), restore.at("pg/pg_wal")).unwrap();
    symlink(restore.at("outside"), restore.at("pg/base/1/way")).unwrap();
    symlink(restore.at("outside"), restore.at("pg/base/9/way")).unwrap();
    std::fs::set_permissions(restore.at("pg/base"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (_, cleaned) = restore.prepare(Overwrite::Allowed).unwrap();
    let mut expected = restore.prepared();
    expected.extend(
        [
            "pg/PG_VERSION",
            "pg/base/1/2",
            "pg/backup.manifest",
            "ts/PG_15_202209061/5/6",
            // A tablespace directory of another version, and what else an administrator keeps beside.
            "ts/PG_14_202107181",
            "ts/PG_14_202107181/5",
            "ts/PG_14_202107181/5/6",
            "ts/other",
            "etc/pg.conf",
            "etc/other",
            "outside",
            "outside/canary",
        ]
        .map(str::to_owned),
    );
    assert_eq!(restore.tree(), expected);
    assert_eq!(std::fs::metadata(restore.at("pg/base")).unwrap().mode() & 0o7777, 0o700);
    let changes: usize = cleaned.iter().map(|cleaned| cleaned.actions.len()).sum();
    assert!(changes >= 10, "{cleaned:?}");

    let (_, cleaned) = restore.prepare(Overwrite::Allowed).unwrap();
    let left: Vec<_> = cleaned.iter().flat_map(|cleaned| &cleaned.actions).collect();
    assert!(left.is_empty(), "cleaning again finds nothing to do: {left:?}");
}

#[test]
fn rs03_places_that_are_not_empty_are_left_alone() {
    for (path, expected) in [
        ("pg/file", PgDataErrorKind::NotEmpty),
        ("pg/directory/x", PgDataErrorKind::NotEmpty),
        ("wal/000000010000000000000001", PgDataErrorKind::NotEmpty),
        ("wal/backup.manifest", PgDataErrorKind::NotEmpty),
        ("ts/PG_15_202209061/5", PgDataErrorKind::NotEmpty),
        ("etc/pg.conf", PgDataErrorKind::FileExists),
    ] {
        let restore = Restore::new();
        restore.plant(path);
        let before = restore.tree();
        assert_eq!(restore.refusal(Overwrite::Never), expected, "{path}");
        assert_eq!(restore.tree(), before, "{path}: something was changed");
    }
    for path in ["ts/other", "ts/PG_14_202107181/x", "etc/other", "pg/backup.manifest"] {
        let restore = Restore::new();
        restore.plant(path);
        restore.prepare(Overwrite::Never).unwrap();
    }
}

#[test]
fn rs03_only_a_data_directory_may_be_cleaned() {
    let restore = Restore::new();
    restore.plant("pg/file");
    let pgdata = Directory::open(restore.at("pg").as_os_str().as_bytes()).unwrap();
    assert!(!is_data_directory(&pgdata).unwrap());
    std::fs::create_dir(restore.at("pg/PG_VERSION")).unwrap();
    assert!(!is_data_directory(&pgdata).unwrap(), "a directory of that name proves nothing");
    restore.plant("pg/backup.manifest");
    assert!(is_data_directory(&pgdata).unwrap());
    check_not_running(&pgdata).unwrap();
    restore.plant("pg/postmaster.pid");
    assert_eq!(check_not_running(&pgdata).unwrap_err().kind(), PgDataErrorKind::Running);
}

#[test]
fn rs10_destinations_that_cannot_be_are_found_before_anything_is_changed() {
    type Change = fn(&mut Restore);
    let table: [(&str, Change, PgDataErrorKind); 7] = [
        (
            "tablespace in PGDATA",
            |r| r.targets[3].path = [&r.targets[0].path, &b"/x"[..]].concat(),
            PgDataErrorKind::LinkDestination,
        ),
        ("link to PGDATA", |r| r.targets[1].path = b"../pg".to_vec(), PgDataErrorKind::LinkDestination),
        ("two in one place", |r| r.targets[1].path = r.targets[3].path.clone(), PgDataErrorKind::LinkDestination),
        ("climbing", |r| r.targets[3].path = b"/tmp/../etc".to_vec(), PgDataErrorKind::LinkDestination),
        ("relative data directory", |r| r.targets[0].path = b"pg".to_vec(), PgDataErrorKind::LinkDestination),
        (
            "not a directory",
            |r| {
                r.plant("ts");
            },
            PgDataErrorKind::ChangedType,
        ),
        ("not allowed", |r| r.links = LinkPolicy::Only(vec![b"/elsewhere".to_vec()]), PgDataErrorKind::LinkDestination),
    ];
    for (what, change, expected) in table {
        let mut restore = Restore::new();
        restore.plant("pg/PG_VERSION");
        restore.plant("pg/surplus");
        change(&mut restore);
        let before = restore.tree();
        assert_eq!(restore.refusal(Overwrite::Allowed), expected, "{what}");
        assert_eq!(restore.tree(), before, "{what}: something was changed");
    }
}

#[test]
fn hi03_sec08_cleaning_does_not_leave_the_destination() {
    let restore = Restore::new();
    restore.prepare(Overwrite::Never).unwrap();
    restore.plant("outside/global/pg_control");
    restore.plant("outside/1/2");
    std::fs::remove_dir(restore.at("pg/global")).unwrap();
    symlink("../outside/global", restore.at("pg/global")).unwrap();
    std::fs::remove_dir_all(restore.at("pg/base")).unwrap();
    symlink("../outside", restore.at("pg/base")).unwrap();
    restore.prepare(Overwrite::Allowed).unwrap();
    let mut expected = restore.prepared();
    expected.extend(
        ["outside", "outside/1", "outside/1/2", "outside/global", "outside/global/pg_control"].map(str::to_owned),
    );
    assert_eq!(restore.tree(), expected);
    assert_eq!(std::fs::read(restore.at("outside/1/2")).unwrap(), b"planted");
}

#[test]
fn hi03_removing_a_tree_does_not_follow_a_swapped_directory() {
    let restore = Restore::new();
    restore.plant("outside/canary");
    let outside = restore.at("outside");
    for round in 0..100 {
        let place = restore.at(&format!("tree{round}"));
        std::fs::create_dir_all(place.join("a")).unwrap();
        for file in 0..20 {
            std::fs::write(place.join("a").join(file.to_string()), "").unwrap();
        }
        let directory = Directory::open(restore.temporary.path().as_os_str().as_bytes()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Either may fail, depending on how far the removal is.
                if std::fs::rename(place.join("a"), place.join("b")).is_ok() {
                    drop(symlink(&outside, place.join("a")));
                }
            });
            let name = RelativePath::parse(format!("tree{round}").as_bytes()).unwrap();
            drop(directory.remove_tree(&name));
        });
        assert_eq!(std::fs::read(outside.join("canary")).unwrap(), b"planted");
    }
}
