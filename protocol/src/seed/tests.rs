use std::time::{Duration, SystemTime};

use super::*;
use crate::label::KeyLabel;
use crate::message::{Form, Message};
use crate::request::Credentials;

/// 2022-06-01T08:30:00.123Z
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_654_072_200_123)
}

fn text(content: &[u8]) -> &str {
    str::from_utf8(content).unwrap()
}

fn parsed(content: &str) -> Request {
    match Message::parse(content.as_bytes()) {
        Ok(Message::Seed(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn credentials() -> Credentials {
    Credentials {
        access_key_id: "ASIAEXAMPLE".to_owned().into(),
        secret_access_key: "wJalr/XUtn+FEMI".to_owned().into(),
        session_token: Some("IQoJb3JpZ2luX2Vj==".to_owned().into()),
    }
}

const JAVA_REQUEST: &str = r#"{"id":"0b9e0b3c-43a5-4e0b-9b59-0d6f3d1a2c4e","action":"CLOUDHSM","data":{"@modelClass":"com.github.qyzhangaws.cloudhsm.model.MyPojoData","value":"{\"AK\":\"ASIAEXAMPLE\",\"SK\":\"wJalr/XUtn+FEMI\",\"ST\":\"IQoJb3JpZ2luX2Vj==\",\"KEY_MODE\":\"CREATE_KEY\",\"KEY_TYPE\":\"AES\",\"KEY_LABEL\":\"nitro-enclave-1\"}"},"aws-credentials":null}"#;

fn with_value(value: &str) -> String {
    let value = serde_json::to_string(value).unwrap();
    format!(r#"{{"action":"CLOUDHSM","data":{{"value":{value}}}}}"#)
}

#[test]
fn the_request_of_the_java_client_is_understood() {
    let request = parsed(JAVA_REQUEST);
    assert_eq!(request.id.as_deref(), Some("0b9e0b3c-43a5-4e0b-9b59-0d6f3d1a2c4e"));
    assert_eq!(request.action, "CLOUDHSM");
    let label = "nitro-enclave-1".parse().unwrap();
    assert_eq!(request.wish, Wish::CreateKey { label, credentials: Some(credentials()) });
}

#[test]
fn the_request_of_the_java_client_is_written_to_the_byte() {
    let order = Order::CloudHsm {
        mode: KeyMode::CreateKey,
        label: "nitro-enclave-1".parse().unwrap(),
        credentials: Some(credentials()),
    };
    let content = order.encode("0b9e0b3c-43a5-4e0b-9b59-0d6f3d1a2c4e").unwrap();
    assert_eq!(text(&content), JAVA_REQUEST);
}

#[test]
fn credentials_that_are_empty_are_none() {
    let label: KeyLabel = "k".parse().unwrap();
    let order =
        Order::CloudHsm { mode: KeyMode::CreateKey, label: label.clone(), credentials: None };
    let content = order.encode("1").unwrap();
    assert!(text(&content).contains(r#"\"AK\":\"\",\"SK\":\"\",\"ST\":\"\""#));
    let request = parsed(text(&content));
    assert_eq!(request.wish, Wish::CreateKey { label, credentials: None });
}

#[test]
fn the_answer_to_a_created_key_has_201_bytes() {
    let content = Answer::reply("CLOUDHSM", Reply::Created, 1234).encode(start());
    assert_eq!(
        text(&content),
        r#"{"action":"CLOUDHSM","data":{"@modelClass":"com.github.qyzhangaws.cloudhsm.model.MyPojoDataResult","value":"Info: Key created!"},"start-date":"2022-06-01T08:30:00.123Z","duration":1234,"isError":false}"#
    );
    assert_eq!(content.len(), 201);
}

#[test]
fn milliseconds_are_written_where_there_are_none() {
    let content = Answer::reply("CLOUDHSM", Reply::Created, 1234)
        .encode(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    assert!(text(&content).contains(r#""1970-01-01T00:00:01.000Z""#), "{}", text(&content));
    assert_eq!(content.len(), 201);
}

#[test]
fn letter_case_does_not_matter_and_comes_back_as_it_was() {
    let request = parsed(
        r#"{"id":null,"action":"cloudHsm","data":{"value":"{\"AK\":\"a\",\"SK\":\"s\",\"KEY_MODE\":\"Create_Key\",\"KEY_TYPE\":\"aes\",\"KEY_LABEL\":\"k\"}"}}"#,
    );
    assert_eq!((request.id, request.action.as_str()), (None, "cloudHsm"));
    assert!(matches!(request.wish, Wish::CreateKey { .. }));
    let request = parsed(
        r#"{"action":"eCho","data":{"@modelClass":"java.lang.Runtime","value":"hi","x":[]},"y":{}}"#,
    );
    assert_eq!(request.wish, Wish::Echo("hi".into()));
}

#[test]
fn what_the_original_does_not_do_gets_its_words() {
    for (mode, kind, reply) in [
        ("get_key", "AES", Reply::NotImplemented),
        ("DELETE_KEY", "RSA", Reply::NotImplemented),
        ("CREATE_KEY", "RSA", Reply::OnlyAes),
        ("MAKE_KEY", "AES", Reply::InvalidKeyMode),
    ] {
        let job = format!(r#"{{"AK":"","SK":"","ST":"","KEY_MODE":"{mode}","KEY_TYPE":"{kind}"}}"#);
        assert_eq!(parsed(&with_value(&job)).wish, Wish::Hear(reply), "{mode} {kind}");
    }
}

#[test]
fn a_mistake_is_answered_in_the_form_of_the_seed() {
    for (content, action, words) in [
        (r#"{"id":"1","action":"PING","data":{"value":""}}"#.into(), "PING", "no action `PING`"),
        (r#"{"id":"1","action":"ECHO","data":null}"#.into(), "ECHO", "`data` is missing"),
        (with_value("{"), "CLOUDHSM", "`value`: EOF"),
        (with_value(r#"{"AK":"a"}"#), "CLOUDHSM", "missing field `SK`"),
        (
            with_value(r#"{"AK":"a","SK":"s","KEY_MODE":"CREATE_KEY","KEY_TYPE":"AES"}"#),
            "CLOUDHSM",
            "`KEY_LABEL`: the label is empty",
        ),
        (
            with_value(
                r#"{"AK":"a","SK":"s","KEY_MODE":"CREATE_KEY","KEY_TYPE":"AES","KEY_LABEL":"a\u0007"}"#,
            ),
            "CLOUDHSM",
            r"control characters; this one has `\u{7}`",
        ),
    ] {
        let rejected = Message::parse(content.as_bytes()).unwrap_err();
        assert_eq!(rejected.form, Form::Seed { action: Some(action.into()) });
        assert!(rejected.failure.message.contains(words), "{}", rejected.failure.message);
        let answer = Answer::failed(Some(action.into()), &rejected.failure, 5);
        let content = answer.encode(start());
        assert!(text(&content).starts_with(&format!(r#"{{"action":"{action}","data":null,"#)));
        assert!(text(&content).contains(r#""isError":true,"error":""#));
        assert_eq!(Answer::parse(&content), Ok(answer));
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let job = r#"{"AK":["canary"],"SK":"s"}"#;
    for value in [with_value(job), with_value(r#""canary""#), with_value("canary")] {
        let rejected = Message::parse(value.as_bytes()).unwrap_err();
        assert!(!rejected.failure.message.contains("canary"), "{}", rejected.failure.message);
    }
    let request = format!("{:?}", parsed(JAVA_REQUEST));
    assert!(!request.contains("wJalr"), "{request}");
}

#[test]
fn an_invalid_key_mode_is_an_error_with_the_words_of_the_original() {
    let answer = Answer::reply("CLOUDHSM", Reply::InvalidKeyMode, 1);
    let content = answer.encode(start());
    assert!(text(&content).contains(r#""value":"Error: Invalid KeyMode specified, only"#));
    assert!(text(&content).contains(r#""isError":true,"error":"Error: Invalid KeyMode"#));
    assert_eq!(Answer::parse(&content), Ok(answer));
}

#[test]
fn answers_of_java_enclaves_are_understood() {
    let answer = Answer::parse(
        br#"{"action":"CLOUDHSM","data":null,"start-date":[2022,6,1,8,30],"duration":null,"isError":true,"error":null,"errorStacktrace":"java.lang.NullPointerException\n\tat x","new":1}"#,
    )
    .unwrap();
    assert_eq!(answer.error.as_deref(), Some("no reason was given"));
    let answer = Answer::parse(
        br#"{"action":"ECHO","data":{"@modelClass":"x.Y","value":"hi"},"start-date":1654072200.123,"duration":12,"isError":false}"#,
    )
    .unwrap();
    assert_eq!(answer, Answer::say("ECHO", "hi", 12));
}

#[test]
fn an_answer_that_does_not_fit_says_so() {
    let content = Answer::say("ECHO", "\u{1}".repeat(20_000), 1).encode(start());
    let answer = Answer::parse(&content).unwrap();
    assert_eq!(answer.error.as_deref(), Some("the answer would have more than 65536 bytes"));
}

#[test]
fn a_clock_beyond_the_calendar_does_not_matter() {
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(u32::MAX.into()) * 1000;
    for time in [far, SystemTime::UNIX_EPOCH - Duration::from_secs(1)] {
        let content = Answer::say("ECHO", "", 1).encode(time);
        assert!(text(&content).contains("1970-01-01T00:00:00.000Z"));
    }
}
