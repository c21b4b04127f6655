//! What the engine knows about PostgreSQL's files against what PostgreSQL itself says of the same files: servers of
//! every version, and their `pg_controldata` and `pg_waldump` where a package has them.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgbr_repo::postgres::page::{PageHeaderCheck, PageState};
use pgbr_repo::postgres::{ControlFile, Lsn, Page, PgVersion, Timeline, TimelineHistory, WalHeader, WalSegmentName};
use pgbr_testkit::postgres::{Cluster, Load, Options, Shutdown, Version};
use pgbr_testkit::tools::readers;
use pgbr_testkit::{process, user};

const WAIT: Duration = Duration::from_secs(60);

/// Each version with another size of its WAL segments.
const SEGMENT_MIB: [(Version, u32); 6] = [
    (Version::V13, 1),
    (Version::V14, 4),
    (Version::V15, 16),
    (Version::V16, 2),
    (Version::V17, 64),
    (Version::V18, 8),
];

#[test]
fn the_control_file_wal_history_and_pages_are_read_as_postgres_reads_them() {
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for (version, segment_mib) in SEGMENT_MIB.into_iter().skip(half).step_by(2) {
                    Facts::of(version, segment_mib).compare();
                }
            });
        }
    });
}

/// A server that has written a little and was promoted once.
struct Facts {
    _dir: tempfile::TempDir,
    version: Version,
    segment_mib: u32,
    data: PathBuf,
    cluster: Cluster,
}

impl Facts {
    fn of(version: Version, segment_mib: u32) -> Self {
        let dir = user::scratch().unwrap();
        let data = dir.path().join("data");
        // Nothing is archived, so that every segment stays.
        let options = Options {
            wal_segment_size_mib: segment_mib,
            archive_command: Some("false".to_owned()),
            conf: vec!["wal_keep_size = 1GB".to_owned()],
            ..Options::default()
        };
        let mut cluster = Cluster::started(version, &data, options).unwrap();
        cluster.pgbench_init(1).unwrap();
        cluster.pgbench_run(1, Load::Transactions(200)).unwrap();
        cluster.sql("SELECT pg_switch_wal()").unwrap();
        cluster.sql("CREATE TABLE after AS SELECT 1; SELECT pg_switch_wal()").unwrap();
        cluster.stop(Shutdown::Fast).unwrap();
        // A recovery from what is in pg_wal, which ends on the next timeline.
        user::write_file(&data.join("recovery.signal"), "").unwrap();
        cluster.append_conf("restore_command = 'false'").unwrap();
        cluster.start().unwrap();
        cluster.wait_until_promoted(WAIT).unwrap();
        cluster.sql("CHECKPOINT").unwrap();
        Self { _dir: dir, version, segment_mib, data, cluster }
    }

    fn compare(mut self) {
        let control = self.control_file_is_what_the_server_says();
        self.names_and_positions_are_the_servers(&control);
        self.segments_begin_as_their_names_say(&control);
        self.history_is_what_the_server_wrote(&control);
        self.cluster.stop(Shutdown::Fast).unwrap();
        let control = ControlFile::parse(&fs::read(self.data.join("global/pg_control")).unwrap()).unwrap();
        self.pg_controldata_says_the_same(&control);
        self.pg_waldump_finds_the_same_segments(&control);
        self.pages_have_the_checksums_that_the_server_wrote();
    }

    fn row(&self, query: &str) -> Vec<String> {
        self.cluster.sql(query).unwrap().remove(0)
    }

