//! Enclaves that tell what no inproxy tells.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;
use tests::patience::{is_emulated, patience};
use tests::peers::{accept, connect, listen, ping};
use tests::process::Process;
use tests::world::{HSM, World};
use tunnel::head::{RECORDS_GRANT, RECORDS_REQUEST};
use tunnel::records::{Level, Line, Snapshot, Source};

use super::Host;

crate::scenarios![
    garbage_is_sent_away,
    a_line_without_end_is_cut_off,
    a_flood_blocks_nobody_and_takes_no_memory,
    a_thousand_words_make_no_series,
    nobody_can_pass_for_another_in_the_log,
    who_connects_again_and_again_leaves_nothing,
];

fn garbage_is_sent_away(world: &World) {
    let host = Host::start(world);
    for (round, garbage) in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"\0\0\0\0\n",
        b"{\"log\":{\"number\":1e400}}\n",
        b"{\"log\":\n",
        b"[[[[[[[[[[[[[[[[[[[[\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = told(world);
        client.write_all(garbage).unwrap();
        assert_ended(&mut client);
        host.await_enclave("the end", |enclave| enclave.malformed == round as u64 + 1);
    }
    let mut request = world.leg.dial(0).unwrap();
    request.write_all(b"GET /telemetry HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    request.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

fn a_line_without_end_is_cut_off(world: &World) {
    let host = Host::start(world);
    let before = host.outproxy.memory();
    let mut client = told(world);
    client.write_all(b"{\"log\":{\"number\":1,\"text\":\"").unwrap();
    let mut written = 0;
    // A gigabyte, if it were taken.
    while written < 1 << 30 {
        match client.write(&[b'x'; 65536]) {
            Ok(count) => written += count,
            Err(error) => {
                let expected = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(expected.contains(&error.kind()), "{error}");
                break;
            }
        }
    }
    assert!(written < 64 << 20, "{written} bytes were taken");
    host.await_enclave("the end", |enclave| enclave.malformed == 1);
    assert!(host.outproxy.memory().saturating_sub(before) < 2 << 20);
}

fn a_flood_blocks_nobody_and_takes_no_memory(world: &World) {
    let host = Host::start(world);
    let inproxy = world.inproxy(&(world.inproxy_config("") + "[telemetry]\nenabled = false\n"));
    let upstream = listen(HSM);
    let mut client = connect(&world.enclave, HSM);
    let mut served = accept(&upstream);
    ping(&mut client, &mut served);
    let before = host.outproxy.memory();
    let lines: u64 = if is_emulated() { 5000 } else { 100_000 };
    let mut flood = told(world);
    let mut ears = flood.try_clone().unwrap();
    thread::spawn(move || while matches!(ears.read(&mut [0; 4096]), Ok(1..)) {});
    let flooding = thread::spawn(move || {
        for number in 1..=lines {
            flood.write_all(&line(number, &format!("line {number}")).encode()).unwrap();
        }
        flood.shutdown(Shutdown::Write).unwrap();
    });
    let mut longest = Duration::ZERO;
    while !flooding.is_finished() {
        let start = Instant::now();
        ping(&mut client, &mut served);
        longest = longest.max(start.elapsed());
    }
    flooding.join().unwrap();
    crate::say(&format!("the longest ping took {longest:?}"));
    let enclave = host.await_enclave("all of it", |enclave| !enclave.connected);
    assert_eq!(enclave.lines.told, lines);
    let grown = host.outproxy.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "outproxy has grown by {grown} bytes");
    // The newest come into the log, the others are counted.
    host.outproxy.line("the last line", |line| line["text"] == format!("line {lines}"));
    let logged = host.outproxy.logged();
    let logged = logged.iter().filter(|line| line["message"] == "from an enclave").count() as u64;
    assert!(is_emulated() || logged < lines / 10, "{logged} lines are in the log");
    let unlogged = host.enclave().lines.unlogged;
    assert!(is_emulated() || unlogged > lines / 2, "{unlogged}");
    assert!(host.run(&["logs"]).lines().count() <= 1001);
    drop(inproxy);
}

