//! When inproxy tells the host, and whom it leaves alone. The clock jumps from one timer to the
//! next.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use inproxy::config::Config;
use inproxy::forwarder::Forwarder;
use inproxy::forwards::Forwards;
use inproxy::outbox::Outbox;
use inproxy::telemetry::Telemetry;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{Instant, timeout};
use tunnel::head::{GRANT, GRANT_WITH_NOTICES, NOTICES_GRANT, RECORDS_GRANT, RECORDS_REQUEST};
use tunnel::listener::Peer;
use tunnel::records::{Application, Level, Record, Snapshot, Source};
use tunnel::stream::Stream;

/// Whoever listens in outproxy's place, and what inproxy has to say.
struct Place {
    config: Config,
    /// Where whoever wants a tunnel connects to.
    forwarded: TcpListener,
    listener: UnixListener,
    telemetry: Telemetry,
    _directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let forwarded = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        forwarded.set_nonblocking(true).unwrap();
        let config: Config = format!(
            "outproxy = 'unix:{}'\n\
             [[forward]]\nname = 'a'\naddresses = ['127.0.0.2']\nports = [{}]\n",
            path.display(),
            forwarded.local_addr().unwrap().port()
        )
        .parse()
        .unwrap();
        let telemetry = Telemetry::start(&config, Arc::new(Outbox::default()));
        let forwarded = TcpListener::from_std(forwarded).unwrap();
        Self { config, forwarded, listener, telemetry, _directory: directory }
    }

    /// What makes tunnels, and is watched.
    fn forwarder(&self) -> Arc<Forwarder> {
        let forwards = Forwards::new(&self.config, &BTreeMap::new());
        let forwarder = Forwarder::new(self.config.clone(), forwards).unwrap();
        self.telemetry.watch(Arc::clone(&forwarder));
        forwarder
    }

    /// Somebody wants a tunnel.
    async fn connect(&self, forwarder: &Arc<Forwarder>) -> TcpStream {
        let address = self.forwarded.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (stream, peer) = self.forwarded.accept().await.unwrap();
        forwarder.serve(Stream::try_from(stream).unwrap(), Peer::Tcp(peer));
        client
    }

    /// The next connection, and what it asks for.
    async fn accept(&self) -> (String, UnixStream) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        (String::from_utf8(request).unwrap(), stream)
    }

    /// The next connection, which is to ask for something that begins like this.
    async fn expect(&self, beginning: &str) -> UnixStream {
        let (request, stream) = self.accept().await;
        assert!(request.starts_with(beginning), "{request}");
        stream
    }

    fn push(&self, text: &str) {
        self.telemetry.outbox().push(Source::Stdout, Level::Info, text.into());
    }

    /// The next request, and how long it took to come.
    async fn asked(&self) -> (UnixStream, Duration) {
        let start = Instant::now();
        let stream = self.expect(RECORDS_REQUEST).await;
        (stream, start.elapsed())
    }

    async fn granted(&self) -> Outproxy {
        let (mut stream, _) = self.asked().await;
        stream.write_all(RECORDS_GRANT.as_bytes()).await.unwrap();
        Outproxy { stream, rest: Vec::new() }
    }
}

/// One that takes records.
struct Outproxy {
    stream: UnixStream,
    rest: Vec<u8>,
}

