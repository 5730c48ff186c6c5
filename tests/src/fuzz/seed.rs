//! Requests and answers in the form of the seed.

use std::time::UNIX_EPOCH;

use protocol::frame::MAX_BYTES;
use protocol::message::{Form, Message};
use protocol::request::Credentials;
use protocol::seed::{Answer, KeyMode, Order, Reply, Wish};

use super::cursor::Cursor;
use super::shown::assert_line;

/// A request or an answer of the seed is understood or refused, and what we write is understood.
pub fn seed(data: &[u8]) {
    parse(data);
    answer(data);
    order(data);
}

fn parse(data: &[u8]) {
    match Message::parse(data) {
        Ok(Message::Own(_)) => {}
        Ok(Message::Seed(request)) => {
            let (action, name) = (
                request.action,
                match request.wish {
                    Wish::CreateKey { .. } | Wish::Hear(_) => "CLOUDHSM",
                    Wish::Echo(_) => "ECHO",
                },
            );
            assert!(action.eq_ignore_ascii_case(name));
            let answer = Answer::reply(&action, Reply::Created, 0).encode(UNIX_EPOCH);
            let answer = Answer::parse(&answer).expect("an answer");
            assert_eq!(answer.action, Some(action));
        }
        Err(rejected) => {
            assert_line(&rejected.failure.message, 400);
            let Form::Seed { action } = rejected.form else { return };
            let answer = Answer::failed(action, &rejected.failure, 7);
            assert_eq!(Answer::parse(&answer.encode(UNIX_EPOCH)), Ok(answer));
        }
    }
}

fn answer(data: &[u8]) {
    match Answer::parse(data) {
        Ok(answer) => {
            let written = answer.encode(UNIX_EPOCH);
            assert!(written.len() <= MAX_BYTES);
            let again = Answer::parse(&written).expect("an answer");
            assert!(again == answer || data.len() > MAX_BYTES / 8, "{again:?}");
        }
        Err(malformed) => assert_line(&malformed.to_string(), 400),
    }
}

/// Whatever host-client asks, enclave-app understands it as it was meant.
fn order(data: &[u8]) {
    let mut choices = Cursor::new(data);
    let mode = choices.pick(&[KeyMode::CreateKey, KeyMode::DeleteKey, KeyMode::GetKey]);
    let [id, access_key_id, secret_access_key, token] = [(); 4].map(|()| {
        let length = choices.below(16);
        String::from_utf8_lossy(choices.bytes(length)).into_owned()
    });
    let text = String::from_utf8_lossy(choices.rest());
    let understood = |order: &Order| {
        let content = order.encode(&id).ok()?;
        let Ok(Message::Seed(request)) = Message::parse(&content) else { panic!("{order:?}") };
        assert_eq!(request.id.is_some(), !id.contains(char::is_control));
        assert!(request.id.is_none_or(|read| read == id));
        Some(request.wish)
    };

    let message = text.to_string();
    let echoed = understood(&Order::Echo(message.clone()));
    assert!(echoed.is_none_or(|wish| wish == Wish::Echo(message)));

    let Ok(label) = text.parse::<protocol::label::KeyLabel>() else { return };
    let is_given = !access_key_id.is_empty() && !secret_access_key.is_empty();
    let credentials = Some(Credentials {
        access_key_id: access_key_id.into(),
        secret_access_key: secret_access_key.into(),
        session_token: (!token.is_empty()).then(|| token.into()),
    });
    let order = Order::CloudHsm { mode, label: label.clone(), credentials: credentials.clone() };
    let wish = understood(&order).expect("a short request");
    let credentials = credentials.filter(|_| is_given);
    assert_eq!(
        wish,
        match mode {
            KeyMode::CreateKey => Wish::CreateKey { label, credentials },
            KeyMode::DeleteKey | KeyMode::GetKey => Wish::Hear(Reply::NotImplemented),
        }
    );
}
