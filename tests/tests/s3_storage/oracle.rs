//! The original pgBackRest on the same server: it works there, and the backend reads what it wrote.

use std::time::Duration;

use pgbr_repo::storage::{ListOptions, Storage};
use pgbr_testkit::conf::Conf;
use pgbr_testkit::postgres::{Cluster, Options, Shutdown, Version};
use pgbr_testkit::s3::{S3Operation, S3Server};
use pgbr_testkit::{stock, user};

use crate::{BUCKET, open, options, path, read};

#[test]
fn the_original_backs_up_and_restores_over_the_server() {
    for stock in stock::all() {
        let dir = user::scratch().unwrap();
        let objects = tempfile::tempdir().unwrap();
        let server = S3Server::start(objects.path()).unwrap();
        server.create_bucket(BUCKET).unwrap();
        let ca_file = dir.path().join("ca.pem");
        user::write_file(&ca_file, std::fs::read(server.ca_file()).unwrap()).unwrap();
        let mut conf = Conf::create(&dir.path().join("backrest"), "demo").unwrap();
        for (option, value) in [
            ("repo1-type", "s3"),
            ("repo1-path", "/repo"),
            ("repo1-s3-bucket", BUCKET),
            ("repo1-s3-endpoint", "localhost"),
            ("repo1-s3-region", server.region()),
            ("repo1-s3-key", server.key()),
            ("repo1-s3-key-secret", server.secret()),
            ("repo1-s3-uri-style", "path"),
            ("repo1-storage-port", &server.port().to_string()),
            ("repo1-storage-ca-file", &ca_file.display().to_string()),
            ("compress-type", "zst"),
        ] {
            conf.global(option, value).unwrap();
        }
        let data = dir.path().join("data");
        let options = Options { archive_command: Some(stock.engine.archive_command(&conf)), ..Options::default() };
        let mut cluster = Cluster::started(Version::V15, &data, options.clone()).unwrap();
        conf.cluster(&cluster).unwrap();
        for arguments in
            [&["stanza-create"][..], &["check"], &["backup", "--type=full"], &["backup", "--type=incr"], &["info"]]
        {
            stock.engine.ok(&conf, arguments).unwrap();
        }
        cluster.stop(Shutdown::Fast).unwrap();
        drop(cluster);
        assert!(server.count(S3Operation::PutObject) > 0);
        read_what_it_wrote(&server);

        std::fs::remove_dir_all(&data).unwrap();
        stock.engine.ok(&conf, &["restore"]).unwrap();
        let mut restored = Cluster::open(Version::V15, &data, options).unwrap();
        restored.start().unwrap();
        restored.wait_until_promoted(Duration::from_secs(60)).unwrap();
        restored.stop(Shutdown::Immediate).unwrap();
        stock.engine.ok(&conf, &["expire", "--repo1-retention-full=1"]).unwrap();
        let stop = ["stop"];
        stock.engine.ok(&conf, &stop).unwrap();
        stock.engine.ok(&conf, &["stanza-delete", "--force"]).unwrap();
        assert!(server.count(S3Operation::DeleteObjects) > 0);
    }
}

/// The same objects through our own client, which goes to another address of the same server.
fn read_what_it_wrote(server: &S3Server) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut options = options(&server.url(), server.key(), server.secret());
        options.ca_file = Some(server.ca_file());
        let storage = open(&options);
        let main = read(&storage, "archive/demo/archive.info").await.unwrap();
        assert_eq!(main, read(&storage, "archive/demo/archive.info.copy").await.unwrap());
        assert!(main.starts_with(b"[backrest]\n"), "{}", String::from_utf8_lossy(&main));
        let all = ListOptions { recurse: true, name_prefix: None };
        let page = storage.list_page(&path("backup/demo"), &all, None).await.unwrap();
        assert!(page.next.is_some() || page.entries.iter().any(|entry| entry.name == "backup.info"));
    });
}
