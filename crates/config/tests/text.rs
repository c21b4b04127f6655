//! Options as text: for the log, for `restore_command`, for a background run, and as help.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use pgbr_config::help::{self, HelpTopic};
use pgbr_config::{Command, Invocation, NoFiles, Parsed, opt, parse, render};
use proptest::prelude::*;

fn call(arguments: &[String], environment: &[(&str, &str)]) -> Result<Parsed, pgbr_config::ConfigError> {
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, value)| (format!("PGBACKREST_{name}"), (*value).to_owned())).collect();
    let invocation =
        Invocation { program: "/usr/bin/pgbr", arguments, environment: &environment, root: false, exec_id: None };
    parse(&invocation, &NoFiles)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn parsed(arguments: &str, environment: &[(&str, &str)]) -> Parsed {
    call(&words(arguments), environment).unwrap()
}

#[test]
fn the_begin_line_shows_what_people_gave() {
    let parsed = parsed(
        "archive-push --stanza=demo --pg1-path=/data/ --no-compress --reset-repo1-path pg_wal/1",
        &[("REPO1_CIPHER_TYPE", "aes-256-cbc"), ("REPO1_CIPHER_PASS", "geheim"), ("ARCHIVE_ASYNC", "y")],
    );
    assert_eq!(
        render::begin_line(&parsed.options, parsed.command, &parsed.parameters),
        " [pg_wal/1] --archive-async --no-compress --pg1-path=/data/ --repo1-cipher-pass=<redacted> \
         --repo1-cipher-type=aes-256-cbc --reset-repo1-path --stanza=demo"
    );
}

