use super::*;

#[test]
fn what_is_no_certificate_is_none() {
    for bytes in [&b""[..], b"\x30", b"\x30\x00", b"\x30\x03\x02\x01\x00", b"hello"] {
        assert!(Certificate::parse(bytes).is_none(), "{bytes:?}");
    }
}

#[test]
fn a_file_without_certificates_is_refused() {
    let reason = |text: &str| Authorities::parse(text.as_bytes()).unwrap_err();
    assert!(matches!(reason(""), Reason::Empty));
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(reason(key), Reason::Empty));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(reason(broken), Reason::Certificate(1)));
    assert!(matches!(reason("-----BEGIN CERTIFICATE-----\n"), Reason::Pem(_)));
}
