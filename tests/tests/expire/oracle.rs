//! The same repository, expired by the original and by us: what remains and what is said must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_repo::format::{ArchiveId, BackupInfo};
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::{pgbr, stock, user};

use crate::random::{self, Case};
use pgbr_testkit::world::tree;

/// Cases in every run; `PGBR_EXPIRE_CASES` asks for more.
const CASES: u64 = 40;

/// What one program left and said.
#[derive(Debug)]
struct Left {
    exit_code: Option<i32>,
    files: BTreeMap<String, Vec<u8>>,
    lines: Vec<String>,
}

fn expire(engine: &Engine, case: &Case, folder: &Path) -> Left {
    let mut conf = Conf::create(folder, "demo").unwrap();
    for (option, value) in &case.options {
        conf.global(option, value).unwrap();
    }
    let repository = folder.join("repo");
    case.world.write(&repository);
    let mut arguments: Vec<&str> = case.arguments.iter().map(String::as_str).collect();
    arguments.extend(["--log-level-console=detail", "--log-timestamp=n", "expire"]);
    let outcome = engine.run(&conf, &arguments).unwrap();
    let root = repository.display().to_string();
    let lines = outcome.stdout.lines().map(|line| line.replace(&root, "REPO")).filter(|line| is_compared(line));
    Left { exit_code: outcome.exit_code, files: tree(&repository), lines: lines.collect() }
}

/// All that is said but for what is about the run itself, and advice in words of our own.
fn is_compared(line: &str) -> bool {
    !["command begin", "command end", "statistics:", "check the log file", "HINT: to ", "HINT: backup "]
        .iter()
        .any(|other| line.contains(other))
}

/// History files that we keep and the original removes: those of timelines on which a listed backup began
/// (COMPATIBILITY.md). Taken out of what we left and put into what we said, so that the rest can be compared.
fn forgive_history_files(ours: &mut Left, theirs: &mut Left) {
    let info = BackupInfo::parse(&ours.files["backup/demo/backup.info"]).unwrap();
    let mut lowest: BTreeMap<ArchiveId, String> = BTreeMap::new();
    for backup in info.backups() {
        let id = info.history().generation(backup.history_id).unwrap().archive_id();
        let Some(start) = backup.archive_start else { continue };
        let timeline = start.to_string()[..8].to_owned();
        let entry = lowest.entry(id).or_insert_with(|| timeline.clone());
        *entry = timeline.min(entry.clone());
    }
    for (id, lowest) in lowest {
        let folder = format!("archive/demo/{id}/");
        let extra: BTreeSet<String> = ours
            .files
            .keys()
            .filter(|name| name.starts_with(&folder) && name.ends_with(".history") && !theirs.files.contains_key(*name))
            .map(|name| name[folder.len()..].to_owned())
            .filter(|name| name[..8] >= *lowest)
            .collect();
        for name in &extra {
            ours.files.remove(&format!("{folder}{name}"));
        }
    }
    // A dry run keeps all files and says the same.
    let is_history = |line: &String| line.contains("remove history file");
    let said: Vec<String> = theirs.lines.iter().filter(|line| is_history(line)).cloned().collect();
    assert!(ours.lines.iter().filter(|line| is_history(line)).all(|line| said.contains(line)));
    ours.lines.retain(|line| !is_history(line));
    theirs.lines.retain(|line| !is_history(line));
}

/// Ours says before the first removal how much goes, as a detail: no other line is ours alone.
fn forgive_the_announcement(ours: &mut Left, theirs: &Left) {
    let is_announcement = |line: &String| line.starts_with("P00 DETAIL: ") && line.contains("repo1: to remove: ");
    assert!(!theirs.lines.iter().any(is_announcement));
    assert!(ours.lines.iter().filter(|line| is_announcement(line)).count() <= 1);
    ours.lines.retain(|line| !is_announcement(line));
}

/// What differs, if something does.
fn compare(number: u64, now_s: i64) -> Result<(), String> {
    let folder = user::scratch().unwrap();
    let case = random::case(number, now_s);
    let mut theirs = expire(&stock::newest().engine, &case, &folder.path().join("stock"));
    let mut ours = expire(&pgbr::engine(), &case, &folder.path().join("ours"));
    forgive_history_files(&mut ours, &mut theirs);
    forgive_the_announcement(&mut ours, &theirs);
    let differs = |what: String| {
        let lines = |left: &Left| left.lines.join("\n");
        let (options, arguments) = (&case.options, &case.arguments);
        let said = format!("ours:\n{}\ntheirs:\n{}", lines(&ours), lines(&theirs));
        Err(format!("case {number}: {options:?} {arguments:?}: {what}\n{said}\n"))
    };
    if ours.lines != theirs.lines || ours.exit_code != theirs.exit_code {
        return differs(format!("{:?} and {:?}", ours.exit_code, theirs.exit_code));
    }
    let names: BTreeSet<&String> = ours.files.keys().chain(theirs.files.keys()).collect();
    for name in names {
        let content = |left: &Left| left.files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        if content(&ours) != content(&theirs) {
            return differs(format!("{name}:\nours: {:?}\ntheirs: {:?}", content(&ours), content(&theirs)));
        }
    }
    Ok(())
}

#[test]
fn ex17_what_remains_is_what_the_original_leaves() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let cases = number("PGBR_EXPIRE_CASES").unwrap_or(CASES);
    let first = number("PGBR_EXPIRE_FIRST").unwrap_or(1);
    let now_s = SystemClock.now_s();
    let different: Vec<String> = (first..first + cases).filter_map(|number| compare(number, now_s).err()).collect();
    assert!(different.is_empty(), "{} of {cases} differ\n{}", different.len(), different.join("\n"));
}
