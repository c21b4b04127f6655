use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::pgdata::error::PgDataErrorKind;
use crate::pgdata::target::TargetKind;
use crate::postgres::PgVersion;

const CATALOG: u32 = 202_209_061;

struct Cluster {
    temporary: tempfile::TempDir,
    layout: DataLayout,
    exclude: Vec<Vec<u8>>,
    tablespaces: Option<Vec<(u32, String)>>,
    links: LinkPolicy,
    accounts: Accounts,
    online: bool,
}

impl Cluster {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let cluster = Self {
            layout: DataLayout::new(PgVersion::V15, CATALOG),
            exclude: Vec::new(),
            tablespaces: None,
            links: LinkPolicy::Any,
            accounts: Accounts::system().unwrap(),
            online: true,
            temporary,
        };
        for directory in ["base/1", "global", "pg_wal/archive_status", "pg_tblspc", "pg_stat_tmp", "pg_xact"] {
            std::fs::create_dir_all(cluster.pg(directory)).unwrap();
        }
        for file in ["PG_VERSION", "base/1/PG_VERSION", "base/1/16384", "global/pg_control", "pg_xact/0000"] {
            cluster.file(file, "x");
        }
        std::fs::set_permissions(cluster.pg(""), std::fs::Permissions::from_mode(0o700)).unwrap();
        cluster
    }

    fn pg(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.temporary.path().join("pg") } else { self.temporary.path().join("pg").join(path) }
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.temporary.path().join(path)
    }

    fn file(&self, path: &str, content: &str) {
        std::fs::write(self.pg(path), content).unwrap();
    }

    fn scan(&self) -> Result<Scan, PgDataError> {
        let options = ScanOptions {
            layout: &self.layout,
            online: self.online,
            exclude: &self.exclude,
            tablespaces: self.tablespaces.as_deref(),
            links: &self.links,
            accounts: &self.accounts,
        };
        scan(self.pg("").as_os_str().as_bytes(), options)
    }

    fn files(&self) -> Vec<String> {
        let scan = self.scan().unwrap();
        scan.files.iter().map(|file| String::from_utf8(file.name.clone()).unwrap()).collect()
    }

    fn refusal(&self) -> PgDataErrorKind {
        self.scan().unwrap_err().kind()
    }

    fn tablespace(&self, oid: &str) -> PathBuf {
        let path = self.outside(&format!("ts{oid}"));
        std::fs::create_dir_all(path.join("PG_15_202209061/5")).unwrap();
        symlink(&path, self.pg("pg_tblspc").join(oid)).unwrap();
        path
    }
}

