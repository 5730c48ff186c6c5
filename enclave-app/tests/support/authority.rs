//! Certificates, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use enclave_app::secret::Roots;
use tempfile::TempDir;

/// A private certification authority.
pub(crate) struct Authority {
    dir: TempDir,
}

/// A server's certificate and key, as PEM files.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (certificate, key) = (dir.path().join("ca.pem"), dir.path().join("ca.key"));
        openssl(&certificate, &key, &["-subj", "/CN=Private CA"]);
        Self { dir }
    }

    /// Its own certificate, which clients trust.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// What trusts it.
    pub(crate) fn roots(&self) -> Roots {
        Roots::load(Some(&self.bundle())).unwrap()
    }

    /// A certificate for a server of this name.
    pub(crate) fn vouch(&self, name: &str) -> Identity {
        let key = self.dir.path().join("ca.key");
        let bundle = self.bundle();
        self.identity(name, &["-CA", bundle.to_str().unwrap(), "-CAkey", key.to_str().unwrap()])
    }

    /// A certificate that only the server itself vouches for.
    pub(crate) fn self_signed(&self, name: &str) -> Identity {
        self.identity(name, &[])
    }

    fn identity(&self, name: &str, by: &[&str]) -> Identity {
        let certificate = self.dir.path().join(format!("{name}.pem"));
        let key = self.dir.path().join(format!("{name}.key"));
        let names = format!("subjectAltName=DNS:{name}");
        let leaf = ["-subj", "/CN=server", "-addext", &names];
        let end = ["-addext", "basicConstraints=critical,CA:FALSE"];
        openssl(&certificate, &key, &[&leaf[..], &end[..], by].concat());
        Identity { certificate, key }
    }
}

fn openssl(certificate: &Path, key: &Path, more: &[&str]) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-out", certificate.to_str().unwrap()])
        .args(["-keyout", key.to_str().unwrap()])
        .args(more)
        .output()
        .expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
