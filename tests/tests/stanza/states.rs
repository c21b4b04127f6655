//! `stanza-create` and `stanza-upgrade` over every state of the four info files, offline.

use std::fs;

use crate::both::{Clusters, Side};

const CREATE: [&str; 2] = ["stanza-create", "--no-online"];
const UPGRADE: [&str; 2] = ["stanza-upgrade", "--no-online"];

const INFO: [&str; 4] = [
    "repo/archive/demo/archive.info",
    "repo/archive/demo/archive.info.copy",
    "repo/backup/demo/backup.info",
    "repo/backup/demo/backup.info.copy",
];

fn new_cluster(clusters: &Clusters) -> impl Fn(&mut Side) + use<> {
    let data = clusters.new.to_str().unwrap().to_owned();
    move |side| {
        side.conf.local("pg1-path", &data).unwrap();
    }
}

#[test]
fn stanza_create_does_what_the_original_does() {
    let clusters = Clusters::new();
    let both = clusters.both("fresh");
    assert_eq!(both.agree("fresh", &CREATE).code, 0);
    assert_eq!(both.agree("again", &CREATE).code, 0);
    assert_eq!(both.agree("with --force", &["stanza-create", "--no-online", "--force"]).code, 0);
    assert_eq!(both.agree("one repository", &["stanza-create", "--no-online", "--repo=1"]).code, 31);

    for missing in INFO {
        let mut both = clusters.both(&format!("without-{}", missing.replace('/', "-")));
        both.made_by_stock(&CREATE).each(|side| side.remove(missing));
        assert_eq!(both.agree(missing, &CREATE).code, 0);
        both.each(|side| side.write(missing, "damaged"));
        assert_eq!(both.agree("damaged", &CREATE).code, 0);
    }
    let mut both = clusters.both("no-archive-info");
    both.made_by_stock(&CREATE).each(|side| {
        side.remove(INFO[0]);
        side.remove(INFO[1]);
    });
    assert_eq!(both.agree("no archive.info", &CREATE).code, 55);
    let mut both = clusters.both("no-backup-info");
    both.made_by_stock(&CREATE).each(|side| {
        side.remove(INFO[2]);
        side.remove(INFO[3]);
        side.write("repo/archive/demo/15-1/0000000100000000/x", "data");
    });
    assert_eq!(both.agree("no backup.info, but WAL", &CREATE).code, 55);

    for (name, file) in [
        ("archive", "repo/archive/demo/15-1/0000000100000000/x"),
        ("backup", "repo/backup/demo/20261122-061730F/backup.manifest"),
    ] {
        let mut both = clusters.both(&format!("data-in-{name}"));
        both.each(|side| side.write(file, "data"));
        assert_eq!(both.agree(name, &CREATE).code, 40);
    }
    let mut both = clusters.both("other-cluster");
    both.made_by_stock(&CREATE).each(new_cluster(&clusters));
    assert_eq!(both.agree("other cluster", &CREATE).code, 28);

    let mut both = clusters.both("stopped");
    both.each(|side| side.write("lock/demo.stop", ""));
    assert_eq!(both.agree("stopped", &CREATE).code, 62);
    both.each(|side| {
        side.remove("lock/demo.stop");
        side.write("lock/all.stop", "");
    });
    assert_eq!(both.agree("all stopped", &CREATE).code, 62);

    let mut both = clusters.both("two");
    both.each(Side::second_repository);
    assert_eq!(both.agree("two repositories", &CREATE).code, 0);
    both.each(|side| side.write("repo2/archive/demo/archive.info", "damaged"));
    assert_eq!(both.agree("two repositories, one damaged", &CREATE).code, 0);
    both.each(|side| side.remove("repo2/archive/demo/archive.info.copy"));
    both.agree("two repositories, one broken", &CREATE);
}