fn names<'a>(names: impl Iterator<Item = &'a Vec<u8>>) -> Vec<String> {
    names.map(|name| String::from_utf8(name.clone()).unwrap()).collect()
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[test]
fn a_plain_cluster() {
    let cluster = Cluster::new();
    cluster.file("pg_wal/000000010000000000000001", "wal");
    cluster.file("pg_wal/archive_status/000000010000000000000001.done", "");
    cluster.file("pg_stat_tmp/x", "");
    std::fs::set_permissions(cluster.pg("PG_VERSION"), std::fs::Permissions::from_mode(0o4640)).unwrap();
    let time = rustix::fs::Timespec { tv_sec: 1_700_000_000, tv_nsec: 999_999_999 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let file = std::fs::File::options().write(true).open(cluster.pg("PG_VERSION")).unwrap();
    rustix::fs::futimens(&file, &times).unwrap();

    let scan = cluster.scan().unwrap();
    assert_eq!(
        names(scan.files.iter().map(|file| &file.name)),
        [
            "pg_data/PG_VERSION",
            "pg_data/base/1/16384",
            "pg_data/base/1/PG_VERSION",
            "pg_data/global/pg_control",
            "pg_data/pg_xact/0000"
        ]
    );
    assert_eq!(
        names(scan.paths.iter().map(|path| &path.name)),
        [
            "pg_data",
            "pg_data/base",
            "pg_data/base/1",
            "pg_data/global",
            "pg_data/pg_stat_tmp",
            "pg_data/pg_tblspc",
            "pg_data/pg_wal",
            "pg_data/pg_wal/archive_status",
            "pg_data/pg_xact"
        ]
    );
    assert_eq!(scan.paths[0].mode, 0o700);
    assert_eq!(scan.targets, [Target::data(bytes(&cluster.pg("")))]);
    let version = &scan.files[0];
    assert_eq!((version.size_bytes, version.modified_s, version.mode), (1, 1_700_000_000, 0o640));
    let owner = cluster.accounts.user_name(super::super::Ids::current().user);
    assert_eq!(version.owner.user.as_ref(), owner);
}

#[test]
fn offline_keeps_wal() {
    let mut cluster = Cluster::new();
    cluster.file("pg_wal/000000010000000000000001", "wal");
    cluster.file("pg_wal/archive_status/x.ready", "");
    cluster.online = false;
    let files = cluster.files();
    assert!(files.contains(&"pg_data/pg_wal/000000010000000000000001".to_owned()));
    assert!(files.contains(&"pg_data/pg_wal/archive_status/x.ready".to_owned()));
}

#[test]
fn unlogged_relations_keep_their_init_fork() {
    let cluster = Cluster::new();
    for name in ["20000", "20000.1", "20000_fsm", "20000_vm", "20000_init", "200001", "20000x", "t1_20000"] {
        cluster.file(&format!("base/1/{name}"), "");
    }
    // The same number in another database is another relation.
    std::fs::create_dir(cluster.pg("base/2")).unwrap();
    cluster.file("base/2/20000", "");
    std::fs::create_dir(cluster.pg("base/x")).unwrap();
    cluster.file("base/x/1", "");
    cluster.file("base/x/1_init", "");
    let files: Vec<String> =
        cluster.files().into_iter().filter_map(|name| Some(name.strip_prefix("pg_data/base/")?.to_owned())).collect();
    assert_eq!(
        files,
        ["1/16384", "1/200001", "1/20000_init", "1/20000x", "1/PG_VERSION", "2/20000", "x/1", "x/1_init"]
    );
}

#[test]
fn temporary_names_are_left_out_everywhere() {
    let cluster = Cluster::new();
    std::fs::create_dir(cluster.pg("base/pgsql_tmp")).unwrap();
    cluster.file("base/pgsql_tmp/pgsql_tmp1.0", "");
    cluster.file("pgsql_tmp_x", "");
    let scan = cluster.scan().unwrap();
    assert!(scan.files.iter().all(|file| !file.name.windows(9).any(|part| part == b"pgsql_tmp")));
    assert!(scan.paths.iter().all(|path| !path.name.ends_with(b"pgsql_tmp")));
}

#[test]
fn exclusions_by_option() {
    let mut cluster = Cluster::new();
    std::fs::create_dir_all(cluster.pg("log/old")).unwrap();
    cluster.file("log/a", "");
    cluster.file("secret", "");
    cluster.file("keep", "");
    symlink("/nowhere", cluster.pg("broken")).unwrap();
    cluster.exclude = vec![b"log/".to_vec(), b"secret".to_vec(), b"broken".to_vec(), b"base/1/16384".to_vec()];
    let scan = cluster.scan().unwrap();
    let files = names(scan.files.iter().map(|file| &file.name));
    assert!(files.contains(&"pg_data/keep".to_owned()));
    for gone in ["pg_data/log/a", "pg_data/secret", "pg_data/base/1/16384"] {
        assert!(!files.contains(&gone.to_owned()), "{gone}");
    }
    let paths = names(scan.paths.iter().map(|path| &path.name));
    assert!(paths.contains(&"pg_data/log".to_owned()));
    assert!(!paths.contains(&"pg_data/log/old".to_owned()));
    let pg = cluster.pg("");
    let notes: Vec<String> = scan.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            format!("exclude '{}/base/1/16384' from backup using 'base/1/16384' exclusion", pg.display()),
            format!("exclude '{}/broken' from backup using 'broken' exclusion", pg.display()),
            format!("exclude contents of '{}/log' from backup using 'log/' exclusion", pg.display()),
            format!("exclude '{}/secret' from backup using 'secret' exclusion", pg.display()),
        ]
    );
}

