//! The option grammar: arguments, variables and a configuration file made from bytes.

use std::io;

use pgbr_config::{ConfigFiles, Invocation, help, parse, render};

/// Stands in for every passphrase, and must be seen nowhere.
const SECRET: &str = "correct-horse-battery-staple";

/// Reads options. Lines that begin with `>` are arguments, with `$` variables (`NAME=value`); the others are the file.
pub(crate) fn options(bytes: &[u8]) {
    let mut arguments = Vec::new();
    let mut environment = vec![("PGBACKREST_REPO1_CIPHER_PASS".to_owned(), SECRET.to_owned())];
    let mut file = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned();
        if let Some(argument) = text.strip_prefix('>') {
            arguments.push(argument.to_owned());
        } else if let Some((name, value)) = text.strip_prefix('$').and_then(|text| text.split_once('=')) {
            environment.push((format!("PGBACKREST_{name}"), value.to_owned()));
        } else {
            file.extend_from_slice(line);
        }
    }
    let invocation = Invocation {
        program: "/usr/bin/pgbr",
        arguments: &arguments,
        environment: &environment,
        root: false,
        exec_id: Some("1-0"),
    };
    match parse(&invocation, &OneFile(file)) {
        Err(error) => {
            let text = format!("{error}\n{error:?}");
            assert!(!text.contains(SECRET), "no error shows a secret");
            assert!((25..=125).contains(&error.class.code()), "every mistake has a code of the original");
        }
        Ok(parsed) => {
            let line = render::begin_line(&parsed.options, parsed.command, &parsed.parameters);
            assert!(!line.contains(SECRET), "no log line shows a secret");
            let given = render::restore_command_options(&parsed.options);
            assert!(!given.iter().any(|option| option.contains(SECRET)), "no command line shows a secret");
            let text = format!("{parsed:?}");
            assert!(!text.contains(SECRET), "no debug text shows a secret");
            if let Some(topic) = parsed.help {
                assert!(!help::render(topic, &parsed.options, "pgbr", "0").is_empty(), "help says something");
            }
        }
    }
}

/// The same content for every configuration file that is asked for; no include directory.
struct OneFile(Vec<u8>);

impl ConfigFiles for OneFile {
    fn read(&self, _path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(Some(self.0.clone()))
    }

    fn list(&self, _path: &str) -> io::Result<Option<Vec<String>>> {
        Ok(None)
    }
}
