//! The plugin's parameters: which Archive and which stanza a Cluster means, and for what.
//!
//! Three places name an Archive (plugin-surface §4): `spec.plugins` for the cluster's own WAL and backups, the external
//! cluster of `bootstrap.recovery.source` for its first data, and the external cluster of `replica.source` for what it
//! follows. Only entries with this plugin's name count.

use std::collections::BTreeSet;

use pgbr_repo::format::stanza::Stanza;

use crate::cluster::{Cluster, Plugin};
use crate::ids::{PARAMETER_ARCHIVE, PARAMETER_STANZA, PLUGIN_NAME};
use crate::lenient::InputError;
use crate::resource::ArchiveSpec;

/// An Archive, and the stanza in it if the parameters name one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name of the Archive, a legal one; its namespace is the cluster's.
    pub archive: String,
    /// The parameter `stanza`.
    pub stanza: Option<String>,
}

impl Source {
    fn of(plugin: &Plugin) -> Option<Self> {
        let given = |key| plugin.parameters.get(key).filter(|value| !value.is_empty()).cloned();
        (plugin.name == PLUGIN_NAME).then_some(())?;
        Some(Self { archive: given(PARAMETER_ARCHIVE)?, stanza: given(PARAMETER_STANZA) })
    }
}

/// The entry of this plugin in `spec.plugins`, when it is enabled.
pub fn enabled_plugin(cluster: &Cluster) -> Option<&Plugin> {
    cluster.plugins.iter().find(|plugin| plugin.name == PLUGIN_NAME && plugin.enabled)
}

/// Where the cluster's own WAL and backups go.
pub fn own(cluster: &Cluster) -> Option<Source> {
    enabled_plugin(cluster).and_then(Source::of)
}

/// Where the cluster's first data comes from. Like CloudNativePG (`GetRecoverySourcePlugin`) this does not ask whether
/// the external cluster's plugin is enabled.
pub fn recovery_source(cluster: &Cluster) -> Option<Source> {
    let name = cluster.bootstrap.recovery.as_ref()?.source.as_ref()?;
    cluster.external_cluster(name)?.plugin.as_ref().and_then(Source::of)
}

/// Whether the cluster's first data comes from this plugin, whatever its parameters are.
pub fn recovers_with_us(cluster: &Cluster) -> bool {
    let source = cluster.bootstrap.recovery.as_ref().and_then(|recovery| recovery.source.as_ref());
    let plugin = source.and_then(|name| cluster.external_cluster(name)).and_then(|external| external.plugin.as_ref());
    plugin.is_some_and(|plugin| plugin.name == PLUGIN_NAME)
}

/// What the cluster follows, or followed until it was promoted: the source stays named in the Cluster.
pub fn replica_source(cluster: &Cluster) -> Option<Source> {
    let name = cluster.replica.as_ref()?.source.as_ref()?;
    cluster.external_cluster(name)?.plugin.as_ref().filter(|plugin| plugin.enabled).and_then(Source::of)
}

/// The names of all Archives that the cluster refers to.
pub fn archives(cluster: &Cluster) -> BTreeSet<String> {
    let sources = [own(cluster), recovery_source(cluster), replica_source(cluster)];
    sources.into_iter().flatten().map(|source| source.archive).collect()
}

/// The stanza of a source: the parameter, else the Archive's `stanza`, else the cluster's name (plugin-surface §5.2).
///
/// # Errors
/// [`InputError`] when the text that decides is not the name of a stanza.
pub fn stanza(source: &Source, archive: &ArchiveSpec, cluster: &Cluster) -> Result<Stanza, InputError> {
    let of_archive = archive.configuration.stanza.as_deref().filter(|name| !name.is_empty());
    let (name, place) = match (source.stanza.as_deref(), of_archive) {
        (Some(name), _) => (name, "the plugin parameter stanza"),
        (None, Some(name)) => (name, "the Archive's spec.configuration.stanza"),
        (None, None) => (cluster.name.as_str(), "metadata.name"),
    };
    Stanza::parse(name).map_err(|error| InputError::new(place, error.to_string()))
}

