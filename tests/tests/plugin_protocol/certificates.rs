//! Certificates as cert-manager's self-signed issuer makes them, and such as it never would.

use std::fs;
use std::path::Path;

use pgbr_plugin::transport::tls::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name that the operator dials.
pub(crate) const SERVER_NAME: &str = "pgbackrest";

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

fn params(name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names = if purpose == ExtendedKeyUsagePurpose::ServerAuth { vec![name.to_owned()] } else { Vec::new() };
    let mut params = CertificateParams::new(names).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![purpose];
    params
}

fn pair(params: &CertificateParams) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Pair {
        pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        der: certificate.der().clone(),
        key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
    }
}

pub(crate) fn server() -> Pair {
    pair(&params(SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth))
}

pub(crate) fn client() -> Pair {
    pair(&params("pgbackrest-client", ExtendedKeyUsagePurpose::ClientAuth))
}

/// As `openssl req -x509` makes it: it calls itself an authority.
pub(crate) fn client_authority() -> Pair {
    let mut params = params("pgbackrest-client", ExtendedKeyUsagePurpose::ClientAuth);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    pair(&params)
}

/// It says nothing about uses.
pub(crate) fn client_of_any_use() -> Pair {
    let mut params = params("pgbackrest-client", ExtendedKeyUsagePurpose::ClientAuth);
    params.extended_key_usages.clear();
    pair(&params)
}

/// It is for servers alone.
pub(crate) fn client_of_wrong_use() -> Pair {
    pair(&params("pgbackrest-client", ExtendedKeyUsagePurpose::ServerAuth))
}

pub(crate) fn client_expired() -> Pair {
    let mut params = params("pgbackrest-client", ExtendedKeyUsagePurpose::ClientAuth);
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    pair(&params)
}

pub(crate) fn client_of_the_future() -> Pair {
    let mut params = params("pgbackrest-client", ExtendedKeyUsagePurpose::ClientAuth);
    params.not_before = rcgen::date_time_ymd(2090, 1, 1);
    params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    pair(&params)
}

/// Puts both secrets below `folder`, each file by a rename as the kubelet's change of a link is.
pub(crate) fn mount(folder: &Path, server: &Pair, client_pems: &[&str]) -> TlsFiles {
    let files = TlsFiles {
        server_cert: folder.join("server.crt"),
        server_key: folder.join("server.key"),
        client_cert: folder.join("client.crt"),
    };
    let client = client_pems.concat();
    for (path, content) in
        [(&files.server_cert, &server.pem), (&files.server_key, &server.key_pem), (&files.client_cert, &client)]
    {
        let new = path.with_extension("new");
        fs::write(&new, content).expect("write");
        fs::rename(&new, path).expect("rename");
    }
    files
}
