//! Chains of backups of a directory at rest in one repository, written by ours and the original in turn, and restored by
//! both.

use std::fs;

use pgbr_testkit::canary;
use pgbr_testkit::conf::Conf;
use pgbr_testkit::engine::Engine;
use pgbr_testkit::stock::{self, Stock};
use pgbr_testkit::{pgbr, user};

use crate::data::{DataDirectory, KIB, Settings, conf, newest, noise, restores, verifies};

const CIPHER: [(&str, &str); 2] = [("repo1-cipher-type", "aes-256-cbc"), ("repo1-cipher-pass", canary::PASSPHRASE)];

/// One data directory and one repository.
struct Chain {
    dir: tempfile::TempDir,
    data: DataDirectory,
    conf: Conf,
    writers: [Engine; 2],
    stock: &'static Stock,
}

impl Chain {
    fn new(settings: Settings) -> Self {
        let dir = user::scratch().unwrap();
        let data = DataDirectory::new(dir.path());
        let stock = stock::newest();
        let conf = conf(&dir.path().join("backrest"), data.path(), settings);
        let writers = [pgbr::engine(), stock.engine.clone()];
        writers[0].ok(&conf, &["stanza-create", "--no-online"]).unwrap();
        Self { dir, data, conf, writers, stock }
    }

    /// A backup by the writer with this number, even for ours; tells its label.
    fn backup(&self, writer: usize, arguments: &[&str]) -> String {
        let mut all = vec!["backup", "--no-online"];
        all.extend(arguments);
        let engine = &self.writers[writer % 2];
        engine.ok(&self.conf, &all).unwrap();
        newest(engine, &self.conf)
    }

    /// A backup is what the directory was, whoever restores it.
    fn restores(&self, label: &str, expected: &crate::data::Tree) {
        for engine in &self.writers {
            restores(engine, &self.conf, self.dir.path(), label, expected);
        }
    }

    fn set(&mut self, option: &str, value: &str) {
        self.conf.global(option, value).unwrap();
    }
}

/// A sequence of numbers that look like chance, the same for each seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Around the block, the smallest file in blocks, the limits of bundles and buffers.
const SIZES: [usize; 13] = [
    0,
    1,
    8 * KIB - 1,
    8 * KIB,
    8 * KIB + 1,
    16 * KIB - 1,
    16 * KIB,
    40_000,
    64 * KIB,
    256 * KIB,
    256 * KIB + 1,
    300_000,
    1_300_000,
];

/// Files whose sizes, contents and ages change by chance, so that they leave the rules of blocks and come back.
fn chain_by_chance(seed: u64) {
    let cases: [Settings; 3] = [
        &[("compress-type", "none"), ("repo1-block-size-super", "64KiB")],
        &[("compress-type", "zst"), CIPHER[0], CIPHER[1], ("repo1-block-size-map", "8KiB=8KiB")],
        &[("compress-type", "gz"), ("repo1-block-age-map", "1=3"), ("repo1-block-size-super-full", "96KiB")],
    ];
    let mut chain = Chain::new(cases[usize::try_from(seed % 3).unwrap()]);
    for (option, value) in
        [("repo1-bundle", "y"), ("repo1-block", "y"), ("repo1-bundle-limit", "256KiB"), ("repo1-bundle-size", "1MiB")]
    {
        chain.set(option, value);
    }
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut files: Vec<Vec<u8>> = Vec::new();
    for number in 0..14_usize {
        let content = noise(seed + number as u64, SIZES[dice.roll(SIZES.len())]);
        let age_days = [0, 2, 8, 15, 30][dice.roll(5)];
        chain.data.write(&format!("cases/{number}"), &content, 5000 + age_days * 86_400);
        files.push(content);
    }
    let mut steps = vec!["--type=full"];
    steps.extend((0..5).map(|_| ["--type=incr", "--type=incr", "--type=diff"][dice.roll(3)]));
    for (step, kind) in steps.iter().enumerate() {
        if step > 0 {
            for (number, content) in files.iter_mut().enumerate() {
                change(&mut dice, content);
                let age_s = 4000 - 500 * u64::try_from(step).unwrap();
                match dice.roll(4) {
                    // Content without a new time is for delta alone.
                    0 => chain.data.age(&format!("cases/{number}"), age_s),
                    _ => chain.data.write(&format!("cases/{number}"), &content, age_s),
                }
            }
        }
        for (number, content) in files.iter_mut().enumerate() {
            *content = fs::read(chain.data.path().join(format!("cases/{number}"))).unwrap();
        }
        let mut arguments = vec![*kind];
        if step > 0 && dice.roll(4) == 0 {
            arguments.push("--delta");
        }
        let writer = step + usize::try_from(seed % 2).unwrap();
        let label = chain.backup(writer, &arguments);
        chain.restores(&label, &chain.data.tree());
    }
    verifies(chain.stock, &chain.conf);
}

