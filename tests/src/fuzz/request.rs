//! Requests and answers in our own form, and what is said of those that are none.

use protocol::answer::Answer;
use protocol::frame::MAX_BYTES;
use protocol::message::{Form, Message, Rejected};
use protocol::request::Request;
use serde_json::Value;

use super::shown::assert_line;

/// What is understood is written in a way that means the same; what is not is told without
/// secrets.
pub fn request(data: &[u8]) {
    match Message::parse(data) {
        Ok(Message::Own(request)) => round_trip(&request, data),
        Ok(Message::Seed(request)) => {
            assert!(request.id.as_deref().is_none_or(is_id));
        }
        Err(rejected) => judge(&rejected),
    }
    match Answer::parse(data) {
        Ok(answer) => {
            let written = answer.encode();
            assert!(written.len() <= MAX_BYTES);
            let again = Answer::parse(&written).expect("an answer");
            // One that is too large becomes a failure that says so.
            assert!(again == answer || data.len() > MAX_BYTES / GROWTH, "{again:?}");
        }
        Err(malformed) => assert_line(&malformed.to_string(), MAX_WORDS),
    }
    if let Ok(value) = serde_json::from_slice(data) {
        no_secret_is_told(value);
    }
}

fn round_trip(request: &Request, data: &[u8]) {
    assert!(is_id(&request.id));
    match request.encode() {
        Ok(written) => {
            assert!(written.len() <= MAX_BYTES);
            assert_eq!(Message::parse(&written), Ok(Message::Own(request.clone())));
        }
        Err(_) => assert!(data.len() > MAX_BYTES / GROWTH),
    }
}

fn judge(rejected: &Rejected) {
    assert_line(&rejected.failure.message, MAX_WORDS);
    assert!(!rejected.failure.message.is_empty());
    assert!(rejected.id.as_deref().is_none_or(is_id));
    if let Form::Seed { action } = &rejected.form {
        assert!(action.as_deref().is_none_or(is_id));
    }
}

/// The same request with a secret in each place where one may be is refused without it.
fn no_secret_is_told(mut value: Value) {
    hide(&mut value, false);
    let Err(rejected) = Message::parse(value.to_string().as_bytes()) else { return };
    judge(&rejected);
    assert!(!rejected.failure.message.contains(SECRET), "{}", rejected.failure.message);
}

/// Replaces texts, and the numbers below them, by the secret; but not what says of which kind the
/// request is, which is not secret.
fn hide(value: &mut Value, is_public: bool) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| hide(value, is_public)),
        Value::Object(members) => {
            for (name, value) in members {
                hide(value, PUBLIC.contains(&name.as_str()));
            }
        }
        Value::String(text) if !is_public => match serde_json::from_str(text) {
            // The seed's requests have JSON in their JSON.
            Ok(mut inner @ Value::Object(_)) => {
                hide(&mut inner, false);
                *text = inner.to_string();
            }
            _ => *text = SECRET.into(),
        },
        _ => {}
    }
}

fn is_id(text: &str) -> bool {
    text.len() <= Request::MAX_ID_BYTES && !text.contains(char::is_control)
}

/// By how much a message may grow when it is written again: `\u007f` and its like are shorter,
/// members with a default are longer.
const GROWTH: usize = 8;
/// The longest of the failures, with all actions or codes in it.
const MAX_WORDS: usize = 400;
const PUBLIC: [&str; 7] = ["KEY_MODE", "KEY_TYPE", "action", "id", "kind", "region", "state"];
const SECRET: &str = "8g9fLm2xNnQ";
