//! Scripts that complete commands, options and their values in a shell, made from the table.

use std::fmt::Write as _;

use crate::command::{Command, Role};
use crate::error::{ConfigError, ErrorClass};
use crate::opt::{self, Kind, Row, Support};

/// A shell that has a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The shell that the words after `completion` name.
    pub fn from_parameters(parameters: &[String]) -> Result<Shell, ConfigError> {
        match parameters {
            [name] if name == "bash" => Ok(Shell::Bash),
            [name] if name == "zsh" => Ok(Shell::Zsh),
            [name] if name == "fish" => Ok(Shell::Fish),
            [name] => {
                let message = format!("no completion for shell '{name}': bash, zsh and fish have one");
                Err(ConfigError::new(ErrorClass::ParamInvalid, message))
            }
            _ => Err(ConfigError::new(ErrorClass::ParamInvalid, "name one shell: bash, zsh or fish")),
        }
    }
}

/// The script for `program`, the name people call.
pub fn script(shell: Shell, program: &str) -> String {
    match shell {
        Shell::Bash => bash(program),
        // zsh runs the functions of bash; the first line is what its own loader looks for.
        Shell::Zsh => format!("#compdef {program}\nautoload -U +X bashcompinit && bashcompinit\n{}", bash(program)),
        Shell::Fish => fish(program),
    }
}

fn commands() -> impl Iterator<Item = Command> {
    Command::ALL.into_iter().filter(|command| !command.facts().internal && command.facts().refused.is_none())
}

fn rows(command: Command) -> impl Iterator<Item = &'static Row> {
    opt::rows().filter(move |row| {
        opt::valid(row, command, Role::Main)
            && !row.rules(command).internal
            && !row.secret
            && !matches!(row.support, Support::Refused(_))
    })
}

/// `y` and `n` are not offered for a boolean: the option alone says yes.
fn values(row: &Row, command: Command) -> Vec<&'static str> {
    let refused = |value: &&str| row.refused_values.iter().any(|(other, _)| other == value);
    row.rules(command).allowed.iter().copied().filter(|value| !refused(value)).collect()
}

/// The options of a command as they are written: with `=` where a value follows.
fn words(command: Command) -> Vec<String> {
    let mut words = Vec::new();
    for row in rows(command) {
        let name = row.numbered(1);
        if row.kind == Kind::Boolean {
            words.push(format!("--{name}"));
            if row.negatable {
                words.push(format!("--no-{name}"));
            }
        } else {
            words.push(format!("--{name}="));
        }
    }
    words
}

fn bash(program: &str) -> String {
    let function = format!("_{}", program.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"));
    let names: Vec<&str> = commands().map(Command::name).collect();
    let mut text = format!(
        "{function}() {{\n    \
             local word=${{COMP_WORDS[COMP_CWORD]}} command= option= words= i\n    \
             COMPREPLY=()\n    \
             for ((i = 1; i < COMP_CWORD; i++)); do\n        \
                 [[ ${{COMP_WORDS[i]}} == [-=]* || ${{COMP_WORDS[i-1]}} == = ]] || {{ command=${{COMP_WORDS[i]}}; break; }}\n    \
             done\n    \
             if [[ $word == = ]]; then\n        \
                 option=${{COMP_WORDS[COMP_CWORD-1]}} word=\n    \
             elif [[ ${{COMP_WORDS[COMP_CWORD-1]}} == = ]]; then\n        \
                 option=${{COMP_WORDS[COMP_CWORD-2]}}\n    \
             fi\n    \
             if [[ -n $option ]]; then\n        \
                 case \"$command $option\" in\n"
    );
    for command in commands() {
        for row in rows(command) {
            let values = values(row, command);
            if !values.is_empty() {
                let name = row.numbered(1);
                let _ = writeln!(text, "            '{command} --{name}') words='{}' ;;", values.join(" "));
            }
        }
    }
    let _ = write!(
        text,
        "        esac\n    else\n        case $command in\n            '') words='{}' ;;\n",
        names.join(" ")
    );
    for command in commands() {
        let words = match command {
            Command::Help => names.join(" "),
            Command::Completion => "bash zsh fish".to_owned(),
            _ => words(command).join(" "),
        };
        let _ = writeln!(text, "            {command}) words='{words}' ;;");
    }
    let _ = write!(
        text,
        "        esac\n    fi\n    \
             COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n    \
             [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace 2>/dev/null\n    \
             return 0\n}}\ncomplete -F {function} {program}\n"
    );
    text
}

fn fish(program: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut text = format!("complete -c {program} -f\n");
    for command in commands() {
        let help = quoted(command.facts().help);
        let _ = writeln!(text, "complete -c {program} -n __fish_use_subcommand -a {command} -d '{help}'");
    }
    for command in commands() {
        let seen = format!("complete -c {program} -n '__fish_seen_subcommand_from {command}'");
        if command == Command::Completion {
            let _ = writeln!(text, "{seen} -a 'bash zsh fish'");
        }
        for row in rows(command) {
            let (name, help) = (row.numbered(1), quoted(row.help));
            if row.kind == Kind::Boolean {
                let _ = writeln!(text, "{seen} -l {name} -d '{help}'");
                if row.negatable {
                    let _ = writeln!(text, "{seen} -l no-{name}");
                }
                continue;
            }
            let values = values(row, command);
            let values = if values.is_empty() { String::new() } else { format!(" -a '{}'", values.join(" ")) };
            let _ = writeln!(text, "{seen} -l {name} -x{values} -d '{help}'");
        }
    }
    text
}
