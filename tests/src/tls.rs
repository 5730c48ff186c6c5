//! TLS for the parts of the lab that speak it themselves.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};

use crate::ca::Certificate;
use crate::peers::listen;

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

/// Shows a certificate to one client after the other, and signs with a key that is not the
/// certificate's. It ends with the process.
pub fn serve_with_wrong_key(address: SocketAddr, mixed: &Certificate) {
    let key = PrivateKeyDer::from_pem_file(&mixed.key).expect("a private key");
    let key = provider().key_provider.load_private_key(key).expect("a key that can sign");
    let certified = CertifiedKey::new(vec![read(&mixed.certificate)], key);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    let (config, listener) = (Arc::new(config), listen(address));
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut tls = ServerConnection::new(Arc::clone(&config)).expect("a configuration");
            // The client ends it.
            let _ = tls.complete_io(&mut stream);
        }
    });
}

fn read(certificate: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(certificate)
        .unwrap_or_else(|error| panic!("{}: {error}", certificate.display()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
