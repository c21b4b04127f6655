//! What a newer program has written is refused, and nothing is changed: repositories of the original whose files say that they
//! have another format.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pgbr_testkit::{pgbr, user};
use sha1::{Digest, Sha1};

use crate::place::Restore;

/// The file says another format, under a checksum that holds (as `src/info/info.c` of pgBackRest makes it).
fn make_newer(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("\nbackrest-format=5\n"), "{}", path.display());
    let text = text.replace("\nbackrest-format=5\n", "\nbackrest-format=6\n");
    let (mut sum, mut section) = (String::new(), String::new());
    let mut sealed = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{}\"{name}\":{{", if sum.is_empty() { "{" } else { "}," });
        } else if let Some((key, value)) = line.split_once('=').filter(|(key, _)| *key != "backrest-checksum") {
            let before = if section.is_empty() { ",".to_owned() } else { std::mem::take(&mut section) };
            sum.push_str(&format!("{before}\"{key}\":{value}"));
        }
        sealed.push(line.to_owned());
    }
    let sum = Sha1::digest(format!("{sum}}}}}")).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for line in &mut sealed {
        if line.starts_with("backrest-checksum=") {
            *line = format!("backrest-checksum=\"{sum}\"");
        }
    }
    user::write_file(path, sealed.join("\n") + "\n").unwrap();
}

/// Every file below, with its content.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    pgbr_testkit::world::tree(folder)
}

struct Bench {
    restore: Restore,
    options: Vec<String>,
}

impl Bench {
    /// A sample, its last backup restored, and one of its WAL files fetched.
    fn of(name: &str) -> Self {
        let restore = Restore::of(name);
        restore.ok(&["--type=immediate"]);
        let mut options = restore.sample.local_paths().to_vec();
        options.push(format!("--pg1-path={}", restore.data().display()));
        Self { restore, options }
    }

    fn run(&self, arguments: &[&str]) -> pgbr_testkit::process::Outcome {
        // `expire` and `annotate` know no cluster.
        let has_cluster = !matches!(arguments[0], "expire" | "annotate");
        let options = self.options.iter().map(String::as_str).filter(|it| has_cluster || !it.starts_with("--pg1-path"));
        let options = options.filter(|it| !it.starts_with("--spool-path"));
        let all: Vec<&str> = arguments.iter().copied().chain(options).collect();
        pgbr::engine().run(&self.restore.sample.conf(), &all).unwrap()
    }

    /// Each of these is refused because of the format, and neither repository nor cluster is another afterwards.
    fn refuses(&self, what: &str, commands: &[&[&str]]) {
        let before = (tree(&self.restore.sample.repo()), tree(&self.restore.data()));
        for command in commands {
            let outcome = self.run(command);
            assert!(!matches!(outcome.exit_code, Some(0) | None), "{what} {command:?}: {}", outcome.text());
            assert!(outcome.text().contains("format"), "{what} {command:?}: {}", outcome.text());
            let after = (tree(&self.restore.sample.repo()), tree(&self.restore.data()));
            let other = |before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
                let names = before.keys().chain(after.keys());
                names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
            };
            let changed = [other(&before.0, &after.0), other(&before.1, &after.1)].concat();
            assert!(changed.is_empty(), "{what} {command:?} has changed {changed:?}: {}", outcome.text());
        }
    }
}

#[test]
fn sec24_a_newer_repository_is_refused_and_nothing_is_changed() {
    for name in ["2.45-pg15-none", "2.60-pg15-gz-tablespace"] {
        let bench = Bench::of(name);
        let repo = bench.restore.sample.repo();
        let label = bench.restore.sample.labels().unwrap()[0].clone();
        let set = format!("--set={label}");
        let wal_id = repo.join("archive/demo/15-1");
        let first = fs::read_dir(&wal_id).unwrap().map(|it| it.unwrap().path()).find(|it| it.is_dir()).unwrap();
        let segment =
            fs::read_dir(first).unwrap().next().unwrap().unwrap().file_name().to_string_lossy()[..24].to_owned();
        let fetched = bench.restore.data().join("pg_wal").join(&segment).display().to_string();
        bench.run(&["archive-get", &segment, &fetched]).success().unwrap();
        let asked = bench.restore.data().join("pg_wal/RECOVERYXLOG").display().to_string();
        let (get, push) = (["archive-get", &segment, &asked], ["archive-push", &fetched]);
        let stanza_upgrade = ["stanza-upgrade", "--no-online"];
        let backup = ["backup", "--no-online", "--type=incr", "--force"];
        let restore = ["restore", "--delta", "--force", &set, "--type=none"];
        let (expire, annotate) = (["expire", &set], ["annotate", &set, "--annotation=a=b"]);
        let saved = tree(&repo);
        let put_back = || {
            for file in ["archive/demo/archive.info", "backup/demo/backup.info"] {
                for copy in ["", ".copy"] {
                    let file = format!("{file}{copy}");
                    user::write_file(&repo.join(&file), &saved[&file]).unwrap();
                }
            }
        };
        // One file alone is not enough: the copy would do. A newer main file is never replaced by an older copy.
        for (file, commands) in [
            ("archive/demo/archive.info", &[&get[..], &push, &stanza_upgrade, &backup][..]),
            ("backup/demo/backup.info", &[&stanza_upgrade[..], &backup, &restore, &expire, &annotate]),
        ] {
            for copy in ["", ".copy"] {
                make_newer(&repo.join(format!("{file}{copy}")));
            }
            bench.refuses(&format!("{name} {file}"), commands);
            put_back();
        }
        let last = bench.restore.sample.labels().unwrap().last().unwrap().clone();
        let set = format!("--set={last}");
        for copy in ["", ".copy"] {
            make_newer(&repo.join(format!("backup/demo/{last}/backup.manifest{copy}")));
        }
        bench.refuses(&format!("{name} manifest"), &[&["restore", "--delta", "--force", &set, "--type=none"], &backup]);
    }
}
