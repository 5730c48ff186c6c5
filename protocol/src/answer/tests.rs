use super::*;
use crate::action::*;
use crate::key::{Key, KeyKind, Usage};

fn key() -> Key {
    Key {
        label: "a \"k\"\u{7}".into(),
        kind: Some(KeyKind::EcP256),
        id: "0f".into(),
        usage: Usage { sign: true, verify: true, ..Usage::default() },
        extractable: false,
        sensitive: true,
    }
}

fn description() -> Description {
    Description {
        version: "0.1.0".into(),
        uptime_seconds: 5,
        hsm: HsmDescription::Unavailable { reason: "no answer".into() },
        secret: Some(SecretDescription { id: "s".into(), version: "v".into() }),
        nsm: Some(NsmDescription {
            module: "i-0-enc0".into(),
            version: "1.0.0".into(),
            pcrs: vec![Pcr { index: 0, value: "00".into(), locked: true }],
            attestation: Some(vec![1, 2].into()),
        }),
    }
}

fn outcomes() -> Vec<Outcome> {
    let signed = Signed { signature: vec![9; 32].into(), algorithm: Algorithm::HmacSha256 };
    vec![
        Outcome::CreateKey(Created { created: true, key: key() }),
        Outcome::Decrypt(Decrypted { plaintext: vec![0, 255].into() }),
        Outcome::DeleteKey(Deleted { label: "k".parse().unwrap() }),
        Outcome::Describe(Box::new(description())),
        Outcome::Echo(Echo { message: "\u{0}".into() }),
        Outcome::Encrypt(Encrypted { ciphertext: vec![7; 28].into() }),
        Outcome::GetKey(Key { kind: None, ..key() }),
        Outcome::ListKeys(Listed { keys: vec![key()], truncated: true }),
        Outcome::Random(Randomized { bytes: vec![1].into() }),
        Outcome::Sign(signed),
        Outcome::Verify(Verified { valid: false }),
    ]
}

#[test]
fn every_answer_comes_back_as_it_was_written() {
    assert_eq!(outcomes().len(), Action::NAMES.len());
    for (outcome, name) in outcomes().into_iter().zip(Action::NAMES) {
        assert_eq!(outcome.name(), name);
        let answer =
            Answer { id: Some("1".into()), body: Body::Done(outcome), duration_ms: u64::MAX };
        let content = answer.encode();
        let text = str::from_utf8(&content).unwrap();
        assert!(
            text.starts_with(&format!(r#"{{"id":"1","action":"{name}","result":{{"#)),
            "{text}"
        );
        assert_eq!(Answer::parse(&content), Ok(answer), "{text}");
    }
}

#[test]
fn every_failure_comes_back_as_it_was_written() {
    for code in Code::ALL {
        let error = Failure::new(code, "because\n");
        let answer = Answer { id: None, body: Body::Failed { error }, duration_ms: 0 };
        let content = answer.encode();
        let text = str::from_utf8(&content).unwrap();
        let expected = format!(
            r#"{{"id":null,"error":{{"code":"{code}","message":"because\n","retryable":{}}},"duration-ms":0}}"#,
            code.is_retryable()
        );
        assert_eq!(text, expected);
        assert_eq!(Answer::parse(&content), Ok(answer));
    }
}

#[test]
fn an_answer_that_does_not_fit_says_so() {
    let echo = Outcome::Echo(Echo { message: "x".repeat(MAX_BYTES) });
    for (id, expected) in [("1".to_owned(), Some("1")), ("x".repeat(MAX_BYTES), None)] {
        let answer = Answer { id: Some(id), body: Body::Done(echo.clone()), duration_ms: 3 };
        let answer = Answer::parse(&answer.encode()).unwrap();
        assert_eq!((answer.id.as_deref(), answer.duration_ms), (expected, 3));
        let Body::Failed { error } = answer.body else { panic!("{answer:?}") };
        assert_eq!((error.code, error.retryable), (Code::TooLarge, false));
    }
}

#[test]
fn the_largest_answer_fits() {
    let echo = |n: usize| {
        let body = Body::Done(Outcome::Echo(Echo { message: "x".repeat(n) }));
        Answer { id: None, body, duration_ms: 0 }
    };
    let rest = echo(0).encode().len();
    assert_eq!(echo(MAX_BYTES - rest).encode().len(), MAX_BYTES);
    assert!(echo(MAX_BYTES - rest + 1).encode().len() < 200);
}

#[test]
fn members_that_are_not_known_are_ignored() {
    let answer = Answer::parse(
        br#"{"new":[1],"result":{"valid":true,"new":1},"duration-ms":1,"action":"verify","id":"1"}"#,
    )
    .unwrap();
    assert_eq!(answer.body, Body::Done(Outcome::Verify(Verified { valid: true })));
}

#[test]
fn what_is_no_answer_says_why() {
    for (content, words) in [
        (r#"{"id":"1","duration-ms":1}"#, "the member `action` is missing"),
        (r#"{"id":"1","action":"verify","duration-ms":1}"#, "the member `result` is missing"),
        (r#"{"id":"1","action":"verify","result":{"valid":true}}"#, "`duration-ms` is missing"),
        (r#"{"id":"1","action":"brew","result":{},"duration-ms":1}"#, "unknown variant `brew`"),
        (
            r#"{"id":"1","action":"decrypt","result":{"plaintext":["canary"]},"duration-ms":1}"#,
            "member `result`: invalid type: sequence, expected a string",
        ),
        (r#"{"id":"1","error":{"code":"odd"},"duration-ms":1}"#, "unknown variant `odd`"),
        ("<html>", "expected value at line 1 column 1"),
    ] {
        let error = Answer::parse(content.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{content}: {error}");
    }
}
