//! Credentials go to the configured endpoint alone, whatever the environment of the process says (SEC-05).

use pgbr_testkit::conf::Conf;
use pgbr_testkit::process::{self, DEFAULT_LIMIT};
use pgbr_testkit::s3::{Bucket, ScriptedServer, WireAnswer};
use pgbr_testkit::{pgbr, user};

/// Variables by which SDKs, proxies and metadata services are found.
const LURES: [&str; 13] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_ROLE_ARN",
];

#[test]
fn os27_sec05_nobody_but_the_endpoint_is_asked() {
    let folder = user::scratch().unwrap();
    let bucket = Bucket::start(folder.path()).unwrap();
    let mut conf = Conf::create(&folder.path().join("backrest"), "demo").unwrap();
    for (option, value) in bucket.options(1) {
        conf.global(&option, &value).unwrap();
    }
    let trap = ScriptedServer::start(|_| WireAnswer::http(200, &[], b"{}")).unwrap();
    for arguments in [&["repo-ls", "--recurse"][..], &["info"]] {
        let mut command = pgbr::engine().command(&conf, arguments);
        command.envs(LURES.map(|name| (name, trap.url()))).env("NO_PROXY", "");
        process::run(&mut command, DEFAULT_LIMIT).unwrap().success().unwrap();
    }
    assert!(trap.requests().is_empty(), "{:?}", trap.requests());
}
