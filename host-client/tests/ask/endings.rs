//! Runs that have no answer.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::enclave::{Enclave, PATIENCE, Reply, done};
use crate::run::{Run, ask};

fn echo() -> impl FnMut(&[u8]) -> Reply + Send {
    |request| Reply::Content(done(request, "echo", &json!({ "message": "hi" })))
}

#[test]
fn nobody_there_is_told_at_once() {
    // A port that was free a moment ago.
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    for endpoint in [format!("tcp:127.0.0.1:{port}"), "unix:/nonexistent/enclave".into()] {
        let ran = Run::new(&endpoint, &["echo", "hi"]).wait();
        assert_eq!((ran.code, ran.text()), (3, ""));
        assert!(ran.stderr.contains(&format!("failed to connect to `{endpoint}`: ")));
        assert!(ran.stderr.contains("\n  does enclave-app listen there?"), "{}", ran.stderr);
        let ran = Run::new(&endpoint, &["echo", "hi", "--json"]).wait();
        let error = &ran.json()["error"];
        assert_eq!((ran.code, &error["code"]), (3, &json!("unreachable")));
        assert_eq!(error["retryable"], true);
    }
}

#[test]
fn no_answer_in_time_is_told() {
    let enclave = Enclave::new(|_| Reply::Silence);
    let start = Instant::now();
    let ran = ask(&enclave, &["echo", "hi", "--timeout", "200ms"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("has not answered within 200ms\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("whether it was done is not known"), "{}", ran.stderr);
    assert!((Duration::from_millis(200)..PATIENCE / 4).contains(&start.elapsed()));
    let ran = ask(&enclave, &["echo", "hi", "--timeout", "1ms", "--json"]);
    assert_eq!((ran.code, &ran.json()["error"]["code"]), (3, &json!("no-answer")));
}

#[test]
fn a_broken_answer_is_told() {
    let frame = |content: &[u8]| protocol::frame::encode(content, 1 << 20).unwrap().to_vec();
    let whole =
        br#"{"id":null,"error":{"code":"busy","message":"m","retryable":true},"duration-ms":1}"#;
    for (raw, code, words) in [
        (vec![], "no-answer", "closed the connection without a whole answer"),
        (vec![1, 0], "no-answer", "closed the connection without a whole answer"),
        (frame(whole)[..20].to_vec(), "no-answer", "without a whole answer"),
        (vec![0; 4], "broken-answer", "the frame is empty"),
        (vec![0xff; 4], "broken-answer", "the frame has 4294967295 bytes; at most 65536"),
        (frame(&[b' '; 65_537]), "broken-answer", "the frame has 65537 bytes"),
        (frame(b"<html>"), "broken-answer", "not JSON as it should be"),
        (frame(b"\xff"), "broken-answer", "not UTF-8 from byte 0 on"),
        (frame(b"{}"), "broken-answer", "the member `duration-ms` is missing"),
        (
            frame(br#"{"id":"x","action":"echo","result":{"message":"hi"},"duration-ms":1}"#),
            "broken-answer",
            "the id is that of another request",
        ),
        (
            frame(br#"{"action":"echo","result":{"message":"hi"},"duration-ms":1}"#),
            "broken-answer",
            "the id is missing",
        ),
    ] {
        let enclave = Enclave::new(move |_| Reply::Raw(raw.clone()));
        let ran = ask(&enclave, &["echo", "hi"]);
        assert_eq!((ran.code, ran.text()), (3, ""), "{words}");
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        let ran = ask(&enclave, &["echo", "hi", "--json"]);
        assert_eq!((ran.code, &ran.json()["error"]["code"]), (3, &json!(code)), "{words}");
    }
}

#[test]
fn a_refusal_without_an_id_is_understood() {
    let enclave = Enclave::new(|_| {
        let refusal = r#"{"id":null,"error":{"code":"busy","message":"full","retryable":true},"duration-ms":0}"#;
        Reply::Content(refusal.into())
    });
    let ran = ask(&enclave, &["echo", "hi"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "host-client: full (busy; it may succeed later)\n")
    );
}

#[test]
fn the_result_of_another_action_is_no_answer() {
    let enclave = Enclave::with_result("echo", json!({ "message": "hi" }));
    let ran = ask(&enclave, &["delete-key", "--label", "k"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("it is the result of another action"), "{}", ran.stderr);
    let idle = json!({ "version": "1", "uptime-seconds": 1, "hsm": { "state": "idle" } });
    let enclave = Enclave::with_result("describe", idle);
    let ran = ask(&enclave, &["describe", "--attestation", "/nonexistent/x"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("the attestation document is missing"), "{}", ran.stderr);
}

#[test]
fn a_file_that_cannot_be_written_is_no_success() {
    let enclave = Enclave::with_result("random", json!({ "bytes": "AP8=" }));
    let ran = ask(&enclave, &["random", "--bytes", "2", "--out", "/nonexistent/x"]);
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("failed to write `/nonexistent/x`: No such file"));
}

#[test]
fn an_enclave_that_starts_late_can_be_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("enclave");
    let (endpoint, (ended, end)) = (format!("unix:{}", path.display()), channel());
    let waiting = thread::spawn(move || {
        let ran = Run::new(&endpoint, &["echo", "hi", "--wait", "30s"]).wait();
        ended.send(()).unwrap();
        ran
    });
    // A socket of which the listener is gone refuses, as one that does not exist does.
    drop(UnixListener::bind(&path).unwrap());
    assert!(end.recv_timeout(Duration::from_millis(500)).is_err(), "it did not wait");
    fs::remove_file(&path).unwrap();
    let _enclave = Enclave::at(&path, echo());
    let ran = waiting.join().unwrap();
    assert_eq!((ran.code, ran.text()), (0, "hi\n"));
}

#[test]
fn waiting_has_an_end() {
    let start = Instant::now();
    let ran = Run::new("unix:/nonexistent/x", &["echo", "hi", "--wait", "300ms"]).wait();
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("No such file or directory"), "{}", ran.stderr);
    assert!((Duration::from_millis(290)..PATIENCE / 4).contains(&start.elapsed()));
}

#[test]
fn tcp_endpoints_have_addresses_or_names() {
    for host in ["127.0.0.1", "localhost"] {
        let enclave = Enclave::on_tcp(host, echo());
        let ran = ask(&enclave, &["echo", "hi"]);
        assert_eq!((ran.code, ran.text()), (0, "hi\n"), "{host}: {}", ran.stderr);
    }
}

#[test]
fn mistakes_on_the_command_line_are_told_before_anything_is_sent() {
    let enclave = Enclave::new(echo());
    for args in [
        &["brew"][..],
        &["echo"],
        &["create-key"],
        &["create-key", "--label", ""],
        &["create-key", "--label", "a\u{1b}b"],
        &["create-key", "--label", "k", "--kind", "des"],
        &["create-key", "--label", "k", "--usage", "derive"],
        &["random", "--bytes", "0"],
        &["random", "--bytes", "1025"],
        &["describe", "--nonce", "00"],
        &["verify", "--label", "k", "--signature", "???"],
        &["list-keys", "--region", "r"],
        &["list-keys", "--secret-id", "s"],
        &["random", "--bytes", "1", "--json", "--raw"],
        &["decrypt", "--label", "k", "--json", "--out", "x"],
        &["echo", "hi", "--timeout", "0s"],
        &["--compat", "list-keys"],
        &["--compat", "create-key", "--label", "k", "--kind", "aes-128"],
        &["--compat", "create-key", "--label", "k", "--usage", "sign"],
        &["--compat", "get-key", "--label", "k", "--region", "r", "--secret-id", "s"],
    ] {
        let ran = ask(&enclave, args);
        assert_eq!((ran.code, ran.text()), (2, ""), "{args:?}");
        assert!(ran.stderr.starts_with("error: "), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(enclave.requests(), [""; 0]);
}
