//! What the relay promises, seen from its two ends.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod answers;

use std::future::pending;
use std::io::{self, ErrorKind};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tunnel::relay::{Outcome, Relay, Side, Summary, Timeouts};
use tunnel::stream::Stream;

const HOUR: Duration = Duration::from_secs(3600);
const TIMEOUTS: Timeouts = Timeouts { idle: None, half_close: Duration::from_secs(5) };

/// A TCP client, and a Unix socket in vsock's place, with a relay between them.
async fn tunnel(timeouts: Timeouts) -> (TcpStream, UnixStream, Running) {
    let (client, near) = tcp_pair().await;
    let (far, upstream) = UnixStream::pair().unwrap();
    let relay = Relay::new(Stream::try_from(near).unwrap(), Stream::try_from(far).unwrap());
    (client, upstream, start(relay, timeouts))
}

fn start(relay: Relay, timeouts: Timeouts) -> Running {
    tokio::spawn(async move {
        let (summary, lingering) = relay.run(timeouts, pending::<()>()).await;
        (summary, tokio::spawn(lingering.closed()))
    })
}

type Running = JoinHandle<(Summary<()>, JoinHandle<()>)>;

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (near, _) = listener.accept().await.unwrap();
    (client, near)
}

async fn end_of(relay: Running) -> Summary<()> {
    timeout(Duration::from_secs(10), relay).await.expect("the relay ends").unwrap().0
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let result = timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    (bytes, result.expect("the stream ends").map(drop))
}

/// Reads to the end, so slowly at first that all buffers on the way fill up.
async fn read_in_bursts(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let mut piece = vec![0; 300_000];
    let mut sizes = fastrand::Rng::with_seed(3);
    loop {
        tokio::task::yield_now().await;
        let size = sizes.usize(1..=piece.len());
        match stream.read(&mut piece[..size]).await.unwrap() {
            0 => return all,
            n => all.extend_from_slice(&piece[..n]),
        }
    }
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    fastrand::Rng::with_seed(seed).fill(&mut noise);
    noise
}

/// How many ends of pipes this process has.
fn pipes() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_half_closed_request_gets_its_whole_reply() {
    let (mut client, mut upstream, relay) = tunnel(TIMEOUTS).await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    let (request, end) = read_all(&mut upstream).await;
    assert!(request == b"request" && end.is_ok());

    let reply = vec![7; 1_000_000];
    tokio::spawn(async move {
        upstream.write_all(&reply).await.unwrap();
        upstream.shutdown().await.unwrap();
    });
    let (received, end) = read_all(&mut client).await;
    assert!(received.len() == 1_000_000 && end.is_ok());
    let summary = end_of(relay).await;
    assert!(matches!(summary.outcome, Outcome::Finished));
    assert_eq!((summary.sent, summary.received), (7, 1_000_000));
}

#[tokio::test]
async fn what_comes_in_bulk_arrives_whole_both_ways_at_once() {
    let before = pipes();
    let (client, upstream, running) = tunnel(TIMEOUTS).await;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_upstream, mut to_upstream) = upstream.into_split();
    let request = noise(8 << 20, 1);
    let reply = noise(8 << 20, 2);
    let send_request = async {
        to_client.write_all(&request).await.unwrap();
        assert!(pipes() > before, "nothing was spliced");
        to_client.shutdown().await.unwrap();
    };
    let send_reply = async {
        to_upstream.write_all(&reply).await.unwrap();
        to_upstream.shutdown().await.unwrap();
    };
    let (_, _, received, sent) = tokio::join!(
        send_request,
        send_reply,
        read_in_bursts(&mut from_client),
        read_in_bursts(&mut from_upstream)
    );
    assert!(sent == request && received == reply);
    let summary = end_of(running).await;
    assert!(matches!(summary.outcome, Outcome::Finished), "{summary:?}");
    assert_eq!((summary.sent, summary.received), (8 << 20, 8 << 20));
    assert_eq!(pipes(), before, "descriptors are left");
}

#[tokio::test]
async fn what_one_tunnel_leaves_in_a_pipe_never_reaches_another() {
    let before = pipes();
    // Upstream reads nothing, so that the relay is left with a pipe that has something in it.
    let (mut client, upstream, running) = tunnel(TIMEOUTS).await;
    let foreign = vec![0xAA; 16 << 20];
    assert!(timeout(Duration::from_millis(300), client.write_all(&foreign)).await.is_err());
    assert!(pipes() > before, "nothing was spliced");
    drop(upstream);
    reset(client);
    end_of(running).await;

    let (client, upstream, running) = tunnel(TIMEOUTS).await;
    let (mut from_upstream, _to_upstream) = upstream.into_split();
    let (_from_client, mut to_client) = client.into_split();
    let own = vec![0x55; 4 << 20];
    let send = async {
        to_client.write_all(&own).await.unwrap();
        to_client.shutdown().await.unwrap();
    };
    let ((), sent) = tokio::join!(send, read_in_bursts(&mut from_upstream));
    assert!(sent == own);
    running.abort();
}

#[tokio::test]
async fn a_reset_by_the_client_reaches_upstream_as_an_abort() {
    let (mut client, mut upstream, relay) = tunnel(TIMEOUTS).await;
    client.write_all(b"abc").await.unwrap();
    upstream.read_exact(&mut [0; 3]).await.unwrap();
    reset(client);
    let summary = end_of(relay).await;
    assert!(matches!(summary.outcome, Outcome::Aborted(Side::Client, _)), "{summary:?}");
    assert_eq!((summary.sent, summary.received), (3, 0));
    let stream = Stream::try_from(upstream).unwrap();
    assert!(stream.was_aborted());
}