impl Outproxy {
    /// The next record; nothing at the end.
    async fn record(&mut self) -> Option<Record> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.rest.drain(..=end).collect();
                return Some(Record::parse(&line).unwrap().unwrap());
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).await.unwrap();
            if count == 0 {
                return None;
            }
            self.rest.extend(&bytes[..count]);
        }
    }

    async fn snapshot(&mut self) -> Snapshot {
        match self.record().await {
            Some(Record::Snapshot(snapshot)) => snapshot,
            other => panic!("{other:?} instead of a snapshot"),
        }
    }

    async fn line(&mut self) -> (u64, u64, String) {
        match self.record().await {
            Some(Record::Log(line)) => (line.number, line.missing, line.text.into()),
            other => panic!("{other:?} instead of a line"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_records_is_left_alone_for_long() {
    for answer in [
        "HTTP/1.1 404 Not Found\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        // What a TLS server thinks of it.
        "\x15\x03\x01\0\x02\x02F",
    ] {
        let place = Place::new();
        for round in 0..3 {
            let (mut stream, waited) = place.asked().await;
            let expected = Duration::from_secs(if round == 0 { 0 } else { 600 });
            let is_expected = waited >= expected && waited < expected + Duration::from_secs(1);
            assert!(is_expected, "{answer}: {waited:?}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            // It hangs up by itself.
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_again_and_again_is_left_alone() {
    let place = Place::new();
    let mut silent = Vec::new();
    for round in 0..8 {
        let (stream, waited) = place.asked().await;
        silent.push(stream);
        // Each is given up after `connect-timeout`.
        let expected = if round < SILENCES { 0.0..7.0 } else { 605.0..606.0 };
        assert!(expected.contains(&waited.as_secs_f64()), "{round}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_taken_records_is_never_left_alone() {
    let place = Place::new();
    let mut outproxy = place.granted().await;
    outproxy.snapshot().await;
    drop(outproxy);
    let answers = ["", "", "HTTP/1.1 404 Not Found\r\n\r\n", "", "SSH-2.0-OpenSSH_9.2\r\n"];
    let mut silent = Vec::new();
    for answer in answers.into_iter().cycle().take(20) {
        let (mut stream, waited) = place.asked().await;
        assert!(waited <= Duration::from_secs(5 + 60), "{waited:?}");
        stream.write_all(answer.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    place.granted().await.snapshot().await;
}

/// It says nothing to those who want to tell something, and grants a tunnel.
#[tokio::test(start_paused = true)]
async fn who_is_left_alone_is_asked_again_once_it_grants_a_tunnel() {
    let place = Place::new();
    let mut silent = Vec::new();
    for _ in 0..SILENCES {
        silent.push(place.asked().await.0);
    }
    // Not before it was left alone is there somebody who could make tunnels.
    let forwarder = place.forwarder();
    let begun = Instant::now();
    let client = place.connect(&forwarder).await;
    let mut tunnel = place.expect("CONNECT ").await;
    tunnel.write_all(GRANT.as_bytes()).await.unwrap();
    silent.push(place.asked().await.0);
    assert!(begun.elapsed() >= Duration::from_secs(600), "{:?}", begun.elapsed());

    let begun = Instant::now();
    let other = place.connect(&forwarder).await;
    let mut ours = place.expect("CONNECT ").await;
    ours.write_all(GRANT_WITH_NOTICES.as_bytes()).await.unwrap();
    let notices = place.expect("GET /notices ").await;
    place.granted().await.snapshot().await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    drop((silent, client, tunnel, other, ours, notices));
}

/// It refuses, again and again, while it grants tunnels.
#[tokio::test(start_paused = true)]
async fn who_grants_many_tunnels_is_not_asked_for_each() {
    let place = Place::new();
    let forwarder = place.forwarder();
    let begun = Instant::now();
    let mut asked = 0;
    let serving = async {
        let mut streams = Vec::new();
        loop {
            let (request, mut stream) = place.accept().await;
            let answer = if request == RECORDS_REQUEST {
                asked += 1;
                "HTTP/1.1 503 Service Unavailable\r\n\r\n"
            } else if request.starts_with("CONNECT ") {
                GRANT_WITH_NOTICES
            } else {
                NOTICES_GRANT
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            streams.push(stream);
        }
    };
    let connecting = async {
        let mut clients = Vec::new();
        for _ in 0..100 {
            clients.push(place.connect(&forwarder).await);
            // The pace of the tunnels; the clock is paused.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = serving => {}
        () = connecting => {}
    }
    let seconds = begun.elapsed().as_secs();
    assert!((5..seconds + 7).contains(&asked), "{asked} times in {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_without_a_word_is_asked_more_and_more_seldom() {
    let place = Place::new();
    let mut waits = Vec::new();
    for _ in 0..7 {
        waits.push(place.asked().await.1.as_secs_f64());
    }
    assert!(waits[1] < 0.2 && waits[4] < 1.0, "{waits:?}");
    assert!(waits[5..].iter().all(|wait| *wait >= 600.0), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outproxy_that_is_busy_is_asked_again_soon() {
    let place = Place::new();
    for _ in 0..5 {
        let (mut stream, waited) = place.asked().await;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again_at_once_and_the_longer_it_fails_the_later() {
    let place = Place::new();
    let mut outproxy = place.granted().await;
    outproxy.snapshot().await;
    // Long enough for a connection that holds; the clock is paused.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        drop(outproxy);
        let (mut stream, waited) = place.asked().await;
        if round == 0 {
            assert!(waited < Duration::from_secs(1), "{waited:?}");
        }
        longest = longest.max(waited);
        stream.write_all(RECORDS_GRANT.as_bytes()).await.unwrap();
        outproxy = Outproxy { stream, rest: Vec::new() };
    }
    let seconds = longest.as_secs_f64();
    assert!((45.0..=61.0).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_comes_first_then_when_something_has_changed_and_once_a_minute() {
    let place = Place::new();
    let mut outproxy = place.granted().await;
    let first = outproxy.snapshot().await;
    assert_eq!((first.forwards, first.application), (1, None));
    let start = Instant::now();
    place.telemetry.set_application(Application::Running { pid: 7 });
    let changed = outproxy.snapshot().await;
    assert_eq!(changed.application, Some(Application::Running { pid: 7 }));
    assert!(start.elapsed() < Duration::from_secs(1));
    outproxy.snapshot().await;
    let silence = start.elapsed().as_secs();
    assert!((55..=66).contains(&silence), "{silence}");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_confirmed_is_told_again_and_what_was_is_not() {
    let place = Place::new();
    (1..=3).for_each(|number| place.push(&number.to_string()));
    let mut outproxy = place.granted().await;
    let started = outproxy.snapshot().await.started;
    for number in 1..=3 {
        assert_eq!(outproxy.line().await, (number, 0, number.to_string()));
    }
    outproxy.stream.write_all(b"1\n2").await.unwrap();
    // It dies before the end of its word.
    drop(outproxy);
    let mut outproxy = place.granted().await;
    assert_eq!(outproxy.snapshot().await.started, started);
    for number in 2..=3 {
        assert_eq!(outproxy.line().await, (number, 0, number.to_string()));
    }
    for nonsense in ["x", "\n", "99999999999999999999999\n"] {
        outproxy.stream.write_all(nonsense.as_bytes()).await.unwrap();
        assert_eq!(outproxy.record().await, None, "{nonsense}");
        outproxy = place.granted().await;
        outproxy.snapshot().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_words_are_told_and_heard() {
    let place = Place::new();
    let mut outproxy = place.granted().await;
    outproxy.snapshot().await;
    let Place { telemetry, .. } = place;
    telemetry.outbox().push(Source::Stderr, Level::Info, "panic".into());
    telemetry.set_application(Application::Exited { code: 101 });
    let outbox = Arc::clone(telemetry.outbox());
    let ending = tokio::spawn(async move { telemetry.finish(Some("no more")).await });
    let mut texts = Vec::new();
    let mut last = None;
    while let Some(record) = outproxy.record().await {
        match record {
            Record::Log(line) => {
                texts.push(line.text.to_string());
                let answer = format!("{}\n", line.number);
                outproxy.stream.write_all(answer.as_bytes()).await.unwrap();
            }
            Record::Snapshot(snapshot) => last = Some(snapshot),
        }
    }
    assert_eq!(texts, ["panic", "no more"]);
    assert_eq!(last.unwrap().application, Some(Application::Exited { code: 101 }));
    assert!(!ending.is_finished(), "it waits until it was heard");
    drop(outproxy);
    timeout(Duration::from_millis(10), ending).await.unwrap().unwrap();
    assert_eq!(outbox.dropped(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_longer_than_a_moment() {
    // Who does not listen, who does not answer, who takes nothing, and who is no outproxy.
    let start = Instant::now();
    let Place { listener, telemetry, _directory, .. } = Place::new();
    drop(listener);
    telemetry.finish(Some("error")).await;
    assert!(start.elapsed() <= Duration::from_millis(1100));

    let start = Instant::now();
    let place = Place::new();
    let (_silent, _) = place.asked().await;
    place.telemetry.finish(None).await;
    assert!(start.elapsed() <= Duration::from_millis(1100));

    let place = Place::new();
    for _ in 0..2000 {
        place.push(&"x".repeat(250));
    }
    let _deaf = place.granted().await;
    let start = Instant::now();
    place.telemetry.finish(None).await;
    assert!(start.elapsed() <= Duration::from_millis(1100));

    let place = Place::new();
    let (mut stream, _) = place.asked().await;
    stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    let start = Instant::now();
    place.telemetry.finish(None).await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_application_may_start_once_outproxy_was_asked() {
    let mut place = Place::new();
    let start = Instant::now();
    place.telemetry.attempted().await;
    assert!((400..600).contains(&start.elapsed().as_millis()), "nobody answers");
    let mut place = Place::new();
    let _outproxy = place.granted().await;
    let start = Instant::now();
    place.telemetry.attempted().await;
    assert!(start.elapsed().as_millis() < 100);
}

/// After how many silences in a row somebody is left alone.
const SILENCES: usize = 5;
