//! Whether what people wrote can be used, found out before anything uses it.
//!
//! Options are made as they will be, with values in place of secrets, which are not known here, and their mistakes are those that
//! a command would meet at night.

use std::collections::{BTreeMap, BTreeSet};

use pgbr_config::Command;
use pgbr_repo::format::Stanza;
use serde_json::Value;

use super::{Authority, Request, Secrets, secret_refs, settings};
use crate::ids;
use crate::instance::pod::Pod;
use crate::resource::{ArchiveSpec, Repository, S3Credentials};
use crate::status::Failure;

/// What a sidecar does with an Archive.
const COMMANDS: [Command; 7] = [
    Command::ArchivePush,
    Command::ArchiveGet,
    Command::Backup,
    Command::Restore,
    Command::Expire,
    Command::Info,
    Command::StanzaCreate,
];

/// What is wrong with an Archive, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Options that do not exist, values that they do not have, what is missing.
    pub mistakes: BTreeSet<String>,
    /// What has no effect.
    pub warnings: BTreeSet<String>,
}

/// What is wrong with an Archive for any command.
pub fn archive_findings(archive: &ArchiveSpec) -> Findings {
    let mut findings = Findings::default();
    for command in COMMANDS {
        match tried(archive, command, &BTreeMap::new()) {
            Ok(warnings) => findings.warnings.extend(warnings),
            Err(mistake) => drop(findings.mistakes.insert(mistake)),
        }
    }
    findings
}

/// The mistake of a Backup's parameters, if there is one. Without an Archive, or with one that cannot be used, it is one that
/// every Archive would have.
pub fn parameter_mistake(archive: Option<&ArchiveSpec>, parameters: &BTreeMap<String, String>) -> Option<String> {
    let usable = archive.filter(|archive| tried(archive, Command::Backup, &BTreeMap::new()).is_ok());
    if let Some(archive) = usable {
        return tried(archive, Command::Backup, parameters).err();
    }
    let is_about_all = |(name, _): &(&String, &String)| !name.starts_with("repo");
    let parameters = parameters.iter().filter(is_about_all).map(|(name, value)| (name.clone(), value.clone()));
    tried(&some_archive(), Command::Backup, &parameters.collect()).err()
}

/// An Archive with which every command can be made.
fn some_archive() -> ArchiveSpec {
    let credentials = S3Credentials {
        key_type: Some("auto".to_owned()),
        region: Some("region".to_owned()),
        ..S3Credentials::default()
    };
    let repository = Repository {
        bucket: "bucket".to_owned(),
        destination_path: "/".to_owned(),
        endpoint_url: Some("endpoint".to_owned()),
        s3_credentials: Some(credentials),
        ..Repository::default()
    };
    let mut archive = ArchiveSpec::default();
    archive.configuration.repositories.push(repository);
    archive
}

/// Makes the options of a command, and tells warnings, or the mistake.
fn tried(
    archive: &ArchiveSpec,
    command: Command,
    parameters: &BTreeMap<String, String>,
) -> Result<Vec<String>, String> {
    let in_env = |problem: String| format!("spec.instanceSidecarConfiguration.env: {problem}");
    let stanza = Stanza::parse("stanza").map_err(|error| error.to_string())?;
    let pod = Pod::of(variables(archive)).map_err(in_env)?;
    let secrets = placeholders(archive);
    let request =
        Request { command, archive, secrets: &secrets, stanza: &stanza, pod: &pod, parameters, annotations: &[] };
    match settings(&request) {
        Ok(settings) => Ok(settings.warnings),
        // Most commands need the same.
        Err(Failure::Invalid(text)) => {
            Err(text.replace(&format!("{} command requires", command.name()), "the command requires"))
        }
        // About what is not known here.
        Err(_) => Ok(Vec::new()),
    }
}

