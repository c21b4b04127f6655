//! Groups what `info` prints as text by cluster, whatever number each repository gave its generations.

use crate::postgres::{PgVersion, SystemId};

use super::report::{BackupReport, GenerationReport, StanzaContent, WalRange};

/// What all repositories hold of one cluster.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) version: PgVersion,
    system_id: SystemId,
    pub(super) is_current: bool,
    pub(super) wal: Option<WalRange>,
    pub(super) backups: Vec<&'a BackupReport>,
}

/// The groups to print: prior clusters first, the current one last.
pub(super) fn groups(content: &StanzaContent) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for generation in &content.generations {
        let at = position(&groups, generation).unwrap_or(groups.len());
        if at == groups.len() {
            groups.push(Group {
                version: generation.version,
                system_id: generation.system_id,
                is_current: content.current == Some((generation.version, generation.system_id)),
                wal: None,
                backups: Vec::new(),
            });
        }
        if let Some(group) = groups.get_mut(at) {
            let own = content
                .archives
                .iter()
                .filter(|archive| archive.history_id == generation.id && archive.repository == generation.repository);
            group.wal = own.filter_map(|archive| archive.wal).fold(group.wal, widen);
        }
    }
    let mut selected = None;
    for backup in &content.backups {
        let generation = content
            .generations
            .iter()
            .find(|generation| generation.id == backup.entry.history_id && generation.repository == backup.repository);
        let Some(at) = generation.and_then(|generation| position(&groups, generation)) else { continue };
        if let Some(group) = groups.get_mut(at) {
            group.backups.push(backup);
        }
        if backup.details.is_some() {
            selected = Some(at);
        }
    }
    let mut at = 0;
    groups.retain(|group| {
        let is_selected = selected.is_none_or(|selected| selected == at);
        at += 1;
        is_selected && (group.is_current || group.wal.is_some() || !group.backups.is_empty())
    });
    groups.sort_by_key(|group| group.is_current);
    groups
}

fn position(groups: &[Group<'_>], generation: &GenerationReport) -> Option<usize> {
    groups.iter().position(|group| (group.version, group.system_id) == (generation.version, generation.system_id))
}

fn widen(range: Option<WalRange>, other: WalRange) -> Option<WalRange> {
    Some(range.map_or(other, |range| WalRange { min: range.min.min(other.min), max: range.max.max(other.max) }))
}