#[tokio::test]
async fn a_peer_that_vanishes_reaches_the_client_as_a_reset() {
    let (mut client, mut upstream, relay) = tunnel(TIMEOUTS).await;
    upstream.write_all(b"abc").await.unwrap();
    client.read_exact(&mut [0; 3]).await.unwrap();
    drop(upstream);
    let (_, end) = read_all(&mut client).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let summary = end_of(relay).await;
    assert!(matches!(summary.outcome, Outcome::Aborted(Side::Upstream, _)), "{summary:?}");
}

#[tokio::test]
async fn what_was_sent_before_a_peer_vanished_is_still_delivered() {
    let (mut client, mut upstream, relay) = tunnel(TIMEOUTS).await;
    upstream.write_all(&[1; 150_000]).await.unwrap();
    drop(upstream);
    // The client's write fails at the other end; the reply is to be drained all the same.
    client.write_all(b"too late").await.unwrap();
    let mut received = vec![0; 150_000];
    timeout(Duration::from_secs(5), client.read_exact(&mut received)).await.unwrap().unwrap();
    let (rest, end) = read_all(&mut client).await;
    assert!(rest.is_empty() && end.is_err());
    assert_eq!(end_of(relay).await.received, 150_000);
}

#[tokio::test]
async fn a_relay_that_is_dropped_resets_its_tcp_peer() {
    let (mut client, _upstream, relay) = tunnel(TIMEOUTS).await;
    relay.abort();
    let (_, end) = read_all(&mut client).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn an_idle_tunnel_is_aborted_after_the_idle_timeout_and_not_before() {
    let idle = Duration::from_secs(3600);
    let (_client, mut upstream, relay) = tunnel(Timeouts { idle: Some(idle), ..TIMEOUTS }).await;
    tokio::time::sleep(idle / 2).await;
    upstream.write_all(b"x").await.unwrap();
    tokio::time::sleep(idle * 3 / 4).await;
    assert!(!relay.is_finished(), "a byte moved three quarters of the limit ago");
    let (summary, _) = relay.await.unwrap();
    assert!(matches!(summary.outcome, Outcome::IdleTimeout));
}

#[tokio::test(start_paused = true)]
async fn the_half_close_timeout_counts_from_the_last_byte() {
    let (mut client, mut upstream, relay) = tunnel(TIMEOUTS).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    client.shutdown().await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(TIMEOUTS.half_close * 3 / 4).await;
        upstream.write_all(b"x").await.unwrap();
    }
    let (summary, _) = relay.await.unwrap();
    assert!(matches!(summary.outcome, Outcome::HalfCloseTimeout));
    assert_eq!(summary.received, 10);
    let (bytes, end) = read_all(&mut client).await;
    assert!(bytes.len() == 10 && end.is_err(), "a time-out must not look like an end");
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_a_half_closed_peer_could_not_see_leaves_its_stream_open() {
    let (client, mut upstream, relay) = tunnel(TIMEOUTS).await;
    upstream.write_all(b"abc").await.unwrap();
    upstream.shutdown().await.unwrap();
    let mut near = [0; 3];
    let mut client = client;
    client.read_exact(&mut near).await.unwrap();
    assert_eq!(client.read(&mut near).await.unwrap(), 0);
    reset(client);
    let (summary, lingering) = relay.await.unwrap();
    assert!(matches!(summary.outcome, Outcome::Aborted(Side::Client, _)), "{summary:?}");

    let read = timeout(TIMEOUTS.half_close, upstream.read(&mut near)).await;
    assert!(read.is_err(), "upstream must not read an end that never was");
    drop(upstream);
    lingering.await.unwrap();
}

#[tokio::test]
async fn a_half_close_that_crosses_an_abort_does_not_make_it_clean() {
    let (mut client, near) = tcp_pair().await;
    let (far, upstream) = UnixStream::pair().unwrap();
    drop(upstream);
    client.shutdown().await.unwrap();
    let relay = start(
        Relay::new(Stream::try_from(near).unwrap(), Stream::try_from(far).unwrap()),
        TIMEOUTS,
    );
    assert!(read_all(&mut client).await.1.is_err());
    let summary = end_of(relay).await;
    assert!(matches!(summary.outcome, Outcome::Aborted(Side::Upstream, _)), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_crosses_a_half_close_does_not_look_clean() {
    let (client, near) = tcp_pair().await;
    let (far, mut upstream) = UnixStream::pair().unwrap();
    upstream.write_all(b"abc").await.unwrap();
    upstream.shutdown().await.unwrap();
    reset(client);
    let relay = Relay::new(Stream::try_from(near).unwrap(), Stream::try_from(far).unwrap());
    let (summary, _lingering) = relay.run(TIMEOUTS, pending::<()>()).await;
    assert!(matches!(summary.outcome, Outcome::Aborted(Side::Client, _)), "{summary:?}");
    let read = timeout(TIMEOUTS.half_close, upstream.read(&mut [0])).await;
    assert!(read.is_err(), "upstream must not read an end that never was");
}

#[tokio::test]
async fn a_tunnel_can_be_told_to_stop() {
    let (mut client, near) = tcp_pair().await;
    let (far, _upstream) = UnixStream::pair().unwrap();
    let relay = Relay::new(Stream::try_from(near).unwrap(), Stream::try_from(far).unwrap());
    let (summary, lingering) = relay.run(TIMEOUTS, std::future::ready("policy")).await;
    lingering.closed().await;
    assert!(matches!(summary.outcome, Outcome::Stopped("policy")));
    assert!(read_all(&mut client).await.1.is_err());
}