fn a_thousand_words_make_no_series(world: &World) {
    let host = Host::start(world);
    let mut client = told(world);
    for round in 0..20 {
        let words = (0..50).map(|n| (format!("word{round}-{n}\"}}"), 1)).collect();
        let snapshot = Snapshot {
            version: format!("{round}\n"),
            started: round,
            ended: words,
            ..Snapshot::default()
        };
        client.write_all(&snapshot.encode()).unwrap();
        let mut record = line(round + 1, "\u{1b}]0;title\u{7}\r\nlevel=ERROR").encode();
        let strange = format!("\"source\":\"source{round}\"");
        record =
            String::from_utf8(record).unwrap().replace("\"source\":\"stdout\"", &strange).into();
        client.write_all(&record).unwrap();
    }
    host.await_enclave("all of it", |enclave| enclave.lines.told == 20);
    let metrics = host.metrics();
    let series = metrics.lines().filter(|line| line.starts_with("inproxy_")).count();
    assert!(series < 20, "{metrics}");
    assert!(metrics.contains("outcome=\"other\"} 50\n"), "{metrics}");
    assert!(metrics.contains("source=\"other\"} 20\n"), "{metrics}");
    for text in [metrics, host.run(&["status"]), host.run(&["logs"])] {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r']), "{text:?}");
    }
}

/// What it tells stands in a field, whatever it looks like.
fn nobody_can_pass_for_another_in_the_log(world: &World) {
    let host = Host::start(world);
    let mut client = told(world);
    let lie = "connection ended outcome=\"finished\"\n{\"message\":\"reloaded\"}";
    client.write_all(&line(1, lie).encode()).unwrap();
    let told = host.outproxy.line("the lie", |line| line["text"].to_string().contains("reloaded"));
    assert_eq!(told["message"], "from an enclave");
    assert_eq!(told["outcome"], serde_json::Value::Null);
    assert_eq!(host.outproxy.account().total(), 0);
    assert!(host.outproxy.logged().iter().all(|line| line["message"] != "reloaded"));
}

fn who_connects_again_and_again_leaves_nothing(world: &World) {
    let host = Host::start(world);
    let before = host.outproxy.descriptors();
    let rounds = if is_emulated() { 50 } else { 500 };
    for _ in 0..rounds {
        drop(told(world));
    }
    host.await_enclave("the last end", |enclave| !enclave.connected);
    await_descriptors(&host.outproxy, before);
    let status = host.status();
    assert_eq!((status.connections.open, status.enclaves.len()), (0, 1));
    let refused: u64 = status.connections.refused.values().sum();
    assert_eq!(refused + status.connections.ended.values().sum::<u64>(), 0, "it is no tunnel");
}

/// A client that may tell.
fn told(world: &World) -> Socket {
    let mut client = world.leg.dial(0).unwrap();
    client.write_all(RECORDS_REQUEST.as_bytes()).unwrap();
    let mut grant = vec![0; RECORDS_GRANT.len()];
    client.read_exact(&mut grant).unwrap();
    assert_eq!(grant, RECORDS_GRANT.as_bytes());
    client
}

fn line(number: u64, text: &str) -> Line {
    Line {
        number,
        missing: 0,
        time: 1_700_000_000_000,
        source: Source::Stdout,
        level: Level::Info,
        text: text.into(),
    }
}

fn assert_ended(client: &mut Socket) {
    match client.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?} instead of an end"),
    }
}

fn await_descriptors(process: &Process, count: usize) {
    let deadline = Instant::now() + patience();
    while process.descriptors() > count {
        assert!(Instant::now() < deadline, "{} of {count} descriptors", process.descriptors());
        thread::yield_now();
    }
}
