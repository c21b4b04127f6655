//! The option grammar against pgBackRest itself: each case is a way to call the program, with what pgBackRest answered.
//!
//! `data/config_grammar.jsonl` holds the cases and the recorded answers, the version they came from in its first line.
//! With `PGBR_STOCK=/path/of/pgbackrest` the answers are asked for again and have to be the recorded ones; with
//! `PGBR_RECORD=y` on top they are written to the file. pgBackRest is run as nobody when the test runs as root.
//!
//! A case with `ours` is one where this program refuses what pgBackRest accepts, or more than it does, or, with 0, takes
//! a value that pgBackRest does not know; one with `command` is accepted by both, and then the command itself ends with
//! that code.
//!
//! Messages have to be pgBackRest's as far as they go: it quotes what was written at their end, which may be a secret.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgbr_config::{ConfigFiles, HostFiles, Invocation, parse, render};
use serde_json::{Map, Value, json};

/// Codes by which pgBackRest says that a call was wrong. A command that got further ends with others.
const CALL_CODES: [u64; 6] = [30, 31, 32, 37, 48, 96];

/// Beginnings of warnings that come from reading options.
const WARNINGS: [&str; 6] =
    ["environment contains", "configuration file contains", "option '", "'compress'", "WAL segments will", "key '"];

fn data_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/config_grammar.jsonl")
}

/// The first line and the cases.
fn load() -> (Value, Vec<Value>) {
    let text = fs::read_to_string(data_path()).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.next().unwrap(), lines.collect())
}

/// A directory with the files of a case, open to everybody.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new(case: &Value) -> Place {
        let directory = tempfile::tempdir().unwrap();
        open_up(directory.path());
        for name in ["lock", "spool", "log"] {
            fs::create_dir(directory.path().join(name)).unwrap();
            open_up(&directory.path().join(name));
        }
        for (name, text) in case["files"].as_object().unwrap_or(&Map::new()) {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            open_up(path.parent().unwrap());
            fs::write(&path, text.as_str().unwrap().replace("{1000 bytes}", &"b".repeat(1000))).unwrap();
        }
        Place { directory }
    }

    fn path(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    fn fill_in(&self, text: &Value) -> String {
        text.as_str().unwrap().replace("{dir}", self.path())
    }

    fn take_out(&self, text: &str) -> String {
        text.replace(self.path(), "{dir}")
    }

    fn arguments(&self, case: &Value) -> Vec<String> {
        case["arguments"].as_array().unwrap().iter().map(|argument| self.fill_in(argument)).collect()
    }

    /// Variables of the case, and some that keep the commands that do run inside the directory.
    fn environment(&self, case: &Value) -> Vec<(String, String)> {
        let own = [("LOCK_PATH", "lock"), ("SPOOL_PATH", "spool"), ("LOG_PATH", "log")]
            .map(|(name, path)| (format!("PGBACKREST_{name}"), format!("{}/{path}", self.path())));
        let log = [("LOG_LEVEL_FILE", "off"), ("LOG_LEVEL_CONSOLE", "debug"), ("LOG_TIMESTAMP", "n")]
            .map(|(name, value)| (format!("PGBACKREST_{name}"), value.to_owned()));
        // A configuration of this host must not change the answers.
        let elsewhere =
            (!places_files(case)).then(|| ("PGBACKREST_CONFIG_PATH".to_owned(), format!("{}/elsewhere", self.path())));
        let case = case["environment"].as_object().cloned().unwrap_or_default();
        let case = case.iter().map(|(name, value)| (name.clone(), self.fill_in(value)));
        own.into_iter().chain(log).chain(elsewhere).chain(case).collect()
    }
}

/// Does the case itself say which files are read?
fn places_files(case: &Value) -> bool {
    case["arguments"].to_string().contains("config") || case["environment"].to_string().contains("CONFIG")
}

/// Can pgBackRest's answer to the case depend on a configuration of this host?
fn reads_host_files(case: &Value) -> bool {
    let words = [case["arguments"].to_string(), case["environment"].to_string()].concat();
    let elsewhere = ["--config=", "config-path=", "no-config", "CONFIG"];
    places_files(case) && !elsewhere.iter().any(|word| words.contains(word))
}

