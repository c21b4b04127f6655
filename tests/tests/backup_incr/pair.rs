//! One data directory at rest and two repositories: ours, and the original's. Both make the same backups of it.

use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::stock::{self, Stock};
use pgbr_testkit::{pgbr, user};

use crate::data::{DataDirectory, Settings, conf, newest, restores, verifies};

pub(crate) struct Pair {
    dir: tempfile::TempDir,
    pub(crate) data: DataDirectory,
    ours: (Engine, Conf),
    theirs: (Engine, Conf),
    stock: &'static Stock,
}

/// What one program did: what it says about files and its warnings, and the manifest.
pub(crate) struct Made {
    pub(crate) files: Vec<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) manifest: Vec<String>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) text: String,
}

impl Pair {
    pub(crate) fn new(settings: Settings) -> Self {
        let dir = user::scratch().unwrap();
        let data = DataDirectory::new(dir.path());
        let stock = stock::newest();
        let [ours, theirs] = [pgbr::engine(), stock.engine.clone()].map(|engine| {
            let conf = conf(&dir.path().join(engine.name().replace(' ', "-")), data.path(), settings);
            engine.ok(&conf, &["stanza-create", "--no-online"]).unwrap();
            (engine, conf)
        });
        Self { dir, data, ours, theirs, stock }
    }

    /// Sets an option for both.
    pub(crate) fn set(&mut self, option: &str, value: Option<&str>) {
        for conf in [&mut self.ours.1, &mut self.theirs.1] {
            match value {
                Some(value) => conf.global(option, value).unwrap(),
                None => conf.without(option).unwrap(),
            };
        }
    }

    /// Both make a backup and must do the same.
    pub(crate) fn backup(&self, arguments: &[&str]) -> Made {
        let [own, theirs] = [&self.ours, &self.theirs].map(|(engine, conf)| made(engine, conf, arguments));
        assert_eq!(own.exit_code, theirs.exit_code, "{}\n{}", own.text, theirs.text);
        assert_eq!(own.warnings, theirs.warnings, "{arguments:?}");
        if own.exit_code == Some(0) {
            assert_same(&own.files, &theirs.files);
        }
        assert_same(&own.manifest, &theirs.manifest);
        own
    }

    /// Our newest backup, restored by both, is the data directory; the original finds the repository whole.
    pub(crate) fn ours_is_whole(&self) {
        let (ours, conf) = &self.ours;
        let label = newest(ours, conf);
        for engine in [ours, &self.stock.engine] {
            restores(engine, conf, self.dir.path(), &label, &self.data.tree());
        }
        verifies(self.stock, conf);
    }
}

fn made(engine: &Engine, conf: &Conf, arguments: &[&str]) -> Made {
    let mut all = vec!["backup", "--no-online", "--log-level-console=detail"];
    all.extend(arguments);
    let run = engine.run(conf, &all).unwrap();
    let text = run.text();
    let mut files: Vec<String> =
        messages(&text, "DETAIL: ").into_iter().filter_map(|line| about_a_file(&line)).collect();
    files.sort();
    let warnings = messages(&text, "WARN: ");
    let manifest = match run.exit_code {
        Some(0) => {
            let label = newest(engine, conf);
            let path = format!("backup/demo/{label}/backup.manifest");
            let text = engine.ok(conf, &["repo-get", &path, "--log-level-console=off"]).unwrap().stdout;
            comparable(&text)
        }
        _ => Vec::new(),
    };
    Made { files, warnings, manifest, exit_code: run.exit_code, text }
}

/// The messages of a level, with labels replaced.
fn messages(text: &str, level: &str) -> Vec<String> {
    let found = text.lines().filter_map(|line| line.split_once(level).map(|(_, message)| message));
    found.filter(|message| !message.contains("retention-full")).map(without_labels).collect()
}

/// What was done with which file, without where it is stored and how far the backup was by then.
fn about_a_file(message: &str) -> Option<String> {
    let verbs = ["backup file ", "match file ", "store ", "reference ", "skip file "];
    let is_about = verbs.iter().any(|verb| message.starts_with(verb));
    is_about.then(|| message.split(" (").next().unwrap_or_default().to_owned())
}

fn without_labels(text: &str) -> String {
    // The second in which the scan ended, too.
    let text = text.split(" (relative to").next().unwrap_or_default();
    text.split(' ')
        .map(|word| {
            let is_label = word.len() >= 16 && word.as_bytes()[8] == b'-' && word.starts_with("20");
            if is_label { "LABEL" } else { word }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// The lines of a manifest without what differs between two backups of the same tree. Labels become their places in the
/// list of references.
fn comparable(manifest: &str) -> Vec<String> {
    let list = manifest.lines().find_map(|line| line.strip_prefix("backup-reference=")).unwrap().trim_matches('"');
    // Longest first: the label of a full backup begins those of its set.
    let mut labels: Vec<(usize, &str)> = list.split(',').enumerate().collect();
    labels.sort_by_key(|(_, label)| std::cmp::Reverse(label.len()));
    let differs = ["backup-timestamp-", "cipher-pass=", "backrest-checksum="];
    let lines = manifest.lines().filter(|line| !differs.iter().any(|key| line.starts_with(key)));
    lines
        .map(|line| {
            let mut line = line.to_owned();
            for (place, label) in &labels {
                line = line.replace(label, &format!("backup {place}"));
            }
            let Some((name, value)) = line.split_once("={") else { return line };
            let attributes = value.trim_end_matches('}').split(',');
            // Where and how it is stored; encoders and bundles differ.
            let stored = ["\"bim\"", "\"bni\"", "\"bno\"", "\"rck\"", "\"repo-size\""];
            let kept: Vec<&str> =
                attributes.filter(|attribute| !stored.iter().any(|key| attribute.starts_with(key))).collect();
            format!("{name}={{{}}}", kept.join(","))
        })
        .collect()
}

fn assert_same(own: &[String], theirs: &[String]) {
    for (own, theirs) in own.iter().zip(theirs) {
        assert_eq!(own, theirs, "ours before the original's");
    }
    assert_eq!(own.len(), theirs.len());
}
