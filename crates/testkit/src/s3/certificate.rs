//! Certificates made for one test.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A self-signed certificate with its key; its PEM serves as `repo-storage-ca-file`.
#[derive(Debug)]
pub struct TestCertificate {
    pem: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl TestCertificate {
    /// Valid for `localhost`, its subdomains and 127.0.0.1.
    pub fn localhost() -> io::Result<Self> {
        Self::for_names(&["localhost", "*.localhost", "127.0.0.1"], false)
    }

    /// Valid for these names or addresses; `expired` puts its validity into the past.
    pub fn for_names(names: &[&str], expired: bool) -> io::Result<Self> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        if expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?,
        })
    }

    /// The certificate as a PEM file.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes the PEM file.
    pub fn write_pem(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, &self.pem)
    }

    /// The settings of a server that shows this certificate.
    pub fn server_config(&self) -> io::Result<Arc<ServerConfig>> {
        // rcgen brings a second provider along, so the choice must be said (rustls would panic).
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }
}
