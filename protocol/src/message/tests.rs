use proptest::prelude::*;

use super::*;
use crate::action::{
    Action, ByLabel, Decrypt, Describe, Echo, Encrypt, KeySpec, ListKeys, Random, Sign, Verify,
};
use crate::bytes::Bytes;
use crate::encode::TooLarge;
use crate::frame::MAX_BYTES;
use crate::key::{KeyKind, Usage};
use crate::label::KeyLabel;
use crate::request::{Credentials, SecretName};

fn own(content: &str) -> Request {
    match Message::parse(content.as_bytes()) {
        Ok(Message::Own(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn rejected(content: impl AsRef<[u8]>) -> Rejected {
    Message::parse(content.as_ref()).unwrap_err()
}

#[test]
fn a_request_is_understood() {
    let request = own(
        r#"{"action":"create-key","label":"k","kind":"ec-p256","id":"7","usage":{"sign":true},"secret":{"id":"cloudhsm/cluster-x","region":"ap-southeast-1"},"credentials":{"access-key-id":"A","secret-access-key":"S","session-token":null}}"#,
    );
    assert_eq!(request.id, "7");
    let Action::CreateKey(spec) = &request.action else { panic!("{request:?}") };
    assert_eq!((spec.label.as_str(), spec.kind.name()), ("k", "ec-p256"));
    assert!(spec.usage.unwrap().sign && !spec.usage.unwrap().verify);
    assert_eq!(request.secret.unwrap().region, "ap-southeast-1");
    assert!(request.credentials.unwrap().session_token.is_none());
}

#[test]
fn what_may_be_missing_may_be_null() {
    let request = own(r#"{"id":"","action":"list-keys","credentials":null,"secret":null}"#);
    assert!(request.credentials.is_none() && request.secret.is_none());
}

#[test]
fn a_mistake_says_what_is_wrong() {
    for (content, words) in [
        (r#"{"action":"list-keys"}"#, "the member `id` is missing"),
        (r#"{"id":null,"action":"list-keys"}"#, "the member `id` is missing"),
        (
            r#"{"id":5,"action":"list-keys"}"#,
            "member `id`: invalid type: integer, expected a string",
        ),
        (r#"{"id":"\u001b","action":"list-keys"}"#, "without control characters"),
        (r#"{"id":"1"}"#, "the member `action` is missing"),
        (r#"{"id":"1","action":"list-keys","labl":"k"}"#, "no member `labl` here"),
        (r#"{"id":"1","action":"get-key","labl":"k"}"#, "no member `labl` here, but `label`"),
        (r#"{"id":"1","action":"get-key"}"#, "the member `label` is missing"),
        (r#"{"id":"1","action":"get-key","label":""}"#, "member `label`: the label is empty"),
        (r#"{"id":"1","action":"get-key","label":"a\u0000b"}"#, r"this one has `\u{0}`"),
        (r#"{"id":"1","action":"get-key","label":["k"]}"#, "`label`: invalid type: sequence"),
        (
            r#"{"id":"1","action":"get-key","label":"k","label":"k"}"#,
            "more than one member `label`",
        ),
        (r#"{"id":"1","action":"random","bytes":0}"#, "`bytes`: 1 to 1024"),
        (
            r#"{"id":"1","action":"random","bytes":-1}"#,
            "`bytes`: invalid value: integer, expected u16",
        ),
        (
            r#"{"id":"1","action":"create-key","label":"k","kind":"des"}"#,
            "unknown variant `des`, expected one of",
        ),
        (
            r#"{"id":"1","action":"list-keys","secret":{"id":"x","region":"evil.example/"}}"#,
            "a region is a name such as",
        ),
        (
            r#"{"id":"1","action":"list-keys","secret":{"id":"","region":"r"}}"#,
            "the id of a secret",
        ),
        (r#"{"id":"1","action":"list-keys"} "#, ""),
        (r#"{"id":"1","action":"list-keys"}x"#, "trailing characters"),
        (r#"{"id":"1","action":"list-keys""#, "EOF while parsing"),
        (r#"[{"id":"1"}]"#, "invalid type: sequence, expected an object"),
        ("null", "invalid type: null, expected an object"),
        ("5", "invalid type: integer, expected an object"),
        (" ", "EOF while parsing"),
        ("\u{feff}{}", "expected value at line 1 column 1"),
    ] {
        match Message::parse(content.as_bytes()) {
            Ok(_) => assert_eq!(words, "", "{content}"),
            Err(Rejected { form, failure, .. }) => {
                assert_eq!((form, failure.code), (Form::Own, Code::InvalidRequest), "{content}");
                assert!(
                    failure.message.contains(words) && !words.is_empty(),
                    "{}",
                    failure.message
                );
                assert!(!failure.retryable);
            }
        }
    }
}

#[test]
fn an_unknown_action_has_a_code_of_its_own() {
    let Rejected { id, failure, .. } = rejected(r#"{"id":"9","action":"Create-key","x":1}"#);
    assert_eq!((id.as_deref(), failure.code), (Some("9"), Code::UnknownAction));
    assert!(failure.message.starts_with("there is no action `Create-key`, but `create-key`"));
}

#[test]
fn the_id_is_known_as_soon_as_it_was_read() {
    for content in [
        r#"{"id":"1","action":"echo","message":"x"}}"#,
        r#"{"id":"1","action":"echo","#,
        r#"{"id":"1","id":"2"}"#,
    ] {
        assert_eq!(rejected(content).id.as_deref(), Some("1"), "{content}");
    }
    assert_eq!(rejected(r#"{"action":"echo","id":"1\n"}"#).id, None);
    let long = format!(r#"{{"id":"{}","action":"list-keys"}}"#, "x".repeat(129));
    assert_eq!(rejected(long).id, None);
}

#[test]
fn the_form_is_known_as_soon_as_it_was_read() {
    let Rejected { form, failure, .. } = rejected(r#"{"action":"ECHO","data":{"value":"x"},"#);
    assert_eq!(form, Form::Seed { action: Some("ECHO".into()) });
    assert_eq!(failure.code, Code::InvalidRequest);
    let Rejected { form, .. } = rejected(r#"{"id":"1","aws-credentials":null}"#);
    assert_eq!(form, Form::Seed { action: None });
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let Rejected { failure, .. } =
        rejected(b"{\"id\":\"1\",\"action\":\"echo\",\"message\":\"\xff\"}");
    assert!(failure.message.contains("not UTF-8 from byte 37 on"), "{}", failure.message);
}

#[test]
fn depth_does_no_harm() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), ("[", "")] {
        let deep = open.repeat(MAX_BYTES / open.len() / 3 - 20) + "1";
        let deep = deep + &close.repeat(MAX_BYTES / open.len() / 3 - 20);
        for content in [
            deep.clone(),
            format!(r#"{{"id":"1","action":"echo","message":{deep}}}"#),
            format!(r#"{{"id":"1","action":"echo","message":"x","y":{deep}}}"#),
            format!(r#"{{"id":"1","action":"list-keys","credentials":{deep}}}"#),
            format!(r#"{{"id":"1","action":"list-keys","credentials":{{"x":{deep}}}}}"#),
        ] {
            assert_eq!(rejected(content).failure.code, Code::InvalidRequest);
        }
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    for members in [
        r#""credentials":"canary""#,
        r#""credentials":["canary"]"#,
        r#""credentials":{"access-key-id":{"x":"canary"}}"#,
        r#""credentials":{"access-key-id":"A","secret-access-key":["canary"]}"#,
        r#""plaintext":"canary!""#,
        r#""plaintext":["canary"]"#,
        r#""plaintext":"AAAA","label":"canary\u0000""#,
        r#""id":"canary""#,
    ] {
        let content = format!(r#"{{"id":"1","action":"encrypt",{members}}}"#);
        let Rejected { failure, .. } = rejected(content);
        assert!(!failure.message.contains("canary"), "{}", failure.message);
    }
}

#[test]
fn every_request_comes_back_as_it_was_written() {
    let label = || "k".parse::<KeyLabel>().unwrap();
    let spec = |usage| KeySpec { label: label(), kind: KeyKind::Hmac256, usage };
    let bytes = || Bytes::from(vec![0, 1, 255]);
    let actions = [
        Action::CreateKey(spec(None)),
        Action::Decrypt(Decrypt { label: label(), ciphertext: bytes(), aad: bytes() }),
        Action::DeleteKey(ByLabel { label: label() }),
        Action::Describe(Describe { attestation: true, nonce: Some(vec![0; 512].into()) }),
        Action::Echo(Echo { message: "\u{1}\"\\\u{e9}".into() }),
        Action::Encrypt(Encrypt { label: label(), plaintext: bytes(), aad: Bytes::default() }),
        Action::GetKey(ByLabel { label: label() }),
        Action::ListKeys(ListKeys {}),
        Action::Random(Random { bytes: 1024 }),
        Action::Sign(Sign { label: label(), message: bytes() }),
        Action::Verify(Verify { label: label(), message: bytes(), signature: bytes() }),
        Action::CreateKey(spec(Some(Usage { wrap: true, ..Usage::default() }))),
    ];
    assert!(actions.iter().map(Action::name).zip(Action::NAMES).all(|(a, b)| a == b));
    let credentials = Credentials {
        access_key_id: "A".to_owned().into(),
        secret_access_key: "S\"".to_owned().into(),
        session_token: Some("T".to_owned().into()),
    };
    let secret = SecretName { id: "s".into(), region: "us-east-1".into() };
    for action in actions {
        let request = Request {
            id: "1".into(),
            action,
            credentials: Some(credentials.clone()),
            secret: Some(secret.clone()),
        };
        let content = request.encode().unwrap();
        assert_eq!(Message::parse(&content), Ok(Message::Own(request)));
    }
}

#[test]
fn a_request_that_does_not_fit_is_not_written() {
    let action = Action::Echo(Echo { message: "x".repeat(MAX_BYTES) });
    let request = Request { id: "1".into(), action, credentials: None, secret: None };
    assert_eq!(request.encode(), Err(TooLarge));
}

/// JSON that looks like a request here and there.
fn json() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("id"),
        Just("action"),
        Just("data"),
        Just("value"),
        Just("credentials"),
        Just("secret"),
        Just("label"),
        Just("plaintext"),
        Just("usage"),
        Just("bytes"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        ".{0,10}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        prop::sample::select(&Action::NAMES[..]).prop_map(|name| format!("\"{name}\"")),
        prop_oneof![Just("\"ECHO\""), Just("\"CLOUDHSM\"")].prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        let member =
            (name.clone(), inner.clone()).prop_map(|(name, value)| format!("\"{name}\":{value}"));
        prop_oneof![
            prop::collection::vec(member, 0..8)
                .prop_map(|members| format!("{{{}}}", members.join(","))),
            prop::collection::vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::parse(&content);
    }

    #[test]
    fn any_json_is_understood_or_refused_in_few_words(content in json()) {
        if let Err(rejected) = Message::parse(content.as_bytes()) {
            prop_assert!(rejected.failure.message.len() < 2000);
            prop_assert!(!rejected.failure.message.contains(char::is_control));
        }
    }
}
