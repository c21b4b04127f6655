//! Archives as the API server has them, with their Secrets as the pod has them.
//!
//! An Archive is read again when ten seconds have passed, its Secrets each time, so that an edit or a rotated key works without
//! a restart. While the API server does not answer, the last Archive goes on being used (faults.md KG14): archiving depends on
//! it no more than it must.
//! What the server *does* say counts at once: an Archive that was removed or a right that was withdrawn is not worked around.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::{Api, Client};
use secrecy::SecretString;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::mounted;
use crate::resource::{Archive, ArchiveSpec};
use crate::settings::{Authority, Secrets, secret_refs};
use crate::status::Failure;

/// How long a value is believed without asking again, and how long after a failure the server is left alone.
const FRESH: Duration = Duration::from_secs(10);

/// How long values go on being used while the server does not answer.
const KEPT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest wait for one answer: a WAL file waits behind it.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// An Archive with the values of its Secrets.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// Which edit of it this is (`metadata.generation`).
    pub generation: i64,
    /// What it says.
    pub spec: Arc<ArchiveSpec>,
    /// What its Secrets hold.
    pub secrets: Secrets,
}

/// Reads Archives of one namespace, and the Secrets that the pod has of them.
pub struct Credentials {
    namespace: String,
    /// The folder of the Secrets.
    secrets: PathBuf,
    client: OnceCell<Client>,
    archives: Cache<(i64, Arc<ArchiveSpec>)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Nothing is read yet, not even how to reach the server.
    pub fn new(namespace: String, secrets: PathBuf) -> Self {
        Self { namespace, secrets, client: OnceCell::new(), archives: Cache::default() }
    }

    /// The Archive with everything that it refers to.
    ///
    /// # Errors
    /// [`Failure::Precondition`] for what is missing or may not be read, [`Failure::Unavailable`] when the server does not
    /// answer and nothing is known yet.
    pub async fn load(&self, name: &str) -> Result<Loaded, Failure> {
        let (generation, spec) = self.archives.get(name, || self.read_archive(name)).await?;
        let (folder, archive) = (self.secrets.clone(), Arc::clone(&spec));
        let read = tokio::task::spawn_blocking(move || read_secrets(&folder, &archive)).await;
        let secrets = read.map_err(|panic| Failure::Unavailable(format!("a worker failed: {panic}")))??;
        Ok(Loaded { name: name.to_owned(), generation, spec, secrets })
    }

    /// What an Archive says, without its Secrets.
    ///
    /// # Errors
    /// As [`Credentials::load`].
    pub async fn archive(&self, name: &str) -> Result<Arc<ArchiveSpec>, Failure> {
        let (_, spec) = self.archives.get(name, || self.read_archive(name)).await?;
        Ok(spec)
    }

    /// An Archive as it is now, status and annotations included.
    ///
    /// # Errors
    /// [`Failure::Precondition`] when it is not there or may not be read, [`Failure::Unavailable`] when the server does not
    /// answer.
    pub async fn fresh_archive(&self, name: &str) -> Result<Archive, Failure> {
        let api: Api<Archive> = Api::namespaced(self.client().await?, &self.namespace);
        let archive = asked(api.get(name), &format!("Archive '{name}'"), "archives").await;
        archive.map_err(|asked| match asked {
            Asked::Refused(failure) => failure,
            Asked::Silent(text) => Failure::Unavailable(text),
        })
    }

    /// The API server.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] when the way to it is not known.
    pub async fn client(&self) -> Result<Client, Failure> {
        self.connected().await.map_err(|asked| match asked {
            Asked::Refused(failure) => failure,
            Asked::Silent(text) => Failure::Unavailable(text),
        })
    }

    async fn connected(&self) -> Result<Client, Asked> {
        let made = self.client.get_or_try_init(|| async {
            let mut config = kube::Config::infer().await.map_err(|error| error.to_string())?;
            config.connect_timeout = Some(ANSWER_MAX);
            config.read_timeout = Some(ANSWER_MAX);
            Client::try_from(config).map_err(|error| error.to_string())
        });
        made.await.cloned().map_err(|error| Asked::Silent(format!("unable to reach the API server: {error}")))
    }

    async fn read_archive(&self, name: &str) -> Result<(i64, Arc<ArchiveSpec>), Asked> {
        let api: Api<Archive> = Api::namespaced(self.connected().await?, &self.namespace);
        let archive = asked(api.get(name), &format!("Archive '{name}'"), "archives").await?;
        Ok((archive.metadata.generation.unwrap_or(0), Arc::new(archive.spec)))
    }
}

