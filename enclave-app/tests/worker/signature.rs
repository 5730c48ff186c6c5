//! HMAC and ECDSA.

use std::process::Command;

use protocol::action::{Action, Algorithm, Outcome, Sign};
use protocol::answer::Code;
use protocol::key::{KeyKind, Usage};

use crate::lab::{Leg, Tokens, Worker, random, signed, valid};

crate::tests![
    a_key_that_may_not_sign_or_verify_does_not,
    a_pairs_signature_convinces_openssl,
    a_signature_is_one_of_its_message_only,
    what_is_no_signature_is_not_valid,
];

fn a_signature_is_one_of_its_message_only(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for (kind, length) in [(KeyKind::Hmac256, 32), (KeyKind::EcP256, 64)] {
        worker.create(kind.name(), kind).unwrap();
        worker.create("other", kind).unwrap();
        for message in [&b""[..], b"message", &[7; 16_000]] {
            let signature = signed(&mut worker, kind.name(), message);
            assert_eq!(signature.as_slice().len(), length);
            assert!(valid(&mut worker, kind.name(), message, &signature));
            assert!(!valid(&mut worker, kind.name(), b"another", &signature));
            assert!(!valid(&mut worker, "other", message, &signature));
        }
        worker.act(Action::DeleteKey(crate::lab::by("other"))).unwrap();
    }
}

fn what_is_no_signature_is_not_valid(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for kind in [KeyKind::Hmac256, KeyKind::EcP256] {
        worker.create("k", kind).unwrap();
        let signature = signed(&mut worker, "k", b"message").as_slice().to_vec();
        for index in 0..signature.len() {
            let mut changed = signature.clone();
            changed[index] ^= 0x80;
            assert!(!valid(&mut worker, "k", b"message", &changed.into()), "byte {index}");
        }
        let mut others: Vec<_> =
            [0, 1, 31, 32, 33, 63, 64, 65, 128, 1024].map(|length| vec![0; length]).into();
        others.extend([vec![0xff; 64], vec![0xff; 32], random(&mut worker, 64)]);
        for other in others {
            assert!(!valid(&mut worker, "k", b"message", &other.into()));
        }
        assert!(valid(&mut worker, "k", b"message", &signature.into()));
        worker.act(Action::DeleteKey(crate::lab::by("k"))).unwrap();
    }
}

fn a_key_that_may_not_sign_or_verify_does_not(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    let signs = Usage { sign: true, ..Usage::default() };
    let verifies = Usage { verify: true, ..Usage::default() };
    for kind in [KeyKind::Hmac256, KeyKind::EcP256] {
        let [signer, verifier] =
            ["signer", "verifier"].map(|name| format!("{name}-{}", kind.name()));
        worker.create_with(&signer, kind, Some(signs)).unwrap();
        worker.create_with(&verifier, kind, Some(verifies)).unwrap();
        let signature = signed(&mut worker, &signer, b"message");
        assert_eq!(sign(&mut worker, &verifier), Err(Code::NotPermitted));
        let verify = protocol::action::Verify {
            label: signer.parse().unwrap(),
            message: b"message".to_vec().into(),
            signature: signature.clone(),
        };
        assert_eq!(worker.refusal(Action::Verify(verify)), Code::NotPermitted);
        assert!(!valid(&mut worker, &verifier, b"message", &signature));
    }
    let all =
        Usage { encrypt: true, decrypt: true, sign: true, verify: true, wrap: true, unwrap: true };
    worker.create_with("aes", KeyKind::Aes256, Some(all)).unwrap();
    assert_eq!(sign(&mut worker, "aes"), Err(Code::NotPermitted));
    assert_eq!(sign(&mut worker, "none"), Err(Code::NotFound));
}

fn a_pairs_signature_convinces_openssl(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::EcP256).unwrap();
    let signature = signed(&mut worker, "k", b"message");
    let directory = tempfile::TempDir::new().unwrap();
    let [key, message, der] = ["key.der", "message", "signature"].map(|n| directory.path().join(n));
    let read = ["--read-object", "--type", "pubkey", "--label", "k", "--output-file"];
    tokens.tool(&[&read[..], &[key.to_str().unwrap()]].concat());
    std::fs::write(&message, b"message").unwrap();
    std::fs::write(&der, sequence(signature.as_slice())).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-keyform", "DER", "-verify"]).arg(key);
    let output = openssl.arg("-signature").arg(der).arg(message).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The two numbers as DER has them (RFC 3279 section 2.2.3).
fn sequence(signature: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    for number in signature.chunks(32) {
        let start = number.iter().position(|byte| *byte != 0).unwrap();
        let mut digits = number[start..].to_vec();
        if digits[0] >= 0x80 {
            digits.insert(0, 0);
        }
        content.extend([2, u8::try_from(digits.len()).unwrap()]);
        content.extend(digits);
    }
    [&[0x30, u8::try_from(content.len()).unwrap()][..], &content].concat()
}

fn sign(worker: &mut Worker, label: &str) -> Result<Algorithm, Code> {
    let sign = Sign { label: label.parse().unwrap(), message: b"message".to_vec().into() };
    match worker.act(Action::Sign(sign)) {
        Ok(Outcome::Sign(signed)) => Ok(signed.algorithm),
        Ok(other) => panic!("{other:?}"),
        Err(fault) => Err(fault.failure.code),
    }
}
