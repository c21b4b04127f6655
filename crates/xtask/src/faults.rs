//! `cargo xtask faults`: which rows of the fault list have no test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use pgbr_testkit::tools;

use crate::Failure;

/// The number of security requirements.
const SECURITY_ROWS: u32 = 24;

/// Where tests live.
const FOLDERS: [&str; 4] = ["crates", "tests", "benches", "fuzz"];

/// Folders that are passed over: what is built, and this command, whose own tests quote names.
const PASSED_OVER: [&str; 2] = ["target", "xtask"];

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let wanted = arguments.first().map(String::as_str);
    if let Some(severity) = wanted
        && !matches!(severity, "S1" | "S2" | "S3")
    {
        return Err(Failure::new(format!("{severity:?} is no severity, expected S1, S2 or S3")));
    }
    let path = tools::workspace().join("tests/faults.tsv");
    let rows = parse(&fs::read_to_string(&path)?)?;
    let mut tested = BTreeSet::new();
    for folder in FOLDERS {
        collect(&tools::workspace().join(folder), &mut tested)?;
    }
    let missing: Vec<&Row> = rows
        .iter()
        .filter(|row| wanted.is_none_or(|severity| row.severity == severity) && !tested.contains(&row.id))
        .collect();
    print_missing(&missing);
    print_totals(&rows, &tested);
    let untested: Vec<String> =
        (1..=SECURITY_ROWS).map(|number| format!("SEC{number:02}")).filter(|id| !tested.contains(id)).collect();
    println!(
        "security requirements without a test: {}",
        if untested.is_empty() { "none".into() } else { untested.join(", ") }
    );
    match wanted {
        Some(severity) if !missing.is_empty() => {
            Err(Failure::new(format!("{} rows of severity {severity} have no test", missing.len())))
        }
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    id: String,
    severity: String,
    section: String,
    title: String,
}

fn parse(text: &str) -> Result<Vec<Row>, Failure> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let rows: Vec<Row> = lines
        .map(|line| match line.split('\t').collect::<Vec<_>>().as_slice() {
            [id, severity, section, title] => Ok(Row {
                id: (*id).to_owned(),
                severity: (*severity).to_owned(),
                section: (*section).to_owned(),
                title: (*title).to_owned(),
            }),
            _ => Err(Failure::new(format!("tests/faults.tsv: expected four columns in {line:?}"))),
        })
        .collect::<Result<_, _>>()?;
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    if ids.len() != rows.len() {
        return Err(Failure::new("tests/faults.tsv: an id stands there twice"));
    }
    Ok(rows)
}

/// Adds the ids that functions below a folder are named with.
fn collect(folder: &Path, tested: &mut BTreeSet<String>) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !PASSED_OVER.contains(&name.as_str()) {
                collect(&path, tested)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tested.extend(ids_in(&fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// The ids of all functions called `xx00_...`, in capitals, and of security requirements (`sec00_...`). One function may
/// carry several: `os02_os03_...`, `os28_sec04_...`.
fn ids_in(source: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for name in source.lines().filter_map(|line| line.trim_start().split_once("fn ").map(|(_, rest)| rest)) {
        for part in name.split('_') {
            let letters_count = if part.starts_with("sec") { 3 } else { 2 };
            let (letters, digits) = part.split_at_checked(letters_count).unwrap_or_default();
            let is_id = letters.bytes().all(|byte| byte.is_ascii_lowercase())
                && digits.len() == 2
                && digits.bytes().all(|byte| byte.is_ascii_digit());
            if !is_id {
                break;
            }
            ids.insert(part.to_ascii_uppercase());
        }
    }
    ids
}

fn print_missing(missing: &[&Row]) {
    let mut section = "";
    for row in missing {
        if row.section != section {
            section = &row.section;
            println!("\n{section}");
        }
        println!("  {} {}  {}", row.id, row.severity, row.title);
    }
    println!();
}

fn print_totals(rows: &[Row], tested: &BTreeSet<String>) {
    let mut totals: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for row in rows {
        for section in [row.section.as_str(), "~all"] {
            let (have, all) = totals.entry((section, row.severity.as_str())).or_default();
            *all += 1;
            *have += usize::from(tested.contains(&row.id));
        }
    }
    println!("{:<22} {:>9} {:>9} {:>9}   (tested / rows)", "section", "S1", "S2", "S3");
    let sections: BTreeSet<&str> = totals.keys().map(|(section, _)| *section).collect();
    for section in sections {
        let cell = |severity| match totals.get(&(section, severity)) {
            Some((have, all)) => format!("{have} / {all}"),
            None => "-".to_owned(),
        };
        println!("{:<22} {:>9} {:>9} {:>9}", section.trim_start_matches('~'), cell("S1"), cell("S2"), cell("S3"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole() {
        let rows = parse(&fs::read_to_string(tools::workspace().join("tests/faults.tsv")).unwrap()).unwrap();
        let count = |severity: &str| rows.iter().filter(|row| row.severity == severity).count();
        assert_eq!((rows.len(), count("S1"), count("S2"), count("S3")), (233, 123, 92, 18));
    }

    #[test]
    fn ids_are_read_from_the_beginning_of_names_only() {
        let source = "#[test]\nfn os02_os03_half_an_answer() {}\n    async fn hi07_deep() {}\nfn see_os05_there() {}\n\
                      fn os28_sec04_tls() {}\nfn sec01_sec02_os01_first() {}\nfn second_one() {}\n";
        let found: Vec<_> = ids_in(source).into_iter().collect();
        assert_eq!(found, ["HI07", "OS01", "OS02", "OS03", "OS28", "SEC01", "SEC02", "SEC04"]);
    }
}
