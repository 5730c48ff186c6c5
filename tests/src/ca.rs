//! A certificate authority, by openssl.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whoever trusts it trusts those that it certifies.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    own: Certificate,
}

/// A certificate and its private key, in PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one. Its files, and those of whom it certifies, have names that begin with `name`.
    #[must_use]
    pub fn new(directory: &Path, name: &str) -> Self {
        // Debian's own may be missing, and has nothing that is needed.
        let config = directory.join("openssl.cnf");
        fs::write(&config, "[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=CA:true\n")
            .expect("a configuration of openssl");
        let own = paths(directory, name);
        run(request(directory, &own, name).args(["-x509", "-days", "3652", "-extensions", "ca"]));
        Self { directory: directory.to_owned(), own }
    }

    /// The certificate with which to verify others.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.own.certificate
    }

    /// Certifies a server; `subject` is such as `DNS:host.example` or `IP:192.0.2.1`.
    #[must_use]
    pub fn certify(&self, subject: &str) -> Certificate {
        self.certify_for(subject, 2)
    }

    /// As [`Self::certify`], for so many days from now on. -1: it has expired a day ago.
    #[must_use]
    pub fn certify_for(&self, subject: &str, days: i32) -> Certificate {
        let server = self.request(&subject.replace(':', "-"));
        self.sign(&server, days, Some(&format!("subjectAltName={subject}\n")));
        server
    }

    /// Certifies an HSM as AWS says that it is done: by a certificate of version 1, for ten years.
    #[must_use]
    pub fn certify_hsm(&self, name: &str) -> Certificate {
        let hsm = self.request(name);
        self.sign(&hsm, 3652, None);
        hsm
    }

    /// Certifies another authority.
    #[must_use]
    pub fn certify_authority(&self, name: &str) -> Self {
        let own = self.request(name);
        self.sign(&own, 3652, Some("basicConstraints=CA:true\n"));
        Self { directory: self.directory.clone(), own }
    }

    fn request(&self, name: &str) -> Certificate {
        let own_name = self.own.certificate.file_stem().and_then(OsStr::to_str).expect("a name");
        let to = paths(&self.directory, &format!("{own_name}-{name}"));
        run(&mut request(&self.directory, &to, name));
        to
    }

    fn sign(&self, request: &Certificate, days: i32, extensions: Option<&str>) {
        let mut command = Command::new("openssl");
        command
            .args(["x509", "-req", "-CAcreateserial", "-days", &days.to_string(), "-in"])
            .arg(&request.certificate)
            .arg("-out")
            .arg(&request.certificate)
            .arg("-CA")
            .arg(&self.own.certificate)
            .arg("-CAkey")
            .arg(&self.own.key);
        if let Some(extensions) = extensions {
            let path = request.certificate.with_extension("ext");
            fs::write(&path, extensions).expect("extensions");
            command.arg("-extfile").arg(path);
        }
        run(&mut command);
    }
}

fn paths(directory: &Path, name: &str) -> Certificate {
    let path = |extension| directory.join(format!("{name}.{extension}"));
    Certificate { certificate: path("pem"), key: path("key") }
}

fn request(directory: &Path, to: &Certificate, name: &str) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-subj", &format!("/CN={name}"), "-config"])
        .arg(directory.join("openssl.cnf"))
        .arg("-keyout")
        .arg(&to.key)
        .arg("-out")
        .arg(&to.certificate);
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
