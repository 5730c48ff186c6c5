//! Keys in HSMs, asked for on the host, made for the application in the enclave.

use std::collections::HashSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use tests::application::Application;
use tests::ca::Authority;
use tests::client::{ACCESS_KEY_ID, Client, SECRET_ACCESS_KEY, SESSION_TOKEN, create_key, request};
use tests::dns::{Answer, NameServer};
use tests::impostor::Impostor;
use tests::patience::patience;
use tests::process::has;
use tests::secrets_manager::NAME;
use tests::vpc::{PASSWORD, USER, Vpc};
use tests::world::{ALLOWED, HSM, HSM2, World};

use crate::say;

crate::scenarios![
    host_client_has_a_key_made_that_the_hsm_lists,
    the_seeds_client_gets_the_seeds_answer,
    a_thousand_requests_at_once_for_one_label_make_one_key,
    a_thousand_labels_make_a_thousand_keys,
    a_new_password_is_fetched_when_the_hsm_refuses_the_old_one,
    an_hsm_that_the_host_allows_now_is_used,
    a_man_in_the_middle_gets_no_credentials,
    no_secret_is_logged_or_shown,
];

fn host_client_has_a_key_made_that_the_hsm_lists(world: &World) {
    let vpc = Vpc::start(world);
    let application = Application::start(world, &vpc);
    let output = application.host_client(&["create-key", "--label", "nitro-enclave-1"]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output).contains("nitro-enclave-1"), "{output:?}");
    assert_eq!(vpc.cluster.keys(), ["nitro-enclave-1"]);

    // It is there already, which is a success.
    let output = application.host_client(&["--json", "create-key", "--label", "nitro-enclave-1"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["result"]["created"], false, "{answer}");
    assert_eq!(vpc.cluster.keys(), ["nitro-enclave-1"]);

    let output = application.host_client(&["delete-key", "--label", "nitro-enclave-2"]);
    assert!(!output.status.success(), "{output:?}");

    // The secret's bytes have crossed the tunnel, and the HSM's.
    drop(application.enclave);
    let secrets = application.outproxy.line("the secret", has("rule", "secretsmanager"));
    assert!(secrets["received"].as_u64() > Some(500), "{secrets}");
    let hsm = application.outproxy.line("the HSM", has("destination", &HSM.to_string()));
    assert_eq!(hsm["rule"], "hsm", "{hsm}");
    assert!(hsm["sent"].as_u64() > Some(1000), "{hsm}");
    assert!(hsm["received"].as_u64() > Some(1000), "{hsm}");
}

fn the_seeds_client_gets_the_seeds_answer(world: &World) {
    let vpc = Vpc::start(world);
    let application = Application::start(world, &vpc);
    let answer = application.client().ask_bytes(seed_request().as_bytes()).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (before, rest) = answer.split_once("\"start-date\":\"").unwrap();
    assert_eq!(
        before,
        "{\"action\":\"CLOUDHSM\",\"data\":{\"@modelClass\":\
         \"com.github.qyzhangaws.cloudhsm.model.MyPojoDataResult\",\
         \"value\":\"Info: Key created!\"},"
    );
    let (date, rest) = rest.split_once('"').unwrap();
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let duration = rest.strip_prefix(",\"duration\":").unwrap();
    let duration = duration.strip_suffix(",\"isError\":false}").unwrap();
    assert!(duration.parse::<u64>().is_ok(), "{answer}");
    // That of the blog took a time of four digits, and has 201 bytes.
    assert_eq!(answer.len() - duration.len() + 4, 201, "{answer}");
    assert_eq!(vpc.cluster.keys(), ["nitro-enclave-1"]);
}

/// As the Java client of the blog writes it.
fn seed_request() -> String {
    let value = format!(
        "{{\"AK\":\"{ACCESS_KEY_ID}\",\"SK\":\"{SECRET_ACCESS_KEY}\",\"ST\":\"{SESSION_TOKEN}\",\
         \"KEY_MODE\":\"CREATE_KEY\",\"KEY_TYPE\":\"AES\",\"KEY_LABEL\":\"nitro-enclave-1\"}}"
    );
    format!(
        "{{\"id\":\"5b0ae4ba-5a8a-4a0c-9d4c-3d6a3b6a8c55\",\"action\":\"CLOUDHSM\",\"data\":{{\
         \"@modelClass\":\"com.github.qyzhangaws.cloudhsm.model.MyPojoData\",\"value\":{}}},\
         \"aws-credentials\":null}}",
        json!(value)
    )
}

