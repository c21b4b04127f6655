//! Every command at its most talkative over an encrypted repository on S3, with everything failing once: what it prints and
//! logs holds no secret. The testkit looks for them in all that it captures, and fails the test (SEC-01).

use http::StatusCode;
use pgbr_testkit::process::Outcome;
use pgbr_testkit::s3::{Bucket, Fault, Rule};
use pgbr_testkit::{canary, user};

use crate::scene::{Scene, ours};

const LOUD: [&str; 3] = ["--log-level-console=trace", "--log-level-stderr=trace", "--log-level-file=trace"];

struct Loud {
    scene: Scene,
    bucket: Bucket,
}

impl Loud {
    fn new() -> Self {
        let mut scene = Scene::new(3, 8192);
        let bucket = Bucket::start(scene.dir.path()).unwrap();
        for (option, value) in bucket.options(1) {
            scene.conf.global(&option, &value).unwrap();
        }
        scene.conf.global("repo1-cipher-type", "aes-256-cbc").unwrap();
        scene.conf.global("repo1-cipher-pass", canary::PASSPHRASE).unwrap();
        Self { scene, bucket }
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let all: Vec<&str> = LOUD.iter().copied().chain(arguments.iter().copied()).collect();
        ours().run(&self.scene.conf, &all).unwrap()
    }
}

#[test]
fn sec01_no_command_tells_a_secret_however_loud_it_is_and_whatever_fails() {
    let mut loud = Loud::new();
    let segment = loud.scene.segment("pg_wal", 5, 1).display().to_string();
    let name = segment.rsplit('/').next().unwrap().to_owned();
    let fetched = loud.scene.dir.path().join("fetched").display().to_string();
    let restored = loud.scene.dir.path().join("restored");
    user::create_dir(&restored).unwrap();
    let to_restored = format!("--pg1-path={}", restored.display());
    let commands: [&[&str]; 17] = [
        &["stanza-create", "--no-online"],
        &["archive-push", &segment],
        &["archive-get", &name, &fetched],
        &["backup", "--no-online", "--type=full", "--repo1-bundle", "--repo1-block"],
        &["backup", "--no-online", "--type=incr", "--delta"],
        &["info"],
        &["info", "--output=json"],
        &["repo-ls", "--recurse"],
        &["annotate", "--set=latest", "--annotation=a=b"],
        &["verify", "--verbose"],
        &["check", "--no-online", "--report"],
        &["expire", "--repo1-retention-full=1"],
        &["plan", "--type=immediate", &to_restored],
        &["restore", "--type=none", &to_restored],
        &["help", "backup", "repo-cipher-pass"],
        &["stop"],
        &["start"],
    ];
    let done = commands.iter().filter(|command| loud.run(command).exit_code == Some(0)).count();
    assert!(done >= 14, "{done} of the commands have done their work");
    // A store that tells all it knows; one that ends connections; a key that does not fit; mistakes of a person.
    loud.scene.conf.global("io-timeout", "100ms").unwrap();
    let another = loud.scene.segment("pg_wal", 6, 2).display().to_string();
    let failing: [&[&str]; 5] = [
        &["archive-push", &another],
        &["archive-get", &name, &fetched],
        &["backup", "--no-online", "--type=full"],
        &["info"],
        &["expire", "--repo1-retention-full=1"],
    ];
    let fail_all = |loud: &Loud| {
        for command in failing {
            assert_ne!(loud.run(command).exit_code, None, "{command:?}");
        }
    };
    let server = loud.bucket.server();
    let told = format!(
        "<Error><Code>SignatureDoesNotMatch</Code><Message>{key} {secret}</Message>\
         <StringToSign>AWS4-HMAC-SHA256 Credential={key}/x</StringToSign></Error>",
        key = server.key(),
        secret = server.secret()
    );
    for fault in [
        Fault::Answer { status: StatusCode::FORBIDDEN, headers: Vec::new(), body: told.into() },
        Fault::Reset,
        Fault::error(500, "InternalError"),
    ] {
        server.inject(Rule::always(fault, |_| true));
        fail_all(&loud);
        server.heal();
    }
    for mistake in
        [&["info", "--repo1-cipher-pass=canary-passphrase"][..], &["info", "--repo1-s3-key-secret=canary-secret-key"]]
    {
        assert_ne!(loud.run(mistake).exit_code, Some(0), "{mistake:?}");
    }
    loud.scene.conf.global("repo1-cipher-pass", "canary-other-passphrase").unwrap();
    fail_all(&loud);
    loud.scene.conf.global("repo1-s3-key-secret", "canary-other-secret-key").unwrap();
    fail_all(&loud);
}
