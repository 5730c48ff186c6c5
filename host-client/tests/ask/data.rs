//! Bytes that go in and come out.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::enclave::{Enclave, Reply, done};
use crate::run::{Run, ask};

/// Encrypts by turning all bits over.
fn turning() -> Enclave {
    Enclave::new(|request| {
        let asked: Value = serde_json::from_slice(request).unwrap();
        let (action, from, to) = match asked["action"].as_str() {
            Some("encrypt") => ("encrypt", "plaintext", "ciphertext"),
            _ => ("decrypt", "ciphertext", "plaintext"),
        };
        let bytes = STANDARD.decode(asked[from].as_str().unwrap()).unwrap();
        let turned: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        Reply::Content(done(request, action, &json!({ to: STANDARD.encode(turned) })))
    })
}

fn run(enclave: &Enclave, args: &[&str], input: &[u8]) -> Vec<u8> {
    let ran = Run::new(&enclave.endpoint, &[&["--credentials", "none"], args].concat())
        .input(input)
        .wait();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    ran.stdout
}

#[test]
fn every_byte_survives_encryption_and_decryption() {
    let enclave = turning();
    let all: Vec<u8> = (0..=255).chain([b'\n', 0, b'\r', b'\n']).collect();
    let ciphertext = run(&enclave, &["encrypt", "--label", "k"], &all);
    assert!(ciphertext.is_ascii() && ciphertext.ends_with(b"\n"));
    let plaintext = run(&enclave, &["decrypt", "--label", "k"], &ciphertext);
    assert_eq!(plaintext, all);
    // As `base64` breaks lines.
    let broken: Vec<u8> = ciphertext.chunks(76).collect::<Vec<_>>().join(&b"\r\n"[..]);
    assert_eq!(run(&enclave, &["decrypt", "--label", "k"], &broken), all);
    let raw = run(&enclave, &["encrypt", "--label", "k", "--raw"], &all);
    assert_eq!(raw.len(), all.len());
    assert_eq!(run(&enclave, &["decrypt", "--label", "k", "--raw"], &raw), all);
}

#[test]
fn files_are_read_and_written() {
    let enclave = turning();
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    fs::write(path("in"), b"\x00secret\xff").unwrap();
    let (there, out, back) = (path("in"), path("out"), path("back"));
    let stdout = run(&enclave, &["encrypt", "--label", "k", "--in", &there, "--out", &out], b"");
    assert_eq!(stdout, b"");
    run(&enclave, &["decrypt", "--label", "k", "--in", &out, "--out", &back], b"");
    assert_eq!(fs::read(&back).unwrap(), b"\x00secret\xff");
    assert_eq!(fs::metadata(&back).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_authenticated_comes_from_a_text_or_a_file() {
    let enclave = turning();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("aad").display().to_string();
    fs::write(&file, [0, 255]).unwrap();
    for (args, expected) in [
        (vec![], ""),
        (vec!["--aad", "\u{e9}"], "w6k="),
        (vec!["--aad-file", file.as_str()], "AP8="),
    ] {
        run(&enclave, &[&["encrypt", "--label", "k"], &args[..]].concat(), b"x");
        assert_eq!(enclave.request()["aad"], expected);
    }
    let args = ["encrypt", "--label", "k", "--aad", "x", "--aad-file", &file];
    assert_eq!(ask(&enclave, &args).code, 2);
}

#[test]
fn signatures_are_base64_and_random_bytes_hex() {
    let signed = json!({ "signature": "AP8=", "algorithm": "hmac-sha256" });
    let enclave = Enclave::with_result("sign", signed);
    assert_eq!(run(&enclave, &["sign", "--label", "k"], b"hi"), b"AP8=\n");
    assert_eq!(enclave.request()["message"], "aGk=");
    assert_eq!(run(&enclave, &["sign", "--label", "k", "--raw"], b"hi"), [0, 255]);
    let enclave = Enclave::with_result("random", json!({ "bytes": "AP8=" }));
    assert_eq!(run(&enclave, &["random", "--bytes", "2"], b""), b"00ff\n");
    assert_eq!(enclave.request()["bytes"], 2);
    assert_eq!(run(&enclave, &["random", "--bytes", "2", "--raw"], b""), [0, 255]);
}

#[test]
fn an_attestation_document_goes_into_its_file() {
    let description = json!({ "version": "1", "uptime-seconds": 1, "hsm": { "state": "idle" },
        "nsm": { "module": "m", "version": "1", "pcrs": [], "attestation": "AAEC" } });
    let enclave = Enclave::with_result("describe", description);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("document").display().to_string();
    for json in [&[][..], &["--json"]] {
        let args = [&["describe", "--attestation", &file, "--nonce", "00ff"], json].concat();
        assert_eq!(ask(&enclave, &args).code, 0);
        let request = enclave.request();
        assert_eq!((&request["attestation"], &request["nonce"]), (&json!(true), &json!("AP8=")));
        assert_eq!(fs::read(&file).unwrap(), [0, 1, 2]);
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn what_cannot_be_read_is_not_sent() {
    let enclave = turning();
    let large = vec![b'x'; 200_000];
    for (args, input, words) in [
        (vec!["decrypt", "--label", "k"], &b"not base64!"[..], "`standard input` is not base64"),
        (vec!["encrypt", "--label", "k", "--in", "/nonexistent/x"], b"", "failed to read `/nonex"),
        (vec!["encrypt", "--label", "k"], &large[..], "more than 131072 bytes"),
        (vec!["encrypt", "--label", "k"], &large[..60_000], "the request is too large"),
    ] {
        let run = |json: &[&str]| {
            Run::new(&enclave.endpoint, &[&["--credentials", "none"], json, &args[..]].concat())
                .input(input)
                .wait()
        };
        let ran = run(&[]);
        assert_eq!((ran.code, ran.text()), (4, ""));
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
        let ran = run(&["--json"]);
        assert!(ran.json()["error"]["message"].as_str().unwrap().contains(words.trim()));
        assert_eq!(ran.code, 4);
    }
    assert_eq!(enclave.requests(), [""; 0]);
}
