//! Where credentials come from, and where they do not go.

use std::time::Instant;

use serde_json::json;

use crate::enclave::{Enclave, PATIENCE, Reply, failed};
use crate::imds::{Imds, KEY, SECRET, SESSION};
use crate::run::{Ran, Run};

fn run(enclave: &Enclave, imds: &str, args: &[&str]) -> Ran {
    Run::new(&enclave.endpoint, args).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds).wait()
}

fn keys() -> Enclave {
    Enclave::with_result("list-keys", json!({ "keys": [], "truncated": false }))
}

#[test]
fn those_of_the_instance_are_sent_along() {
    let (imds, enclave) = (Imds::new(), keys());
    let ran = run(&enclave, &imds.url, &["list-keys"]);
    assert_eq!((ran.code, ran.text(), ran.stderr.as_str()), (0, "no keys\n", ""));
    let credentials = json!({ "access-key-id": KEY, "secret-access-key": SECRET,
                              "session-token": SESSION });
    assert_eq!(enclave.request()["credentials"], credentials);
    assert_eq!(imds.asked()[0], "PUT /latest/api/token");
}

#[test]
fn nobody_is_asked_for_what_is_not_needed() {
    let imds = Imds::new();
    let echo = || Enclave::with_result("echo", json!({ "message": "hi" }));
    for (enclave, args) in [
        (echo(), &["echo", "hi"][..]),
        (echo(), &["echo", "hi", "--credentials", "imds"]),
        (keys(), &["list-keys", "--credentials", "none"]),
    ] {
        let ran = run(&enclave, &imds.url, args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        assert_eq!(enclave.request().get("credentials"), None, "{args:?}");
    }
    assert_eq!(imds.asked(), [""; 0]);
}

#[test]
fn the_way_of_the_sdks_begins_in_the_environment() {
    let (imds, enclave) = (Imds::new(), keys());
    let ran = Run::new(&enclave.endpoint, &["list-keys", "--credentials", "sdk"])
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.url)
        .env("AWS_ACCESS_KEY_ID", "AKIAENV")
        .env("AWS_SECRET_ACCESS_KEY", "canary-env")
        .wait();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let credentials = json!({ "access-key-id": "AKIAENV", "secret-access-key": "canary-env" });
    assert_eq!(enclave.request()["credentials"], credentials);
    assert_eq!(imds.asked(), [""; 0]);
}

#[test]
fn the_way_of_the_sdks_ends_at_the_instance() {
    let (imds, enclave) = (Imds::new(), keys());
    let ran = run(&enclave, &imds.url, &["list-keys", "--credentials", "sdk"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(enclave.request()["credentials"]["access-key-id"], KEY);
}

#[test]
fn without_credentials_nothing_is_sent() {
    let enclave = keys();
    let forbidding = Imds::answering(|_, _| None);
    let roleless = Imds::answering(|line, _| line.starts_with("PUT").then(|| "TOKEN".into()));
    for url in ["http://127.0.0.1:9", &forbidding.url, &roleless.url] {
        let start = Instant::now();
        let ran = run(&enclave, url, &["list-keys"]);
        assert_eq!((ran.code, ran.text()), (4, ""), "{url}");
        assert!(
            ran.stderr.contains("failed to get credentials from the instance metadata service")
        );
        assert!(ran.stderr.contains("\n  is this an EC2 instance with an IAM role?"));
        assert!(start.elapsed() < PATIENCE / 4);
        let ran = run(&enclave, url, &["list-keys", "--json"]);
        let code = json!("credentials-unavailable");
        assert_eq!((ran.code, &ran.json()["error"]["code"]), (4, &code));
    }
    assert_eq!(enclave.requests(), [""; 0]);
}

#[test]
fn a_metadata_service_that_hangs_is_given_up() {
    // It accepts, as the kernel does for it, and never says anything.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let start = Instant::now();
    let ran = run(&keys(), &url, &["list-keys"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn they_are_not_shown_whatever_happens() {
    let imds = Imds::new();
    let refusing = Enclave::new(|request| Reply::Content(failed(request, "internal", "no", false)));
    let silent = Enclave::new(|_| Reply::Silence);
    let broken = Enclave::new(|_| Reply::Raw(vec![0; 4]));
    for enclave in [&refusing, &silent, &broken] {
        for args in [&["list-keys"][..], &["list-keys", "--json"]] {
            let ran = Run::new(&enclave.endpoint, &[args, &["--timeout", "100ms"]].concat())
                .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.url)
                .env("RUST_LOG", "trace")
                .env("LOG_SENSITIVE_BODIES", "true")
                .wait();
            assert_ne!(ran.code, 0);
            let all = format!("{}{}", ran.text(), ran.stderr);
            for canary in [KEY, SECRET, SESSION] {
                assert!(!all.contains(canary), "{all}");
            }
        }
    }
    assert!(!refusing.requests().is_empty());
}
