//! The command line: what is refused, by both programs alike.

use pgbr_repo::clock::{Clock, SystemClock};
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::{pgbr, stock, user};

use crate::stage::sets_at;
use pgbr_testkit::world::tree;

#[test]
fn ex09_ex14_what_cannot_be_meant_is_refused_as_by_the_original() {
    let folder = user::scratch().unwrap();
    let world = sets_at(SystemClock.now_s()).world;
    let conf = Conf::create(&folder.path().join("ours"), "demo").unwrap();
    let repository = folder.path().join("ours/repo");
    world.write(&repository);
    let before = tree(&repository);
    let table: [(&[&str], i32); 12] = [
        (&["--repo1-retention-full=0"], 32),
        (&["--repo1-retention-full=-1"], 32),
        (&["--repo1-retention-full=10000000"], 32),
        (&["--repo1-retention-full=many"], 32),
        (&["--repo1-retention-diff=0"], 32),
        (&["--repo1-retention-archive=0"], 32),
        (&["--repo1-retention-archive-type=none"], 32),
        (&["--repo1-retention-history=-1"], 32),
        (&["--set=../../etc"], 32),
        (&["--set=20261122-061730F/..", "--repo1-retention-full=1"], 32),
        (&["--set=20261122-061730F", "--oldest"], 31),
        (&["--archive-expire-before=000000010000000000000001.partial"], 32),
    ];
    for (arguments, code) in table {
        let run = |engine: &Engine| engine.run(&conf, &[arguments, &["expire"]].concat()).unwrap();
        let (ours, theirs) = (run(&pgbr::engine()), run(&stock::newest().engine));
        assert_eq!((ours.exit_code, theirs.exit_code), (Some(code), Some(code)), "{arguments:?}: {}", ours.text());
        assert_eq!(tree(&repository), before, "{arguments:?}");
    }
    // Unset keeps everything, with a warning.
    let kept = pgbr::engine().ok(&conf, &["expire"]).unwrap();
    assert!(kept.stdout.contains("WARN: option 'repo1-retention-full' is not set"), "{}", kept.stdout);
    assert_eq!(tree(&repository), before);
}
