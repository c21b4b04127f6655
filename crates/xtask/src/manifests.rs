//! `cargo xtask manifests`: the plugin's manifest from its parts and the definition of the Archive.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Failure;

const HEADER: &str = "# Made by `cargo xtask manifests` from manifests/parts and the definition of the Archive.\n";

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let target = folder().join("manifest.yaml");
    let wanted = assembled()?;
    if arguments.iter().any(|argument| argument == "--check") {
        return match fs::read_to_string(&target)? == wanted {
            true => Ok(()),
            false => {
                Err(Failure::new("manifests/manifest.yaml is not what its parts make: run `cargo xtask manifests`"))
            }
        };
    }
    fs::write(&target, wanted)?;
    println!("{}", target.display());
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

fn assembled() -> Result<String, Failure> {
    let mut parts: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder().join("parts"))? {
        parts.push(entry?.path());
    }
    parts.sort();
    let mut text = HEADER.to_owned();
    put(&mut text, &pgbr_plugin::resource::definition(), 0, false);
    for part in parts {
        text.push_str("---\n");
        text.push_str(fs::read_to_string(part)?.trim_end());
        text.push('\n');
    }
    Ok(text)
}

/// Writes a value as YAML, keys in order; `inline` when the line has begun with a dash.
fn put(text: &mut String, value: &Value, indent: usize, inline: bool) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_by_key(|name| (*name != "apiVersion", *name != "kind" || indent > 0, *name));
            for (at, name) in names.into_iter().enumerate() {
                let pad = if at == 0 && inline { "" } else { &pad };
                let _written = write!(text, "{pad}{}:", scalar(name));
                put_below(text, &fields[name], indent);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            for value in values {
                let _written = write!(text, "{pad}- ");
                put(text, value, indent + 2, true);
            }
        }
        value => {
            let _written = writeln!(text, "{}", flat(value));
        }
    }
}

fn put_below(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            put(text, value, indent + 2, false);
        }
        Value::Array(values) if !values.is_empty() => {
            text.push('\n');
            put(text, value, indent, false);
        }
        value => {
            let _written = writeln!(text, " {}", flat(value));
        }
    }
}

fn flat(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        value => value.to_string(),
    }
}

/// A text as it is when it can be nothing else, quoted as JSON otherwise.
fn scalar(text: &str) -> String {
    const OTHER_MEANING: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !OTHER_MEANING.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_what_its_parts_make() {
        run(&["--check".to_owned()]).unwrap();
    }
}
