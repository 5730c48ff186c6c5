use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tunnel::buffer::Buffer;
use tunnel::head::RECORDS_GRANT;
use tunnel::records::{Application, Level, Line, MAX_RECORD, Snapshot, Source};
use tunnel::stream::Stream;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

/// A client that tells something.
struct Client {
    socket: UnixStream,
    served: JoinHandle<()>,
}

impl Client {
    async fn connect(enclaves: &Arc<Enclaves>, id: EnclaveId) -> Self {
        let (mut socket, theirs) = UnixStream::pair().unwrap();
        let connection = enclaves.connect(id).unwrap();
        let stream = Stream::try_from(theirs).unwrap();
        let served = tokio::spawn(serve(connection, stream, Buffer::holding(b""), LIMIT));
        let mut grant = vec![0; RECORDS_GRANT.len()];
        socket.read_exact(&mut grant).await.unwrap();
        assert_eq!(grant, RECORDS_GRANT.as_bytes());
        Self { socket, served }
    }

    /// Tells lines of these numbers, and returns what is confirmed last.
    async fn tell(&mut self, numbers: impl IntoIterator<Item = u64>, missing: u64) -> u64 {
        let mut last = 0;
        for number in numbers {
            let line = Line { missing, ..line(number) };
            self.socket.write_all(&line.encode()).await.unwrap();
            last = number;
        }
        loop {
            let mut answer = String::new();
            while !answer.ends_with('\n') {
                answer.push(char::from(self.socket.read_u8().await.unwrap()));
            }
            let number = answer.trim_end().parse().unwrap();
            if number >= last {
                return number;
            }
        }
    }

    async fn end(mut self) {
        self.socket.shutdown().await.unwrap();
        assert_eq!(self.socket.read(&mut [0]).await.unwrap(), 0);
        self.served.await.unwrap();
    }
}

fn line(number: u64) -> Line {
    let text = format!("line {number}").into();
    Line { number, missing: 0, time: 0, source: Source::Stdout, level: Level::Info, text }
}

fn id(cid: u32) -> EnclaveId {
    EnclaveId(Some(Cid::new(cid)))
}

/// As Prometheus sees it.
fn rendered(enclaves: &Enclaves) -> String {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        tunnel::metrics::describe();
        sample(enclaves);
    });
    recorder.handle().render()
}

/// What a reader sees that was not there before.
fn texts(enclaves: &Enclaves, cursor: &mut Cursor) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let lines = enclaves.read(cursor, 7);
        if lines.is_empty() {
            return all;
        }
        all.extend(lines.into_iter().map(|line| format!("{} {}", line.cid, line.text)));
    }
}

#[tokio::test]
async fn what_is_told_is_kept_and_confirmed() {
    let enclaves = Arc::<Enclaves>::default();
    let mut cursor = enclaves.cursor(None, None);
    let mut client = Client::connect(&enclaves, id(16)).await;
    assert_eq!(client.tell(1..=2, 0).await, 2);
    assert_eq!(client.tell([9], 6).await, 9);
    let mut other = Client::connect(&enclaves, EnclaveId(None)).await;
    other.tell([1], 0).await;
    assert_eq!(
        texts(&enclaves, &mut cursor),
        [
            "16 connected",
            "16 line 1",
            "16 line 2",
            "16 6 lines are missing here: the enclave had no room for them",
            "16 line 9",
            "- connected",
            "- line 1",
        ]
    );
    assert!(texts(&enclaves, &mut cursor).is_empty());
    let mut newest = enclaves.cursor(Some(id(16)), Some(1));
    assert_eq!(texts(&enclaves, &mut newest), ["16 line 9"]);
    client.end().await;
    assert_eq!(texts(&enclaves, &mut newest), ["16 disconnected"]);
    let status = enclaves.status();
    assert_eq!((status[0].cid.as_str(), status[1].cid.as_str()), ("-", "16"));
    assert!(status[0].connected && !status[1].connected);
    assert_eq!((status[1].lines.told, status[1].lines.dropped), (3, 6));
}