/// The Archive's stanza when the parameter names another one, which wins: worth a warning, since version 0.7 sent WAL
/// and backups to two places then.
pub fn shadowed_stanza<'a>(source: &Source, archive: &'a ArchiveSpec) -> Option<&'a str> {
    let of_archive = archive.configuration.stanza.as_deref().filter(|name| !name.is_empty())?;
    source.stanza.as_deref().filter(|name| *name != of_archive).map(|_| of_archive)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cluster(spec: &Value) -> Cluster {
        let object = json!({ "metadata": { "name": "demo", "namespace": "apps" }, "spec": spec });
        Cluster::parse(object.to_string().as_bytes()).unwrap()
    }

    fn plugin(parameters: &Value) -> Value {
        json!({ "name": PLUGIN_NAME, "parameters": parameters })
    }

    fn source(archive: &str, stanza: Option<&str>) -> Source {
        Source { archive: archive.to_owned(), stanza: stanza.map(str::to_owned) }
    }

    #[test]
    fn each_place_names_its_own_archive() {
        let cluster = cluster(&json!({
            "plugins": [{ "name": "other" }, plugin(&json!({ "pgbackrestObjectName": "own" }))],
            "bootstrap": { "recovery": { "source": "first" } },
            "replica": { "source": "second" },
            "externalClusters": [
                { "name": "second", "plugin": plugin(&json!({ "pgbackrestObjectName": "two", "stanza": "s" })) },
                { "name": "first", "plugin": plugin(&json!({ "pgbackrestObjectName": "one", "stanza": "" })) },
            ],
        }));
        assert_eq!(own(&cluster), Some(source("own", None)));
        assert_eq!(recovery_source(&cluster), Some(source("one", None)));
        assert_eq!(replica_source(&cluster), Some(source("two", Some("s"))));
        assert_eq!(archives(&cluster), ["one", "own", "two"].map(str::to_owned).into());
    }

    #[test]
    fn disabled_nameless_and_foreign_entries_name_nothing() {
        let mut disabled = plugin(&json!({ "pgbackrestObjectName": "own" }));
        disabled["enabled"] = json!(false);
        let foreign =
            json!({ "name": "barman-cloud.cloudnative-pg.io", "parameters": { "pgbackrestObjectName": "x" } });
        for plugins in [json!([disabled]), json!([foreign]), json!([plugin(&json!({}))]), json!([]), Value::Null] {
            assert_eq!(own(&cluster(&json!({ "plugins": plugins }))), None);
        }
        let lost =
            cluster(&json!({ "bootstrap": { "recovery": { "source": "nobody" } }, "replica": { "source": "x" } }));
        assert_eq!((recovery_source(&lost), replica_source(&lost)), (None, None));
        let external = json!([{ "name": "x", "plugin": disabled }]);
        let recovering = json!({ "recovery": { "source": "x" } });
        let both =
            cluster(&json!({ "bootstrap": recovering, "replica": { "source": "x" }, "externalClusters": external }));
        assert_eq!(recovery_source(&both), Some(source("own", None)));
        assert_eq!(replica_source(&both), None);
    }

    #[test]
    fn the_parameter_wins_then_the_archive_then_the_cluster() {
        let cluster = cluster(&json!({}));
        let archive = |stanza: Value| -> ArchiveSpec {
            serde_json::from_value(json!({ "configuration": { "repositories": [], "stanza": stanza } })).unwrap()
        };
        let chosen = |parameter, of_archive: Value| {
            stanza(&source("a", parameter), &archive(of_archive), &cluster).unwrap().to_string()
        };
        assert_eq!(chosen(Some("p"), json!("a")), "p");
        assert_eq!(chosen(None, json!("a")), "a");
        assert_eq!(chosen(None, json!("")), "demo");
        assert_eq!(chosen(None, Value::Null), "demo");
        assert_eq!(shadowed_stanza(&source("a", Some("p")), &archive(json!("a"))), Some("a"));
        assert_eq!(shadowed_stanza(&source("a", Some("a")), &archive(json!("a"))), None);
        assert_eq!(shadowed_stanza(&source("a", None), &archive(json!("a"))), None);
        let error = stanza(&source("a", Some("../x")), &archive(Value::Null), &cluster).unwrap_err();
        assert!(error.to_string().starts_with("the plugin parameter stanza: '../x' is not a stanza name"), "{error}");
    }
}
