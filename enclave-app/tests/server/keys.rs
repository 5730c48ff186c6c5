//! Keys in an HSM, from a request to the token.

use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::app::{PATIENCE, Place};
use crate::canary::{ACCESS_KEY, SECRET_KEY, SESSION_TOKEN};
use crate::client::{Client, frame};
use crate::service::Reply;
use crate::vault::Vault;

/// What the Java client sends.
fn seed_request(mode: &str, kind: &str, label: &str) -> String {
    let value = format!(
        r#"{{"AK":"{ACCESS_KEY}","SK":"{SECRET_KEY}","ST":"{SESSION_TOKEN}","KEY_MODE":"{mode}","KEY_TYPE":"{kind}","KEY_LABEL":"{label}"}}"#
    );
    seed("CLOUDHSM", &value)
}

fn seed(action: &str, value: &str) -> String {
    let value = serde_json::to_string(value).unwrap();
    format!(
        r#"{{"id":"0b9e0b3c-43a5-4e0b-9b59-0d6f3d1a2c4e","action":"{action}","data":{{"@modelClass":"com.github.qyzhangaws.cloudhsm.model.MyPojoData","value":{value}}},"aws-credentials":null}}"#
    )
}

/// Asks as the Java client does: one request, and the answer to the end of the connection.
fn ask_as_seed(place: &Place, content: &str) -> String {
    let mut client = place.client();
    client.send(&frame(content));
    let content = client.content();
    client.assert_end();
    String::from_utf8(content).unwrap()
}

/// A request in our own form, with credentials.
pub(crate) fn request(action: &str, members: &Value) -> String {
    let mut request = json!({
        "id": action,
        "action": action,
        "credentials": {
            "access-key-id": ACCESS_KEY,
            "secret-access-key": SECRET_KEY,
            "session-token": SESSION_TOKEN,
        },
    });
    request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    request.to_string()
}

fn result(client: &mut Client, action: &str, members: &Value) -> Value {
    let mut answer = client.ask(&request(action, members));
    assert!(answer["error"].is_null(), "{action}: {answer}");
    assert_eq!((&answer["id"], &answer["action"]), (&json!(action), &json!(action)));
    answer["result"].take()
}

#[test]
fn the_seeds_request_makes_a_key_and_gets_the_seeds_answer() {
    let vault = Vault::new("");
    let _app = vault.place.serve();
    for _ in 0..2 {
        let content = seed_request("CREATE_KEY", "AES", "nitro-enclave-1");
        let answer = ask_as_seed(&vault.place, &content);
        let parsed: Value = serde_json::from_str(&answer).unwrap();
        let (start, duration) = (parsed["start-date"].as_str().unwrap(), &parsed["duration"]);
        assert_eq!(
            answer,
            format!(
                r#"{{"action":"CLOUDHSM","data":{{"@modelClass":"com.github.qyzhangaws.cloudhsm.model.MyPojoDataResult","value":"Info: Key created!"}},"start-date":"{start}","duration":{duration},"isError":false}}"#
            )
        );
        let digits = duration.to_string().len();
        assert_eq!(answer.len() - digits + 4, 201, "with a duration of four digits");
        assert_eq!(vault.keys(), ["nitro-enclave-1"]);
    }
    assert_eq!(vault.manager.requests().len(), 1, "the secret is kept");
}

#[test]
fn the_seeds_other_requests_get_the_words_of_the_original() {
    let vault = Vault::new("");
    let _app = vault.place.serve();
    for (content, words) in [
        (seed_request("CREATE_KEY", "RSA", "k"), "Info: only KeyType:AES implemented!"),
        (seed_request("GET_KEY", "AES", "k"), "Info: not implemented!"),
        (seed_request("delete_key", "AES", "k"), "Info: not implemented!"),
        (seed("ECHO", "Hello \\ \"World\""), "Echo from Enclave unknown: Hello \\ \"World\""),
        (seed("echo", ""), "Echo from Enclave unknown: "),
    ] {
        let answer: Value = serde_json::from_str(&ask_as_seed(&vault.place, &content)).unwrap();
        assert_eq!(answer["data"]["value"], words);
        assert_eq!(answer["isError"], false);
    }
    let invalid = seed_request("MAKE_KEY", "AES", "k");
    let answer: Value = serde_json::from_str(&ask_as_seed(&vault.place, &invalid)).unwrap();
    let words = "Error: Invalid KeyMode specified, only support CREATE_KEY, GET_KEY, DELETE_KEY";
    assert_eq!((&answer["error"], &answer["isError"]), (&json!(words), &json!(true)));
    assert!(vault.keys().is_empty());
}