#[test]
fn in09_a_stanza_that_the_original_left_half_made_is_completed() {
    let clusters = Clusters::new();
    let mut both = clusters.both("half");
    both.made_by_stock(&CREATE).each(|side| {
        side.remove(INFO[2]);
        side.remove(INFO[3]);
    });
    // The original asks for help; ours knows that nothing can be lost.
    assert_eq!(both.stock.run(&CREATE).code, 55);
    assert_eq!(both.ours.run(&CREATE).code, 0);
    both.stock.engine.ok(&both.ours.conf, &CREATE).unwrap();
    both.stock.engine.ok(&both.ours.conf, &["backup", "--no-online"]).unwrap();
}

#[test]
fn stanza_upgrade_does_what_the_original_does() {
    let clusters = Clusters::new();
    let mut both = clusters.both("upgrade");
    assert_eq!(both.agree("without a stanza", &UPGRADE).code, 55);
    both.made_by_stock(&CREATE);
    assert_eq!(both.agree("nothing to do", &UPGRADE).code, 0);
    both.each(new_cluster(&clusters));
    assert_eq!(both.agree("15 to 18", &UPGRADE).code, 0);
    assert_eq!(both.agree("again", &UPGRADE).code, 0);
    assert_eq!(both.agree("and checked", &CREATE).code, 0);
    let old = clusters.old.to_str().unwrap().to_owned();
    both.each(|side| {
        side.conf.local("pg1-path", &old).unwrap();
    });
    assert_eq!(both.agree("and back to the first cluster", &UPGRADE).code, 0);
    assert_eq!(both.agree("one repository", &["stanza-upgrade", "--no-online", "--repo=1"]).code, 31);

    let mut both = clusters.both("upgrade-two");
    both.each(Side::second_repository).made_by_stock(&CREATE).each(new_cluster(&clusters));
    both.each(|side| side.write("lock/demo.stop", ""));
    assert_eq!(both.agree("stopped", &UPGRADE).code, 62);
    both.each(|side| side.remove("lock/demo.stop"));
    assert_eq!(both.agree("two repositories", &UPGRADE).code, 0);

    // A copy is missing, or the main file is damaged: both save a whole pair.
    for (name, missing) in [("copies", [INFO[1], INFO[3]]), ("mains", [INFO[0], INFO[2]])] {
        let mut both = clusters.both(&format!("upgrade-without-{name}"));
        both.made_by_stock(&CREATE).each(|side| missing.iter().for_each(|file| side.remove(file)));
        both.each(new_cluster(&clusters));
        assert_eq!(both.agree(name, &UPGRADE).code, 0);
    }
}

#[test]
fn in10_an_upgrade_that_the_other_left_half_done_is_finished_by_either() {
    let clusters = Clusters::new();
    let mut both = clusters.both("half-upgrade");
    both.made_by_stock(&CREATE).each(new_cluster(&clusters));
    for side in [&both.stock, &both.ours] {
        let before: Vec<_> = INFO[2..].iter().map(|file| fs::read(side.path(file)).unwrap()).collect();
        both.stock.engine.ok(&side.conf, &UPGRADE).unwrap();
        for (file, content) in INFO[2..].iter().zip(before) {
            fs::write(side.path(file), content).unwrap();
        }
    }
    // In between, nobody goes on with it.
    assert_eq!(both.agree("half upgraded", &CREATE).code, 28);
    assert_eq!(both.agree("finished", &UPGRADE).code, 0);
    assert_eq!(both.agree("whole again", &CREATE).code, 0);

    // The reverse cannot come from a crash: the ids would differ, and nothing is written.
    let mut both = clusters.both("mismatch");
    both.made_by_stock(&CREATE).each(new_cluster(&clusters));
    let old = clusters.old.to_str().unwrap().to_owned();
    for side in [&mut both.stock, &mut both.ours] {
        let before: Vec<_> = INFO[..2].iter().map(|file| fs::read(side.path(file)).unwrap()).collect();
        let stock = pgbr_testkit::stock::newest().engine.clone();
        stock.ok(&side.conf, &UPGRADE).unwrap();
        side.conf.local("pg1-path", &old).unwrap();
        stock.ok(&side.conf, &UPGRADE).unwrap();
        for (file, content) in INFO[..2].iter().zip(before) {
            fs::write(side.path(file), content).unwrap();
        }
    }
    assert_eq!(both.agree("ids that would differ", &UPGRADE).code, 28);
}