#[tokio::test]
async fn a_line_that_is_told_again_is_there_once_unless_the_inproxy_is_another() {
    let enclaves = Arc::<Enclaves>::default();
    let mut cursor = enclaves.cursor(None, None);
    let snapshot = |started| Snapshot { started, ..Snapshot::default() }.encode();
    for (started, expected) in [(1, 2), (1, 0), (2, 2)] {
        let mut client = Client::connect(&enclaves, id(16)).await;
        client.socket.write_all(&snapshot(started)).await.unwrap();
        assert_eq!(client.tell(1..=2, 0).await, 2);
        client.end().await;
        let lines = texts(&enclaves, &mut cursor);
        assert_eq!(lines.iter().filter(|line| line.contains("line")).count(), expected);
    }
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_the_old_one() {
    let enclaves = Arc::<Enclaves>::default();
    let mut old = Client::connect(&enclaves, id(16)).await;
    old.tell([1], 0).await;
    let _other = Client::connect(&enclaves, id(17)).await;
    let mut new = Client::connect(&enclaves, id(16)).await;
    timeout(LIMIT, old.served).await.unwrap().unwrap();
    assert_eq!(old.socket.read(&mut [0]).await.unwrap(), 0);
    new.tell([2], 0).await;
    assert!(enclaves.status().iter().all(|enclave| enclave.connected));
    enclaves.close();
    timeout(LIMIT, new.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_no_record_ends_the_connection() {
    let long = vec![b'x'; MAX_RECORD + 1];
    let garbage: [&[u8]; 6] =
        [b"\n", b"{}{}\n", b"\xff\n", &long, b"GET / HTTP/1.1\r\n", b"{\"log\":{\"number\":-1}}\n"];
    for bytes in garbage {
        let enclaves = Arc::<Enclaves>::default();
        let mut client = Client::connect(&enclaves, id(16)).await;
        client.tell([1], 0).await;
        client.socket.write_all(bytes).await.unwrap();
        timeout(LIMIT, client.served).await.unwrap().unwrap();
        let status = enclaves.status();
        assert_eq!((status[0].malformed, status[0].connected), (1, false));
        let mut cursor = enclaves.cursor(None, Some(1));
        let last = texts(&enclaves, &mut cursor);
        assert!(last[0].starts_with("16 disconnected: "), "{last:?}");
    }
}

#[tokio::test]
async fn a_record_in_pieces_and_one_of_a_later_version_are_none_the_worse() {
    let enclaves = Arc::<Enclaves>::default();
    let mut client = Client::connect(&enclaves, id(16)).await;
    client.socket.write_all(b"{\"trace\":{\"a\":[1,2]}}\n").await.unwrap();
    for byte in line(1).encode() {
        client.socket.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(client.tell([2], 0).await, 2);
}

#[tokio::test]
async fn words_that_are_not_known_become_one() {
    let enclaves = Arc::<Enclaves>::default();
    let mut client = Client::connect(&enclaves, id(16)).await;
    let strange = (0..100).map(|n| (format!("x\"}} {n}"), 1));
    let snapshot = Snapshot {
        version: "\u{1b}[31m".repeat(100),
        ended: strange.chain([("finished".to_owned(), 7)]).collect(),
        failed: [("nonsense".to_owned(), u64::MAX), ("limit".to_owned(), 2)].into(),
        application: Some(Application::Exited { code: 7 }),
        ..Snapshot::default()
    };
    client.socket.write_all(&snapshot.encode()).await.unwrap();
    client.tell([1], 0).await;
    let status = &enclaves.status()[0];
    assert_eq!(status.ended, [("finished".to_owned(), 7), ("other".to_owned(), 100)].into());
    assert_eq!(status.application.as_ref().unwrap().to_string(), "exited, 7");
    let version = status.version.as_ref().unwrap();
    assert!(version.len() <= 40 && !version.contains('\u{1b}'), "{version}");
    let text = rendered(&enclaves);
    let labels = "{side=\"enclave\",cid=\"16\",outcome=";
    for line in [
        format!("inproxy_connections_total{labels}\"finished\"}} 7"),
        format!("inproxy_connections_total{labels}\"limit\"}} 2"),
        format!("inproxy_connections_total{labels}\"other\"}} {}", u64::MAX),
        "inproxy_connected{side=\"enclave\",cid=\"16\"} 1".to_owned(),
        "inproxy_application_running{side=\"enclave\",cid=\"16\"} 0".to_owned(),
        "# TYPE inproxy_connections_total counter".to_owned(),
    ] {
        assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line} in {text}");
    }
    assert_eq!(text.matches("inproxy_connections_total{").count(), 3, "{text}");
}

/// Neither the sums of one enclave nor those of two grow beyond what a number holds.
#[tokio::test]
async fn numbers_as_large_as_can_be_are_shown_as_they_are() {
    let enclaves = Arc::<Enclaves>::default();
    let most = u64::MAX;
    let counts = |words: [&str; 3]| BTreeMap::from(words.map(|word| (word.to_owned(), most)));
    let snapshot = Snapshot {
        started: most,
        uptime_seconds: most,
        forwards: most,
        open: most,
        ended: counts(["finished", "client-aborted", "one"]),
        failed: counts(["finished", "limit", "another"]),
        sent: most,
        received: most,
        accept_errors: most,
        lines_dropped: most,
        ..Snapshot::default()
    };
    for cid in [16, 17] {
        let mut client = Client::connect(&enclaves, id(cid)).await;
        client.socket.write_all(&snapshot.encode()).await.unwrap();
        client.tell([1, most], most).await;
        client.end().await;
    }
    let shown = crate::status::enclaves(&enclaves.status(), most).to_string();
    for row in shown.lines().skip(1) {
        let cells: Vec<_> = row.split_whitespace().collect();
        let most = most.to_string();
        assert_eq!(cells.iter().filter(|cell| **cell == most).count(), 3, "{shown}");
    }
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(enclaves.status().iter().all(|enclave| enclave.lines.dropped == most));
    let text = rendered(&enclaves);
    let outcomes = |line: &&str| line.starts_with("inproxy_connections_total{");
    assert_eq!(text.lines().filter(outcomes).count(), 8, "{text}");
    assert!(text.lines().filter(outcomes).all(|line| line.ends_with(&format!(" {most}"))));
    let cursor = &mut enclaves.cursor(None, None);
    assert_eq!(texts(&enclaves, cursor).len(), 12);
}

#[tokio::test]
async fn the_oldest_idle_enclave_is_forgotten_and_no_connected_one() {
    let enclaves = Arc::<Enclaves>::default();
    let mut connected = Vec::new();
    for cid in 0..64 {
        connected.push(Client::connect(&enclaves, id(cid)).await);
    }
    assert!(enclaves.connect(id(100)).is_none());
    connected.swap_remove(7).end().await;
    connected.swap_remove(3).end().await;
    let _new = Client::connect(&enclaves, id(100)).await;
    assert!(enclaves.knows(id(100)) && enclaves.knows(id(3)) && !enclaves.knows(id(7)));
    assert!(!rendered(&enclaves).contains("cid=\"7\""));
}

#[tokio::test]
async fn a_reader_that_is_late_is_told_what_it_has_missed() {
    let enclaves = Arc::<Enclaves>::default();
    let mut client = Client::connect(&enclaves, id(16)).await;
    client.tell([1], 0).await;
    let mut cursor = enclaves.cursor(None, Some(1));
    client.tell(2..=1500, 0).await;
    let lines = texts(&enclaves, &mut cursor);
    assert_eq!(lines[0], "16 501 lines are missing here: there was no room for them");
    assert_eq!((lines[1].as_str(), lines.len()), ("16 line 502", 1000));
}

#[tokio::test]
async fn a_page_ends_with_what_was_there_when_it_was_asked_for() {
    let enclaves = Arc::<Enclaves>::default();
    let mut client = Client::connect(&enclaves, id(16)).await;
    client.tell(1..=10, 0).await;
    let mut page = enclaves.page(None, Some(2));
    let mut cursor = enclaves.cursor(None, Some(2));
    client.tell(11..=20, 0).await;
    assert_eq!(texts(&enclaves, &mut page), ["16 line 9", "16 line 10"]);
    assert_eq!(texts(&enclaves, &mut cursor).len(), 12);
    assert!(texts(&enclaves, &mut page).is_empty());
}

#[tokio::test]
async fn who_tells_too_much_has_to_wait() {
    let enclaves = Arc::<Enclaves>::default();
    let mut client = Client::connect(&enclaves, id(16)).await;
    let began = Instant::now();
    let telling = async {
        let flood = line(1).encode().repeat(1000);
        for _ in 0..8 {
            client.socket.write_all(&flood).await.unwrap();
        }
    };
    telling.await;
    // A thousand in a tenth of a second, and what the sockets hold.
    assert!(began.elapsed() > Duration::from_millis(300), "{:?}", began.elapsed());
}
