//! Before the first WAL file of a process: the archive is this cluster's, and the stanza is there.

use std::sync::Arc;

use pgbr_config::Command;
use pgbr_repo::command::archive::ClusterIdentity;
use pgbr_repo::command::stanza::{create, upgrade};
use pgbr_repo::error::{Error, ErrorKind};
use pgbr_repo::postgres::ControlFile;
use pgbr_repo::progress::Context;
use pgbr_repo::repository::{Repository, WritableRepository};
use tokio_util::sync::CancellationToken;

use super::stanza_cluster;
use crate::cluster::Cluster;
use crate::ids::UPGRADE_STANZA_ANNOTATION;
use crate::instance::empty_archive::{self, Claim, Own};
use crate::instance::residents::{Pushing, identity_of};
use crate::instance::stanza_upgrade::{Case, Reason};
use crate::instance::surroundings::{Place, Surroundings, blocking};
use crate::parameters;
use crate::settings::{CreateStanza, create_stanza};
use crate::status::Failure;

/// Checks and makes what a file needs, once for each engine. `checks` is whether the archive has to be empty.
///
/// # Errors
/// [`ErrorKind::PathNotEmpty`] and [`ErrorKind::ArchiveMismatch`] when the archive is somebody else's; those of the store and
/// of the API server.
pub(super) async fn make_ready(
    surroundings: &Arc<Surroundings>,
    cluster: &Cluster,
    place: &Place,
    pushing: &Pushing,
    checks: bool,
) -> Result<(), Failure> {
    let mut ready = pushing.ready.lock().await;
    // What was archived since is ours; the caller may not have heard yet that the marker is gone.
    if *ready {
        return Ok(());
    }
    let settings = surroundings.settings(Command::StanzaCreate, place)?;
    let control = surroundings.control_file(&settings).await?;
    let cancel = CancellationToken::new();
    let context = surroundings.context(&settings, Command::StanzaCreate, 1, "stanza-create", cancel);
    let look = Look { surroundings, cluster, place, control: &control, context: &context };
    let found = look.archives(&pushing.repositories).await;
    // An archive that this very Cluster has written is not to be empty.
    let upgraded = look.upgrade(&pushing.repositories, &found).await;
    if checks && !matches!(upgraded, Ok(true)) {
        empty_archive::check(&pushing.repositories, &look.claim().await?, &context).await?;
    }
    upgraded?;
    if create_stanza(&place.archive.spec) == CreateStanza::OnFirstArchive {
        for (repository, found) in pushing.repositories.iter().zip(&found) {
            match found {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let writable = [WritableRepository::new(repository.clone())];
                    create::create(&writable, stanza_cluster(&control), &context).await?;
                }
                // What is wrong with one repository is no reason to keep a file from the others; the push tells.
                Err(error) => context.warn(format!("{}: {}", repository.index(), error.listed())),
            }
        }
    }
    *ready = true;
    Ok(())
}

/// Whose an archive is; `None` where there is no stanza.
type Found = Result<Option<ClusterIdentity>, Error>;

/// What is looked at.
struct Look<'a> {
    surroundings: &'a Arc<Surroundings>,
    cluster: &'a Cluster,
    place: &'a Place,
    control: &'a ControlFile,
    context: &'a Context,
}

impl Look<'_> {
    async fn archives(&self, repositories: &[Repository]) -> Vec<Found> {
        let mut found = Vec::new();
        for repository in repositories {
            found.push(match repository.archive_info(self.context).await {
                Ok(info) => {
                    let current = info.history().current();
                    Ok(Some(ClusterIdentity { version: current.version, system_id: current.system_id }))
                }
                Err(error) if error.kind() == ErrorKind::FileMissing => Ok(None),
                Err(error) => Err(error),
            });
        }
        found
    }

    /// Upgrades the stanza where this is the same Cluster with a new major version of PostgreSQL; whether it did.
    async fn upgrade(&self, repositories: &[Repository], founds: &[Found]) -> Result<bool, Failure> {
        let own = identity_of(self.control);
        let others = || {
            let each = repositories.iter().zip(founds);
            each.filter_map(|(repository, found)| Some((repository, (*found.as_ref().ok()?)?)))
                .filter(|(_, found)| *found != own)
        };
        let Some((first, _)) = others().next() else { return Ok(false) };
        let archive = self.surroundings.credentials.fresh_archive(&self.place.archive.name).await?;
        let mut reason = Reason::SameCluster;
        for (repository, found) in others() {
            let case = Case::of(&archive, self.place.stanza.as_str(), self.cluster, found, own);
            match case.decide() {
                Ok(why) => reason = why,
                Err(why) => {
                    let refused = self.refused(repository, found, own, &why).await;
                    // A file is not kept from a repository that is this cluster's; the push tells what is wrong with the
                    // other one.
                    let has_own = founds.iter().any(|found| matches!(found, Ok(Some(found)) if *found == own));
                    return if has_own { Ok(false) } else { Err(refused) };
                }
            }
        }
        let note = format!(
            "stanza '{}' is upgraded to PostgreSQL {}, system identifier {}: {}; take a full backup soon, since WAL of the \
             new version belongs to none before it",
            first.stanza(),
            own.version,
            own.system_id,
            match reason {
                Reason::SameCluster => "the Cluster is the one that has written it".to_owned(),
                Reason::Annotation => format!("the Archive has annotation {UPGRADE_STANZA_ANNOTATION}"),
            }
        );
        let writable: Vec<WritableRepository> =
            others().map(|(repository, _)| WritableRepository::new(repository.clone())).collect();
        upgrade::upgrade(&writable, stanza_cluster(self.control), self.context).await?;
        self.surroundings.note(self.cluster, "StanzaUpgraded", note).await;
        Ok(true)
    }

    async fn refused(
        &self,
        repository: &Repository,
        found: ClusterIdentity,
        own: ClusterIdentity,
        why: &str,
    ) -> Failure {
        let text = format!(
            "stanza '{}' in {} is of PostgreSQL {}, system identifier {}, and this cluster is PostgreSQL {}, system \
             identifier {}: {why}",
            repository.stanza(),
            repository.index(),
            found.version,
            found.system_id,
            own.version,
            own.system_id
        );
        let way = match own.version > found.version {
            true => format!(
                "if the cluster was upgraded and is to go on here, run 'pgbr stanza-upgrade' or set annotation \
                 {UPGRADE_STANZA_ANNOTATION}: enabled on the Archive; else give it a stanza of its own"
            ),
            false => "give the cluster a stanza of its own".to_owned(),
        };
        let error = Error::new(ErrorKind::ArchiveMismatch, format!("{text}; {way}"));
        self.surroundings.warn(self.cluster, "StanzaMismatch", error.message().to_owned()).await;
        Failure::Engine(error)
    }

    async fn claim(&self) -> Result<Claim, Failure> {
        let (cluster, place) = (self.cluster, self.place);
        let wal = self.surroundings.pod.wal_directory();
        let files = blocking(move || empty_archive::known_files(&wal)).await?;
        let restored_from_here = match parameters::recovery_source(cluster) {
            Some(recovery) if recovery.archive == place.archive.name => {
                let stanza = parameters::stanza(&recovery, &place.archive.spec, cluster);
                stanza.is_ok_and(|stanza| stanza == place.stanza)
            }
            _ => false,
        };
        let (identity, timeline) = (identity_of(self.control), self.control.timeline());
        Ok(Claim { cluster: Some(Own { identity, timeline, files, restored_from_here }) })
    }
}
