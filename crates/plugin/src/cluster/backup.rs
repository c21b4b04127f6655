//! A `Backup`.

use std::collections::BTreeMap;

use crate::lenient::{InputError, Node, json, object_name, shown};

/// A `Backup` object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backup {
    /// `metadata.name`, a legal name.
    pub name: String,
    /// `metadata.namespace`, a legal name.
    pub namespace: String,
    /// `metadata.uid`; empty when there is none yet.
    pub uid: String,
    /// `spec.cluster.name`.
    pub cluster: String,
    /// `spec.target`: `primary`, `prefer-standby`, or nothing.
    pub target: Option<String>,
    /// `spec.pluginConfiguration.name`.
    pub plugin: Option<String>,
    /// `spec.pluginConfiguration.parameters`.
    pub parameters: BTreeMap<String, String>,
    /// `status.phase`.
    pub phase: Option<String>,
    /// `status.backupId`: the label of the finished backup.
    pub backup_id: Option<String>,
    /// `status.backupName`: what another plugin may keep the label in.
    pub backup_name: Option<String>,
}

impl Backup {
    /// Reads a Backup.
    ///
    /// # Errors
    /// [`InputError`] for what is no JSON object, has another `kind`, no legal name or namespace, or a field of the
    /// wrong type among those that we read.
    pub fn parse(bytes: &[u8]) -> Result<Self, InputError> {
        let value = json(bytes, "the backup definition")?;
        let root = Node::root(&value, "the backup definition")?;
        if let Some(kind) = root.text_field("kind")?
            && kind != "Backup"
        {
            return Err(InputError::new("kind", format!("should be Backup, is {}", shown(&kind))));
        }
        let Some(metadata) = root.field("metadata")? else { return Err(InputError::new("metadata", "is missing")) };
        let mut backup = Self {
            name: object_name(metadata.required_text("name")?, "metadata.name")?,
            namespace: object_name(metadata.required_text("namespace")?, "metadata.namespace")?,
            uid: metadata.text_field("uid")?.unwrap_or_default(),
            ..Self::default()
        };
        if let Some(spec) = root.field("spec")? {
            if let Some(cluster) = spec.field("cluster")? {
                backup.cluster = cluster.text_field("name")?.unwrap_or_default();
            }
            backup.target = spec.text_field("target")?;
            if let Some(plugin) = spec.field("pluginConfiguration")? {
                backup.plugin = plugin.text_field("name")?;
                backup.parameters = plugin.texts_field("parameters")?;
            }
        }
        if let Some(status) = root.field("status")? {
            backup.phase = status.text_field("phase")?;
            backup.backup_id = status.text_field("backupId")?;
            backup.backup_name = status.text_field("backupName")?;
        }
        Ok(backup)
    }
}
