//! The TLS settings of a repository: whom to trust.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{S3OpenError, S3Options};

/// TLS 1.2 or newer, with the roots that the options name. The provider is given and not looked up: a process that
/// has two compiled in would panic (dependencies.md §8).
pub(super) fn client_config(options: &S3Options) -> Result<ClientConfig, S3OpenError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| S3OpenError::Tls(error.to_string()))?;
    if !options.verify_tls {
        let verifier = Arc::new(AcceptAnyCertificate(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    }
    Ok(builder.with_root_certificates(roots(options)?).with_no_client_auth())
}

/// The configured roots replace the system's, as in pgBackRest (`common/io/tls/client.c`).
fn roots(options: &S3Options) -> Result<RootCertStore, S3OpenError> {
    let mut store = RootCertStore::empty();
    if options.ca_file.is_none() && options.ca_path.is_none() {
        // Some system files may be unusable: what counts is whether any root was found.
        let system = rustls_native_certs::load_native_certs();
        let _ = store.add_parsable_certificates(system.certs);
        return if store.is_empty() { Err(S3OpenError::NoSystemRoots) } else { Ok(store) };
    }
    if let Some(file) = &options.ca_file
        && add_file(&mut store, file)? == 0
    {
        return Err(ca_error(file, "it has no certificate"));
    }
    if let Some(directory) = &options.ca_path {
        add_directory(&mut store, directory)?;
    }
    Ok(store)
}

fn add_directory(store: &mut RootCertStore, directory: &Path) -> Result<(), S3OpenError> {
    let entries = std::fs::read_dir(directory).map_err(|error| ca_error(directory, &error.to_string()))?;
    let mut count = 0_usize;
    for entry in entries {
        let path = entry.map_err(|error| ca_error(directory, &error.to_string()))?.path();
        if path.is_file() {
            // Other files (revocation lists, notes) may lie beside the certificates.
            count += add_file(store, &path).unwrap_or(0);
        }
    }
    if count == 0 {
        return Err(ca_error(directory, "no file in it has a certificate"));
    }
    Ok(())
}

/// Adds the certificates of a PEM file; returns how many there are.
fn add_file(store: &mut RootCertStore, path: &Path) -> Result<usize, S3OpenError> {
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| ca_error(path, &error.to_string()))? {
        let certificate = certificate.map_err(|error| ca_error(path, &error.to_string()))?;
        store.add(certificate).map_err(|error| ca_error(path, &error.to_string()))?;
        count += 1;
    }
    Ok(count)
}

fn ca_error(path: &Path, reason: &str) -> S3OpenError {
    S3OpenError::Ca { path: path.to_owned(), reason: reason.to_owned() }
}

/// `repo-storage-verify-tls=n`: any certificate will do; the peer must still hold its key.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