/// The variables of a sidecar, as far as their values stand in the Archive.
fn variables(archive: &ArchiveSpec) -> Vec<(String, String)> {
    let own =
        [("POD_NAME", "pod"), ("NAMESPACE", "namespace")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let configuration = archive.instance_sidecar_configuration.as_ref();
    let given = configuration.and_then(|configuration| configuration.env.as_ref()).into_iter().flatten();
    let literal = given.filter_map(|variable| {
        let text = |field: &str| variable.get(field).and_then(Value::as_str);
        let (name, value) = (text("name")?, text("value")?);
        // Kubernetes puts another variable's value there, and an own one of ours comes first.
        let is_known = !value.contains("$(") && own.iter().all(|(own, _)| own != name) && name != ids::SECRETS_VARIABLE;
        is_known.then(|| (name.to_owned(), value.to_owned()))
    });
    own.iter().cloned().chain(literal).collect()
}

/// Something for each Secret.
fn placeholders(archive: &ArchiveSpec) -> Secrets {
    let (references, authorities) = secret_refs(archive);
    let authority = |number: usize| Authority { file: format!("/authority-{number}"), content: Vec::new() };
    Secrets {
        values: references.into_iter().map(|reference| (reference, "placeholder".to_owned().into())).collect(),
        authorities: authorities.into_keys().map(|number| (number, authority(number))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn archive(change: impl Fn(&mut Value)) -> ArchiveSpec {
        let mut spec = json!({
            "configuration": { "repositories": [{
                "bucket": "b", "destinationPath": "/", "endpointURL": "s3:9000",
                "encryption": "aes-256-cbc", "encryptionKey": { "name": "s", "key": "c" },
                "endpointCA": { "name": "s", "key": "ca" },
                "s3Credentials": { "region": "r", "accessKeyId": { "name": "s", "key": "i" },
                    "secretAccessKey": { "name": "s", "key": "k" } },
            }] },
        });
        change(&mut spec);
        serde_json::from_value(spec).unwrap()
    }

    fn found(change: impl Fn(&mut Value)) -> String {
        archive_findings(&archive(change)).mistakes.into_iter().collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn a_mistake_is_found_wherever_it_is_and_named_with_its_place() {
        assert_eq!(found(|_| {}), "");
        let push =
            found(|spec| spec["configuration"]["wal"] = json!({ "archiveAdditionalCommandArgs": ["--bogus=1"] }));
        assert!(push.contains("bogus") && push.contains("archiveAdditionalCommandArgs[0]"), "{push}");
        let level =
            found(|spec| spec["configuration"]["data"] = json!({ "additionalCommandArgs": ["--compress-level=x"] }));
        assert!(level.contains("compress-level") && level.contains("data.additionalCommandArgs[0]"), "{level}");
        assert!(level.contains("allowed: bz2: 1 to 9, gz: -1 to 9"), "{level}");
        let kind = found(|spec| spec["configuration"]["data"] = json!({ "additionalCommandArgs": ["--type=x"] }));
        assert!(kind.contains("allowed: full, diff, incr"), "{kind}");
        let restore = found(|spec| spec["configuration"]["restore"] = json!({ "additionalCommandArgs": ["pg1-path"] }));
        assert!(restore.contains("does not begin with --"), "{restore}");
        let env = |name: &str, value: &str| {
            let (name, value) = (name.to_owned(), value.to_owned());
            found(move |spec| {
                spec["instanceSidecarConfiguration"] = json!({ "env": [{ "name": name, "value": value },
                    { "name": "PGBACKREST_REPO1_S3_TOKEN", "valueFrom": { "secretKeyRef": { "name": "s", "key": "t" } } }] });
            })
        };
        assert!(env("PGBACKREST_REPO1_RETENTION_FULL", "many").contains("repo1-retention-full"));
        assert!(env("STATUS_INTERVAL_SECONDS", "soon").contains("STATUS_INTERVAL_SECONDS"));
        assert_eq!(env("PGBACKREST_REPO1_RETENTION_FULL", "$(DAYS)"), "");
        let bare =
            found(|spec| drop(spec["configuration"]["repositories"][0].as_object_mut().unwrap().remove("endpointURL")));
        assert!(bare.contains("repo1-s3-endpoint"), "{bare}");
        let unknown = archive(|spec| {
            spec["instanceSidecarConfiguration"] = json!({ "env": [{ "name": "PGBACKREST_BOGUS", "value": "1" }] });
        });
        let warnings = archive_findings(&unknown).warnings;
        assert!(warnings.iter().any(|warning| warning.contains("bogus")), "{warnings:?}");
        // Once, although every command meets it.
        assert_eq!(bare.matches("repo1-s3-endpoint").count(), 1, "{bare}");
    }

    #[test]
    fn parameters_are_told_their_own_mistakes_alone() {
        let parameters = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let good = archive(|_| {});
        let bad = archive(|spec| spec["configuration"]["data"] = json!({ "additionalCommandArgs": ["--bogus"] }));
        for archive in [Some(&good), Some(&bad), None] {
            assert_eq!(parameter_mistake(archive, &parameters("type", "full")), None);
            let told = parameter_mistake(archive, &parameters("type", "ful")).unwrap();
            assert!(told.contains("'ful'") && told.contains("allowed: full, diff, incr"), "{told}");
            let told = parameter_mistake(archive, &parameters("pg1-path", "/")).unwrap();
            assert!(told.contains("pg1-path"), "{told}");
        }
        // Which repositories there are, the Archive says.
        assert!(parameter_mistake(Some(&good), &parameters("repo", "2")).unwrap().contains("repo"));
        assert_eq!(parameter_mistake(None, &parameters("repo", "2")), None);
    }
}
