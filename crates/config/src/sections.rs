//! Third source: the sections of configuration files.

use std::collections::BTreeMap;

use crate::command::{Command, Role};
use crate::error::{ConfigError, option_invalid, option_invalid_value};
use crate::given::{Given, GivenValue, Source};
use crate::ini::Ini;
use crate::name::{self, Lookup, Named};
use crate::opt::{self, Kind, Section};

const GLOBAL: &str = "global";

/// One section that is looked at.
struct Place<'a> {
    section: &'a str,
    /// Belongs to one command, as `[demo:backup]` does
    of_command: bool,
    global: bool,
}

/// Adds options from the sections that concern the stanza and the command, nearest first, unless they were given
/// already.
pub(crate) fn read(
    given: &mut Given,
    ini: &Ini,
    command: Command,
    role: Role,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let stanza = given.find(opt::STANZA.row(), 0).and_then(|stanza| stanza.values.first()).cloned();
    let mut sections = Vec::new();
    if let Some(stanza) = stanza {
        sections.push((format!("{stanza}:{command}"), true));
        sections.push((stanza, false));
    }
    sections.push((format!("{GLOBAL}:{command}"), true));
    sections.push((GLOBAL.to_owned(), false));

    for (section, of_command) in &sections {
        let global = section == GLOBAL || section.starts_with("global:");
        let place = Place { section, of_command: *of_command, global };
        let mut seen = BTreeMap::new();
        for (key, values) in ini.section(section) {
            let Some(named) = usable(key, &place, command, role, &mut seen, warnings)? else { continue };
            if given.find(named.row, named.number).is_none() {
                given.insert(named.row, named.number, value(named, key, section, values)?);
            }
        }
    }
    Ok(())
}

/// The option that a key names, unless it is one to pass over, with a warning or without.
fn usable(
    key: &str,
    place: &Place<'_>,
    command: Command,
    role: Role,
    seen: &mut BTreeMap<(&'static str, u16), String>,
    warnings: &mut Vec<String>,
) -> Result<Option<Named>, ConfigError> {
    let named = name::find(key, Lookup::default())?;
    let complaint = match &named {
        None => Some(format!("invalid option '{key}'")),
        Some(named) if named.negated => Some(format!("negate option '{key}'")),
        Some(named) if named.reset => Some(format!("reset option '{key}'")),
        Some(named) if named.row.section == Section::CommandLine => Some(format!("command-line only option '{key}'")),
        Some(_) => None,
    };
    let (Some(named), None) = (named, &complaint) else {
        warnings.extend(complaint.map(|complaint| format!("configuration file contains {complaint}")));
        return Ok(None);
    };
    let section = place.section;
    if let Some(other) = seen.insert((named.row.name, named.number), key.to_owned()) {
        return Err(option_invalid(format!(
            "configuration file contains duplicate options ('{key}', '{other}') in section '[{section}]'"
        )));
    }
    if !opt::valid(named.row, command, role) {
        if place.of_command {
            warnings.push(format!("configuration file contains option '{key}' invalid for section '{section}'"));
        }
        return Ok(None);
    }
    if named.row.section == Section::Stanza && place.global {
        warnings.push(format!("configuration file contains stanza-only option '{key}' in global section '{section}'"));
        return Ok(None);
    }
    Ok(Some(named))
}

fn value(named: Named, key: &str, section: &str, values: &[String]) -> Result<GivenValue, ConfigError> {
    let row = named.row;
    let mut option = GivenValue { source: Source::File, negated: false, reset: false, values: vec![] };
    match values {
        [value] if value.is_empty() => {
            Err(option_invalid_value(format!("section '{section}', key '{key}' must have a value")))
        }
        [value] if row.kind == Kind::Boolean => match value.as_str() {
            "y" => Ok(option),
            "n" => {
                option.negated = true;
                Ok(option)
            }
            _ => Err(option_invalid_value(format!("boolean option '{key}' must be 'y' or 'n'"))),
        },
        [_] => Ok(GivenValue { values: values.to_vec(), ..option }),
        _ if row.multiple() => Ok(GivenValue { values: values.to_vec(), ..option }),
        _ => Err(option_invalid(format!("option '{}' cannot be set multiple times", row.numbered(named.number)))),
    }
}
