//! AES-GCM. p11-kit does not carry it.

use protocol::action::{Action, Decrypt, Encrypt, Outcome};
use protocol::answer::Code;
use protocol::bytes::Bytes;
use protocol::key::{KeyKind, Usage};

use crate::lab::{Leg, Tokens, Worker, random};

crate::tests![
    a_ciphertext_that_was_changed_anywhere_is_not_decrypted,
    a_ciphertext_has_twelve_bytes_in_front_and_sixteen_behind,
    a_key_that_may_not_encrypt_or_is_no_aes_key_is_not_used_so,
    another_key_or_other_associated_data_does_not_decrypt,
    nothing_is_a_plaintext_too,
    two_hundred_plaintexts_come_back,
];

fn two_hundred_plaintexts_come_back(_: Leg) {
    let tokens = Tokens::new(Leg::Local);
    let mut worker = Worker::ready(&tokens);
    let kinds = [KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256];
    for kind in kinds {
        worker.create(kind.name(), kind).unwrap();
    }
    for round in 0..200_usize {
        let length = match round {
            0 => LARGEST,
            1 => 1,
            2 => 16_224,
            _ => usize::from(u16::from_le_bytes(random(&mut worker, 2).try_into().unwrap())) % 3000,
        };
        let plaintext: Vec<u8> =
            random(&mut worker, 1024).into_iter().cycle().take(length).collect();
        let aad = random(&mut worker, 1 + u16::try_from(round).unwrap());
        let label = kinds[round % 3].name();
        let ciphertext = encrypt(&mut worker, label, &plaintext, &aad).unwrap();
        assert_eq!(decrypt(&mut worker, label, &ciphertext, &aad).unwrap(), plaintext);
    }
}

fn a_ciphertext_has_twelve_bytes_in_front_and_sixteen_behind(_: Leg) {
    let tokens = Tokens::new(Leg::Local);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::Aes256).unwrap();
    let [first, second] = [(); 2].map(|()| encrypt(&mut worker, "k", b"message", b"").unwrap());
    assert_eq!(first.len(), 12 + 7 + 16);
    assert_ne!(first[..12], second[..12]);
    assert_ne!(first[12..19], second[12..19]);
}

fn nothing_is_a_plaintext_too(_: Leg) {
    let tokens = Tokens::new(Leg::Local);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::Aes256).unwrap();
    for (plaintext, aad) in [(&b""[..], &b""[..]), (b"", b"aad"), (b"plain", b"")] {
        let ciphertext = encrypt(&mut worker, "k", plaintext, aad).unwrap();
        assert_eq!(ciphertext.len(), 12 + plaintext.len() + 16);
        assert_eq!(decrypt(&mut worker, "k", &ciphertext, aad).unwrap(), plaintext);
        assert_eq!(decrypt(&mut worker, "k", &ciphertext, b"x"), Err(Code::NotAuthentic));
    }
}

fn a_ciphertext_that_was_changed_anywhere_is_not_decrypted(_: Leg) {
    let tokens = Tokens::new(Leg::Local);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::Aes256).unwrap();
    for plaintext in [&b"attack at dawn"[..], b""] {
        let ciphertext = encrypt(&mut worker, "k", plaintext, b"aad").unwrap();
        for index in 0..ciphertext.len() {
            let mut changed = ciphertext.clone();
            changed[index] ^= 1;
            let result = decrypt(&mut worker, "k", &changed, b"aad");
            assert_eq!(result, Err(Code::NotAuthentic), "byte {index}");
        }
        for length in 0..ciphertext.len() {
            let result = decrypt(&mut worker, "k", &ciphertext[..length], b"aad");
            assert_eq!(result, Err(Code::NotAuthentic), "{length} bytes");
        }
        // All sessions are still good.
        for _ in 0..6 {
            assert_eq!(decrypt(&mut worker, "k", &ciphertext, b"aad").unwrap(), plaintext);
        }
    }
}

fn another_key_or_other_associated_data_does_not_decrypt(_: Leg) {
    let tokens = Tokens::new(Leg::Local);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::Aes256).unwrap();
    worker.create("other", KeyKind::Aes256).unwrap();
    let ciphertext = encrypt(&mut worker, "k", b"message", b"aad").unwrap();
    assert_eq!(decrypt(&mut worker, "other", &ciphertext, b"aad"), Err(Code::NotAuthentic));
    for aad in [&b""[..], b"aa", b"aae", b"aada"] {
        assert_eq!(decrypt(&mut worker, "k", &ciphertext, aad), Err(Code::NotAuthentic));
    }
    assert_eq!(decrypt(&mut worker, "none", &ciphertext, b"aad"), Err(Code::NotFound));
}

fn a_key_that_may_not_encrypt_or_is_no_aes_key_is_not_used_so(_: Leg) {
    let tokens = Tokens::new(Leg::Local);
    let mut worker = Worker::ready(&tokens);
    let only = |usage| Some(Usage { ..usage });
    let encrypts = Usage { encrypt: true, ..Usage::default() };
    let decrypts = Usage { decrypt: true, ..Usage::default() };
    worker.create_with("encrypts", KeyKind::Aes256, only(encrypts)).unwrap();
    worker.create_with("decrypts", KeyKind::Aes256, only(decrypts)).unwrap();
    worker.create("hmac", KeyKind::Hmac256).unwrap();
    worker.create("pair", KeyKind::EcP256).unwrap();
    for label in ["decrypts", "hmac", "pair"] {
        assert_eq!(encrypt(&mut worker, label, b"message", b""), Err(Code::NotPermitted));
    }
    let ciphertext = encrypt(&mut worker, "encrypts", b"message", b"").unwrap();
    for label in ["encrypts", "hmac", "pair"] {
        assert_eq!(decrypt(&mut worker, label, &ciphertext, b""), Err(Code::NotPermitted));
    }
}

fn encrypt(
    worker: &mut Worker,
    label: &str,
    plaintext: &[u8],
    aad: &[u8],
) -> Result<Vec<u8>, Code> {
    let [plaintext, aad] = [plaintext, aad].map(|bytes| Bytes::from(bytes.to_vec()));
    let encrypt = Encrypt { label: label.parse().unwrap(), plaintext, aad };
    match worker.act(Action::Encrypt(encrypt)) {
        Ok(Outcome::Encrypt(encrypted)) => Ok(encrypted.ciphertext.as_slice().to_vec()),
        Ok(other) => panic!("{other:?}"),
        Err(fault) => Err(fault.failure.code),
    }
}

fn decrypt(
    worker: &mut Worker,
    label: &str,
    ciphertext: &[u8],
    aad: &[u8],
) -> Result<Vec<u8>, Code> {
    let [ciphertext, aad] = [ciphertext, aad].map(|bytes| Bytes::from(bytes.to_vec()));
    let decrypt = Decrypt { label: label.parse().unwrap(), ciphertext, aad };
    match worker.act(Action::Decrypt(decrypt)) {
        Ok(Outcome::Decrypt(decrypted)) => Ok(decrypted.plaintext.as_slice().to_vec()),
        Ok(other) => panic!("{other:?}"),
        Err(fault) => Err(fault.failure.code),
    }
}

/// What fits into a request as base64, with something to spare.
const LARGEST: usize = 47 * 1024;
