//! Names and paths: one value has one text, and no text leads out of the repository.

use pgbr_repo::format::label::LabelTime;
use pgbr_repo::format::path::{history_manifest_label, passphrase_scope};
use pgbr_repo::format::{
    ArchiveId, BackupLabel, BackupType, Checksum, CompressType, HistoryId, ManifestName, Stanza, StoredLsn,
    WalObjectName,
};
use pgbr_repo::postgres::data_path::RelationFile;
use pgbr_repo::storage::StoragePath;

/// Every name of a repository.
pub(crate) fn names(bytes: &[u8]) {
    if let Ok(name) = ManifestName::parse(bytes) {
        assert!(name.as_bytes() == bytes, "a name is kept");
        let _ = (name.parent(), name.base_name(), name.below_pg_data());
    }
    if let Some(relation) = RelationFile::parse(bytes) {
        drop((relation.is_temporary(), relation.init_fork_name()));
    }
    let Ok(text) = str::from_utf8(bytes) else {
        assert!(BackupLabel::parse(bytes).is_err() && Checksum::parse(bytes).is_none(), "names are ASCII");
        return;
    };
    let printed = [
        BackupLabel::parse(bytes).ok().map(|value| value.to_string()),
        LabelTime::parse(bytes).map(|value| value.to_string()),
        BackupType::from_name(bytes).map(|value| value.to_string()),
        ArchiveId::parse(text).ok().map(|value| value.to_string()),
        HistoryId::parse(bytes).map(|value| value.to_string()),
        Checksum::parse(bytes).map(|value| value.to_string()),
        CompressType::parse(text).ok().map(|value| value.to_string()),
        Stanza::parse(text).ok().map(|value| value.to_string()),
        StoredLsn::parse(bytes).map(|value| value.to_string()),
        WalObjectName::parse(text).map(|value| value.to_string()),
    ];
    for printed in printed.into_iter().flatten() {
        assert_eq!(printed, text, "one value has one text");
    }
    if let Ok(label) = BackupLabel::parse(bytes) {
        assert!(label.same_set(&label.full_label()), "a backup is in the set of its full backup");
        assert_eq!(label.year(), &text[..4]);
    }
    let _ = history_manifest_label(text);
}

/// Paths: the first line is a path, the rest is joined to it.
pub(crate) fn paths(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (first, below) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(path) = StoragePath::parse(first) else { return };
    assert_stays_inside(&path);
    assert_eq!(StoragePath::parse(path.as_str()).as_ref(), Ok(&path), "a path is read again");
    if let Ok(joined) = path.join(below) {
        assert_stays_inside(&joined);
        assert!(path == StoragePath::root() || joined.as_str().starts_with(path.as_str()), "below is below");
    }
    if let Some(parent) = path.parent() {
        assert!(path.as_str().starts_with(parent.as_str()), "a parent is above");
    }
    if let Some((stanza, _)) = passphrase_scope(&path) {
        assert_eq!(Stanza::parse(stanza.as_str()).as_ref(), Ok(&stanza), "the stanza of a path has a name");
    }
}

fn assert_stays_inside(path: &StoragePath) {
    let text = path.as_str();
    assert!(!text.starts_with('/') && !text.contains('\0'), "no path is absolute");
    assert!(text.is_empty() || text.split('/').all(|part| !matches!(part, "" | "." | "..")), "no path leads up");
}
