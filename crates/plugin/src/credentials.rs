//! Archives and Secrets as the API server has them.
//!
//! Each is read again when ten seconds have passed, so that an edit or a rotated key works without a restart. While the API
//! server does not answer, the last values go on being used (faults.md KG14): archiving depends on it no more than it must.
//! What the server *does* say counts at once: an Archive that was removed or a right that was withdrawn is not worked around.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretString;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::resource::{Archive, ArchiveSpec};
use crate::settings::{SecretRef, Secrets, secret_refs};
use crate::status::Failure;

/// How long a value is believed without asking again, and how long after a failure the server is left alone.
const FRESH: Duration = Duration::from_secs(10);

/// How long values go on being used while the server does not answer.
const KEPT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest wait for one answer: a WAL file waits behind it.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The largest certificate bundle that is taken.
const CA_BYTES_MAX: usize = 1024 * 1024;

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

/// Reads Archives and Secrets of one namespace.
pub struct Credentials {
    namespace: String,
    /// Where files with certificate authorities go.
    directory: PathBuf,
    /// Held by whoever writes one of them.
    writing: Arc<Mutex<()>>,
    client: OnceCell<Client>,
    archives: Cache<(i64, Arc<ArchiveSpec>)>,
    secrets: Cache<Arc<BTreeMap<String, SecretBytes>>>,
}

/// The value of a key. It prints as nothing.
#[derive(Clone)]
struct SecretBytes(Arc<secrecy::SecretSlice<u8>>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Nothing is read yet, not even how to reach the server.
    pub fn new(namespace: String, directory: PathBuf) -> Self {
        let (archives, secrets) = (Cache::default(), Cache::default());
        Self { namespace, directory, writing: Arc::default(), client: OnceCell::new(), archives, secrets }
    }

    /// The Archive with everything that it refers to.
    ///
    /// # Errors
    /// [`Failure::Precondition`] for what is missing or may not be read, [`Failure::Unavailable`] when the server does not
    /// answer and nothing is known yet.
    pub async fn load(&self, name: &str) -> Result<Loaded, Failure> {
        let (generation, spec) = self.archives.get(name, || self.read_archive(name)).await?;
        let (references, authorities) = secret_refs(&spec);
        let mut secrets = Secrets::default();
        for reference in references {
            let value = self.value(&reference).await?;
            let text = String::from_utf8(value).map_err(|_| {
                Failure::Invalid(format!("key '{}' of Secret '{}' is not text", reference.key, reference.name))
            })?;
            secrets.values.insert(reference, SecretString::from(text));
        }
        for (number, reference) in authorities {
            let content = self.value(&reference).await?;
            let file = self.directory.join(format!("{name}-repo{number}-ca.crt"));
            let (shown, writing) = (file.display().to_string(), Arc::clone(&self.writing));
            let written = tokio::task::spawn_blocking(move || keep_file(&writing, &file, &content)).await;
            written
                .map_err(|panic| Failure::Unavailable(format!("a worker failed: {panic}")))?
                .map_err(|error| Failure::Unavailable(format!("unable to write '{shown}': {error}")))?;
            secrets.ca_files.insert(number, shown);
        }
        Ok(Loaded { name: name.to_owned(), generation, spec, secrets })
    }

    async fn value(&self, reference: &SecretRef) -> Result<Vec<u8>, Failure> {
        use secrecy::ExposeSecret;
        let secret = self.secrets.get(&reference.name, || self.read_secret(&reference.name)).await?;
        match secret.get(&reference.key) {
            Some(SecretBytes(value)) => Ok(value.expose_secret().to_vec()),
            None => Err(Failure::Precondition(format!("Secret '{}' has no key '{}'", reference.name, reference.key))),
        }
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

    async fn read_secret(&self, name: &str) -> Result<Arc<BTreeMap<String, SecretBytes>>, Asked> {
        let api: Api<Secret> = Api::namespaced(self.connected().await?, &self.namespace);
        let secret = asked(api.get(name), &format!("Secret '{name}'"), "secrets").await?;
        let values = secret.data.unwrap_or_default().into_iter();
        Ok(Arc::new(values.map(|(key, value)| (key, SecretBytes(Arc::new(value.0.into())))).collect()))
    }
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

/// Gives a file this content unless it has it: private, and never seen half-written. Blocking. One at a time, since the first
/// requests of a process all come here at once, for the same file.
fn keep_file(writing: &Mutex<()>, path: &Path, content: &[u8]) -> std::io::Result<()> {
    let _alone = writing.lock().unwrap_or_else(PoisonError::into_inner);
    if content.len() > CA_BYTES_MAX {
        return Err(std::io::Error::other(format!("{} bytes are too many for certificates", content.len())));
    }
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
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

    #[test]
    fn a_file_with_certificates_is_private_and_replaced_as_a_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca/a-repo1-ca.crt");
        for content in [&b"one"[..], b"two", b"two"] {
            keep_file(&Mutex::default(), &path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn requests_that_begin_together_write_the_same_file_one_after_another() {
        let folder = tempfile::tempdir().unwrap();
        let writing = Mutex::default();
        for round in 0..20 {
            let path = folder.path().join(format!("ca-{round}/store-repo1-ca.crt"));
            std::thread::scope(|scope| {
                let writers: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| keep_file(&writing, &path, b"certificate"))).collect();
                assert!(writers.into_iter().all(|writer| writer.join().unwrap().is_ok()));
            });
            assert_eq!(fs::read(&path).unwrap(), b"certificate");
        }
    }
}