#[test]
fn links_become_targets() {
    let cluster = Cluster::new();
    std::fs::remove_dir_all(cluster.pg("pg_wal")).unwrap();
    std::fs::create_dir_all(cluster.outside("wal/archive_status")).unwrap();
    std::fs::create_dir(cluster.outside("etc")).unwrap();
    std::fs::write(cluster.outside("wal/000000010000000000000001"), "wal").unwrap();
    std::fs::write(cluster.outside("etc/postgresql.conf"), "conf").unwrap();
    symlink(cluster.outside("wal"), cluster.pg("pg_wal")).unwrap();
    symlink("../etc/postgresql.conf", cluster.pg("postgresql.conf")).unwrap();
    let scan = cluster.scan().unwrap();
    let wal = bytes(&cluster.outside("wal")).to_vec();
    assert_eq!(
        scan.targets[1..],
        [
            Target { name: b"pg_data/pg_wal".to_vec(), path: wal.clone(), kind: TargetKind::DirectoryLink },
            Target {
                name: b"pg_data/postgresql.conf".to_vec(),
                path: b"../etc".to_vec(),
                kind: TargetKind::FileLink(b"postgresql.conf".to_vec()),
            },
        ]
    );
    assert_eq!(scan.links[0].destination, wal);
    assert_eq!(scan.links[1].destination, b"../etc/postgresql.conf");
    let conf = scan.files.iter().find(|file| file.name == b"pg_data/postgresql.conf").unwrap();
    assert_eq!(conf.size_bytes, 4);
    let paths = names(scan.paths.iter().map(|path| &path.name));
    assert!(paths.contains(&"pg_data/pg_wal/archive_status".to_owned()));
    assert!(!names(scan.files.iter().map(|file| &file.name)).iter().any(|name| name.contains("pg_wal/0")));
}

#[test]
fn tablespaces() {
    let mut cluster = Cluster::new();
    let path = cluster.tablespace("16400");
    std::fs::write(path.join("PG_15_202209061/5/16401"), "").unwrap();
    std::fs::write(path.join("PG_15_202209061/5/t1_16402"), "").unwrap();
    std::fs::create_dir(path.join("PG_14_202107181")).unwrap();
    std::fs::write(path.join("other"), "").unwrap();
    cluster.tablespaces = Some(vec![(1663, "pg_default".into()), (16400, "fast".into())]);
    let scan = cluster.scan().unwrap();
    let kind = TargetKind::Tablespace { oid: 16400, name: b"fast".to_vec() };
    assert_eq!(scan.targets[1], Target { name: b"pg_tblspc/16400".to_vec(), path: bytes(&path).to_vec(), kind });
    assert_eq!(names(scan.links.iter().map(|link| &link.name)), ["pg_data/pg_tblspc/16400"]);
    let in_tablespace = |names: Vec<String>| -> Vec<String> {
        names.into_iter().filter(|name| name.starts_with("pg_tblspc")).collect()
    };
    assert_eq!(
        in_tablespace(names(scan.paths.iter().map(|path| &path.name))),
        ["pg_tblspc", "pg_tblspc/16400", "pg_tblspc/16400/PG_15_202209061", "pg_tblspc/16400/PG_15_202209061/5"]
    );
    assert_eq!(
        in_tablespace(names(scan.files.iter().map(|file| &file.name))),
        ["pg_tblspc/16400/PG_15_202209061/5/16401"]
    );
    cluster.tablespaces = None;
    let offline = cluster.scan().unwrap();
    assert!(
        matches!(&offline.targets[1].kind, TargetKind::Tablespace { name, .. } if name == b"ts16400"),
        "{:?}",
        offline.targets
    );
}

#[test]
fn bk23_tablespaces_that_do_not_fit() {
    // A tablespace that the server does not know.
    let mut cluster = Cluster::new();
    let path = cluster.tablespace("16400");
    cluster.tablespaces = Some(vec![(1663, "pg_default".into())]);
    assert_eq!(cluster.refusal(), PgDataErrorKind::UnknownTablespace);
    cluster.tablespaces = None;
    cluster.scan().unwrap();
    // One that was dropped, and one whose directory is gone.
    std::fs::remove_dir_all(path.join("PG_15_202209061")).unwrap();
    assert_eq!(cluster.refusal(), PgDataErrorKind::FileOpen);
    symlink("/", path.join("PG_15_202209061")).unwrap();
    assert_eq!(cluster.refusal(), PgDataErrorKind::LinkDestination);
    std::fs::remove_dir_all(&path).unwrap();
    assert_eq!(cluster.refusal(), PgDataErrorKind::FileOpen);
    // Not links, and not object ids.
    let cluster = Cluster::new();
    std::fs::create_dir(cluster.pg("pg_tblspc/1")).unwrap();
    assert_eq!(cluster.refusal(), PgDataErrorKind::LinkExpected);
    let cluster = Cluster::new();
    cluster.file("pg_tblspc/1", "");
    assert_eq!(cluster.refusal(), PgDataErrorKind::LinkExpected);
    let cluster = Cluster::new();
    cluster.tablespace("x1");
    assert_eq!(cluster.refusal(), PgDataErrorKind::Format);
}

