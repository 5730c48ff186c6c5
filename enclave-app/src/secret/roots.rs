//! Who vouches for Secrets Manager.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use thiserror::Error;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// The certification authorities that are trusted: Mozilla's, which are compiled in, and those of a
/// bundle. The system's are never asked: an image has none, or somebody else's.
#[derive(Clone)]
pub struct Roots {
    tls: TlsContext,
    count: usize,
}

impl Roots {
    /// Mozilla's, and those in the PEM file `ca_bundle`.
    ///
    /// # Errors
    ///
    /// [`RootsError`] when the bundle cannot be read, or not all of its certificates be used.
    pub fn load(ca_bundle: Option<&Path>) -> Result<Self, RootsError> {
        let mut trusted = TLS_SERVER_ROOT_CERTS.to_vec();
        if let Some(path) = ca_bundle {
            trusted.extend(read(path)?);
        }
        let mut text = String::new();
        for certificate in &trusted {
            encode(&mut text, certificate);
        }
        let store = TrustStore::empty().with_pem_certificate(text);
        let tls = TlsContext::builder().with_trust_store(store).build();
        Ok(Self { tls: tls.map_err(|_| RootsError::Unusable)?, count: trusted.len() })
    }

    pub(super) fn tls(&self) -> TlsContext {
        self.tls.clone()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A bundle that cannot be trusted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RootsError {
    /// It has PEM, but no certificate.
    #[error("failed to load `{}`: there is no certificate in it; write PEM, `-----BEGIN CERTIFICATE-----`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It has a certificate that is none.
    #[error("failed to load `{}`: its certificate {number} cannot be used", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which certificate, counted from 1.
        number: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// It is not PEM.
    #[error("failed to load `{}`: its certificate {number} is not PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Which certificate, counted from 1.
        number: usize,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// It is missing, is a directory, or may not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is larger than any bundle.
    #[error("failed to load `{}`: it is larger than {MAX_BUNDLE_BYTES} bytes, so it is hardly a bundle", path.display())]
    Size {
        /// The file.
        path: PathBuf,
    },
    /// The TLS library refuses them.
    #[error("failed to prepare TLS with these certificates")]
    Unusable,
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| {
            // One byte more than allowed tells a file that is too large from one that just fits.
            file.take(MAX_BUNDLE_BYTES + 1).read_to_end(&mut bytes)
        })
        .map_err(|source| RootsError::Read { path: path.into(), source })?;
    if bytes.len() as u64 > MAX_BUNDLE_BYTES {
        return Err(RootsError::Size { path: path.into() });
    }
    let mut certificates = Vec::new();
    // The SDK adds them to such a store, and panics at one that cannot be added.
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(&bytes)) {
        let certificate =
            certificate.map_err(|source| RootsError::Pem { path: path.into(), number, source })?;
        store.add(certificate.clone()).map_err(|source| RootsError::Invalid {
            path: path.into(),
            number,
            source,
        })?;
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(RootsError::Empty { path: path.into() });
    }
    Ok(certificates)
}

fn encode(text: &mut String, certificate: &CertificateDer<'_>) {
    // A string never refuses.
    let _ = writeln!(
        text,
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
        STANDARD.encode(certificate)
    );
}

/// Mozilla's whole bundle is 230 kB.
const MAX_BUNDLE_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