fn open_up(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}

/// Files of the case only.
struct CaseFiles<'a>(&'a str);

impl ConfigFiles for CaseFiles<'_> {
    fn read(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
        if path.starts_with(self.0) { HostFiles.read(path) } else { Ok(None) }
    }

    fn list(&self, path: &str) -> std::io::Result<Option<Vec<String>>> {
        if path.starts_with(self.0) { HostFiles.list(path) } else { Ok(None) }
    }
}

fn ours(case: &Value) -> Value {
    let place = Place::new(case);
    let invocation = Invocation {
        program: "pgbackrest",
        arguments: &place.arguments(case),
        environment: &place.environment(case),
        root: false,
        exec_id: Some("1-1"),
    };
    let first_line = |text: &String| Value::from(place.take_out(text.lines().next().unwrap_or_default()));
    match parse(&invocation, &CaseFiles(place.path())) {
        Ok(parsed) => json!({
            "code": 0,
            "begin": place.take_out(&render::begin_line(&parsed.options, parsed.command, &parsed.parameters)),
            "warnings": parsed.warnings.iter().map(first_line).collect::<Vec<_>>(),
        }),
        Err(error) => json!({
            "code": error.class.code(),
            "message": first_line(&error.message),
            "warnings": error.warnings.iter().map(first_line).collect::<Vec<_>>(),
        }),
    }
}

fn stock(program: &str, case: &Value) -> Value {
    let place = Place::new(case);
    let mut command = Command::new("timeout");
    command.arg("30").arg(program).args(place.arguments(case));
    command.env_clear().envs(place.environment(case)).current_dir("/");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = place.take_out(&String::from_utf8_lossy(&text));

    let mut answer = Map::new();
    answer.insert("code".to_owned(), output.status.code().unwrap().into());
    let mut warnings = Vec::new();
    for line in text.lines() {
        if let Some((_, begin)) = line.split_once(" command begin 2.") {
            let begin = begin.split_once(':').unwrap().1.split(' ').map(without_exec_id).collect::<Vec<_>>().join(" ");
            answer.entry("begin").or_insert(begin.into());
        } else if let Some((_, error)) = line.split_once("ERROR: [") {
            answer.entry("message").or_insert(error.split_once("]: ").unwrap().1.into());
        } else if let Some((_, warning)) = line.split_once("WARN: ") {
            let warning = warning.trim_start_matches("[DRY-RUN] ");
            if WARNINGS.iter().any(|begin| warning.starts_with(begin)) {
                warnings.push(Value::from(warning));
            }
        }
    }
    answer.insert("warnings".to_owned(), warnings.into());
    if answer.contains_key("begin") && !is_call_mistake(&answer) {
        // How the command itself ended depends on the host, and says nothing about the options.
        answer.remove("code");
        answer.remove("message");
    }
    Value::Object(answer)
}

fn is_call_mistake(answer: &Map<String, Value>) -> bool {
    let both_remote =
        || answer.get("message").and_then(Value::as_str).is_some_and(|text| text.starts_with("pg and repo"));
    answer["code"].as_u64().is_some_and(|code| CALL_CODES.contains(&code) || code == 27 && both_remote())
}

fn without_exec_id(word: &str) -> &str {
    if word.starts_with("--exec-id=") { "--exec-id=1-1" } else { word }
}