/// Changes a content in one of the ways in which files change.
fn change(dice: &mut Dice, content: &mut Vec<u8>) {
    let seed = dice.0;
    match dice.roll(6) {
        0 | 1 => {}
        2 => {
            let size = SIZES[dice.roll(SIZES.len())];
            let kept = content.len().min(size);
            content.truncate(size);
            content.extend(noise(seed, size - kept));
        }
        3 => *content = noise(seed, content.len()),
        4 => *content = noise(seed, SIZES[dice.roll(SIZES.len())]),
        _ => {
            // Some places, each within a block.
            for _ in 0..content.len().div_ceil(100 * KIB) {
                let at = dice.roll(content.len());
                content[at] ^= 1;
            }
        }
    }
}

/// Chains that are run; more of them on demand.
fn chains() -> u64 {
    std::env::var("PGBR_CHAINS").ok().and_then(|count| count.parse().ok()).unwrap_or(3)
}

#[test]
fn bk19_files_leave_the_rules_of_blocks_and_come_back() {
    for seed in 1..=chains() {
        chain_by_chance(seed);
    }
}

/// Bundles and blocks are switched on and off within a set. Both programs write, both restore.
#[test]
fn bk21_options_flip_along_a_chain() {
    let states = [("n", "n"), ("y", "n"), ("y", "y")];
    let mut writer = 0;
    for first in 0..states.len() {
        for next in (0..states.len()).filter(|next| *next != first) {
            let mut chain = Chain::new(&[("compress-type", "lz4"), CIPHER[0], CIPHER[1]]);
            chain.set("repo1-bundle-limit", "64KiB");
            let (mut labels, mut trees) = (Vec::new(), Vec::new());
            for (step, state) in [first, next, first].into_iter().enumerate() {
                let (bundle, block) = states[state];
                for (option, value) in [("repo1-bundle", bundle), ("repo1-block", block)] {
                    chain.set(option, value);
                }
                let age_s = 4000 - 1000 * u64::try_from(step).unwrap();
                for (number, size) in [(1, 20 * KIB), (2, 100 * KIB), (3, 400 * KIB)] {
                    let mut content = noise(number, size);
                    content[step * 9000] ^= 1;
                    chain.data.write(&format!("cases/{number}"), &content, age_s);
                    chain.data.write(&format!("cases/{step}-{number}"), &content, age_s);
                }
                chain.data.write("cases/emptied", if step == 0 { "full" } else { "" }, age_s);
                chain.data.write(&format!("cases/empty-{step}"), "", age_s);
                // Block and bundle size belong to states in which they are allowed.
                if bundle == "n" {
                    chain.conf.without("repo1-bundle-limit").unwrap();
                } else {
                    chain.set("repo1-bundle-limit", "64KiB");
                }
                let kind = if step == 0 { "--type=full" } else { "--type=incr" };
                labels.push(chain.backup(writer, &[kind]));
                trees.push(chain.data.tree());
                writer += 1;
            }
            restores(&chain.writers[0], &chain.conf, chain.dir.path(), &labels[1], &trees[1]);
            chain.restores(&labels[2], &trees[2]);
            // Without bundles the original refers to an empty file of a bundled prior, where it is not stored; its
            // verify then misses it, while its restore does not look for it.
            if writer % 2 == 1 || states[next].0 == "n" {
                verifies(chain.stock, &chain.conf);
            }
        }
    }
}

/// The passphrase of a set is not left out by an option: both refuse, and write nothing.
#[test]
fn bk21_encryption_cannot_be_switched_off_within_a_repository() {
    let mut chain = Chain::new(&[("compress-type", "lz4"), CIPHER[0], CIPHER[1]]);
    chain.data.write("cases/1", noise(1, 1000), 1000);
    let full = chain.backup(0, &["--type=full"]);
    chain.data.write("cases/1", noise(2, 1000), 500);
    let cipher = ["repo1-cipher-type", "repo1-cipher-pass"];
    for option in cipher {
        chain.conf.without(option).unwrap();
    }
    let exits = [0, 1].map(|writer: usize| {
        let run = chain.writers[writer].run(&chain.conf, &["backup", "--no-online", "--type=incr"]).unwrap();
        assert_ne!(run.exit_code, Some(0), "{}", run.text());
        run.exit_code
    });
    assert_eq!(exits[0], exits[1]);
    for (option, value) in CIPHER {
        chain.set(option, value);
    }
    assert_eq!(newest(&chain.writers[0], &chain.conf), full);
}
