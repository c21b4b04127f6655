//! `stanza-delete` over its states.

use crate::both::{Clusters, Side};
use pgbr_testkit::user;

const CREATE: [&str; 2] = ["stanza-create", "--no-online"];

fn stop(side: &mut Side) {
    side.write("lock/demo.stop", "");
}

#[test]
fn stanza_delete_does_what_the_original_does() {
    let clusters = Clusters::new();
    let mut both = clusters.both("delete");
    assert_eq!(both.agree("nothing there", &["stanza-delete"]).code, 0);
    both.each(|side| {
        user::create_dir(&side.path("repo/archive/demo")).unwrap();
        user::create_dir(&side.path("repo/backup/demo")).unwrap();
    });
    assert_eq!(both.agree("empty directories", &["stanza-delete"]).code, 0);
    both.each(stop);
    assert_eq!(both.agree("nothing there, but stopped", &["stanza-delete"]).code, 0);

    both.each(|side| side.remove("lock/demo.stop")).made_by_stock(&CREATE).each(|side| {
        side.write("repo/archive/demo/15-1/0000000100000000/x", "data");
        side.write("repo/backup/demo/20261122-061730F/backup.manifest", "data");
        side.write("repo/backup/other/backup.info", "another stanza");
    });
    assert_eq!(both.agree("not stopped", &["stanza-delete"]).code, 55);
    assert_eq!(both.agree("not stopped, forced", &["stanza-delete", "--force"]).code, 55);
    both.each(|side| side.write("lock/all.stop", ""));
    assert_eq!(both.agree("all stopped is not enough", &["stanza-delete"]).code, 55);
    both.each(stop);
    let pid = clusters.old.join("postmaster.pid");
    user::write_file(&pid, "1\n").unwrap();
    assert_eq!(both.agree("running", &["stanza-delete"]).code, 38);
    assert_eq!(both.agree("running, forced", &["stanza-delete", "--force"]).code, 0);
    std::fs::remove_file(&pid).unwrap();

    for kept in ["archive", "backup"] {
        let mut both = clusters.both(&format!("delete-{kept}"));
        both.made_by_stock(&CREATE).each(stop).each(|side| {
            let gone = if kept == "archive" { "backup" } else { "archive" };
            std::fs::remove_dir_all(side.path(&format!("repo/{gone}"))).unwrap();
        });
        assert_eq!(both.agree(kept, &["stanza-delete"]).code, 0);
    }

    let mut both = clusters.both("delete-two");
    both.each(Side::second_repository).made_by_stock(&CREATE).each(stop);
    // The original finds out after its begin message, ours before.
    for side in [&both.stock, &both.ours] {
        let before = side.files();
        assert_eq!(side.run(&["stanza-delete"]).code, 37, "which of two");
        assert!(side.files() == before);
    }
    assert_eq!(both.agree("the second", &["stanza-delete", "--repo=2"]).code, 0);
    both.each(stop);
    assert_eq!(both.agree("the first", &["stanza-delete", "--repo=1"]).code, 0);
}
