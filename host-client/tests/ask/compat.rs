//! Speaking to an enclave of the seed.

use serde_json::json;

use crate::enclave::{Enclave, Reply};
use crate::imds::{Imds, KEY, SECRET, SESSION};
use crate::run::{Ran, Run};

/// A Java enclave: it answers one request and closes.
fn java(data: &str, is_error: bool, more: &str) -> Enclave {
    let content = format!(
        r#"{{"action":"CLOUDHSM","data":{data},"start-date":"2022-06-01T08:30:00.123Z","duration":1234,"isError":{is_error}{more}}}"#
    );
    Enclave::new(move |_| {
        Reply::Raw(protocol::frame::encode(content.as_bytes(), 1 << 16).unwrap().to_vec())
    })
}

fn value(text: &str) -> String {
    let class = "com.github.qyzhangaws.cloudhsm.model.MyPojoDataResult";
    json!({ "@modelClass": class, "value": text }).to_string()
}

fn run(enclave: &Enclave, args: &[&str]) -> Ran {
    let imds = Imds::new();
    Run::new(&enclave.endpoint, &[&["--compat"], args].concat())
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.url)
        .wait()
}

#[test]
fn the_request_is_that_of_the_java_client_to_the_byte() {
    for (args, mode) in [
        (["create-key", "--label", "nitro-enclave-1"], "CREATE_KEY"),
        (["get-key", "--label", "nitro-enclave-1"], "GET_KEY"),
        (["delete-key", "--label", "nitro-enclave-1"], "DELETE_KEY"),
    ] {
        let enclave = java(&value("Info: Key created!"), false, "");
        run(&enclave, &args);
        let requests = enclave.requests();
        let id = &requests[0][7..43];
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{id}");
        assert_eq!(
            requests,
            [format!(
                concat!(
                    r#"{{"id":"{id}","action":"CLOUDHSM","data":{{"@modelClass":"com.github.qyzhangaws.cloudhsm.model.MyPojoData","#,
                    r#""value":"{{\"AK\":\"{ak}\",\"SK\":\"{sk}\",\"ST\":\"{st}\",\"KEY_MODE\":\"{mode}\",\"KEY_TYPE\":\"AES\",\"KEY_LABEL\":\"nitro-enclave-1\"}}"}},"aws-credentials":null}}"#
                ),
                id = id,
                ak = KEY,
                sk = SECRET,
                st = SESSION,
                mode = mode
            )]
        );
    }
}

#[test]
fn a_created_key_is_a_success() {
    for text in ["Info: Key created!", "Info: Key created! Label: k"] {
        let ran = run(&java(&value(text), false, ""), &["create-key", "--label", "k"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert_eq!(ran.text(), format!("{text}\n"));
    }
}

#[test]
fn all_else_about_keys_is_a_refusal() {
    let trace =
        r#","error":"it broke\u001b[2J","errorStacktrace":"java.lang.Exception: canary\n\tat x.Y""#;
    for (enclave, args, words) in [
        (
            java(&value("Info: not implemented!"), false, ""),
            ["get-key", "--label", "k"],
            "Info: not implemented!",
        ),
        (
            java(&value("Error: Failed to create key!"), false, ""),
            ["create-key", "--label", "k"],
            "Error: Failed to create key!",
        ),
        (
            java(&value("Info: Key created!"), true, ""),
            ["create-key", "--label", "k"],
            "Info: Key created!",
        ),
        (java("null", true, trace), ["create-key", "--label", "k"], "it broke\\u{1b}[2J"),
        (java("null", false, ""), ["create-key", "--label", "k"], "the answer is empty"),
    ] {
        let ran = run(&enclave, &args);
        assert_eq!((ran.code, ran.text()), (1, ""));
        assert_eq!(ran.stderr, format!("host-client: {words}\n"));
    }
}

#[test]
fn an_echo_needs_no_credentials() {
    let enclave = java(&value("Echo from Enclave i-1: hi"), false, "");
    let ran = Run::new(&enclave.endpoint, &["--compat", "echo", "hi"])
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
        .wait();
    assert_eq!((ran.code, ran.text()), (0, "Echo from Enclave i-1: hi\n"));
    let request = enclave.request();
    assert_eq!((&request["action"], &request["data"]["value"]), (&json!("ECHO"), &json!("hi")));
}

#[test]
fn scripts_get_all_but_the_stack_trace() {
    let trace = r#","error":"it broke","errorStacktrace":"java.lang.Exception: canary""#;
    let ran = run(&java("null", true, trace), &["create-key", "--label", "k", "--json"]);
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.json(),
        json!({ "action": "CLOUDHSM", "data": null, "start-date": "2022-06-01T08:30:00.123Z",
                "duration": 1234, "isError": true, "error": "it broke" })
    );
}

#[test]
fn an_enclave_that_does_not_answer_is_told() {
    let enclave = Enclave::new(|_| Reply::Raw(vec![]));
    assert_eq!(run(&enclave, &["create-key", "--label", "k"]).code, 3);
    let enclave = Enclave::new(|_| Reply::Raw(vec![3, 0, 0, 0, b'h', b'i', b'!']));
    assert_eq!(run(&enclave, &["create-key", "--label", "k"]).code, 3);
}
