//! Second source: environment variables, handed in as pairs.

use crate::command::{Command, Role};
use crate::error::{ConfigError, option_invalid_value};
use crate::given::{Given, GivenValue, Source};
use crate::name::{self, Lookup};
use crate::opt::{self, Kind};

/// What the names of our variables begin with.
pub(crate) const PREFIX: &str = "PGBACKREST_";

/// The option that a variable is about, from its name without the prefix.
pub(crate) fn option_name(variable: &str) -> String {
    variable.to_ascii_lowercase().replace('_', "-")
}

/// Adds options from variables unless the arguments gave them.
pub(crate) fn read(
    given: &mut Given,
    environment: &[(String, String)],
    command: Command,
    role: Role,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let name = option_name(name);
        let Some(named) = name::find(&name, Lookup::default())? else {
            warnings.push(format!("environment contains invalid option '{name}'"));
            continue;
        };
        if named.negated || named.reset {
            let form = if named.negated { "negate" } else { "reset" };
            warnings.push(format!("environment contains invalid {form} option '{name}'"));
            continue;
        }
        let row = named.row;
        if !opt::valid(row, command, role) {
            continue;
        }
        if value.is_empty() {
            return Err(option_invalid_value(format!("environment variable '{name}' must have a value")));
        }
        if given.find(row, named.number).is_some() {
            continue;
        }
        let mut option = GivenValue { source: Source::Environment, negated: false, reset: false, values: vec![] };
        match (row.kind, value.as_str()) {
            (Kind::Boolean, "y") => {}
            (Kind::Boolean, "n") => option.negated = true,
            (Kind::Boolean, _) => {
                return Err(option_invalid_value(format!("environment boolean option '{name}' must be 'y' or 'n'")));
            }
            _ if row.multiple() => option.values = value.split(':').map(str::to_owned).collect(),
            _ => option.values.push(value.clone()),
        }
        given.insert(row, named.number, option);
    }
    Ok(())
}