fn a_thousand_requests_at_once_for_one_label_make_one_key(world: &World) {
    let vpc = Vpc::start(world);
    let application = Application::start(world, &vpc);
    let created = ask_at_once(&application, "one for all", |_| "the-only-key".to_owned());
    assert_eq!(created, 1);
    assert_eq!(vpc.cluster.keys(), ["the-only-key"]);
    // Whoever waited for it did not fetch the secret, too.
    assert!(vpc.secrets.requests() <= 2, "{} requests for the secret", vpc.secrets.requests());
}

fn a_thousand_labels_make_a_thousand_keys(world: &World) {
    let vpc = Vpc::start(world);
    let application = Application::start(world, &vpc);
    let created = ask_at_once(&application, "each its own", |number| format!("key-{number}"));
    assert_eq!(created, REQUESTS);
    let keys = vpc.cluster.keys();
    assert_eq!(keys.len(), REQUESTS);
    let different: HashSet<_> = keys.into_iter().collect();
    assert!((0..REQUESTS).all(|number| different.contains(&format!("key-{number}"))));
}

/// Has keys made by many requests at once. Says how many were made.
fn ask_at_once(
    application: &Application<'_>,
    what: &str,
    label: impl Fn(usize) -> String + Sync,
) -> usize {
    let (next, created) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let barrier = Barrier::new(CONNECTIONS);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut client = application.client();
                barrier.wait();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= REQUESTS {
                        return;
                    }
                    let answer = client.ask(&create_key(&label(number))).unwrap();
                    assert!(answer["error"].is_null(), "{answer}");
                    if answer["result"]["created"] == true {
                        created.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    say(&format!("{REQUESTS} requests by {CONNECTIONS} clients, {what}: {seconds:.1} s"));
    created.into_inner()
}

fn a_new_password_is_fetched_when_the_hsm_refuses_the_old_one(world: &World) {
    let mut vpc = Vpc::start(world);
    let application = Application::start(world, &vpc);
    let mut client = application.client();
    created(&mut client, "before");
    let before = client.ask(&request(json!({ "action": "describe" }))).unwrap();

    vpc.cluster.set_pin(&format!("{USER}:another-{PASSWORD}"));
    let version = vpc.secrets.put(USER, &format!("another-{PASSWORD}"));
    // The session that is open stays logged in. The next one has to log in.
    vpc.hsms[0].cut();
    let deadline = Instant::now() + patience();
    while client.ask(&create_key("after")).unwrap()["result"].is_null() {
        assert!(Instant::now() < deadline, "the new password is not used");
    }
    let after = client.ask(&request(json!({ "action": "describe" }))).unwrap();
    assert_eq!(after["result"]["secret"]["version"], version.as_str(), "{after}");
    assert_ne!(before["result"]["secret"]["version"], version.as_str(), "{before}");
    assert_eq!(vpc.cluster.count("after"), 1);
}

fn an_hsm_that_the_host_allows_now_is_used(world: &World) {
    let mut vpc = Vpc::start(world);
    let only_second = vpc.outproxy_config(world, &format!("'{}'", HSM2.ip()));
    let only_first = vpc.outproxy_config(world, &format!("'{}'", HSM.ip()));
    let application = Application::start_with(world, &vpc, &only_first, "info");
    let mut client = application.client();
    created(&mut client, "in the first");
    vpc.hsms[0].stop();
    let answer = client.ask(&create_key("nowhere")).unwrap();
    assert_eq!(answer["error"]["code"], "hsm-unavailable", "{answer}");
    assert_eq!(answer["error"]["retryable"], true, "{answer}");

    application.outproxy.reload(&only_second);
    eventually_created(&mut client, "in the second");
    assert_eq!(vpc.cluster.count("in the second"), 1);
    assert_eq!(vpc.cluster.count("nowhere"), 0);
}

/// Outside of the enclave anybody can be Secrets Manager, but for the certificate.
fn a_man_in_the_middle_gets_no_credentials(world: &World) {
    let vpc = Vpc::start(world);
    let address = Ipv4Addr::new(10, 0, 10, 66);
    let config = vpc.outproxy_config(world, ALLOWED);
    let names = NameServer::start(Answer::Address(address));
    let (head, _) = config.rsplit_once("servers = ").unwrap();
    let config = format!("{head}servers = ['{}']\n", names.address);
    let application = Application::start_with(world, &vpc, &config, "info");

    let subject = format!("DNS:{NAME}");
    let foreign = Authority::new(world.directory(), "foreign").certify(&subject);
    let impostor = Impostor::start((address, 443).into(), &foreign);
    let answer = application.client().ask(&create_key("key")).unwrap();
    assert_eq!(answer["error"]["code"], "secret-unavailable", "{answer}");
    assert!(impostor.connections() > 0, "nobody came to it");
    assert_eq!(impostor.received(), "");

    // With the right certificate it would have had them.
    impostor.show(&vpc.authority.certify(&subject));
    let answer = application.client().ask(&create_key("key")).unwrap();
    assert_eq!(answer["error"]["code"], "secret-unavailable", "{answer}");
    assert!(impostor.received().contains(SESSION_TOKEN), "{}", impostor.received());
}

fn no_secret_is_logged_or_shown(world: &World) {
    let vpc = Vpc::start(world);
    let config = vpc.outproxy_config(world, ALLOWED);
    let application = Application::start_with(world, &vpc, &config, "trace");
    let mut client = application.client();
    let create = json!({ "action": "create-key", "label": "key", "kind": "hmac-256" });
    // p11-kit's protocol carries no parameters of AES-GCM.
    let sign = json!({ "action": "sign", "label": "key", "message": PLAINTEXT_BASE64 });
    client.ask(&request(create)).unwrap();
    let answer = client.ask(&request(sign)).unwrap();
    assert!(answer["result"]["signature"].is_string(), "{answer}");
    // What it says of what went wrong must not have them either.
    vpc.hsms[0].cut();
    for _ in 0..3 {
        client.ask(&create_key("another")).unwrap();
    }
    client.ask_bytes(format!("{{\"credentials\":\"{SECRET_ACCESS_KEY}\"").as_bytes()).unwrap();

    let processes = application.enclave.processes();
    assert_eq!(processes.len(), 3);
    for process in processes {
        for file in ["environ", "cmdline", "comm"] {
            let path = Path::new("/proc").join(process.to_string()).join(file);
            assert_hidden(&path.display().to_string(), &fs::read(&path).unwrap());
        }
    }
    for process in &application.enclave.processes()[1..] {
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    let log = application.enclave.logged();
    assert!(log.iter().any(|line| line["level"] == "TRACE"), "it logs less than it could");
    for line in log.iter().chain(&application.outproxy.logged()) {
        assert_hidden("a log", line.to_string().as_bytes());
    }
    for file in files(world.directory()) {
        assert_hidden(&file.display().to_string(), &fs::read(&file).unwrap());
    }
}

fn assert_hidden(place: &str, content: &[u8]) {
    for secret in [PASSWORD, SECRET_ACCESS_KEY, SESSION_TOKEN, PLAINTEXT, PLAINTEXT_BASE64] {
        let is_there = content.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_there, "{place} has `{secret}`: {}", String::from_utf8_lossy(content));
    }
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(self::files(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

fn created(client: &mut Client, label: &str) {
    let answer = client.ask(&create_key(label)).unwrap();
    assert_eq!(answer["result"]["created"], true, "{answer}");
}

fn eventually_created(client: &mut Client, label: &str) {
    let deadline = Instant::now() + patience();
    loop {
        let answer = client.ask(&create_key(label)).unwrap();
        if answer["result"]["created"] == true {
            return;
        }
        assert_eq!(answer["error"]["retryable"], true, "{answer}");
        assert!(Instant::now() < deadline, "{answer}");
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

const CONNECTIONS: usize = 50;
/// What the application is to sign, and tell nobody.
const PLAINTEXT: &str = "plaintext-canary-424242";
/// The same.
const PLAINTEXT_BASE64: &str = "cGxhaW50ZXh0LWNhbmFyeS00MjQyNDI=";
const REQUESTS: usize = 1000;
