//! The time zone of the process, in which labels are.

use std::time::Duration;

use pgbr_testkit::process::{self, Outcome};
use pgbr_testkit::stock;

use crate::scene::{Scene, WAIT, assert_code};

#[test]
fn tc02_labels_increase_over_zones_and_daylight_saving_or_the_backup_is_refused() {
    let scene = Scene::new(1, 8192);
    let backup = |zone: &str| -> Outcome {
        // Not twice in one second.
        std::thread::sleep(Duration::from_millis(1050));
        let mut command = scene.backup();
        process::run(command.env("TZ", zone), WAIT).unwrap()
    };
    // From summer to winter time, an hour back; the names say when the rule holds, so no date matters here.
    let (winter, summer) = ("AAA0", "BBB-1");
    assert_code(&backup("Pacific/Pago_Pago"), 0);
    assert_code(&backup(winter), 0);
    assert_code(&backup(summer), 0);
    let refused = backup(winter);
    assert_code(&refused, 106);
    assert!(refused.text().contains("HINT: has the timezone changed?"), "{}", refused.text());
    // So does the original.
    let mut original = stock::newest().engine.command(&scene.conf, &["--no-online", "--type=full", "backup"]);
    assert_code(&process::run(original.env("TZ", winter), WAIT).unwrap(), 106);
    assert_code(&backup("Pacific/Kiritimati"), 0);
    assert_code(&backup("UTC"), 106);
    let labels = scene.listed();
    assert!(labels.len() == 4 && labels.is_sorted(), "{labels:?}");
    scene.verifies();
}
