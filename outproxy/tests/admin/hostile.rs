//! A thousand requests that are made to hurt whoever reads the log or keeps the metrics.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exposition::keys;
use crate::logging::documented_keys;
use crate::process::{Place, get};
use crate::{ADMIN, LISTEN, status};

#[test]
fn a_thousand_hostile_names_make_no_series_and_few_lines() {
    for format in ["text", "json"] {
        let place = Place::new();
        place.configure(&format!("{LISTEN}{ADMIN}[log]\nformat = '{format}'\n"));
        let outproxy = place.serve();
        attack(&place, 0..20);
        let before = get(&place, "/metrics");
        let began = Instant::now();
        attack(&place, 20..1000);
        let after = get(&place, "/metrics");
        let seconds = began.elapsed().as_secs();
        assert_eq!(keys(&before), keys(&after), "series have come");
        let refused = status(&place)["connections"]["refused"].clone();
        let refused: u64 = refused.as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(refused, 1000, "each of them is counted");

        let lines = outproxy.finish();
        let most = usize::try_from(11 * (seconds + 5)).unwrap();
        assert!(lines.len() < most, "{} lines in {seconds} s", lines.len());
        let mut told = 0;
        for line in &lines {
            assert!(line.len() < 700, "{line}");
            assert!(line.chars().all(|char| matches!(char, ' '..='~' | '…')), "{line:?}");
            told += if format == "json" { told_in_json(line) } else { told_in_text(line) };
        }
        assert_eq!(told, 1000, "each has a line or is in the count of those that have none");
    }
}

/// How many refusals a line tells of.
fn told_in_text(line: &str) -> u64 {
    let (time, rest) = line.split_once("Z ").unwrap_or_else(|| panic!("{line}"));
    assert!(time.starts_with("20") && time.len() < 30, "{line}");
    let rest = rest.trim_start();
    match rest.strip_prefix("WARN ") {
        Some(rest) if rest.starts_with("connection refused ") => 1,
        Some(rest) => rest.rsplit_once("lines=").map_or(0, |(_, lines)| lines.parse().unwrap()),
        None => {
            assert!(rest.starts_with("INFO "), "{line}");
            assert!(!rest.contains("outcome="), "nothing was finished: {line}");
            0
        }
    }
}

fn told_in_json(line: &str) -> u64 {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let documented = documented_keys();
    for key in line.as_object().unwrap().keys() {
        assert!(documented.contains(key), "`{key}` is not in docs/LOGGING.md: {line}");
    }
    match line["message"].as_str().unwrap() {
        "connection refused" => 1,
        "refusals not logged in the last second" => line["lines"].as_u64().unwrap(),
        _ => 0,
    }
}

fn attack(place: &Place, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let mut stream = UnixStream::connect(place.path("routed")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // It may be refused before all of it is said.
        let _ = stream.write_all(&request(number));
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// Each kind again and again, never twice the same.
fn request(number: usize) -> Vec<u8> {
    let connect = |target: &str| {
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        head.into_bytes()
    };
    let forged = "2026-01-01T00:00:00.000000Z  INFO connection ended outcome=\"finished\"";
    match number % 14 {
        0 => connect(&format!("evil{number}.example:443")),
        1 => connect(&format!("\x1b[2J\x1b[31m{number}:443")),
        2 => connect(&format!("a{number}\n{forged}:443")),
        3 => connect(&format!("\u{202e}moc.elpmaxe{number}\u{200b}:443")),
        4 => connect(&format!("{}{number}:443", "a".repeat(7000))),
        5 => connect(&format!("{}{number}:443", "b".repeat(1024 * 1024))),
        6 => [b"CONNECT \xff\xfe\x80".as_slice(), &connect(&number.to_string())].concat(),
        7 => connect(&format!("unix:/tmp/\x07\x08{number}")),
        8 => format!("EVIL{number}\u{9b}31m / HTTP/1.1\r\n\r\n").into_bytes(),
        9 => format!("DELETE{number} /\"'\\ HTTP/1.1\r\n\r\n").into_bytes(),
        10 => client_hello(&format!("evil{number}.example")),
        11 => format!(
            "CONNECT evil{number}:1 HTTP/1.1\r\nX-{number}: \x1b]0;{forged}\x07\r\n\
             Tunnel-Id: {number}\u{2028}\r\n\r\n"
        )
        .into_bytes(),
        12 => connect(&format!("xn--{number}\"',rule=\"hsm\"}}:443")),
        _ => connect(&format!("\0{number}\r\r:443")),
    }
}

/// As much of TLS as has a server name in it.
fn client_hello(name: &str) -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend([0x1b; 32]);
    hello.extend(name.as_bytes());
    hello
}
