//! TLS to Postgres. A server's certificate is always checked: its name against the address, its signature against the public authorities or those
//! of a file.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What connects by TLS, trusting the authorities in a PEM file, or the public ones.
///
/// # Errors
/// What is wrong with the file.
pub fn connector(authorities: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    let roots = match authorities {
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        Some(file) => read(file).map_err(|problem| format!("the file `{}` {problem}", file.display()))?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the versions of TLS that are safe")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn read(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| format!("cannot be read: {error}"))? {
        let certificate = certificate.map_err(|error| format!("is no PEM file: {error}"))?;
        roots.add(certificate).map_err(|error| format!("holds what is no certificate of an authority: {error}"))?;
    }
    if roots.is_empty() { Err("holds no certificate in PEM form".to_owned()) } else { Ok(roots) }
}