    fn control_file_is_what_the_server_says(&self) -> ControlFile {
        let control = ControlFile::parse(&fs::read(self.data.join("global/pg_control")).unwrap()).unwrap();
        let number: u32 = self.cluster.value("SHOW server_version_num").unwrap().parse().unwrap();
        assert_eq!(Some(control.version()), PgVersion::from_server_version_num(number));
        assert_eq!(
            self.row("SELECT system_identifier, catalog_version_no, pg_control_version FROM pg_control_system()"),
            [
                control.system_id().to_string(),
                control.catalog_version().to_string(),
                control.control_version().to_string()
            ],
            "{}",
            self.version
        );
        assert_eq!(
            self.row("SELECT checkpoint_lsn, timeline_id FROM pg_control_checkpoint()"),
            [control.checkpoint().to_string(), control.timeline().to_string()],
            "{}",
            self.version
        );
        assert_eq!(control.timeline().number(), 2);
        assert_eq!(
            self.row(
                "SELECT bytes_per_wal_segment, database_block_size, data_page_checksum_version FROM pg_control_init()"
            ),
            [
                control.wal_segment_size().bytes().to_string(),
                control.page_size().bytes().to_string(),
                control.data_checksum_version().to_string()
            ],
            "{}",
            self.version
        );
        assert_eq!(control.wal_segment_size().bytes(), self.segment_mib * 1024 * 1024);
        assert!(control.has_data_checksums());
        control
    }

    /// Names for positions at and around the edges of segments and logs.
    fn names_and_positions_are_the_servers(&self, control: &ControlFile) {
        let size = control.wal_segment_size();
        let segment_bytes = u64::from(size.bytes());
        let edges = [segment_bytes, 3 * segment_bytes, 1 << 32, (1 << 32) * 5 + segment_bytes, 0xffff_ffff_0000_0000];
        for edge in edges {
            for lsn in [edge - 1, edge, edge + 1, edge + segment_bytes - 1] {
                let lsn = Lsn(lsn);
                let ours = lsn.segment(control.timeline(), size);
                let theirs = self.cluster.value(&format!("SELECT pg_walfile_name('{lsn}')")).unwrap();
                // Before 17 the server names the segment that ends at the position, since then the one that begins there.
                let is_edge = lsn.0.is_multiple_of(segment_bytes);
                if is_edge && self.version < Version::V17 {
                    assert_eq!(lsn.segment_ending(control.timeline(), size).unwrap().to_string(), theirs, "{lsn}");
                } else {
                    assert_eq!(ours.to_string(), theirs, "{} {lsn}", self.version);
                }
                if self.version >= Version::V16 {
                    let query = format!("SELECT segment_number, timeline_id FROM pg_split_walfile_name('{ours}')");
                    let start = ours.start_lsn(size).unwrap();
                    let expected = [(start.0 / segment_bytes).to_string(), control.timeline().to_string()];
                    assert_eq!(self.row(&query), expected);
                }
            }
        }
    }

