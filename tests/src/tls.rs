//! TLS for the parts of the lab that speak it themselves.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::ca::Certificate;

/// A client that trusts one authority.
#[must_use]
pub fn client(ca: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(read(ca)).expect("a certificate of an authority");
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A server that asks clients for no certificate.
#[must_use]
pub fn server(own: &Certificate) -> ServerConfig {
    let key = PrivateKeyDer::from_pem_file(&own.key).expect("a private key");
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(vec![read(&own.certificate)], key)
        .expect("a certificate with its key")
}

fn read(certificate: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(certificate)
        .unwrap_or_else(|error| panic!("{}: {error}", certificate.display()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
