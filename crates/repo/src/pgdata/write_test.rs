use super::*;
use crate::pgdata::{LinkPolicy, Target};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir(temporary.path().join("pg")).unwrap();
        std::fs::create_dir(temporary.path().join("outside")).unwrap();
        std::fs::write(temporary.path().join("outside/canary"), "canary").unwrap();
        Self(temporary)
    }

    fn pg(&self, path: &str) -> PathBuf {
        self.0.path().join("pg").join(path)
    }

    fn canary(&self) -> PathBuf {
        self.0.path().join("outside/canary")
    }

    fn roots(&self) -> DataRoots {
        DataRoots::open(&[Target::data(self.0.path().join("pg").as_os_str().as_bytes())], &LinkPolicy::Any).unwrap()
    }

    fn assert_outside_is_untouched(&self) {
        assert_eq!(std::fs::read(self.canary()).unwrap(), b"canary");
        assert_eq!(std::fs::read_dir(self.0.path().join("outside")).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(self.0.path()).unwrap().count(), 2);
    }
}

fn attributes(mode: u32) -> FileAttributes {
    FileAttributes { mode: EntryMode::file(mode), owner: Ids::current(), modified_s: 1_600_000_000 }
}

fn relative(path: &str) -> RelativePath {
    RelativePath::parse(path.as_bytes()).unwrap()
}

#[test]
fn a_file_gets_content_mode_owner_and_time() {
    let place = Place::new();
    let roots = place.roots();
    for sync in [SyncPolicy::EachFile, SyncPolicy::FileSystem] {
        drop(std::fs::remove_file(place.pg("file")));
        let mut file = TargetFile::create(&roots, b"pg_data/file", Existing::Replace).unwrap();
        assert_eq!(std::fs::metadata(place.pg("file")).unwrap().mode() & 0o777, 0o600);
        file.append(b"hello ").unwrap();
        file.write_all(b"world").unwrap();
        file.write_at(6, b"W").unwrap();
        file.finish(attributes(0o4640), sync).unwrap();
        let metadata = std::fs::metadata(place.pg("file")).unwrap();
        assert_eq!(std::fs::read(place.pg("file")).unwrap(), b"hello World");
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o640, 1_600_000_000));
    }
    sync_file_systems(&roots).unwrap();
    roots.directory(b"pg_data").unwrap().sync(&RelativePath::root()).unwrap();
    let error = TargetFile::create(&roots, b"pg_data/file", Existing::Refuse).unwrap_err();
    assert_eq!(error.kind(), PgDataErrorKind::FileExists);
    assert_eq!(std::fs::read(place.pg("file")).unwrap(), b"hello World");
}

#[test]
fn zeroed_files_are_holes() {
    let place = Place::new();
    let file = TargetFile::create(&place.roots(), b"pg_data/zero", Existing::Refuse).unwrap();
    file.set_length(64 * 1024 * 1024).unwrap();
    file.finish(attributes(0o600), SyncPolicy::FileSystem).unwrap();
    let metadata = std::fs::metadata(place.pg("zero")).unwrap();
    assert_eq!(metadata.len(), 64 * 1024 * 1024);
    assert!(metadata.blocks() < 1024, "{} blocks", metadata.blocks());
}

#[test]
fn hi01_sec08_names_that_climb_write_nothing() {
    let place = Place::new();
    let roots = place.roots();
    for name in
        ["pg_data/../outside/x", "pg_data/../../x", "/etc/x", "pg_data//x", "pg_data/x/.", "../x", "pg_data/a\0"]
    {
        let error = TargetFile::create(&roots, name.as_bytes(), Existing::Replace).unwrap_err();
        assert_eq!(error.kind(), PgDataErrorKind::Format, "{name:?}");
    }
    place.assert_outside_is_untouched();
}

