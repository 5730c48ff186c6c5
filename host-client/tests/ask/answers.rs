//! What people and scripts see of answers.

use serde_json::{Value, json};

use crate::enclave::{Enclave, Reply, done, failed};
use crate::run::ask;

fn key(label: &str, kind: &str) -> Value {
    json!({
        "label": label, "kind": kind, "id": "0a0b",
        "usage": { "encrypt": true, "decrypt": true, "sign": false, "verify": false,
                   "wrap": false, "unwrap": false },
        "extractable": false, "sensitive": true,
    })
}

#[test]
fn a_new_key_is_told_with_its_time() {
    let made = json!({ "created": true, "key": key("nitro-enclave-1", "aes-256") });
    let enclave = Enclave::with_result("create-key", made);
    let ran = ask(&enclave, &["create-key", "--label", "nitro-enclave-1"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.text(), "created key nitro-enclave-1 (aes-256) in 93 ms\n");
    let mut request = enclave.request();
    assert_eq!(request["id"].take().as_str().unwrap().len(), 36);
    assert_eq!(
        request,
        json!({ "id": null, "action": "create-key", "label": "nitro-enclave-1", "kind": "aes-256" })
    );
}

#[test]
fn a_key_that_exists_is_told_as_such() {
    let made = json!({ "created": false, "key": key("k", "aes-128") });
    let enclave = Enclave::with_result("create-key", made);
    let args = ["create-key", "--label", "k", "--kind", "aes-128", "--usage", "encrypt,wrap"];
    let ran = ask(&enclave, &args);
    assert_eq!((ran.code, ran.text()), (0, "key k exists already (aes-128)\n"));
    let usage = &enclave.request()["usage"];
    assert_eq!((&usage["wrap"], &usage["decrypt"]), (&json!(true), &json!(false)));
}

#[test]
fn keys_are_a_table() {
    let keys = json!({ "keys": [key("k", "aes-256"), key("longer\u{1b}[2J", "ec-p256")],
                       "truncated": true });
    let ran = ask(&Enclave::with_result("list-keys", keys), &["list-keys"]);
    assert_eq!(
        ran.text(),
        "LABEL            KIND     USAGE            EXTRACTABLE  ID\n\
         k                aes-256  encrypt,decrypt  no           0a0b\n\
         longer\\u{1b}[2J  ec-p256  encrypt,decrypt  no           0a0b\n\
         ... and more, which do not fit in one answer\n"
    );
    let none = json!({ "keys": [], "truncated": false });
    let ran = ask(&Enclave::with_result("list-keys", none), &["list-keys"]);
    assert_eq!(ran.text(), "no keys\n");
}

#[test]
fn a_key_is_shown_line_by_line() {
    let enclave = Enclave::with_result("get-key", key("k", "aes-192"));
    let ran = ask(&enclave, &["get-key", "--label", "k"]);
    assert!(ran.text().starts_with("label        k\nkind         aes-192\n"), "{}", ran.text());
    let enclave = Enclave::with_result("delete-key", json!({ "label": "k" }));
    assert_eq!(ask(&enclave, &["delete-key", "--label", "k"]).text(), "deleted key k\n");
}

#[test]
fn an_enclave_describes_itself() {
    let description = json!({
        "version": "0.1.0", "uptime-seconds": 90061,
        "hsm": { "state": "ready", "module": "/m.so", "library": "SoftHSM 2.6", "slot": 77,
                 "label": "hsm1", "manufacturer": "SoftHSM project", "model": "SoftHSM v2",
                 "serial": "ab\nfake: line", "firmware": "2.6" },
        "nsm": { "module": "i-1-enc1", "version": "1.0.0",
                 "pcrs": [{ "index": 0, "value": "00ff", "locked": true }] },
    });
    let ran = ask(&Enclave::with_result("describe", description), &["describe"]);
    assert_eq!(ran.code, 0);
    for line in [
        "enclave-app  0.1.0\n",
        "uptime       1 d 1 h 1 min\n",
        "HSM          ready\n",
        "  slot       77\n",
        "  serial     ab\\u{a}fake: line\n",
        "secret       not fetched yet\n",
        "  PCR        0 00ff\n",
    ] {
        assert!(ran.text().contains(line), "{}", ran.text());
    }
    let unavailable = json!({ "version": "1", "uptime-seconds": 1,
                              "hsm": { "state": "unavailable", "reason": "no link" } });
    let ran = ask(&Enclave::with_result("describe", unavailable), &["describe"]);
    assert!(ran.text().contains("HSM          unavailable: no link\n"), "{}", ran.text());
    assert!(ran.text().contains("this is no enclave"), "{}", ran.text());
}

#[test]
fn an_echo_cannot_move_the_cursor() {
    let enclave = Enclave::with_result("echo", json!({ "message": "hi\u{1b}[1A\nyou" }));
    let ran = ask(&enclave, &["echo", "hi"]);
    assert_eq!((ran.code, ran.text()), (0, "hi\\u{1b}[1A\\u{a}you\n"));
    assert_eq!(enclave.request()["message"], "hi");
}

#[test]
fn a_signature_that_is_not_valid_is_no_success() {
    for (valid, code, text) in
        [(true, 0, "the signature is valid\n"), (false, 1, "the signature is not valid\n")]
    {
        let enclave = Enclave::with_result("verify", json!({ "valid": valid }));
        let args = ["verify", "--label", "k", "--signature", "AAAA"];
        let ran = ask(&enclave, &args);
        assert_eq!((ran.code, ran.text()), (code, text));
        let ran = ask(&enclave, &[&["--json"], &args[..]].concat());
        assert_eq!((ran.code, &ran.json()["result"]["valid"]), (code, &json!(valid)));
    }
}

#[test]
fn a_refusal_says_why_and_whether_to_try_again() {
    for (code, message, retryable, words) in [
        (
            "not-found",
            "there is no key with the label `k`",
            false,
            "there is no key with the label `k` (not-found; trying again will not help)",
        ),
        (
            "hsm-unavailable",
            "the HSM is gone\u{7}",
            true,
            "the HSM is gone\\u{7} (hsm-unavailable; it may succeed later)",
        ),
    ] {
        let enclave =
            Enclave::new(move |request| Reply::Content(failed(request, code, message, retryable)));
        let ran = ask(&enclave, &["get-key", "--label", "k"]);
        assert_eq!((ran.code, ran.text()), (1, ""));
        assert_eq!(ran.stderr, format!("host-client: {words}\n"));
        let ran = ask(&enclave, &["get-key", "--label", "k", "--json"]);
        assert_eq!((ran.code, &ran.json()["error"]["code"]), (1, &json!(code)));
    }
}

#[test]
fn scripts_get_the_answer_as_it_came() {
    let enclave = Enclave::new(|request| {
        let answer = done(request, "random", &json!({ "bytes": "AP8=", "new": 1 }));
        Reply::Content(format!("  {answer}  "))
    });
    let ran = ask(&enclave, &["--json", "random", "--bytes", "2"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let id = enclave.request()["id"].take();
    let result = r#"{"bytes":"AP8=","new":1}"#;
    let answer = format!(r#"{{"id":{id},"action":"random","result":{result},"duration-ms":93}}"#);
    assert_eq!(ran.text(), answer + "\n");
}

#[test]
fn the_secret_may_be_named() {
    let enclave = Enclave::with_result("list-keys", json!({ "keys": [], "truncated": false }));
    let args = ["list-keys", "--region", "ap-southeast-1", "--secret-id", "cloudhsm/cluster-x"];
    assert_eq!(ask(&enclave, &args).code, 0);
    let secret = json!({ "id": "cloudhsm/cluster-x", "region": "ap-southeast-1" });
    assert_eq!(enclave.request()["secret"], secret);
}