/// What the Secrets of an Archive hold. Blocking.
fn read_secrets(folder: &Path, archive: &ArchiveSpec) -> Result<Secrets, Failure> {
    let (references, authorities) = secret_refs(archive);
    let mut secrets = Secrets::default();
    for reference in references {
        let text = String::from_utf8(mounted::read(folder, &reference)?).map_err(|_| {
            Failure::Invalid(format!("key '{}' of Secret '{}' is not text", reference.key, reference.name))
        })?;
        secrets.values.insert(reference, SecretString::from(text));
    }
    for (number, reference) in authorities {
        let content = mounted::read(folder, &reference)?;
        let file = mounted::file(&reference).unwrap_or_default();
        let file = folder.join(file).display().to_string();
        secrets.authorities.insert(number, Authority { file, content });
    }
    Ok(secrets)
}

/// What became of a question to the API server.
#[derive(Debug)]
enum Asked {
    /// It said no.
    Refused(Failure),
    /// It said nothing, or that it cannot now.
    Silent(String),
}

/// Waits for an answer, and tells a no from no answer.
async fn asked<T>(
    question: impl Future<Output = Result<T, kube::Error>>,
    what: &str,
    resource: &str,
) -> Result<T, Asked> {
    let answer = tokio::time::timeout(ANSWER_MAX, question).await;
    let error = match answer {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(_) => return Err(Asked::Silent(format!("unable to read {what}: no answer in {} s", ANSWER_MAX.as_secs()))),
    };
    match &error {
        kube::Error::Api(status) if status.code == 404 => {
            Err(Asked::Refused(Failure::Precondition(format!("{what} does not exist"))))
        }
        kube::Error::Api(status) if status.code == 401 || status.code == 403 => {
            Err(Asked::Refused(Failure::Precondition(format!(
                "{what} may not be read: the ServiceAccount of the pod lacks the verb get on {resource} (is its Role not \
                 there yet?)"
            ))))
        }
        kube::Error::SerdeError(error) => {
            Err(Asked::Refused(Failure::Invalid(format!("{what} cannot be understood: {error}"))))
        }
        _ => Err(Asked::Silent(format!("unable to read {what}: {error}"))),
    }
}

/// Values by name, with when they were read.
struct Cache<T> {
    entries: Mutex<BTreeMap<String, Entry<T>>>,
}

struct Entry<T> {
    value: T,
    read: Instant,
    /// When the server was last asked in vain.
    tried: Option<Instant>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<T: Clone> Cache<T> {
    /// The value of a name: what is known if that is fresh, what is read if the server answers, what was known if not.
    async fn get<F>(&self, name: &str, read: impl FnOnce() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Asked>>,
    {
        if let Some(value) = self.known(name) {
            return Ok(value);
        }
        let now = Instant::now();
        let asked = read().await;
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(value) => {
                entries.insert(name.to_owned(), Entry { value: value.clone(), read: now, tried: None });
                Ok(value)
            }
            Err(Asked::Refused(failure)) => {
                entries.remove(name);
                Err(failure)
            }
            Err(Asked::Silent(text)) => match entries.get_mut(name).filter(|entry| entry.read.elapsed() < KEPT_MAX) {
                Some(entry) => {
                    entry.tried = Some(Instant::now());
                    Ok(entry.value.clone())
                }
                None => Err(Failure::Unavailable(text)),
            },
        }
    }

    fn known(&self, name: &str) -> Option<T> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(name)?;
        let rests = entry.tried.is_some_and(|tried| tried.elapsed() < FRESH) && entry.read.elapsed() < KEPT_MAX;
        (entry.read.elapsed() < FRESH || rests).then(|| entry.value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Result<u32, Asked> {
        Err(Asked::Silent("no answer".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn kg14_the_last_value_is_used_while_the_server_is_silent_for_a_day() {
        let cache = Cache::<u32>::default();
        assert!(matches!(cache.get("a", || async { silent() }).await, Err(Failure::Unavailable(_))));
        assert_eq!(cache.get("a", || async { Ok(1) }).await.unwrap(), 1);
        // Fresh: nobody is asked.
        assert_eq!(cache.get("a", || async { Ok(2) }).await.unwrap(), 1);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(cache.get("a", || async { silent() }).await.unwrap(), 1);
        // The server is left alone for a while.
        assert_eq!(cache.get("a", || async { Ok(3) }).await.unwrap(), 1);
        tokio::time::advance(Duration::from_secs(60 * 60)).await;
        assert_eq!(cache.get("a", || async { silent() }).await.unwrap(), 1);
        tokio::time::advance(KEPT_MAX).await;
        assert!(cache.get("a", || async { silent() }).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_no_of_the_server_counts_at_once() {
        let cache = Cache::<u32>::default();
        assert_eq!(cache.get("a", || async { Ok(1) }).await.unwrap(), 1);
        tokio::time::advance(Duration::from_secs(11)).await;
        let refused = || async { Err(Asked::Refused(Failure::Precondition("gone".to_owned()))) };
        assert!(matches!(cache.get("a", refused).await, Err(Failure::Precondition(_))));
        assert!(matches!(cache.get("a", || async { silent() }).await, Err(Failure::Unavailable(_))));
    }
}