#[test]
fn a_failure_is_told_in_the_form_of_the_request() {
    let vault = Vault::with("", vec![Reply::error("AccessDeniedException", "not you")]);
    let _app = vault.place.serve();
    let content = seed_request("CREATE_KEY", "AES", "k");
    let answer: Value = serde_json::from_str(&ask_as_seed(&vault.place, &content)).unwrap();
    let words = "Secrets Manager refuses these credentials (AccessDeniedException)";
    assert_eq!((&answer["data"], &answer["error"]), (&Value::Null, &json!(words)));
    assert_eq!((&answer["isError"], &answer["action"]), (&json!(true), &json!("CLOUDHSM")));
    let mut client = vault.place.client();
    let refusal = client.ask_in_vain(&request("create-key", &json!({"label": "k"})));
    assert_eq!((refusal.code.as_str(), refusal.message.as_str()), ("secret-unavailable", words));
    let refusal = client.ask_in_vain(r#"{"id":"1","action":"create-key","label":"k"}"#);
    assert_eq!(refusal.code, "credentials-missing");
    client.assert_served();
}

#[test]
fn every_action_is_done_on_one_connection() {
    let vault = Vault::new("");
    let _app = vault.place.serve();
    let mut client = vault.place.client();
    let ask = |client: &mut Client, action, members: Value| result(client, action, &members);
    let described = ask(&mut client, "describe", json!({}));
    assert_eq!(described["hsm"], json!({"state": "idle"}));
    assert!(described.get("secret").is_none() && described.get("nsm").is_none(), "{described}");

    let created = ask(&mut client, "create-key", json!({"label": "aes", "kind": "aes-128"}));
    assert_eq!((&created["created"], &created["key"]["kind"]), (&json!(true), &json!("aes-128")));
    assert_eq!(created["key"]["extractable"], false);
    let again = ask(&mut client, "create-key", json!({"label": "aes", "kind": "aes-128"}));
    assert_eq!((&again["created"], &again["key"]), (&json!(false), &created["key"]));
    ask(&mut client, "create-key", json!({"label": "ec", "kind": "ec-p256"}));
    let found = ask(&mut client, "get-key", json!({"label": "aes"}));
    assert_eq!(found, created["key"]);
    let listed = ask(&mut client, "list-keys", json!({}));
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);

    let hidden = ask(&mut client, "encrypt", json!({"label": "aes", "plaintext": "aGVsbG8="}));
    let back = json!({"label": "aes", "ciphertext": hidden["ciphertext"]});
    assert_eq!(ask(&mut client, "decrypt", back)["plaintext"], "aGVsbG8=");
    let signed = ask(&mut client, "sign", json!({"label": "ec", "message": "aGVsbG8="}));
    let verify = json!({"label": "ec", "message": "aGVsbG8=", "signature": signed["signature"]});
    assert_eq!(ask(&mut client, "verify", verify)["valid"], true);
    assert_eq!(ask(&mut client, "random", json!({"bytes": 3}))["bytes"].as_str().unwrap().len(), 4);

    ask(&mut client, "delete-key", json!({"label": "aes"}));
    let refusal = client.ask_in_vain(&request("get-key", &json!({"label": "aes"})));
    assert_eq!(refusal.code, "not-found");
    let described = ask(&mut client, "describe", json!({}));
    assert_eq!(described["hsm"]["state"], "ready");
    assert_eq!(described["hsm"]["label"], "server");
    assert_eq!(described["secret"], json!({"id": "cloudhsm/cluster-1", "version": "version-1"}));
    assert_eq!(described["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn an_attestation_document_is_refused_where_there_is_no_nsm() {
    let place = Place::with("");
    let _app = place.serve();
    let mut client = place.client();
    let refusal = client.ask_in_vain(r#"{"id":"1","action":"describe","attestation":true}"#);
    assert_eq!(refusal.code, "unsupported");
    assert_eq!(refusal.message, "this machine is no enclave: it has no `/dev/nsm`");
    let refusal = client.ask_in_vain(r#"{"id":"1","action":"describe","nonce":"AAAA"}"#);
    assert_eq!(refusal.code, "invalid-request");
}

#[test]
fn sigterm_waits_for_the_answer_to_a_request() {
    let vault = Vault::with(
        "call-timeout = '1s'\n[limits]\nrequest-timeout = '2s'\nshutdown-grace = '1h'",
        vec![Reply::Silence],
    );
    let mut app = vault.place.serve();
    let mut client = vault.place.client();
    client.send(&frame(&request("create-key", &json!({"label": "k"}))));
    let deadline = Instant::now() + PATIENCE;
    while vault.manager.requests().is_empty() {
        assert!(Instant::now() < deadline, "Secrets Manager is not asked");
        thread::yield_now();
    }
    app.signal(Signal::SIGTERM);
    app.await_line("shutting down");
    let refusal = client.refusal();
    assert_eq!(refusal.code, "secret-unavailable", "{}", refusal.message);
    client.assert_end();
    assert!(app.wait().success());
    app.await_line("stopped cut_off=0");
}

#[test]
fn many_connections_at_once_make_one_key_of_a_label() {
    let vault = Vault::new("");
    let _app = vault.place.serve();
    let content = frame(&request("create-key", &json!({"label": "shared"})));
    let mut clients: Vec<_> = (0..50).map(|_| vault.place.client()).collect();
    for client in &mut clients {
        client.send(&content.repeat(4));
    }
    let mut created = 0;
    for client in &mut clients {
        for _ in 0..4 {
            let answer = client.answer();
            assert!(answer["error"].is_null(), "{answer}");
            created += usize::from(answer["result"]["created"] == true);
        }
    }
    assert_eq!(created, 1);
    assert_eq!(vault.keys(), ["shared"]);
    assert_eq!(vault.manager.requests().len(), 1);
}