#[test]
fn the_next_command_shows_its_own_options_only() {
    let arguments =
        vec!["backup".into(), "--stanza=demo".into(), "--pg1-path=/a b".into(), "--repo1-retention-full=2".into()];
    let parsed = call(&arguments, &[]).unwrap();
    assert_eq!(
        render::begin_line(&parsed.options, Command::Backup, &[]),
        " --pg1-path=\"/a b\" --repo1-retention-full=2 --stanza=demo"
    );
    assert_eq!(render::begin_line(&parsed.options, Command::Expire, &[]), " --repo1-retention-full=2 --stanza=demo");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_an_option_given() {
    let mut parsed = parsed("backup --stanza=demo --pg1-path=/data", &[]);
    parsed.options.log_level_file_off();
    assert_eq!(parsed.options.string_id(opt::LOG_LEVEL_FILE), Some("off"));
    assert!(render::begin_line(&parsed.options, parsed.command, &[]).starts_with(" --log-level-file=off "));
}

fn restore_options(arguments: &str, environment: &[(&str, &str)]) -> Vec<String> {
    render::restore_command_options(&parsed(&format!("restore --stanza=demo {arguments}"), environment).options)
}

#[test]
fn restore_command_gets_what_was_given_as_arguments() {
    let options = restore_options(
        "--pg1-path=/data --repo=2 --repo2-path=/r --process-max=8 --log-level-console=info --delta --type=name --target=x \
         --no-sck-keep-alive --no-config --lock-path=/l --job-retry=3 --reset-io-timeout",
        &[("BUFFER_SIZE", "64KiB")],
    );
    assert_eq!(
        options,
        [
            "--no-config",
            "--reset-io-timeout",
            "--lock-path=/l",
            "--pg1-path=/data",
            "--repo=2",
            "--repo2-path=/r",
            "--no-sck-keep-alive",
            "--stanza=demo"
        ]
    );
}

#[test]
fn restore_command_leaves_out_what_archive_get_would_refuse() {
    let options = restore_options("--pg1-path=/data --spool-path=/s", &[]);
    assert_eq!(options, ["--pg1-path=/data", "--stanza=demo"]);
}

#[test]
fn restore_command_gets_variables_that_arguments_depend_on() {
    let environment =
        [("REPO1_TYPE", "s3"), ("REPO1_S3_ENDPOINT", "e"), ("REPO1_S3_REGION", "r"), ("REPO1_S3_KEY_TYPE", "auto")];
    let options = restore_options("--pg1-path=/data --repo1-s3-bucket=b --repo1-s3-role=r", &environment);
    assert_eq!(
        options,
        [
            "--pg1-path=/data",
            "--repo1-s3-bucket=b",
            "--repo1-s3-key-type=auto",
            "--repo1-s3-role=r",
            "--repo1-type=s3",
            "--stanza=demo"
        ]
    );
}

#[test]
fn restore_command_is_safe_in_a_shell() {
    let arguments =
        ["restore", "--stanza=demo", "--pg1-path=/a b", "--repo1-path=/x$(y)`z`\"%p"].map(str::to_owned).to_vec();
    let parsed = call(&arguments, &[]).unwrap();
    let options = render::restore_command_options(&parsed.options);
    assert_eq!(options, ["--pg1-path=\"/a b\"", r#"--repo1-path="/x\$(y)\`z\`\"%%p""#, "--stanza=demo"]);
}

#[test]
fn a_background_run_gets_arguments_and_nothing_secret() {
    let environment = [("REPO1_CIPHER_TYPE", "aes-256-cbc"), ("REPO1_CIPHER_PASS", "geheim"), ("PROCESS_MAX", "4")];
    let arguments =
        ["archive-push", "--stanza=demo", "--pg1-path=/a b", "--archive-async", "--no-compress", "--archive-timeout=5"]
            .map(str::to_owned);
    let parsed = call(&arguments, &environment).unwrap();
    assert_eq!(
        render::background_arguments(&parsed.options, Command::ArchivePush),
        ["--archive-async", "--compress-type=none", "--pg1-path=/a b", "--stanza=demo"]
    );
}

// Help ---------------------------------------------------------------------------------------------------------------

fn help_text(arguments: &str, environment: &[(&str, &str)]) -> String {
    let parsed = parsed(arguments, environment);
    help::render(parsed.help.unwrap(), &parsed.options, "pgbr", "pgbr 1.0")
}

#[test]
fn help_lists_commands_and_options() {
    let text = help_text("help", &[]);
    assert!(text.contains("    stanza-create   set up the stanza of a cluster\n"), "{text}");
    assert!(!text.contains("repo-rm"));
    assert!(matches!(parsed("--version", &[]).help, Some(HelpTopic::Version)));

    let text = help_text("help backup", &[("PROCESS_MAX", "4"), ("REPO1_CIPHER_PASS", "geheim")]);
    assert!(text.contains("--process-max"), "{text}");
    assert!(words(&text).join(" ").contains("[current=4, default=1]"), "{text}");
    assert!(!text.contains("geheim") && !text.contains("--target"));
    let fits = |line: &str| line.chars().count() <= 80 || line.split_whitespace().count() == 1;
    assert!(text.lines().all(fits), "{text}");
}

#[test]
fn help_of_an_option_says_how_to_set_it() {
    let text = help_text("help backup compress-level", &[]);
    for part in ["type: integer", "zst: -7 to 22", "only when: compress-type is", "PGBACKREST_COMPRESS_LEVEL"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = help_text("help backup repo2-cipher-pass", &[("REPO1_CIPHER_PASS", "geheim")]);
    assert!(text.contains("secret") && !text.contains("--repo1-cipher-pass") && !text.contains("geheim"), "{text}");
    assert!(help_text("help info repo-host", &[]).contains("Not supported, because"));
}

#[test]
fn every_option_of_every_command_can_be_explained() {
    for command in Command::ALL.into_iter().filter(|command| *command != Command::Help) {
        for row in opt::rows().filter(|row| row.commands.contains(command)) {
            let text = help_text(&format!("help {command} {}", row.name), &[]);
            assert!(text.lines().skip(1).all(|line| line.chars().count() <= 80), "{text}");
        }
    }
}

// Properties ---------------------------------------------------------------------------------------------------------

proptest! {
    #[test]
    fn no_arguments_panic(arguments in proptest::collection::vec("(--)?(no-|reset-)?[a-z0-9-]{0,12}(=[ -~é]{0,8})?", 0..6)) {
        let _result = call(&arguments, &[]);
    }

    #[test]
    fn no_value_panics(index in 0_usize..200, number in 1_u16..=256, value in "(?s).{0,12}", command in 0_usize..Command::ALL.len()) {
        let row = opt::rows().nth(index).unwrap();
        let arguments = vec![
            Command::ALL[command].name().to_owned(),
            "--stanza=demo".to_owned(),
            "--pg1-path=/data".to_owned(),
            format!("--{}={value}", row.numbered(number)),
        ];
        let _result = call(&arguments, &[]);
        let _result = call(&arguments[..3], &[(&row.numbered(number).to_uppercase().replace('-', "_"), &value)]);
    }

    /// What the begin line shows means the same when it is given as arguments.
    #[test]
    fn the_begin_line_can_be_given_again(
        process_max in 1_u16..1000,
        level in -7_i8..=22,
        delta in any::<bool>(),
        excludes in proptest::collection::vec("[a-z/]{1,8}", 0..4),
        repo in 2_u16..=256,
        size in 1_u32..1000,
    ) {
        let mut arguments = words("backup --stanza=demo --pg1-path=/data --compress-type=zst");
        arguments.push(format!("--process-max={process_max}"));
        arguments.push(format!("--compress-level={level}"));
        arguments.push(if delta { "--delta".to_owned() } else { "--no-delta".to_owned() });
        arguments.extend(excludes.iter().map(|exclude| format!("--exclude={exclude}")));
        arguments.extend([format!("--repo{repo}-path=/r{repo}"), format!("--repo{repo}-bundle")]);
        arguments.push(format!("--repo{repo}-bundle-size={size}MiB"));
        let first = call(&arguments, &[]).unwrap();
        let line = render::begin_line(&first.options, first.command, &[]);

        let mut again = vec!["backup".to_owned()];
        again.extend(words(&line));
        let second = call(&again, &[]).unwrap();
        prop_assert_eq!(&line, &render::begin_line(&second.options, second.command, &[]));
        let index = second.options.repos().next().unwrap();
        prop_assert_eq!(index.number(), repo);
        prop_assert_eq!(second.options.repo(index).size_bytes(opt::REPO_BUNDLE_SIZE), Some(u64::from(size) << 20));
        prop_assert_eq!(second.options.integer(opt::COMPRESS_LEVEL), Some(i64::from(level)));
    }
}