/// What is wrong with our answer, given that of pgBackRest.
fn difference(case: &Value, ours: &Value, stock: &Value) -> Option<&'static str> {
    if let Some(code) = case["ours"].as_u64() {
        let accepted = !stock["begin"].is_null() || code != 67;
        return (ours["code"] != code || !accepted).then_some("refused otherwise than the case says");
    }
    if ours["code"] != 0 {
        return match () {
            () if ours["code"] != stock["code"] => Some("code differs"),
            () if !message(stock).starts_with(message(ours).trim_end_matches('\'')) => Some("message differs"),
            () if ours["warnings"] != stock["warnings"] => Some("warnings differ"),
            () => None,
        };
    }
    match () {
        () if case["command"].is_null() && stock["code"].as_u64().is_some_and(|code| CALL_CODES.contains(&code)) => {
            Some("accepted though refused by pgBackRest")
        }
        () if stock["begin"].is_null() && stock["code"] != 0 => Some("accepted though pgBackRest did not begin"),
        () if !stock["begin"].is_null() && ours["begin"] != stock["begin"] => Some("options differ"),
        () if ours["warnings"] != stock["warnings"] => Some("warnings differ"),
        () => None,
    }
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap()
}

#[test]
fn every_call_is_answered_as_pgbackrest_answered_it() {
    let (_, cases) = load();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let mut report = String::new();
    for case in &cases {
        let ours = ours(case);
        if let Some(difference) = difference(case, &ours, &case["stock"]) {
            let stock = &case["stock"];
            let _ = writeln!(
                report,
                "{} {}: {difference}\n  ours:  {ours}\n  stock: {stock}",
                case["name"], case["arguments"]
            );
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// Every class of mistake has to be among the cases, else the comparison proves too little.
#[test]
fn cases_cover_every_class_of_mistake() {
    let (_, cases) = load();
    for code in [27, 29, 30, 31, 32, 37, 42, 48, 55, 73, 96] {
        assert!(cases.iter().any(|case| case["stock"]["code"] == code), "no case ends with {code}");
    }
}

/// PostgreSQL takes a failing restore_command for the end of WAL, so what restore writes into it has to be accepted.
#[test]
fn archive_get_accepts_what_restore_passes_on() {
    let (_, cases) = load();
    let mut checked = 0;
    for case in cases.iter().filter(|case| case["arguments"][0] == "restore") {
        let place = Place::new(case);
        let call = |arguments: &[String]| {
            let environment = &place.environment(case);
            let invocation =
                Invocation { program: "pgbackrest", arguments, environment, root: false, exec_id: Some("1-1") };
            parse(&invocation, &CaseFiles(place.path()))
        };
        let Ok(restore) = call(&place.arguments(case)) else { continue };
        let mut arguments = render::restore_command_options(&restore.options);
        arguments.extend(["archive-get", "000000010000000000000001", "/x"].map(str::to_owned));
        assert!(call(&arguments).is_ok(), "{}: {arguments:?}", case["name"]);
        checked += 1;
    }
    assert!(checked > 10);
}

#[test]
fn pgbackrest_still_answers_as_recorded() {
    let Ok(program) = std::env::var("PGBR_STOCK") else {
        eprintln!("PGBR_STOCK is not set: recorded answers are not checked again");
        return;
    };
    let version = Command::new(&program).arg("version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap().trim().to_owned();
    let (mut head, mut cases) = load();
    let record = std::env::var("PGBR_RECORD").is_ok();
    assert!(record || head["version"] == version.as_str(), "recorded with {}, found {version}", head["version"]);

    // An empty file is as good as none.
    let configured = fs::metadata("/etc/pgbackrest.conf").is_ok_and(|file| file.len() > 0)
        || fs::metadata("/etc/pgbackrest").is_ok();
    assert!(!(record && configured), "pgBackRest is configured on this host: its answers are not to be recorded");

    let mut report = String::new();
    for case in &mut cases {
        if configured && reads_host_files(case) {
            eprintln!("{} is not checked again: pgBackRest is configured on this host", case["name"]);
            continue;
        }
        let answer = stock(&program, case);
        if record {
            case["stock"] = answer;
        } else if case["stock"] != answer {
            let _ = writeln!(report, "{}\n  recorded: {}\n  now:      {answer}", case["name"], case["stock"]);
        }
    }
    assert!(report.is_empty(), "{report}");
    if record {
        head["version"] = version.into();
        let lines: Vec<String> = std::iter::once(&head).chain(&cases).map(Value::to_string).collect();
        fs::write(data_path(), lines.join("\n") + "\n").unwrap();
    }
}
