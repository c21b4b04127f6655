//! Which files are copied and which are referenced: the original's decision on the same tree, file by file.

use pgbr_testkit::canary;

use crate::data::{KIB, Settings, noise, seconds_ago, set_modified};
use crate::pair::Pair;

const CIPHER: [(&str, &str); 2] = [("repo1-cipher-type", "aes-256-cbc"), ("repo1-cipher-pass", canary::PASSPHRASE)];

const MIB: usize = 1024 * KIB;

/// Sizes below and above the block, the buffer, and the limit of bundles.
const SIZES: [(&str, usize); 7] = [
    ("tiny", 3),
    ("page", 8 * KIB),
    ("block", 16 * KIB),
    ("odd", 100 * KIB + 17),
    ("buffer", 256 * KIB),
    ("large", 700 * KIB),
    ("huge", 3 * MIB),
];

/// A full backup, and all the ways in which a file may or may not change after it.
fn full(pair: &Pair) {
    for (seed, (size, bytes)) in (1..).zip(SIZES) {
        for change in ["same", "touched", "changed", "grown", "shrunk", "emptied", "removed"] {
            pair.data.write(&format!("cases/{size}-{change}"), noise(seed, bytes), 5000);
        }
    }
    for name in ["empty-same", "empty-touched", "empty-filled"] {
        pair.data.write(&format!("cases/{name}"), "", 5000);
    }
    // Compresses to less than the buffer.
    pair.data.write("cases/zeros-touched", vec![0; 3 * MIB], 5000);
    assert_eq!(pair.backup(&["--type=full"]).exit_code, Some(0));
}

fn change(pair: &Pair, age_s: u64) {
    for (seed, (size, bytes)) in (1..).zip(SIZES) {
        let name = |change: &str| format!("cases/{size}-{change}");
        let content = noise(seed, bytes);
        pair.data.age(&name("touched"), age_s);
        let mut changed = content.clone();
        changed[bytes / 2] ^= u8::try_from(age_s % 255 + 1).unwrap();
        pair.data.write(&name("changed"), &changed, age_s);
        pair.data.write(&name("grown"), [content.clone(), noise(age_s, bytes / 2 + 1)].concat(), age_s);
        pair.data.write(&name("shrunk"), &content[..bytes / 3], age_s);
        pair.data.write(&name("emptied"), "", age_s);
        pair.data.write(&name(&format!("new-{age_s}")), &content, age_s);
    }
    pair.data.age("cases/empty-touched", age_s);
    pair.data.age("cases/zeros-touched", age_s);
    pair.data.write("cases/empty-filled", "not empty any more", age_s);
}

fn remove(pair: &Pair) {
    for (size, _) in SIZES {
        std::fs::remove_file(pair.data.path().join(format!("cases/{size}-removed"))).unwrap();
    }
}

/// A chain with everything in it. Both decide the same about each file at each step.
fn both_decide_the_same(settings: Settings) {
    let pair = Pair::new(settings);
    full(&pair);
    change(&pair, 4000);
    remove(&pair);
    let incremental = pair.backup(&["--type=incr"]);
    assert!(incremental.manifest.iter().any(|line| line == "option-delta=false"), "{}", incremental.text);
    let unchanged = pair.backup(&["--type=incr"]);
    assert_eq!(unchanged.exit_code, Some(55), "{}", unchanged.text);

    change(&pair, 3000);
    pair.backup(&["--type=diff"]);
    pair.ours_is_whole();
    // Content that came back with its old size and another time, and one that kept its time.
    change(&pair, 2000);
    pair.data.write("cases/large-same", noise(99, 700 * KIB), 5000);
    let asked = pair.backup(&["--type=incr", "--delta"]);
    assert!(asked.manifest.iter().any(|line| line == "option-delta=true"));
    pair.ours_is_whole();
}

#[test]
fn without_bundles() {
    both_decide_the_same(&[("compress-type", "none")]);
}

#[test]
fn bundled_and_encrypted() {
    both_decide_the_same(&[("compress-type", "zst"), ("repo1-bundle", "y"), CIPHER[0], CIPHER[1]]);
}

#[test]
fn bk20_in_blocks() {
    both_decide_the_same(&[
        ("compress-type", "lz4"),
        ("repo1-bundle", "y"),
        ("repo1-block", "y"),
        ("repo1-bundle-limit", "512KiB"),
    ]);
}

/// What turns the comparison of contents on, and what it finds.
#[test]
fn bk08_bk09_times_that_lie_are_noticed() {
    let pair = Pair::new(&[("compress-type", "gz"), ("repo1-bundle", "y"), ("repo1-bundle-limit", "64KiB")]);
    full(&pair);
    // Older than before.
    pair.data.write("cases/large-same", noise(1, 700 * KIB), 6000);
    let earlier = pair.backup(&["--type=incr"]);
    assert!(earlier.warnings.iter().any(|text| text.contains("earlier than prior backup")), "{}", earlier.text);

    // The same time with another size; and a change that only its content tells.
    let kept = std::fs::metadata(pair.data.path().join("cases/odd-same")).unwrap().modified().unwrap();
    pair.data.write("cases/odd-same", noise(2, 50 * KIB), 0);
    set_modified(&pair.data.path().join("cases/odd-same"), kept);
    let kept = std::fs::metadata(pair.data.path().join("cases/page-same")).unwrap().modified().unwrap();
    pair.data.write("cases/page-same", noise(77, 8 * KIB), 0);
    set_modified(&pair.data.path().join("cases/page-same"), kept);
    let size = pair.backup(&["--type=incr"]);
    assert!(size.warnings.iter().any(|text| text.contains("same timestamp")), "{}", size.text);
    assert!(size.files.iter().any(|text| text.starts_with("backup file ") && text.ends_with("/cases/page-same")));

    set_modified(&pair.data.path().join("cases/tiny-same"), seconds_ago(-3600));
    let future = pair.backup(&["--type=incr"]);
    assert!(future.warnings.iter().any(|text| text.contains("in the future")), "{}", future.text);
    pair.ours_is_whole();
}

/// What a set shares cannot be altered within it.
#[test]
fn a_prior_decides_for_its_dependents() {
    let mut pair = Pair::new(&[("compress-type", "lz4"), CIPHER[0], CIPHER[1]]);
    pair.data.write("cases/one", noise(1, 300 * KIB), 5000);
    let silent = pair.backup(&["--type=diff", "--checksum-page"]);
    assert_eq!(silent.warnings, ["no prior backup exists, diff backup has been changed to full"]);
    pair.data.write("cases/one", noise(2, 300 * KIB), 4000);
    pair.set("compress-type", Some("zst"));
    pair.set("compress-level", Some("7"));
    let forced = pair.backup(&["--type=incr", "--no-checksum-page"]);
    assert_eq!(forced.warnings.len(), 2, "{}", forced.text);
    assert!(forced.manifest.iter().any(|line| line == "option-compress-type=\"lz4\""));
    pair.ours_is_whole();
}
