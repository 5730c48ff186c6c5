//! What an operator learns from a running outproxy, and from its commands.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod catalogue;
mod exposition;
mod health;
mod hostile;
mod logging;
mod monitoring;
mod process;
mod schema;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use process::{Place, ask, ask_tcp, connect, echo, get, refusing};

const LISTEN: &str = "[[listen]]\non = 'unix:DIR/routed'\n";
const ADMIN: &str = "[metrics]\nlisten = 'unix:DIR/admin'\n";

/// A rule that lists these ports of 127.0.0.1.
fn rule(name: &str, ports: &[u16]) -> String {
    format!(
        "[[allow]]\nname = '{name}'\nhosts = ['127.0.0.1']\nports = {ports:?}\nmax-connections = 7\n"
    )
}

fn status(place: &Place) -> Value {
    serde_json::from_str(&get(place, "/status")).unwrap()
}

/// Asserts that these lines are among the metrics.
fn assert_shows(place: &Place, lines: &[&str]) {
    let metrics = get(place, "/metrics");
    for line in lines {
        assert!(metrics.lines().any(|found| found == *line), "`{line}` in {metrics}");
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_connection_is_counted_and_the_last_errors_are_told() {
    let (up, (_held, down)) = (echo(), refusing());
    let place = Place::new();
    place.configure(&format!("{LISTEN}{ADMIN}{}{}", rule("up", &[up]), rule("down", &[down])));
    let outproxy = place.serve();

    let (mut tunnel, head) = connect(&place, &format!("127.0.0.1:{up}"));
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut word = [0; 5];
    tunnel.write_all(b"hello").unwrap();
    tunnel.read_exact(&mut word).unwrap();
    let now = status(&place);
    assert_eq!(now["connections"]["open"], 1);
    assert_eq!(now["rules"][0], json!({ "name": "up", "open": 1, "max": 7 }));
    assert_shows(
        &place,
        &[
            "tunnel_connections_open 1",
            "outproxy_rule_connections_open{rule=\"up\"} 1",
            // It is still open.
            "tunnel_bytes_total{rule=\"up\",direction=\"sent\"} 5",
            "tunnel_bytes_total{rule=\"up\",direction=\"received\"} 5",
        ],
    );
    tunnel.shutdown(Shutdown::Write).unwrap();
    assert_eq!(tunnel.read_to_end(&mut Vec::new()).unwrap(), 0);
    outproxy.await_line("connection ended");

    for (destination, code) in [(format!("127.0.0.1:{down}"), 502), ("127.0.0.1:9".into(), 403)] {
        let (_, head) = connect(&place, &destination);
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{head}");
    }

    assert_shows(&place, AFTERWARDS);

    let now = status(&place);
    assert_eq!(now["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(now["listeners"][0]["to"], Value::Null);
    assert_eq!(now["config"]["last_reload"], Value::Null);
    let connections = &now["connections"];
    assert_eq!(connections["open"], 0);
    assert_eq!(connections["ended"], json!({ "finished": 1 }));
    assert_eq!(connections["refused"], json!({ "denied": 1, "unreachable": 1 }));
    let [denied, refused] = now["last_errors"].as_array().unwrap().as_slice() else {
        panic!("{now}");
    };
    assert_eq!((&denied["destination"], &denied["rule"]), (&json!("127.0.0.1:9"), &Value::Null));
    assert_eq!(refused["rule"], "down");
    assert!(refused["reason"].as_str().unwrap().contains("refused the connection"), "{refused}");
    assert!(refused["time"].as_u64().unwrap() > 1_700_000_000, "{refused}");

    let shown = place.run(&["status"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    for words in ["what its clients ask for", "up", "finished", "refused the connection"] {
        assert!(stdout(&shown).contains(words), "`{words}` in {}", stdout(&shown));
    }
    let shown = place.run(&["status", "--json"]);
    let shown: Value = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!(shown["last_errors"], now["last_errors"]);
}

/// What the metrics say after one tunnel and two refusals.
const AFTERWARDS: &[&str] = &[
    "# TYPE tunnel_connections_total counter",
    "tunnel_connections_total{rule=\"up\",cid=\"-\",outcome=\"finished\"} 1",
    "tunnel_connections_total{rule=\"down\",cid=\"-\",outcome=\"unreachable\"} 1",
    "tunnel_connections_total{rule=\"\",cid=\"-\",outcome=\"denied\"} 1",
    "tunnel_connections_open 0",
    "outproxy_rule_connections_open{rule=\"up\"} 0",
    "outproxy_rule_connections_max{rule=\"up\"} 7",
    "tunnel_bytes_total{rule=\"up\",direction=\"sent\"} 5",
    "tunnel_bytes_total{rule=\"up\",direction=\"received\"} 5",
    "tunnel_bytes_total{rule=\"down\",direction=\"sent\"} 0",
    "tunnel_connect_seconds_count{rule=\"up\"} 1",
    "tunnel_connect_seconds_count{rule=\"down\"} 0",
    "outproxy_refusals_total{reason=\"connection-refused\"} 1",
    "outproxy_refusals_total{reason=\"host-not-allowed\"} 0",
    "outproxy_refusals_total{reason=\"port-not-allowed\"} 1",
    "tunnel_accept_errors_total 0",
    "outproxy_dns_stale_answers_total 0",
    "outproxy_config_last_reload_successful 1",
    concat!("tunnel_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
];

#[test]
fn what_is_no_request_for_a_page_is_refused() {
    let place = Place::new();
    place.configure(&format!("{LISTEN}{ADMIN}"));
    let _outproxy = place.serve();
    assert_eq!(get(&place, "/healthz"), "ok\n");
    let head = ask(&place, "HEAD /healthz HTTP/1.1\r\n\r\n");
    assert!(
        head.ends_with("Content-Length: 3\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n")
    );
    let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(5000));
    for (request, code) in [
        ("GET /secrets HTTP/1.1\r\n\r\n", 404),
        ("POST /status HTTP/1.1\r\n\r\n", 405),
        ("hello\r\n\r\n", 400),
        (&long, 431),
    ] {
        let answer = ask(&place, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
    }
}

#[test]
fn clients_who_say_nothing_take_sixteen_places_and_no_more() {
    let place = Place::new();
    place.configure(&format!("{LISTEN}{ADMIN}"));
    let _outproxy = place.serve();
    let mut silent: Vec<_> =
        (0..17).map(|_| UnixStream::connect(place.path("admin")).unwrap()).collect();
    let mut last = silent.pop().unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0);
    silent[0].set_nonblocking(true).unwrap();
    assert_eq!(silent[0].read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    silent[0].set_nonblocking(false).unwrap();
    // The others are kept for as long as a request may take, then cut off.
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0);
    assert_eq!(silent[15].read(&mut [0]).unwrap(), 0);
    assert_eq!(get(&place, "/healthz"), "ok\n");
}

#[test]
fn a_reload_moves_the_endpoint_or_changes_nothing() {
    let place = Place::new();
    place.configure(&format!("{LISTEN}{ADMIN}"));
    let outproxy = place.serve();

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let elsewhere = format!("[metrics]\nlisten = 'tcp:127.0.0.1:{port}'\n");
    let more = "[[listen]]\non = 'unix:DIR/more'\n";
    place.configure(&format!("{LISTEN}{more}{elsewhere}"));
    outproxy.hang_up();
    outproxy.await_line("failed to reload");
    let now = status(&place);
    assert_eq!(now["config"]["last_reload"]["result"], "failed");
    assert_shows(&place, &["outproxy_config_last_reload_successful 0"]);
    let error = now["config"]["last_reload"]["error"].as_str().unwrap();
    assert!(error.contains(&format!("failed to listen on `tcp:127.0.0.1:{port}`")), "{error}");
    assert_eq!(now["listeners"].as_array().unwrap().len(), 1);
    assert!(!place.path("more").exists());

    drop(taken);
    outproxy.hang_up();
    outproxy.await_line("reloaded");
    let answer = ask_tcp(port, "GET /status HTTP/1.1\r\n\r\n").unwrap();
    assert!(answer.contains("\"result\": \"ok\"") && answer.contains("/more\""), "{answer}");
    let answer = ask_tcp(port, "GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(answer.contains("\ntunnel_reloads_total{result=\"failed\"} 1\n"), "{answer}");
    assert!(answer.contains("\noutproxy_config_last_reload_successful 1\n"), "{answer}");
    let shown = place.run(&["status"]);
    assert!(stdout(&shown).contains("reloaded 0s ago"), "{}", stdout(&shown));
    assert!(UnixStream::connect(place.path("admin")).is_err());

    place.configure(LISTEN);
    outproxy.hang_up();
    outproxy.await_line("reloaded");
    assert!(ask_tcp(port, "GET /healthz HTTP/1.1\r\n\r\n").is_err());
}

#[test]
fn what_a_reload_removes_leaves_no_series() {
    let (up, place) = (echo(), Place::new());
    place.configure(&format!("{LISTEN}{ADMIN}{}", rule("old", &[up])));
    let outproxy = place.serve();
    let old = "outproxy_rule_connections_open{rule=\"old\"} 0";
    assert_shows(&place, &[old]);
    place.configure(&format!("{LISTEN}{ADMIN}{}", rule("new", &[up])));
    outproxy.hang_up();
    outproxy.await_line("reloaded");
    assert_shows(&place, &["outproxy_rule_connections_open{rule=\"new\"} 0"]);
    assert!(!get(&place, "/metrics").contains(old));
}

#[test]
fn an_outproxy_that_drains_is_not_healthy() {
    let (up, place) = (echo(), Place::new());
    place.configure(&format!("{LISTEN}{ADMIN}{}", rule("up", &[up])));
    let outproxy = place.serve();
    assert_eq!(get(&place, "/healthz"), "ok\n");
    let (_tunnel, _) = connect(&place, &format!("127.0.0.1:{up}"));
    outproxy.signal(Signal::SIGTERM);
    outproxy.await_line("shutting down");
    let answer = ask(&place, "GET /healthz HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\ndraining\n"), "{answer}");
    assert_shows(&place, &["tunnel_connections_open 1"]);
}

#[test]
fn an_outproxy_that_cannot_be_asked_does_not_serve() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let place = Place::new();
    place.configure(&format!("{LISTEN}[metrics]\nlisten = 'tcp:127.0.0.1:{port}'\n"));
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("`tcp:127.0.0.1:{port}`")), "{}", stderr(&output));
    assert!(!stderr(&output).contains(" ready listeners="), "{}", stderr(&output));
    assert!(!place.path("routed").exists());
}

#[test]
fn a_status_that_nobody_tells_is_an_error_that_says_what_to_do() {
    let place = Place::new();
    place.configure(LISTEN);
    let output = place.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("[metrics]\nlisten = "), "{}", stderr(&output));

    place.configure(&format!("{LISTEN}{ADMIN}"));
    let output = place.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is an outproxy running"), "{}", stderr(&output));
    assert!(stdout(&output).is_empty());

    place.configure(&format!("{LISTEN}[metrics]\nlisten = 'tcp:127.0.0.1:{}'\n", echo()));
    let output = place.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_doctor_finds_what_cannot_be_reached() {
    let (up, (_held, down)) = (echo(), refusing());
    let place = Place::new();
    let block = "[[allow]]\nname = 'block'\nhosts = ['10.0.12.0/24']\nports = [2223]\n";
    place.configure(&format!("{LISTEN}{}{block}", rule("up", &[up])));
    let output = place.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("  skipped  10.0.12.0/24 "), "{}", stdout(&output));

    place.configure(&format!("{LISTEN}{}{}", rule("up", &[up]), rule("down", &[down])));
    let output = place.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let shown = stdout(&output);
    for words in [
        &format!("\nrule up\n  ok       127.0.0.1:{up} "),
        &format!("\nrule down\n  failed   127.0.0.1:{down} "),
        "nothing listens on that port",
        "\n1 failed, ",
    ] {
        assert!(shown.contains(words), "`{words}` in {shown}");
    }
}
