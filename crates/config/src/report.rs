//! What is configured, and where: the report of `check --report`, for somebody who is asked for help.

use serde_json::{Map, Value, json};

use crate::command::Command;
use crate::environment::{self, PREFIX};
use crate::error::ConfigError;
use crate::files::{self, ConfigFiles};
use crate::name::{self, Lookup};
use crate::opt::Kind;
use crate::parse::Invocation;
use crate::{arguments, opt};

/// Every variable and every line of the configuration files as JSON, whatever the command, secrets left out (pgBackRest's
/// `command/check/report.c`).
///
/// # Errors
/// As [`crate::parse`] where the files cannot be read.
pub fn configuration(invocation: &Invocation<'_>, files: &dyn ConfigFiles) -> Result<String, ConfigError> {
    let mut variables = Map::new();
    for (variable, value) in invocation.environment {
        if let Some(name) = variable.strip_prefix(PREFIX) {
            variables
                .insert(variable.clone(), option(&environment::option_name(name), std::slice::from_ref(value), true));
        }
    }
    // The files are those that the command itself was pointed to.
    let read = arguments::read(invocation.arguments)?;
    let mut given = read.given;
    environment::read(&mut given, invocation.environment, Command::Check, read.role, &mut Vec::new())?;
    let file = match files::load(&given, files)? {
        None => Value::Null,
        Some(ini) => {
            let section = |name: &str| -> Value {
                let keys = ini.section(name).iter();
                keys.map(|(key, values)| (key.clone(), option(key, values, false))).collect::<Map<_, _>>().into()
            };
            ini.sections().map(|name| (name.to_owned(), section(name))).collect::<Map<_, _>>().into()
        }
    };
    Ok(json!({ "cfg": { "env": variables, "file": file } }).to_string())
}

/// A value, and what is wrong with the name. What nobody knows may be anything, a secret too.
fn option(name: &str, values: &[String], is_variable: bool) -> Value {
    let Ok(Some(named)) = name::find(name, Lookup::default()) else { return json!({ "warn": "invalid option" }) };
    let row: &opt::Row = named.row;
    let is_multiple = matches!(row.kind, Kind::List | Kind::Hash);
    let value = match values {
        _ if row.secret => json!(format!("<{name}>")),
        [value] if is_multiple && is_variable => json!(value.split(':').collect::<Vec<_>>()),
        [value] if !is_multiple => json!(value),
        values => json!(values),
    };
    match (named.negated, named.reset) {
        (true, _) => json!({ "val": value, "warn": "invalid negate option" }),
        (_, true) => json!({ "val": value, "warn": "invalid reset option" }),
        _ => json!({ "val": value }),
    }
}
