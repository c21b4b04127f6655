//! Every level of lz4: what ours stores, the original reads.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod wal_site;

use std::fs;

use pgbr_testkit::stock::{self, Release};
use wal_site::{Site, assert_code, ours};

#[test]
fn the_original_reads_every_level() {
    let site = Site::with_stanza(1);
    let original = stock::find(Release::V2_60).unwrap().engine;
    let expected = fs::read(site.wal(site.first())).unwrap();
    let mut sizes = Vec::new();
    for level in -5..=12 {
        let level = format!("--compress-level={level}");
        assert_code(&site.push(ours(), site.first(), &["--compress-type=lz4", &level]), 0);
        let (outcome, fetched) = site.get(&original, site.first(), &[]);
        assert_code(&outcome, 0);
        assert!(fetched.unwrap() == expected, "{level}");
        let [object] = site.objects().try_into().unwrap();
        sizes.push(fs::metadata(&object).unwrap().len());
        fs::remove_file(object).unwrap();
    }
    // 1, 9 and 12: effort pays.
    assert!(sizes[14] < sizes[6] && sizes[17] <= sizes[14], "{sizes:?}");
}