#[test]
fn hi03_sec08_planted_links_are_not_written_through() {
    let place = Place::new();
    symlink("../outside/canary", place.pg("file")).unwrap();
    symlink("../outside", place.pg("way")).unwrap();
    symlink("../outside/new", place.pg("dangling")).unwrap();
    let roots = place.roots();
    for name in ["file", "way/canary", "way/new", "dangling"] {
        let name = format!("pg_data/{name}");
        for existing in [Existing::Replace, Existing::Refuse] {
            TargetFile::create(&roots, name.as_bytes(), existing).unwrap_err();
        }
        let error = ExistingFile::open(&roots, name.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), PgDataErrorKind::ChangedType, "{name}");
        write_file(&roots, name.as_bytes(), b"x", attributes(0o600)).unwrap_err();
    }
    let root = roots.directory(b"pg_data").unwrap();
    let (mode, owner) = (EntryMode::directory(0o750), Ids::current());
    root.create_directory(&relative("way/new"), mode, owner).unwrap_err();
    assert_eq!(root.create_directory(&relative("way"), mode, owner).unwrap_err().kind(), PgDataErrorKind::ChangedType);
    root.create_link(&relative("way/new"), b"x", owner).unwrap_err();
    root.remove_file(&relative("way/canary")).unwrap_err();
    root.rename(&relative("file"), &relative("way/new")).unwrap_err();
    root.sync(&relative("way")).unwrap_err();
    let canary_mode = std::fs::metadata(place.canary()).unwrap().mode();
    root.set_mode(&relative("file"), EntryMode::file(0o777)).unwrap_err();
    assert_eq!(std::fs::metadata(place.canary()).unwrap().mode(), canary_mode);
    let canary_time = std::fs::metadata(place.canary()).unwrap().mtime();
    root.set_modified(&relative("file"), 1).unwrap();
    assert_eq!(std::fs::metadata(place.canary()).unwrap().mtime(), canary_time, "the link's own time was set");
    place.assert_outside_is_untouched();
}

#[test]
fn hi03_sec08_a_swapped_directory_is_never_written_through() {
    let place = Place::new();
    std::fs::create_dir(place.pg("base")).unwrap();
    let roots = place.roots();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (real, parked) = (place.pg("base"), place.pg("parked"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::rename(&real, &parked).unwrap();
                symlink("../outside", &real).unwrap();
                std::fs::remove_file(&real).unwrap();
                std::fs::rename(&parked, &real).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        });
        let mut written = 0;
        for number in 0..3000 {
            let name = format!("pg_data/base/{number}");
            if let Ok(mut file) = TargetFile::create(&roots, name.as_bytes(), Existing::Replace) {
                file.append(b"x").unwrap();
                written += 1;
            }
            let canary = TargetFile::create(&roots, b"pg_data/base/canary", Existing::Replace);
            drop(canary);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(written > 0);
    });
    place.assert_outside_is_untouched();
}

#[test]
fn hard_links_keep_their_content() {
    let place = Place::new();
    std::fs::hard_link(place.canary(), place.pg("file")).unwrap();
    let roots = place.roots();
    assert!(ExistingFile::open(&roots, b"pg_data/file").unwrap().is_none());
    write_file(&roots, b"pg_data/file", b"new", attributes(0o600)).unwrap();
    assert_eq!(std::fs::read(place.pg("file")).unwrap(), b"new");
    place.assert_outside_is_untouched();
}

