//! Destinations that are down, and come back.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::process::{Outproxy, Place, connect, echo, get};
use super::{ADMIN, LISTEN, status, stderr, stdout};

#[test]
fn a_destination_that_is_down_is_refused_at_once_until_it_is_back() {
    let (hole, up) = (BlackHole::new(), echo());
    let place = Place::new();
    place.configure(&format!(
        "{LISTEN}[[listen]]\non = 'unix:DIR/raw'\nto = '127.0.0.1:{}'\n{ADMIN}{}{}\
         [limits]\nconnect-timeout = '2s'\n",
        hole.port,
        probed("dead", hole.port),
        probed("well", up)
    ));
    let outproxy = place.serve();
    let line = outproxy.await_line("destination down");
    assert!(line.contains(&format!("destination=127.0.0.1:{} ", hole.port)), "{line}");
    assert!(line.contains("did not answer within 2s"), "{line}");

    // It is tried again, so one of these may wait.
    let asked: Vec<_> = (0..5).map(|_| ask(&place, hole.port)).collect();
    let (head, quickest) = asked.iter().min_by_key(|(_, taken)| *taken).unwrap();
    assert!(*quickest < Duration::from_millis(50), "{asked:?}");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert!(head.contains("Proxy-Status: outproxy; error=destination_unavailable;"), "{head}");
    assert!(asked.iter().filter(|(_, taken)| *taken > Duration::from_secs(1)).count() < 5);
    assert!(ask(&place, up).0.starts_with("HTTP/1.1 200 "));
    let line = outproxy.await_line("connection refused");
    assert!(line.contains("outcome=\"down\"") && line.contains("rule=\"dead\""), "{line}");
    let quickest = (0..5).map(|_| ask_raw(&place)).min().unwrap();
    assert!(quickest < Duration::from_millis(50), "{quickest:?}");
    assert_told(&place, hole.port, "down");

    hole.open();
    let line = outproxy.await_line("destination up");
    assert!(line.contains(&format!("destination=127.0.0.1:{}", hole.port)), "{line}");
    assert!(ask(&place, hole.port).0.starts_with("HTTP/1.1 200 "));
    assert_told(&place, hole.port, "up");
}

#[test]
fn a_reload_begins_to_probe_and_ends_it() {
    let (hole, place) = (BlackHole::new(), Place::new());
    let config = |probe| {
        let rule = probed("dead", hole.port).replace("true", probe);
        place.configure(&format!("{LISTEN}{ADMIN}{rule}[limits]\nconnect-timeout = '100ms'\n"));
    };
    config("false");
    let outproxy = place.serve();
    assert!(ask(&place, hole.port).0.starts_with("HTTP/1.1 504 "));
    assert!(status(&place)["destinations"].as_array().unwrap().is_empty());

    let reload = |outproxy: &Outproxy, probe| {
        config(probe);
        outproxy.hang_up();
        outproxy.await_line(" reloaded ");
    };
    reload(&outproxy, "true");
    outproxy.await_line("destination down");
    reload(&outproxy, "true");
    assert_eq!(status(&place)["destinations"][0]["state"], "down");
    assert!(get(&place, "/metrics").contains("\noutproxy_destination_up{"));

    reload(&outproxy, "false");
    assert!(ask(&place, hole.port).0.starts_with("HTTP/1.1 504 "));
    assert!(!get(&place, "/metrics").contains("outproxy_destination_up{"));
}

fn probed(name: &str, port: u16) -> String {
    format!("[[allow]]\nname = '{name}'\nhosts = ['127.0.0.1']\nports = [{port}]\nprobe = true\n")
}

/// The answer to a client, and how long it took.
fn ask(place: &Place, port: u16) -> (String, Duration) {
    let started = Instant::now();
    let (_, head) = connect(place, &format!("127.0.0.1:{port}"));
    (head, started.elapsed())
}

/// How long it takes until a raw client is cut off.
fn ask_raw(place: &Place) -> Duration {
    let started = Instant::now();
    let mut client = UnixStream::connect(place.path("raw")).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    started.elapsed()
}

fn assert_told(place: &Place, port: u16, state: &str) {
    let destination = format!("127.0.0.1:{port}");
    let told = status(place);
    let told = told["destinations"].as_array().unwrap();
    let told = told.iter().find(|told| told["destination"] == *destination).unwrap();
    assert_eq!((&told["rule"], &told["state"]), (&"dead".into(), &state.into()), "{told}");
    assert!(told["since"].as_u64().unwrap() > 1_700_000_000, "{told}");
    assert_eq!(told["latency_seconds"] == Value::Null, state == "down", "{told}");
    let reason = told["last_error"]["reason"].as_str().unwrap();
    assert!(reason.contains("did not answer"), "{told}");

    let value = u8::from(state == "up");
    let labels = format!("{{rule=\"dead\",destination=\"{destination}\"}}");
    let metrics = get(place, "/metrics");
    let line = format!("outproxy_destination_up{labels} {value}");
    assert!(metrics.lines().any(|found| found == line), "`{line}` in {metrics}");

    let shown = place.run(&["status"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    let shown = stdout(&shown);
    let row = shown.lines().find(|line| line.starts_with(&destination)).unwrap();
    assert!(row.contains(&format!("  {state} ")) && row.contains("did not answer"), "{shown}");
}

/// A listener whose backlog is full: what connects to it gets no answer.
struct BlackHole {
    port: u16,
    listener: Socket,
    filler: Socket,
}

impl BlackHole {
    fn new() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let (listener, filler) = (socket(), socket());
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        filler.connect(&address).unwrap();
        Self { port: address.as_socket().unwrap().port(), listener, filler }
    }

    /// Lets everybody in.
    fn open(&self) {
        self.listener.listen(1024).unwrap();
        self.filler.shutdown(std::net::Shutdown::Both).unwrap();
        self.listener.accept().unwrap();
    }
}
