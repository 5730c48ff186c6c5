//! What goes first, and the answer of the other end.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tunnel::buffer::Buffer;
use tunnel::head_reader::HeadError;
use tunnel::relay::{Outcome, Relay, Side};
use tunnel::stream::Stream;

use crate::{HOUR, Running, TIMEOUTS, end_of, read_all, reset, start, tcp_pair};

#[tokio::test]
async fn the_clients_first_bytes_do_not_wait_for_the_answer() {
    let (mut client, near) = tcp_pair().await;
    let (far, mut upstream) = UnixStream::pair().unwrap();
    let mut relay = Relay::new(Stream::try_from(near).unwrap(), Stream::try_from(far).unwrap());
    let mut request = Buffer::take();
    request.put(b"CONNECT\n");
    relay.send_first(request, 8);
    client.write_all(b"hello").await.unwrap();

    let answering = tokio::spawn(async move {
        let mut request = [0; 13];
        upstream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"CONNECT\nhello");
        for byte in b"OK\nworld" {
            upstream.write_all(&[*byte]).await.unwrap();
        }
        upstream.shutdown().await.unwrap();
        upstream
    });
    let line_length = relay.open(first_line).await.unwrap();
    assert_eq!(line_length, 3);
    let upstream = answering.await.unwrap();
    let relay = start(relay, TIMEOUTS);
    assert_eq!(read_all(&mut client).await.0, b"world");
    client.shutdown().await.unwrap();
    let summary = end_of(relay).await;
    drop(upstream);
    assert_eq!((summary.sent, summary.received), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_held_goes_with_the_first_bytes_from_upstream() {
    let (mut client, mut upstream, relay) = held(HOUR).await;
    assert!(timeout(HOUR / 2, client.read(&mut [0])).await.is_err());
    upstream.write_all(b"reply").await.unwrap();
    let mut piece = [0; 64];
    let n = client.read(&mut piece).await.unwrap();
    assert_eq!(&piece[..n], b"OK\nreply");
    upstream.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(end_of(relay).await.received, 5);
}

#[tokio::test]
async fn an_answer_is_held_no_longer_than_it_may_be() {
    let (mut client, _upstream, _relay) = held(Duration::from_millis(1)).await;
    client.read_exact(&mut [0; 3]).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_held_is_not_lost_when_upstream_ends_at_once() {
    let (mut client, mut upstream, _relay) = held(HOUR).await;
    upstream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await.0, b"OK\n");
}

#[tokio::test]
async fn an_answer_that_is_held_is_not_lost_when_upstream_fails_at_once() {
    let (mut client, upstream, relay) = held(HOUR).await;
    reset(upstream);
    assert_eq!(read_all(&mut client).await.0, b"OK\n");
    let summary = end_of(relay).await;
    assert!(matches!(summary.outcome, Outcome::Aborted(Side::Upstream, _)), "{summary:?}");
}

/// A client on a Unix socket, its upstream, and a relay that holds `OK` back for `limit`.
async fn held(limit: Duration) -> (UnixStream, TcpStream, Running) {
    let (client, near) = UnixStream::pair().unwrap();
    let (upstream, far) = tcp_pair().await;
    let mut relay = Relay::new(Stream::try_from(near).unwrap(), Stream::try_from(far).unwrap());
    let mut answer = Buffer::take();
    answer.put(b"OK\n");
    relay.receive_first(answer, 3);
    relay.hold_received(limit);
    (client, upstream, start(relay, TIMEOUTS))
}

#[tokio::test]
async fn an_answer_that_never_ends_is_an_error() {
    let (_client, near) = tcp_pair().await;
    let (far, upstream) = UnixStream::pair().unwrap();
    let mut relay = Relay::new(Stream::try_from(near).unwrap(), Stream::try_from(far).unwrap());
    drop(upstream);
    let error = relay.open(first_line).await.unwrap_err();
    assert!(matches!(error, HeadError::Stream(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_fails_during_the_head_does_not_look_clean_to_upstream() {
    let (client, near) = tcp_pair().await;
    let (far, mut upstream) = UnixStream::pair().unwrap();
    let mut relay = Relay::new(Stream::try_from(near).unwrap(), Stream::try_from(far).unwrap());
    reset(client);
    upstream.write_all(b"OK\n").await.unwrap();
    upstream.shutdown().await.unwrap();
    relay.open(first_line).await.unwrap();
    let (summary, _lingering) = relay.run(TIMEOUTS, pending::<()>()).await;
    assert!(matches!(summary.outcome, Outcome::Aborted(Side::Client, _)), "{summary:?}");
    let read = timeout(TIMEOUTS.half_close, upstream.read(&mut [0])).await;
    assert!(read.is_err(), "upstream must not read an end that never was");
}

fn first_line(bytes: &[u8]) -> Result<Option<(usize, usize)>, Infallible> {
    Ok(bytes.iter().position(|byte| *byte == b'\n').map(|at| (at + 1, at + 1)))
}
