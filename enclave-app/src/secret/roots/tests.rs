use std::fs;

use tempfile::TempDir;

use super::*;

/// What comes of a bundle with this text.
fn load(text: impl AsRef<[u8]>) -> Result<Roots, RootsError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("bundle.pem");
    fs::write(&path, text).unwrap();
    Roots::load(Some(&path))
}

/// A certificate, as PEM.
fn certificate() -> String {
    let mut text = String::new();
    encode(&mut text, &TLS_SERVER_ROOT_CERTS[0]);
    text
}

#[test]
fn without_a_bundle_there_are_mozillas() {
    assert!(Roots::load(None).unwrap().count > 100);
}

#[test]
fn the_compiled_in_certificates_can_be_used_one_and_all() {
    let mut store = RootCertStore::empty();
    for certificate in TLS_SERVER_ROOT_CERTS {
        store.add(certificate.clone()).unwrap();
    }
}

#[test]
fn a_bundle_comes_in_addition() {
    let alone = Roots::load(None).unwrap().count;
    let text = format!("# A comment.\n{}\n{}", certificate(), certificate());
    assert_eq!(load(text).unwrap().count, alone + 2);
}

#[test]
fn a_bundle_without_a_certificate_is_refused() {
    for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        assert!(matches!(load(text), Err(RootsError::Empty { .. })), "{text}");
    }
    assert!(matches!(load([0xff, 0, 0xff]), Err(RootsError::Empty { .. })));
}

#[test]
fn a_bad_certificate_is_named() {
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = load(certificate() + garbage).unwrap_err();
    assert!(matches!(error, RootsError::Invalid { number: 2, .. }), "{error:?}");

    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let error = load(broken.to_owned() + &certificate()).unwrap_err();
    assert!(matches!(error, RootsError::Pem { number: 1, .. }), "{error:?}");

    let cut = certificate().replace("-----END CERTIFICATE-----", "");
    assert!(matches!(load(cut), Err(RootsError::Pem { number: 1, .. })));
}

#[test]
fn a_bundle_that_is_not_there_is_named() {
    let error = Roots::load(Some(Path::new("/nonexistent/ca.pem"))).unwrap_err();
    assert_eq!(error.to_string(), "failed to read `/nonexistent/ca.pem`");
}

#[test]
fn what_is_too_large_for_a_bundle_is_not_read_to_its_end() {
    assert!(matches!(Roots::load(Some(Path::new("/dev/zero"))), Err(RootsError::Size { .. })));
}
