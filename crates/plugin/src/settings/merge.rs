//! Several places that set options become one list, each option once.

use std::collections::BTreeMap;

use pgbr_config::{Command, ConfigError, ErrorClass};

use super::classes::unnumbered;
use super::{BACKUP_NAME, BACKUP_UID, Given, Origin, Setting};
use crate::status::Failure;

/// Options that may be given more than once: each time adds to them.
const MULTIPLE: [&str; 11] = [
    "annotation",
    "db-exclude",
    "db-include",
    "exclude",
    "link-map",
    "recovery-option",
    "repo-block-age-map",
    "repo-block-checksum-size-map",
    "repo-block-size-map",
    "repo-storage-tag",
    "tablespace-map",
];

/// Options by where they come from, the first before the others.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) pod: Vec<Setting>,
    pub(super) parameters: Vec<Setting>,
    pub(super) fields: Vec<Setting>,
    pub(super) arguments: Vec<Setting>,
    pub(super) fallbacks: Vec<Setting>,
}

/// One list, and what has to be told about it.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) settings: Vec<Setting>,
    pub(super) warnings: Vec<String>,
}

/// Takes each option from the first place that has it.
pub(super) fn merge(sources: Sources) -> Result<Merged, Failure> {
    let mut merged = Merged::default();
    let mut taken: BTreeMap<String, Origin> = BTreeMap::new();
    let mut several = Vec::new();
    let all = [sources.pod, sources.parameters, sources.fields, sources.arguments, sources.fallbacks];
    for (place, settings) in all.into_iter().enumerate() {
        for setting in settings {
            if place > 0 {
                check_annotation(&setting)?;
            }
            if MULTIPLE.contains(&unnumbered(&setting.name).as_str()) && matches!(setting.value, Given::Value(_)) {
                several.push((place, setting));
                continue;
            }
            match taken.get(&setting.name) {
                None => {
                    taken.insert(setting.name.clone(), setting.origin.clone());
                    merged.settings.push(setting);
                }
                Some(_) if setting.origin == Origin::Fallback => {}
                Some(winner) => merged.warnings.push(format!(
                    "option '{}' of {} has no effect: {winner} sets it too",
                    setting.name, setting.origin
                )),
            }
        }
    }
    // Of two values for one key the grammar takes the later one.
    several.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    merged.settings.extend(several.into_iter().map(|(_, setting)| setting));
    Ok(merged)
}

/// The names by which backups are found again are the plugin's own.
fn check_annotation(setting: &Setting) -> Result<(), Failure> {
    let Given::Value(value) = &setting.value else { return Ok(()) };
    let key = value.split('=').next().unwrap_or_default();
    if setting.name == "annotation" && (key == BACKUP_NAME || key == BACKUP_UID) {
        return Err(Failure::Invalid(format!("[032]: annotation '{key}' in {} is the plugin's own", setting.origin)));
    }
    Ok(())
}

/// A mistake that the grammar found, with the place where it was written, and what is allowed there.
pub(super) fn explain(error: &ConfigError, settings: &[Setting], command: Command) -> String {
    let text = error.with_hints();
    let named = settings
        .iter()
        .filter(|setting| !matches!(setting.origin, Origin::Pod | Origin::Fallback))
        .filter(|setting| {
            let names = [setting.name.clone(), unnumbered(&setting.name), format!("--{}", setting.name)];
            names.iter().any(|name| text.contains(&format!("'{name}'")))
        })
        .max_by_key(|setting| setting.name.len());
    let place = named.map_or_else(String::new, |setting| format!(" ({})", setting.origin));
    let allowed = (error.class == ErrorClass::OptionInvalidValue).then(|| allowed(&text, command)).flatten();
    let allowed = allowed.map_or_else(String::new, |allowed| format!("; allowed: {allowed}"));
    format!("[{:03}]: {text}{allowed}{place}", error.class.code())
}

/// What the option may be that the grammar's message names.
fn allowed(text: &str, command: Command) -> Option<String> {
    let name = text.split("' option").next()?.rsplit('\'').next()?;
    pgbr_config::help::allowed(command, name)
}