    fn segments(&self) -> Vec<WalSegmentName> {
        let entries = fs::read_dir(self.data.join("pg_wal")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut segments: Vec<_> = names.filter_map(|name| WalSegmentName::parse(&name).ok()).collect();
        segments.sort();
        segments
    }

    fn header(&self, name: WalSegmentName) -> WalHeader {
        WalHeader::parse(&fs::read(self.data.join("pg_wal").join(name.to_string())).unwrap()).unwrap()
    }

    /// The segments up to the one that is written; those after it are recycled ones with an old content.
    fn written(&self, control: &ControlFile) -> Vec<WalSegmentName> {
        let last = control.checkpoint().segment(control.timeline(), control.wal_segment_size());
        self.segments()
            .into_iter()
            .filter(|name| (name.log(), name.segment()) <= (last.log(), last.segment()))
            .collect()
    }

    fn segments_begin_as_their_names_say(&self, control: &ControlFile) {
        let size = control.wal_segment_size();
        let written = self.written(control);
        assert!(written.len() >= 3, "{}: {written:?}", self.version);
        assert!(written.iter().any(|name| name.timeline() == Timeline::FIRST));
        for name in written {
            let header = self.header(name);
            assert_eq!(header.version, control.version(), "{name}");
            assert_eq!(header.system_id, control.system_id(), "{name}");
            assert_eq!(header.segment_size, size, "{name}");
            assert_eq!(Some(header.page_address), name.start_lsn(size), "{} {name}", self.version);
            assert!(header.begins(name) && header.timeline <= name.timeline(), "{name}");
            let file = fs::metadata(self.data.join("pg_wal").join(name.to_string())).unwrap();
            assert_eq!(file.len(), u64::from(size.bytes()));
        }
    }

    fn history_is_what_the_server_wrote(&self, control: &ControlFile) {
        let timeline = control.timeline();
        let bytes = fs::read(self.data.join("pg_wal").join(timeline.history_file_name())).unwrap();
        let history = TimelineHistory::parse(timeline, &bytes).unwrap();
        let [switch] = history.switches() else { panic!("{:?}", history.switches()) };
        assert_eq!(switch.timeline, Timeline::FIRST);
        assert!(switch.switch_lsn < control.checkpoint() && switch.reason.contains("no recovery target"));
        // The segment of the switch exists on both timelines; the server calls the later one by the new timeline.
        let segment = switch.switch_lsn.segment(timeline, control.wal_segment_size());
        assert!(self.segments().contains(&segment), "{} {segment} {:?}", self.version, self.segments());
        assert_eq!(history.timeline_at(switch.switch_lsn), timeline);
        assert_eq!(history.timeline_at(Lsn(switch.switch_lsn.0 - 1)), Timeline::FIRST);
    }

    /// What the program prints about the stopped cluster, by label.
    fn pg_controldata(&self, of: Version) -> Option<BTreeMap<String, String>> {
        let mut command = command("pg_controldata", of)?;
        let printed = process::run(command.arg("-D").arg(&self.data), WAIT).unwrap().success().unwrap();
        assert!(!printed.text().contains("WARNING"), "{}", printed.text());
        let lines = printed.stdout.lines().filter_map(|line| line.split_once(':'));
        Some(lines.map(|(label, value)| (label.to_owned(), value.trim().to_owned())).collect())
    }

    fn pg_controldata_says_the_same(&self, control: &ControlFile) {
        // 13 to 17 share one layout of the file, so that the one of 15 reads 14 and 16 too.
        let of = if matches!(self.version, Version::V14 | Version::V16) { Version::V15 } else { self.version };
        let Some(printed) = self.pg_controldata(of) else { return };
        let checks = [
            ("pg_control version number", control.control_version().to_string()),
            ("Catalog version number", control.catalog_version().to_string()),
            ("Database system identifier", control.system_id().to_string()),
            ("Latest checkpoint location", control.checkpoint().to_string()),
            ("Latest checkpoint's TimeLineID", control.timeline().to_string()),
            ("Database block size", control.page_size().bytes().to_string()),
            ("Bytes per WAL segment", control.wal_segment_size().bytes().to_string()),
            ("Data page checksum version", control.data_checksum_version().to_string()),
        ];
        for (label, ours) in checks {
            assert_eq!(printed[label], ours, "{} {label}", self.version);
        }
        let redo = control.checkpoint().segment(control.timeline(), control.wal_segment_size()).to_string();
        assert_eq!(printed["Latest checkpoint's REDO WAL file"], redo, "a shutdown checkpoint is its own redo point");
        // What the original makes of a restored file: its checksum is right, and its checkpoint is nowhere.
        let restored = self.data.parent().unwrap().join("restored");
        user::create_dir(&restored.join("global")).unwrap();
        let mut bytes = control.invalidated();
        bytes.resize(ControlFile::FILE_SIZE_BYTES, 0);
        user::write_file(&restored.join("global/pg_control"), bytes).unwrap();
        let mut command = command("pg_controldata", of).unwrap();
        let printed = process::run(command.arg("-D").arg(&restored), WAIT).unwrap().success().unwrap().text();
        assert!(!printed.contains("WARNING"), "{printed}");
        let place = printed.lines().find(|line| line.starts_with("Latest checkpoint location")).unwrap();
        assert!(place.ends_with(&ControlFile::INVALID_CHECKPOINT.to_string()), "{place}");
    }

    fn pg_waldump_finds_the_same_segments(&self, control: &ControlFile) {
        let size = control.wal_segment_size();
        let whole = |name: &WalSegmentName| {
            // On the old timeline, with a segment behind it: no end of WAL within.
            let next = name.next(size).is_some_and(|next| self.segments().contains(&next));
            name.timeline() == Timeline::FIRST && next
        };
        let segments: Vec<_> = self.written(control).into_iter().filter(whole).collect();
        assert!(!segments.is_empty());
        for name in segments {
            let (start, end) = (name.start_lsn(size).unwrap(), name.next(size).unwrap().start_lsn(size).unwrap());
            let Some(mut command) = command("pg_waldump", self.version) else { return };
            // It takes names from positions, timeline and the size that the header states, as we do.
            command.arg("-p").arg(self.data.join("pg_wal"));
            command.args(["-t", &name.timeline().to_string(), "-s", &start.to_string(), "-e", &end.to_string()]);
            let printed = process::run(&mut command, WAIT).unwrap().success().unwrap();
            let lsns: Vec<Lsn> = printed.stdout.lines().map(record_lsn).collect();
            assert!(!lsns.is_empty(), "{} {name}: {}", self.version, printed.text());
            for lsn in lsns {
                assert_eq!(lsn.segment(name.timeline(), size), name, "{} {lsn}", self.version);
            }
        }
    }

    fn pages_have_the_checksums_that_the_server_wrote(&self) {
        let mut pages = 0_u64;
        for (path, first_page) in relation_files(&self.data) {
            let mut bytes = fs::read(&path).unwrap();
            for (number, page) in (first_page..).zip(bytes.chunks(8192)) {
                let state = Page::new(page).unwrap().check(number, PageHeaderCheck::Upper);
                assert!(state.is_valid(), "{} {} page {number}: {state:?}", self.version, path.display());
                pages += u64::from(state == PageState::Valid);
            }
            if let Some(byte) = bytes.get_mut(5000) {
                *byte ^= 1;
                let state = Page::new(&bytes[..8192]).unwrap().check(first_page, PageHeaderCheck::Upper);
                assert!(!state.is_valid(), "{} {}", self.version, path.display());
            }
        }
        assert!(pages > 2000, "{}: {pages} pages", self.version);
    }
}

/// The program of the version; that one is missing is said, never passed over in silence.
#[expect(clippy::print_stderr, reason = "a test that compares with less than meant must say so")]
fn command(program: &str, version: Version) -> Option<std::process::Command> {
    match readers::command(program, version) {
        Ok(command) => Some(command),
        Err(error) if version == Version::V15 => panic!("the distribution's own {program} is missing: {error}"),
        Err(error) => {
            eprintln!("{program} of PostgreSQL {version} is MISSING from this run: {error}");
            None
        }
    }
}

/// The position in a line of `pg_waldump`: `rmgr: Heap ... lsn: 0/0150D0A8, prev ...`.
fn record_lsn(line: &str) -> Lsn {
    let after = line.split_once("lsn: ").unwrap_or_else(|| panic!("no position in {line:?}")).1;
    after.split_once(',').unwrap().0.parse().unwrap()
}

/// All files of relations, with the number of their first page.
fn relation_files(data: &Path) -> Vec<(PathBuf, u32)> {
    let databases = fs::read_dir(data.join("base")).unwrap().map(|entry| entry.unwrap().path());
    let mut files = Vec::new();
    for folder in databases.chain([data.join("global")]) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with(|first: char| first.is_ascii_digit()) && !name.contains('.') {
                files.push((path, 0));
            }
        }
    }
    files
}