#[test]
fn bk23_links_that_lead_astray() {
    type Plant = fn(&Cluster);
    let table: [(&str, Plant, PgDataErrorKind); 9] = [
        ("into PGDATA", |c| symlink("base", c.pg("x")).unwrap(), PgDataErrorKind::LinkDestination),
        ("to PGDATA", |c| symlink("../pg", c.pg("x")).unwrap(), PgDataErrorKind::LinkDestination),
        ("above PGDATA", |c| symlink("/", c.pg("x")).unwrap(), PgDataErrorKind::LinkDestination),
        (
            "to a link",
            |c| {
                std::fs::create_dir(c.outside("real")).unwrap();
                symlink(c.outside("real"), c.outside("way")).unwrap();
                symlink("../way", c.pg("x")).unwrap();
            },
            PgDataErrorKind::LinkDestination,
        ),
        (
            "to one another",
            |c| {
                symlink(c.outside("b"), c.outside("a")).unwrap();
                symlink(c.outside("a"), c.outside("b")).unwrap();
                symlink("../a", c.pg("x")).unwrap();
            },
            PgDataErrorKind::LinkDestination,
        ),
        ("to nowhere", |c| symlink("../none", c.pg("x")).unwrap(), PgDataErrorKind::FileOpen),
        (
            "to PGDATA under another name",
            |c| {
                symlink(".", c.outside("alias")).unwrap();
                symlink(c.outside("alias/pg"), c.pg("x")).unwrap();
            },
            PgDataErrorKind::LinkDestination,
        ),
        (
            "twice to one directory",
            |c| {
                std::fs::create_dir(c.outside("d")).unwrap();
                symlink("../d", c.pg("x")).unwrap();
                symlink("../d/.", c.pg("y")).unwrap();
            },
            PgDataErrorKind::LinkDestination,
        ),
        (
            "tablespace inside PGDATA",
            |c| {
                std::fs::create_dir_all(c.pg("ts/PG_15_202209061")).unwrap();
                symlink(c.pg("ts"), c.pg("pg_tblspc/7")).unwrap();
            },
            PgDataErrorKind::LinkDestination,
        ),
    ];
    for (what, plant, expected) in table {
        let cluster = Cluster::new();
        plant(&cluster);
        let error = cluster.scan().unwrap_err();
        assert_eq!(error.kind(), expected, "{what}: {error}");
    }
}

#[test]
fn hi18_sec18_a_planted_link_does_not_reach_secrets() {
    let mut cluster = Cluster::new();
    std::fs::create_dir(cluster.outside("run")).unwrap();
    std::fs::write(cluster.outside("run/token"), "secret").unwrap();
    std::fs::create_dir(cluster.outside("wal")).unwrap();
    std::fs::remove_dir_all(cluster.pg("pg_wal")).unwrap();
    symlink(cluster.outside("wal"), cluster.pg("pg_wal")).unwrap();
    cluster.tablespace("16400");
    let allowed = |names: &[&str]| {
        LinkPolicy::Only(names.iter().map(|name| bytes(&cluster.outside(name)).to_vec()).collect::<Vec<_>>())
    };
    let (both, only_wal) = (allowed(&["wal", "ts16400"]), allowed(&["wal"]));
    cluster.links = only_wal;
    assert_eq!(cluster.refusal(), PgDataErrorKind::LinkDestination);
    cluster.links = both;
    cluster.scan().unwrap();

    symlink(cluster.outside("run/token"), cluster.pg("base/x")).unwrap();
    let error = cluster.scan().unwrap_err();
    assert_eq!(error.kind(), PgDataErrorKind::LinkDestination);
    assert_eq!(error.path(), b"pg_data/base/x");
    std::fs::remove_file(cluster.pg("base/x")).unwrap();

    // An allowed place that holds a way out.
    std::fs::remove_file(cluster.pg("pg_wal")).unwrap();
    symlink(cluster.outside("run"), cluster.outside("wal/out")).unwrap();
    symlink(cluster.outside("wal/out/x"), cluster.pg("pg_wal")).unwrap();
    std::fs::create_dir(cluster.outside("run/x")).unwrap();
    assert_eq!(cluster.refusal(), PgDataErrorKind::FileOpen);
}

