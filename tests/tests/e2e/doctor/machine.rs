//! The host, and the service that outproxy is there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::dns::{Answer, NameServer};
use tests::leg::Leg;
use tests::proxies::binary;
use tests::world::{ALLOWED, World};

use super::{Examination, ask_outproxy, outproxy, text};

crate::scenarios![
    an_outproxy_that_does_not_run_is_no_failure,
    a_running_outproxy_is_asked,
    a_listener_that_another_program_has_is_told,
    every_name_server_is_asked,
    the_metadata_service_is_asked_for_a_token,
    a_file_that_is_no_authority_is_a_mistake,
    the_document_is_as_it_is_described,
];

const METRICS: &str = "[metrics]\nlisten = 'tcp:127.0.0.1:9464'\n";

fn an_outproxy_that_does_not_run_is_no_failure(world: &World) {
    let config = world.outproxy_config("'10.0.10.0/24'", "") + METRICS;
    let mut config = config.replace(&format!("'{}'", tests::world::RAW.ip()), "'10.0.20.0/24'");
    let found = Examination::of(&mut outproxy(world, &config));
    found.assert("outproxy", "warning", Some("not-running"));
    for number in 0..2 {
        found.assert(&format!("listener {}", world.leg.listen(number)), "ok", None);
    }
    found.assert("listener tcp:127.0.0.1:9464", "ok", None);
    found.assert("name servers", "skipped", None);
    found.assert("10.0.10.0/24", "skipped", None);
    match world.leg {
        Leg::Unix(_) => found.assert("vsock", "skipped", None),
        Leg::Vsock(_) => found.assert("vsock", "ok", None),
    };
    assert_eq!(found.code, Some(0), "{:#}", found.document);
    assert_eq!(found.document["result"], "warning");

    // The mistakes come first.
    config.push_str("[[allow]]\nname = 'no hosts'\n");
    let broken = outproxy(world, &config).output().unwrap();
    assert_eq!(broken.status.code(), Some(78), "{}", text(&broken));
}

fn a_running_outproxy_is_asked(world: &World) {
    let config = world.outproxy_config(ALLOWED, "") + METRICS;
    let running = world.outproxy(&config);
    let ask = || Examination::of(&mut ask_outproxy(world));
    let found = ask();
    let own = found.assert("outproxy", "ok", None);
    assert!(own["found"].as_str().unwrap().contains(env!("CARGO_PKG_VERSION")), "{own:#}");
    for listener in [world.leg.listen(0), world.leg.listen(1), "tcp:127.0.0.1:9464".into()] {
        let finding = found.assert(&format!("listener {listener}"), "ok", None);
        assert!(finding["found"].as_str().unwrap().contains(&running.id().to_string()));
    }
    let descriptors = found.find("descriptors");
    assert!(descriptors["found"].as_str().unwrap().contains("outproxy (process "));

    let path = world.directory().join("outproxy.toml");
    let touch = |time: SystemTime| File::open(&path).unwrap().set_modified(time).unwrap();
    touch(SystemTime::now() + Duration::from_secs(60));
    ask().assert("outproxy", "warning", Some("changed"));

    running.write_config("[[listen]]\non = 'nowhere'\n");
    running.signal(Signal::SIGHUP);
    running.await_state("RELOADING=1");
    running.await_state("READY=1");
    running.write_config(&config);
    ask().assert("outproxy", "warning", Some("not-reloaded"));

    running.reload(&config);
    touch(SystemTime::now());
    ask().assert("outproxy", "ok", None);

    // Another one, which would have the same endpoint.
    let other = world.directory().join("other.toml");
    fs::write(&other, &config).unwrap();
    let mut command = Command::new(binary("outproxy"));
    command.args(["doctor", "--json", "--config"]).arg(&other);
    let found = Examination::of(&mut command);
    found.assert("outproxy", "warning", Some("other-configuration"));
    found.assert("listener tcp:127.0.0.1:9464", "failed", Some("taken"));
    assert_eq!(found.code, Some(1));
}

