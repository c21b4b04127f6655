//! Completion scripts: bash runs its own; the others name every command and option.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::process::Command as Program;

use pgbr_config::Command;
use pgbr_config::completion::{Shell, script};

/// What bash offers for a line of words; the last one is being written.
fn completed(words: &[&str]) -> Vec<String> {
    let script = script(Shell::Bash, "pgbr");
    let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let program = format!(
        "{script}\nCOMP_WORDS=({line})\nCOMP_CWORD={}\n_pgbr\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        words.len() - 1
    );
    let output = Program::new("bash").args(["--norc", "-c", &program]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(completed(&["pgbr", "rest"]), ["restore"]);
    assert_eq!(completed(&["pgbr", "stanza-c"]), ["stanza-create"]);
    assert_eq!(completed(&["pgbr", "--stanza", "=", "demo", "verify", "--verb"]), ["--verbose"]);
    assert_eq!(completed(&["pgbr", "backup", "--typ"]), ["--type="]);
    assert_eq!(completed(&["pgbr", "backup", "--type", "="]), ["full", "diff", "incr"]);
    assert_eq!(completed(&["pgbr", "backup", "--type", "=", "f"]), ["full"]);
    assert_eq!(completed(&["pgbr", "plan", "--type", "=", "i"]), ["immediate"]);
    assert_eq!(completed(&["pgbr", "completion", "f"]), ["fish"]);
    assert!(completed(&["pgbr", "info", "--repo1-p"]).contains(&"--repo1-path=".to_owned()));
    // Secrets are never arguments, and what is refused is not offered.
    assert!(completed(&["pgbr", "info", "--repo1-cipher-pass"]).is_empty());
    assert!(completed(&["pgbr", "server"]).is_empty());
    assert!(completed(&["pgbr", "info", "--repo1-host"]).is_empty());
}

#[test]
fn every_shell_knows_every_command() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let script = script(shell, "pgbr");
        for command in Command::ALL {
            let facts = command.facts();
            if !facts.internal && facts.refused.is_none() {
                assert!(script.contains(command.name()), "{shell:?} {command}");
            }
        }
    }
    assert!(script(Shell::Zsh, "pgbr").starts_with("#compdef pgbr\n"));
    let fish = script(Shell::Fish, "pgbr");
    assert!(fish.contains("__fish_seen_subcommand_from plan' -l target-timeline -x"), "{fish}");
}

#[test]
fn one_shell_has_to_be_named() {
    for words in [&[][..], &["tcsh"], &["bash", "zsh"]] {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assert!(Shell::from_parameters(&words).is_err(), "{words:?}");
    }
}