#[test]
fn special_files_are_left_out_with_a_warning() {
    let cluster = Cluster::new();
    let socket = std::os::unix::net::UnixListener::bind(cluster.pg("socket")).unwrap();
    let scan = cluster.scan().unwrap();
    assert_eq!(scan.notes, [ScanNote::SpecialFile { path: bytes(&cluster.pg("socket")).to_vec() }]);
    assert!(scan.notes[0].is_warning());
    drop(socket);
}

#[test]
fn bk22_odd_names() {
    let cluster = Cluster::new();
    let long = "n".repeat(255);
    let odd: Vec<Vec<u8>> = [&b"a=b"[..], b"[x]", b"#c", b"back\\slash", b"qu\"ote", b"tab\t", b" space", b"latin\xe9"]
        .iter()
        .map(|name| name.to_vec())
        .chain([long.into_bytes()])
        .collect();
    for name in &odd {
        std::fs::write(cluster.pg("base/1").join(std::ffi::OsString::from_vec(name.clone())), "").unwrap();
    }
    let scan = cluster.scan().unwrap();
    for name in &odd {
        let full = [b"pg_data/base/1/", name.as_slice()].concat();
        assert!(scan.files.iter().any(|file| file.name == full), "{name:?}");
    }
    assert!(scan.files.is_sorted_by(|a, b| a.name < b.name));

    cluster.file("base/1/new\nline", "");
    let error = cluster.scan().unwrap_err();
    assert_eq!(error.kind(), PgDataErrorKind::Format);
    assert!(error.to_string().contains("base/1/new\\nline"), "{error}");
}

#[test]
fn nesting_has_an_end() {
    let cluster = Cluster::new();
    let mut path = cluster.pg("deep");
    for _ in 0..140 {
        path.push("d");
    }
    std::fs::create_dir_all(&path).unwrap();
    assert_eq!(cluster.refusal(), PgDataErrorKind::Format);
}

#[test]
fn bk01_files_may_vanish_during_the_walk() {
    let cluster = Cluster::new();
    let busy = cluster.pg("base/2");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::create_dir_all(busy.join("sub")).unwrap();
                for number in 0..20 {
                    std::fs::write(busy.join(number.to_string()), "").unwrap();
                }
                std::fs::remove_dir_all(&busy).unwrap();
            }
        });
        for _ in 0..200 {
            let scan = cluster.scan();
            if scan.is_err() {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            let scan = scan.unwrap();
            assert!(scan.files.iter().any(|file| file.name == b"pg_data/base/1/16384"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn hi03_a_directory_swapped_for_a_link_is_never_followed() {
    let cluster = Cluster::new();
    std::fs::create_dir(cluster.outside("secret")).unwrap();
    std::fs::write(cluster.outside("secret/canary"), "").unwrap();
    std::fs::create_dir(cluster.pg("base/2")).unwrap();
    let (real, parked) = (cluster.pg("base/2"), cluster.outside("parked"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::rename(&real, &parked).unwrap();
                symlink(cluster.outside("secret"), &real).unwrap();
                std::fs::remove_file(&real).unwrap();
                std::fs::rename(&parked, &real).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        });
        let mut found = Vec::new();
        for _ in 0..500 {
            if let Ok(scan) = cluster.scan() {
                // Seen as a link it is recorded as one, as without a swap; as a directory it must be the real one.
                let is_link = scan.links.iter().any(|link| link.name == b"pg_data/base/2");
                found.push(is_link || !scan.files.iter().any(|file| file.name.ends_with(b"canary")));
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!found.is_empty());
        assert!(found.iter().all(|&fine| fine));
    });
}