fn a_listener_that_another_program_has_is_told(world: &World) {
    let config = world.outproxy_config("'10.0.10.0/24'", "") + METRICS;
    let _other = world.leg.bind(0).unwrap();
    let _another = TcpListener::bind("127.0.0.1:9464").unwrap();
    let found = Examination::of(&mut outproxy(world, &config));
    found.assert(&format!("listener {}", world.leg.listen(0)), "failed", Some("taken"));
    found.assert(&format!("listener {}", world.leg.listen(1)), "ok", None);
    found.assert("listener tcp:127.0.0.1:9464", "failed", Some("taken"));
    // Somebody listens, and says nothing.
    found.assert("outproxy", "warning", Some("not-answering"));
}

fn every_name_server_is_asked(world: &World) {
    let good = NameServer::start(Answer::Address([10, 0, 10, 103].into()));
    let silent = NameServer::start(Answer::Silence);
    let broken = NameServer::start(Answer::Failure);
    let config = |servers: &[&NameServer]| {
        let servers: Vec<_> =
            servers.iter().map(|server| format!("'{}'", server.address)).collect();
        let config = world.outproxy_config("'*.hsm.example'", "");
        format!("{config}[dns]\nservers = [{}]\n", servers.join(", "))
    };
    let subject = |server: &NameServer| format!("name server {}", server.address);
    let found = Examination::of(&mut outproxy(world, &config(&[&silent, &good, &broken])));
    found.assert(&subject(&good), "ok", None);
    for bad in [&silent, &broken] {
        found.assert(&subject(bad), "warning", Some("no-answer"));
        assert!(bad.was_asked());
    }
    let found = Examination::of(&mut outproxy(world, &config(&[&broken])));
    found.assert(&subject(&broken), "failed", Some("no-answer"));
}

/// Answers every request with a status, but for one with a token's header.
fn metadata_service(with_token: &'static str, without: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            let is_put = request.starts_with("put /latest/api/token ")
                && request.contains("x-aws-ec2-metadata-token-ttl-seconds:");
            let status = if is_put { with_token } else { without };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\ntoken");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

fn the_metadata_service_is_asked_for_a_token(world: &World) {
    let config = world.outproxy_config("'10.0.10.0/24'", "");
    for (service, result, problem) in [
        (metadata_service("200 OK", "401 Unauthorized"), "ok", None),
        (metadata_service("200 OK", "200 OK"), "warning", Some("tokens-optional")),
        (metadata_service("403 Forbidden", "403 Forbidden"), "warning", Some("disabled")),
        ("http://127.0.0.1:1".into(), "warning", Some("no-metadata")),
        ("https://metadata.example".into(), "skipped", None),
    ] {
        let mut command = outproxy(world, &config);
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", service);
        let found = Examination::of(&mut command);
        let finding = found.assert("metadata service", result, problem);
        assert!(!finding["found"].as_str().unwrap().contains("token\""), "{finding:#}");
    }
}

fn a_file_that_is_no_authority_is_a_mistake(world: &World) {
    let config = world.outproxy_config("'10.0.10.0/24'", "");
    let file = world.directory().join("customerCA.crt");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (content, words) in [
        (None, "No such file or directory"),
        (Some(""), "there is none in it"),
        (Some("-----BEGIN CERTIFICATE-----\n"), "it is not as PEM has it"),
        (Some(broken), "certificate 1 in it"),
    ] {
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => assert!(!Path::new(&file).exists()),
        }
        let output = outproxy(world, &config).arg("--ca").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", text(&output));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("customerCA.crt`: ") && stderr.contains(words), "{stderr}");
        assert!(output.stdout.is_empty(), "{}", text(&output));
    }
}

/// Scripts rely on these keys.
fn the_document_is_as_it_is_described(world: &World) {
    let config = world.outproxy_config("'10.0.10.0/24', '10.0.10.1'", "");
    let found = Examination::of(&mut outproxy(world, &config));
    let refused = found.assert("10.0.10.1:2225", "failed", Some("refused"));
    let advice = &refused["advice"];
    assert_eq!(
        refused,
        &json!({
            "group": "rule",
            "name": "hsm",
            "subject": "10.0.10.1:2225",
            "result": "failed",
            "problem": "refused",
            "found": "`10.0.10.1:2225` refused the connection",
            "advice": advice,
            "destination": "10.0.10.1:2225",
            "address": "10.0.10.1:2225",
            "milliseconds": Value::Null,
            "tls": Value::Null,
        })
    );
}
