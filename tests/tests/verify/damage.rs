//! Damage to the objects of a repository, seeded, and undone afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A small generator of numbers (splitmix64): the same seed damages the same bytes.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Info,
    Manifest,
    Bundle,
    Blocks,
    File,
    Wal,
    ArchiveSmall,
}

impl Class {
    /// By its path below the repository; `None` for what nothing reads.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        if name.starts_with("backup.info") || name.starts_with("archive.info") {
            return Some(Self::Info);
        }
        if path.contains("/backup.history/") || path.contains("/latest/") {
            return None;
        }
        if path.starts_with("archive/") {
            return Some(if name.contains('-') { Self::Wal } else { Self::ArchiveSmall });
        }
        Some(match name {
            _ if name.starts_with("backup.manifest") => Self::Manifest,
            _ if path.contains("/bundle/") => Self::Bundle,
            _ if name.ends_with(".pgbi") => Self::Blocks,
            _ => Self::File,
        })
    }
}

/// How one object was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Flip,
    Cut,
    Empty,
    Zero,
    Append,
    Delete,
    Swap,
    /// A second object for a segment, with another checksum in its name.
    Duplicate,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) path: String,
    pub(crate) kind: Kind,
}

/// Numbers of objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    pub(crate) all: u64,
    /// Files with an object of their own that are stored as blocks.
    pub(crate) blocks: u64,
}

/// The objects of a repository, to be damaged and mended.
pub(crate) struct Objects {
    root: PathBuf,
    by_class: BTreeMap<Class, Vec<String>>,
    saved: BTreeMap<String, Vec<u8>>,
    added: Vec<PathBuf>,
}

impl Objects {
    pub(crate) fn of(root: &Path) -> Self {
        let mut paths = Vec::new();
        walk(root, root, &mut paths);
        paths.sort();
        let mut by_class: BTreeMap<Class, Vec<String>> = BTreeMap::new();
        for path in paths {
            if let Some(class) = Class::of(&path) {
                by_class.entry(class).or_default().push(path);
            }
        }
        Self { root: root.to_owned(), by_class, saved: BTreeMap::new(), added: Vec::new() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> Count {
        let of = |class: Class| self.by_class.get(&class).map_or(0, |paths| paths.len() as u64);
        let all = self.by_class.values().map(|paths| paths.len() as u64).sum();
        Count { all, blocks: of(Class::Blocks) }
    }

    /// Damages one object, or two that change places.
    pub(crate) fn damage(&mut self, dice: &mut Dice) -> Vec<Done> {
        let classes: Vec<Class> = self.by_class.keys().copied().collect();
        let class = classes[dice.below(classes.len())];
        let paths = self.by_class[&class].clone();
        let path = paths[dice.below(paths.len())].clone();
        let other = paths[dice.below(paths.len())].clone();
        let kinds =
            [Kind::Flip, Kind::Flip, Kind::Cut, Kind::Empty, Kind::Zero, Kind::Append, Kind::Delete, Kind::Swap];
        let kind = kinds[dice.below(kinds.len())];
        if kind == Kind::Swap && class == Class::Wal && dice.below(2) == 0 {
            return self.duplicate(&path);
        }
        if kind == Kind::Swap {
            return self.swap(&path, &other);
        }
        self.alter(&path, kind, dice).into_iter().collect()
    }

    fn alter(&mut self, path: &str, kind: Kind, dice: &mut Dice) -> Option<Done> {
        let content = self.read(path)?;
        let changed = match kind {
            Kind::Delete => None,
            Kind::Empty => Some(Vec::new()),
            Kind::Cut => Some(content[..dice.below(content.len().max(1))].to_vec()),
            Kind::Flip => {
                let mut changed = content.clone();
                if let Some(length) = Some(changed.len()).filter(|length| *length > 0) {
                    changed[dice.below(length)] ^= 1 << dice.below(8);
                }
                Some(changed)
            }
            Kind::Zero => {
                let mut changed = content.clone();
                if !changed.is_empty() {
                    let start = dice.below(changed.len());
                    let end = (start + 1 + dice.below(512)).min(changed.len());
                    changed[start..end].fill(0);
                }
                Some(changed)
            }
            // The end of a bundle belongs to nobody, and nothing says where a segment's object ends.
            Kind::Append => Some([&content[..], b"surplus"].concat()),
            Kind::Swap | Kind::Duplicate => unreachable!("done elsewhere"),
        };
        if changed.as_ref() == Some(&content) {
            return None;
        }
        self.write(path, changed);
        Some(Done { path: path.to_owned(), kind })
    }

    fn swap(&mut self, one: &str, other: &str) -> Vec<Done> {
        let (Some(first), Some(second)) = (self.read(one), self.read(other)) else { return Vec::new() };
        if first == second {
            return Vec::new();
        }
        self.write(one, Some(second));
        self.write(other, Some(first));
        [one, other].into_iter().map(|path| Done { path: path.to_owned(), kind: Kind::Swap }).collect()
    }

    fn duplicate(&mut self, path: &str) -> Vec<Done> {
        let Some(content) = self.read(path) else { return Vec::new() };
        let (segment, rest) = path.split_once('-').map(|_| path.rsplit_once('-').unwrap()).unwrap();
        let changed: String =
            rest.chars().enumerate().map(|(at, c)| if at == 0 { other_digit(c) } else { c }).collect();
        let added = self.root.join(format!("{segment}-{changed}"));
        fs::write(&added, content).unwrap();
        self.added.push(added);
        vec![Done { path: path.to_owned(), kind: Kind::Duplicate }]
    }

    /// `None` for an object that is deleted already.
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.root.join(path)).ok()
    }

    fn write(&mut self, path: &str, content: Option<Vec<u8>>) {
        let file = self.root.join(path);
        if !self.saved.contains_key(path) {
            self.saved.insert(path.to_owned(), fs::read(&file).unwrap());
        }
        match content {
            Some(content) => fs::write(file, content).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
    }

    /// The objects that are not as they were; damage can undo damage.
    pub(crate) fn damaged(&self) -> Vec<String> {
        let is_changed = |path: &&String| self.read(path).as_ref() != self.saved.get(*path);
        self.saved.keys().filter(is_changed).cloned().collect()
    }

    /// Undoes everything.
    pub(crate) fn mend(&mut self) {
        for (path, content) in std::mem::take(&mut self.saved) {
            fs::write(self.root.join(path), content).unwrap();
        }
        for added in std::mem::take(&mut self.added) {
            fs::remove_file(added).unwrap();
        }
    }
}

fn other_digit(digit: char) -> char {
    if digit == '0' { '1' } else { '0' }
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let info = fs::symlink_metadata(&path).unwrap();
        if info.is_dir() {
            walk(root, &path, found);
        } else if info.is_file() {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}
