//! Requests, written briefly.

use std::time::{Duration, Instant};

use enclave_app::hsm::Hsm;
use protocol::action::{
    Action, ByLabel, Decrypt, Encrypt, KeySpec, ListKeys, Outcome, Random, Sign, Verify,
};
use protocol::answer::{Code, Failure};
use protocol::bytes::Bytes;
use protocol::key::KeyKind;

use crate::source::Source;

pub(crate) fn create(label: &str, kind: KeyKind) -> Action {
    Action::CreateKey(KeySpec { label: label.parse().unwrap(), kind, usage: None })
}

pub(crate) fn delete(label: &str) -> Action {
    Action::DeleteKey(by(label))
}

pub(crate) fn key(label: &str) -> Action {
    Action::GetKey(by(label))
}

pub(crate) fn random() -> Action {
    Action::Random(Random { bytes: 16 })
}

fn by(label: &str) -> ByLabel {
    ByLabel { label: label.parse().unwrap() }
}

/// Sends a request and says how it went, if an answer has come in time and is sensible.
pub(crate) async fn send(hsm: &Hsm, pins: &Source, action: Action) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let result = hsm.execute(action.clone(), pins).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{action:?}: {result:?}");
    if let Err(failure) = &result {
        assert_ne!(failure.code, Code::Internal, "{action:?}: {failure:?}");
        assert!(!failure.message.is_empty() && !failure.message.contains('\n'), "{failure:?}");
    }
    result
}

/// Everything that a client can ask, with keys of its own.
pub(crate) async fn everything(hsm: &Hsm, pins: &Source, name: &str) -> Vec<Failure> {
    let label = |kind: KeyKind| format!("{name} {}", kind.name());
    let mut failures = Vec::new();
    let mut keep = |result: Result<Outcome, Failure>| match result {
        Ok(outcome) => Some(outcome),
        Err(failure) => {
            failures.push(failure);
            None
        }
    };
    let (aes, ec, hmac) = (label(KeyKind::Aes256), label(KeyKind::EcP256), label(KeyKind::Hmac256));
    let kinds = [(&aes, KeyKind::Aes256), (&ec, KeyKind::EcP256), (&hmac, KeyKind::Hmac256)];
    for (label, kind) in kinds {
        keep(send(hsm, pins, create(label, kind)).await);
        keep(send(hsm, pins, key(label)).await);
    }
    keep(send(hsm, pins, Action::ListKeys(ListKeys {})).await);
    keep(send(hsm, pins, random()).await);
    let message = Bytes::from(b"message".to_vec());
    let key = |label: &str| label.parse().unwrap();
    let encrypt = Encrypt { label: key(&aes), plaintext: message.clone(), aad: Bytes::default() };
    let encrypted = keep(send(hsm, pins, Action::Encrypt(encrypt)).await);
    if let Some(Outcome::Encrypt(encrypted)) = encrypted {
        let ciphertext = encrypted.ciphertext;
        let decrypt = Decrypt { label: key(&aes), ciphertext, aad: Bytes::default() };
        if let Some(decrypted) = keep(send(hsm, pins, Action::Decrypt(decrypt)).await) {
            assert!(matches!(decrypted, Outcome::Decrypt(d) if d.plaintext == message));
        }
    }
    for label in [&ec, &hmac] {
        let sign = Sign { label: key(label), message: message.clone() };
        let Some(Outcome::Sign(signed)) = keep(send(hsm, pins, Action::Sign(sign)).await) else {
            continue;
        };
        let (label, message) = (key(label), message.clone());
        let verify = Verify { label, message, signature: signed.signature };
        if let Some(verified) = keep(send(hsm, pins, Action::Verify(verify)).await) {
            assert!(matches!(verified, Outcome::Verify(v) if v.valid));
        }
    }
    for label in [&aes, &ec, &hmac] {
        keep(send(hsm, pins, delete(label)).await);
    }
    failures
}
