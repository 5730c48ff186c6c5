//! Certificates as they are shown by servers and written in files; see RFC 5280.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use serde::Serialize;
use thiserror::Error;
use x509_cert::certificate::{CertificateInner, Raw, Version};
use x509_cert::der::asn1::{AnyRef, BitString};
use x509_cert::der::{Decode, Encode, Header, Reader, SliceReader};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// One certificate. Nothing is believed of it.
///
/// Unlike rustls this also takes certificates of version 1, as openssl makes those of CloudHSM's
/// clusters.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    parsed: CertificateInner<Raw>,
    /// What was signed, as it was sent.
    signed: Box<[u8]>,
}

impl Certificate {
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let parsed = CertificateInner::from_der(der).ok()?;
        let mut reader = SliceReader::new(der).ok()?;
        Header::decode(&mut reader).ok()?;
        let signed = reader.tlv_bytes().ok()?.into();
        Some(Self { parsed, signed })
    }

    pub(super) fn subject(&self) -> String {
        text(self.parsed.tbs_certificate().subject())
    }

    pub(super) fn issuer(&self) -> String {
        text(self.parsed.tbs_certificate().issuer())
    }

    /// Until when it holds, in seconds since 1970.
    pub(super) fn not_after(&self) -> i64 {
        seconds(self.parsed.tbs_certificate().validity().not_after)
    }

    /// From when on it holds, in seconds since 1970.
    pub(super) fn not_before(&self) -> i64 {
        seconds(self.parsed.tbs_certificate().validity().not_before)
    }

    /// How many whole days are left at `now`, in seconds since 1970. Less than nothing once it has
    /// expired.
    pub(super) fn days_left(&self, now: i64) -> i64 {
        (self.not_after() - now).div_euclid(86_400)
    }

    /// Whether `other` has signed it, and may.
    fn is_issued_by(&self, other: &Self) -> bool {
        let issuer = other.parsed.tbs_certificate();
        issuer.subject() == self.parsed.tbs_certificate().issuer()
            && other.may_issue()
            && self.is_signed_by(
                &issuer.subject_public_key_info().algorithm,
                &issuer.subject_public_key_info().subject_public_key,
            )
    }

    /// Whatever does not say that it may not. Version 1 has no way to say it.
    fn may_issue(&self) -> bool {
        let own = self.parsed.tbs_certificate();
        own.version() != Version::V3
            || match own.get_extension::<BasicConstraints>() {
                Ok(Some((_, constraints))) => constraints.ca,
                Ok(None) => true,
                Err(_) => false,
            }
    }

    fn is_signed_by(&self, algorithm: &AlgorithmIdentifierOwned, key: &BitString) -> bool {
        let (Some(of_key), Some(of_signature), Some(key), Some(signature)) = (
            content(algorithm),
            content(self.parsed.signature_algorithm()),
            key.as_bytes(),
            self.parsed.signature().as_bytes(),
        ) else {
            return false;
        };
        let known = ring::default_provider().signature_verification_algorithms.all;
        known.iter().any(|algorithm| {
            *algorithm.public_key_alg_id() == *of_key
                && *algorithm.signature_alg_id() == *of_signature
                && algorithm.verify_signature(key, &self.signed, signature).is_ok()
        })
    }

    pub(super) fn details(&self, now: i64) -> CertificateDetails {
        let validity = self.parsed.tbs_certificate().validity();
        CertificateDetails {
            subject: self.subject(),
            issuer: self.issuer(),
            not_before: validity.not_before.to_string(),
            not_after: validity.not_after.to_string(),
            days_left: self.days_left(now),
        }
    }
}

/// What scripts are told of a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateDetails {
    /// Whose it is, as in RFC 4514.
    pub subject: String,
    /// Who says so.
    pub issuer: String,
    /// From when on it holds, as in RFC 3339.
    pub not_before: String,
    /// Until when.
    pub not_after: String,
    /// How many whole days are left.
    pub days_left: i64,
}

/// The certificates of `--ca`, which all others are held against.
#[derive(Clone, Debug)]
pub struct Authorities(Vec<Certificate>);

impl Authorities {
    /// Reads a file of certificates: PEM, or one in DER.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has anything but certificates.
    pub fn load(path: &Path) -> Result<Self, AuthoritiesError> {
        let error = |reason| AuthoritiesError { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(|source| error(Reason::Read(source)))?;
        Self::parse(&bytes).map_err(error)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        if let Some(certificate) = Certificate::parse(bytes) {
            return Ok(Self(vec![certificate]));
        }
        let mut certificates = Vec::new();
        for (index, pem) in CertificateDer::pem_slice_iter(bytes).enumerate() {
            let certificate = Certificate::parse(&pem.map_err(Reason::Pem)?);
            certificates.push(certificate.ok_or(Reason::Certificate(index + 1))?);
        }
        if certificates.is_empty() { Err(Reason::Empty) } else { Ok(Self(certificates)) }
    }

    /// The way from the first certificate of `chain` to one of these, both included; any others of
    /// `chain` may lie between. Names, purposes and dates are not looked at.
    pub(super) fn path<'a>(&'a self, chain: &'a [Certificate]) -> Option<Vec<&'a Certificate>> {
        let (first, mut others) = (chain.first()?, chain.get(1..)?.iter().collect::<Vec<_>>());
        let mut path = vec![first];
        loop {
            let last = path[path.len() - 1];
            if self.0.iter().any(|own| own.signed == last.signed) {
                return Some(path);
            }
            if let Some(own) = self.0.iter().find(|own| last.is_issued_by(own)) {
                path.push(own);
                return Some(path);
            }
            let next = others.iter().position(|other| last.is_issued_by(other))?;
            path.push(others.swap_remove(next));
        }
    }
}

/// Why a file is no list of certificates.
#[derive(Debug, Error)]
#[error("failed to read certificates from `{}`", path.display())]
pub struct AuthoritiesError {
    path: PathBuf,
    #[source]
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error("certificate {0} in it is not as X.509 has them")]
    Certificate(usize),
    #[error("there is none in it; write the PEM file of an authority, such as customerCA.crt")]
    Empty,
    #[error("it is not as PEM has it")]
    Pem(#[source] pem::Error),
    #[error(transparent)]
    Read(io::Error),
}

/// Now, in seconds since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn seconds(time: x509_cert::time::Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

fn text(name: &Name) -> String {
    let text = name.to_string();
    if text.is_empty() { "(no name)".into() } else { text.chars().take(LONGEST).collect() }
}

/// What stands between the braces of an algorithm, which is how rustls writes them.
fn content(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    Some(AnyRef::from_der(&der).ok()?.value().into())
}

/// How much of a name is shown, in characters.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests;