#[test]
fn special_files_are_never_opened_for_good() {
    let place = Place::new();
    rustix::fs::mknodat(rustix::fs::CWD, place.pg("fifo"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    std::fs::create_dir(place.pg("directory")).unwrap();
    let roots = place.roots();
    for name in ["pg_data/fifo", "pg_data/directory"] {
        let error = TargetFile::create(&roots, name.as_bytes(), Existing::Replace).unwrap_err();
        assert_eq!(error.kind(), PgDataErrorKind::ChangedType, "{name}");
        let error = ExistingFile::open(&roots, name.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), PgDataErrorKind::ChangedType, "{name}");
    }
}

#[test]
fn existing_files_are_hashed_and_cut() {
    let place = Place::new();
    let roots = place.roots();
    assert!(ExistingFile::open(&roots, b"pg_data/file").unwrap().is_none());
    std::fs::write(place.pg("file"), "abcdef").unwrap();
    let mut file = ExistingFile::open(&roots, b"pg_data/file").unwrap().unwrap();
    assert_eq!(file.info().size_bytes, 6);
    file.truncate(3).unwrap();
    file.truncate(5).unwrap();
    // FIPS 180-4, "abc".
    assert_eq!(hex::encode(file.sha1().unwrap()), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(hex::encode(file.sha1().unwrap()), "a9993e364706816aba3e25717850c26c9cd0d89d");
    let file = file.into_target();
    file.write_at(1, b"B").unwrap();
    file.finish(attributes(0o600), SyncPolicy::EachFile).unwrap();
    assert_eq!(std::fs::read(place.pg("file")).unwrap(), b"aBc");
}

#[test]
fn directories_get_their_mode_whatever_the_umask() {
    let place = Place::new();
    let roots = place.roots();
    let root = roots.directory(b"pg_data").unwrap();
    assert!(root.create_directory(&relative("a"), EntryMode::directory(0o777), Ids::current()).unwrap());
    assert!(!root.create_directory(&relative("a"), EntryMode::directory(0o700), Ids::current()).unwrap());
    assert_eq!(std::fs::metadata(place.pg("a")).unwrap().mode() & 0o7777, 0o775);
    std::fs::write(place.pg("f"), "").unwrap();
    std::fs::set_permissions(place.pg("f"), std::fs::Permissions::from_mode(0o000)).unwrap();
    root.set_mode(&relative("f"), EntryMode::file(0o640)).unwrap();
    assert_eq!(std::fs::metadata(place.pg("f")).unwrap().mode() & 0o7777, 0o640);

    let deep = place.pg("x/y/z");
    let made = Directory::create_all(deep.as_os_str().as_bytes(), EntryMode::data_directory(0o777), Ids::current());
    assert_eq!(made.unwrap().info().unwrap().mode, 0o750);
    assert_eq!(std::fs::metadata(place.pg("x")).unwrap().mode() & 0o7777, 0o750);
    Directory::create_all(b"relative", EntryMode::directory(0o700), Ids::current()).unwrap_err();
    std::fs::write(place.pg("file"), "").unwrap();
    let below_file = place.pg("file/x");
    Directory::create_all(below_file.as_os_str().as_bytes(), EntryMode::directory(0o700), Ids::current()).unwrap_err();
}

#[test]
fn hi11_owners_are_set_only_where_they_differ() {
    let place = Place::new();
    std::fs::write(place.pg("file"), "").unwrap();
    symlink("/nowhere", place.pg("link")).unwrap();
    let roots = place.roots();
    let root = roots.directory(b"pg_data").unwrap();
    root.set_owner(&relative("file"), Ids::current()).unwrap();
    let other = Ids { user: 12_345, group: 12_345 };
    let result = root.set_owner(&relative("link"), other);
    if Ids::current().is_root() {
        result.unwrap();
        assert_eq!(std::fs::symlink_metadata(place.pg("link")).unwrap().uid(), 12_345);
        let file = TargetFile::create(&roots, b"pg_data/given", Existing::Refuse).unwrap();
        file.finish(FileAttributes { owner: other, ..attributes(0o600) }, SyncPolicy::FileSystem).unwrap();
        assert_eq!(std::fs::metadata(place.pg("given")).unwrap().gid(), 12_345);
    } else {
        assert_eq!(result.unwrap_err().kind(), PgDataErrorKind::FileOwner);
    }
}

#[test]
fn renames_replace_and_links_are_created() {
    let place = Place::new();
    let roots = place.roots();
    let root = roots.directory(b"pg_data").unwrap();
    std::fs::create_dir(place.pg("global")).unwrap();
    std::fs::write(place.pg("global/pg_control.tmp"), "new").unwrap();
    std::fs::write(place.pg("global/pg_control"), "old").unwrap();
    root.rename(&relative("global/pg_control.tmp"), &relative("global/pg_control")).unwrap();
    root.sync(&relative("global")).unwrap();
    assert_eq!(std::fs::read(place.pg("global/pg_control")).unwrap(), b"new");
    let missing = root.rename(&relative("global/none"), &relative("global/pg_control")).unwrap_err();
    assert_eq!((missing.kind(), missing.errno()), (PgDataErrorKind::FileMove, Some(Errno::NOENT)));
    root.create_link(&relative("pg_wal"), b"../wal", Ids::current()).unwrap();
    assert_eq!(root.link_text(&relative("pg_wal")).unwrap(), b"../wal");
    assert_eq!(
        root.create_link(&relative("pg_wal"), b"x", Ids::current()).unwrap_err().kind(),
        PgDataErrorKind::FileOpen
    );
    assert_eq!(root.sync(&relative("none")).unwrap_err().kind(), PgDataErrorKind::PathMissing);
}
