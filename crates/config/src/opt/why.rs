//! Why an option is not acted on. Each text goes on after "because".

pub(crate) const REMOTE: &str =
    "no other host is reached: this program works where the cluster is, directly on the repository";
pub(crate) const SSH: &str = "no other program is started, ssh included";
pub(crate) const SERVER: &str = "there is no TLS server: every host reaches the repository itself";
pub(crate) const PROGRAM: &str = "work is done in threads of this program, never by starting another one";
pub(crate) const WORKER: &str = "worker and remote processes do not exist here";
pub(crate) const CIPHERS: &str = "the TLS library has a fixed list of safe ciphers and does not know OpenSSL's names";
pub(crate) const CREDENTIAL_PROCESS: &str =
    "no other program is started; use keys, a web identity, a pod identity or the instance's role";
pub(crate) const AZURE: &str = "Azure stores are not implemented yet";
pub(crate) const GCS: &str = "Google Cloud stores are not implemented yet";
pub(crate) const SFTP: &str = "SFTP stores are not implemented";

pub(crate) const PROTOCOL: &str = "there is no protocol between processes";
pub(crate) const SOCKET: &str = "sockets are never blocking here";
pub(crate) const BETA: &str = "no option is behind it at present";
pub(crate) const EXCLUSIVE: &str = "no supported PostgreSQL has exclusive backups";
