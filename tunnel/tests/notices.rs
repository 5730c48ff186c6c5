//! What notices add to the relay, seen from both ends and from a peer that speaks them by hand.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::future::pending;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tunnel::buffer::Buffer;
use tunnel::notices::{BYE, ENDED, PING, PONG, RETIRING, Session};
use tunnel::relay::{Outcome, Relay, Side, Summary, Timeouts};
use tunnel::stream::Stream;

const TIMEOUTS: Timeouts = Timeouts { idle: None, half_close: Duration::from_secs(60) };
const SOON: Duration = Duration::from_secs(5);
const NUMBER: u64 = 0x0102_0304_0506_0708;

/// A client, a relay with a tunnel, and the other proxy's ends of both connections.
struct Near {
    client: TcpStream,
    far: UnixStream,
    words: UnixStream,
    session: Arc<Session>,
    relay: JoinHandle<Summary<()>>,
}

async fn near() -> Near {
    let (client, far, session, relay) = near_unconnected().await;
    let words = connect(&session);
    Near { client, far, words, session, relay }
}

/// The same without a connection for words.
async fn near_unconnected() -> (TcpStream, UnixStream, Arc<Session>, JoinHandle<Summary<()>>) {
    let (client, accepted) = tcp_pair().await;
    let (upstream, far) = UnixStream::pair().unwrap();
    let session = Arc::default();
    let relay =
        Relay::new(Stream::try_from(accepted).unwrap(), Stream::try_from(upstream).unwrap());
    let relay = start(relay, Side::Upstream, &session);
    (client, far, session, relay)
}

fn connect(session: &Arc<Session>) -> UnixStream {
    let (own, other) = UnixStream::pair().unwrap();
    serve(session, own);
    other
}

fn serve(session: &Arc<Session>, stream: UnixStream) {
    let session = Arc::clone(session);
    tokio::spawn(
        async move { session.serve(Stream::try_from(stream).unwrap(), Buffer::take()).await },
    );
}

fn start(mut relay: Relay, side: Side, session: &Arc<Session>) -> JoinHandle<Summary<()>> {
    relay.set_tunnel(side, session.register(NUMBER).unwrap());
    tokio::spawn(async move {
        let (summary, lingering) = relay.run(TIMEOUTS, pending::<()>()).await;
        lingering.closed().await;
        summary
    })
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (near, _) = listener.accept().await.unwrap();
    (client, near)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.expect("it happens soon")
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let result = soon(stream.read_to_end(&mut bytes)).await;
    (bytes, result.map(drop))
}

async fn say(words: &mut UnixStream, word: u64) {
    words.write_all(&word.to_be_bytes()).await.unwrap();
}

async fn hear(words: &mut UnixStream) -> u64 {
    soon(words.read_u64()).await.unwrap()
}

/// Waits until everything that was said before is understood.
async fn understood(words: &mut UnixStream) {
    say(words, PING).await;
    assert_eq!(hear(words).await, PONG);
}

#[tokio::test]
async fn an_abort_reaches_a_client_that_has_half_closed_at_once() {
    for aborts in [Side::Client, Side::Upstream] {
        let (client, accepted) = tcp_pair().await;
        let (upstream, dialled) = tcp_pair().await;
        let (near, far) = UnixStream::pair().unwrap();
        let sessions = [Arc::default(), Arc::default()];
        serve(&sessions[0], connect(&sessions[1]));
        let near = Relay::new(Stream::try_from(accepted).unwrap(), Stream::try_from(near).unwrap());
        let far = Relay::new(Stream::try_from(far).unwrap(), Stream::try_from(dialled).unwrap());
        let near = start(near, Side::Upstream, &sessions[0]);
        let far = start(far, Side::Client, &sessions[1]);

        let (mut stays, mut leaves) = match aborts {
            Side::Client => (upstream, client),
            Side::Upstream => (client, upstream),
        };
        stays.write_all(b"request").await.unwrap();
        stays.shutdown().await.unwrap();
        assert_eq!(read_all(&mut leaves).await.0, b"request");
        leaves.write_all(b"half").await.unwrap();
        SockRef::from(&leaves).set_linger(Some(Duration::ZERO)).unwrap();
        stays.read_exact(&mut [0; 4]).await.unwrap();
        drop(leaves);
        assert_eq!(read_all(&mut stays).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
        for relay in [near, far] {
            let outcome = soon(relay).await.unwrap().outcome;
            assert!(matches!(outcome, Outcome::Aborted(side, _) if side == aborts), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn an_abort_is_told_to_who_connects_for_notices_only_afterwards() {
    let (mut near, accepted) = UnixStream::pair().unwrap();
    let (upstream, dialled) = tcp_pair().await;
    let session: Arc<Session> = Arc::default();
    // As outproxy, which knows a session as long as it is of use.
    let known = Arc::downgrade(&session);
    let mut relay =
        Relay::new(Stream::try_from(accepted).unwrap(), Stream::try_from(dialled).unwrap());
    relay.set_tunnel(Side::Client, session.register(NUMBER).unwrap());
    drop(session);
    near.shutdown().await.unwrap();
    SockRef::from(&upstream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(upstream);
    let (summary, lingering) = soon(relay.run(TIMEOUTS, pending::<()>())).await;
    assert!(matches!(summary.outcome, Outcome::Aborted(Side::Upstream, _)), "{summary:?}");

    let mut words = connect(&known.upgrade().expect("there is something to tell"));
    assert_eq!(hear(&mut words).await, NUMBER);
    let closed = tokio::spawn(lingering.closed());
    drop((near, words));
    soon(closed).await.unwrap();
}

#[tokio::test]
async fn a_notice_split_anywhere_is_understood() {
    for split in 1..8 {
        let Near { mut client, mut words, relay, session: _session, far: _far } = near().await;
        let word = NUMBER.to_be_bytes();
        let (first, second) = word.split_at(split);
        words.write_all(&PING.to_be_bytes()).await.unwrap();
        words.write_all(first).await.unwrap();
        assert_eq!(hear(&mut words).await, PONG);
        assert!(!relay.is_finished());
        words.write_all(second).await.unwrap();
        assert!(read_all(&mut client).await.1.is_err());
    }
}

#[tokio::test]
async fn what_was_sent_before_an_abort_is_delivered_though_the_notice_overtakes_it() {
    let Near { mut client, mut far, words: _words, relay, session } = near().await;
    client.shutdown().await.unwrap();
    assert!(read_all(&mut far).await.0.is_empty());
    // The relay does not know yet that there is something to read when it hears the notice.
    far.try_write(b"half").unwrap();
    let mut notice = Buffer::take();
    notice.put(&NUMBER.to_be_bytes());
    let (own, _other) = UnixStream::pair().unwrap();
    tokio::spawn(async move { session.serve(Stream::try_from(own).unwrap(), notice).await });
    let (received, end) = read_all(&mut client).await;
    assert!(received == b"half" && end.is_err());
    assert!(matches!(soon(relay).await.unwrap().outcome, Outcome::Aborted(Side::Upstream, _)));
    assert!(soon(far.write_all(b"x")).await.is_err(), "the stream is closed");
}

#[tokio::test]
async fn a_slow_client_gets_what_was_sent_before_an_abort() {
    let Near { mut client, far, mut words, relay, session: _session } = near().await;
    client.shutdown().await.unwrap();
    let mut far = far;
    let mut sent = 0;
    // Until every buffer on the way is full, also those that grow.
    while let Ok(Ok(n)) = timeout(SOON / 100, far.write(&[7; 50_000])).await {
        sent += n;
    }
    say(&mut words, NUMBER).await;
    understood(&mut words).await;
    assert!(!relay.is_finished());
    let (received, end) = read_all(&mut client).await;
    assert!(received.len() == sent && end.is_err(), "{} of {sent}", received.len());
}

#[tokio::test]
async fn words_that_name_no_tunnel_change_nothing() {
    let Near { client: _client, mut words, relay, session, far: _far } = near().await;
    assert!(session.register(NUMBER).is_none() && session.register(ENDED).is_none());
    let mut random = fastrand::Rng::with_seed(1);
    let mut garbage = vec![0; 4 << 20];
    random.fill(&mut garbage);
    let (mut answers, mut mouth) = words.split();
    tokio::select! {
        result = mouth.write_all(&garbage) => result.unwrap(),
        _ = answers.read_u8() => panic!("nothing was asked"),
    }
    understood(&mut words).await;
    assert!(!relay.is_finished() && session.is_connected());
}

#[tokio::test]
async fn questions_that_are_not_waited_for_cost_one_answer_at_a_time() {
    let Near { client: _client, mut words, session: _session, .. } = near().await;
    let questions = [PING.to_be_bytes(); 100_000].concat();
    soon(words.write_all(&questions)).await.unwrap();
    assert_eq!(hear(&mut words).await, PONG);
}

#[tokio::test]
async fn a_kill_ends_all_tunnels_and_a_farewell_none() {
    let Near { mut client, words, session, far: _far, .. } = near().await;
    drop(words);
    assert_eq!(read_all(&mut client).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(session.is_over() && session.register(1).is_none());

    let Near { mut client, mut far, mut words, session, .. } = near().await;
    say(&mut words, BYE).await;
    assert_eq!(soon(words.read(&mut [0])).await.unwrap(), 0);
    assert!(session.is_over());
    far.write_all(b"reply").await.unwrap();
    far.shutdown().await.unwrap();
    let (reply, end) = read_all(&mut client).await;
    assert!(reply == b"reply" && end.is_ok());
}

#[tokio::test]
async fn who_retires_keeps_its_tunnels() {
    let Near { client: _client, mut words, session, relay, far: _far } = near().await;
    say(&mut words, RETIRING).await;
    understood(&mut words).await;
    assert!(session.is_over() && session.is_connected() && !relay.is_finished());
}

#[tokio::test]
async fn a_newer_connection_replaces_an_older_one() {
    let Near { mut client, mut words, session, relay, far: _far } = near().await;
    let mut newer = connect(&session);
    assert_eq!(soon(words.read(&mut [0])).await.unwrap(), 0);
    drop(words);
    understood(&mut newer).await;
    assert!(!relay.is_finished());
    say(&mut newer, NUMBER).await;
    assert!(read_all(&mut client).await.1.is_err());
}

#[tokio::test]
async fn an_end_that_may_be_a_kill_is_delivered_once_the_other_process_has_answered() {
    for lives in [true, false] {
        let Near { mut client, far, mut words, session: _session, .. } = near().await;
        client.shutdown().await.unwrap();
        let mut far = far;
        assert!(read_all(&mut far).await.0.is_empty());
        drop(far);
        assert_eq!(hear(&mut words).await, PING);
        let mut byte = [0];
        assert!(client.try_read(&mut byte).is_err_and(|e| e.kind() == ErrorKind::WouldBlock));
        if lives {
            say(&mut words, PONG).await;
        } else {
            drop(words);
        }
        assert_eq!(read_all(&mut client).await.1.is_ok(), lives);
    }
}

#[tokio::test]
async fn an_end_that_may_be_an_abort_waits_for_the_connection_that_comes() {
    for says in [Some(NUMBER), Some(PONG), None] {
        let (mut client, mut far, session, _relay) = near_unconnected().await;
        let expecting = session.expect_connection().unwrap();
        client.shutdown().await.unwrap();
        assert!(read_all(&mut far).await.0.is_empty());
        far.write_all(b"reply").await.unwrap();
        drop(far);
        client.read_exact(&mut [0; 5]).await.unwrap();
        assert!(timeout(SOON / 50, client.read(&mut [0])).await.is_err(), "it waits");

        let _words = if let Some(word) = says {
            let mut words = connect(&session);
            assert_eq!(hear(&mut words).await, PING);
            say(&mut words, word).await;
            Some(words)
        } else {
            drop(expecting);
            None
        };
        assert_eq!(read_all(&mut client).await.1.is_ok(), says != Some(NUMBER));
        assert!(session.expect_connection().is_none(), "one attempt is all that is waited for");
    }
}

#[tokio::test]
async fn an_end_that_is_announced_needs_no_question() {
    let Near { mut client, mut far, mut words, relay, session: _session } = near().await;
    client.shutdown().await.unwrap();
    assert!(read_all(&mut far).await.0.is_empty());
    far.write_all(b"reply").await.unwrap();
    say(&mut words, NUMBER | ENDED).await;
    understood(&mut words).await;
    drop(far);
    let (reply, end) = read_all(&mut client).await;
    assert!(reply == b"reply" && end.is_ok());
    assert!(matches!(soon(relay).await.unwrap().outcome, Outcome::Finished));
    say(&mut words, PING).await;
    assert_eq!(hear(&mut words).await, PONG);
}

#[tokio::test]
async fn whoever_has_half_closed_is_told_of_a_clean_end_before_it_comes() {
    let Near { mut client, mut far, words, session: _session, relay: _relay } = near().await;
    far.shutdown().await.unwrap();
    assert!(read_all(&mut client).await.0.is_empty());
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    far.read_exact(&mut [0; 7]).await.unwrap();
    assert_eq!(soon(far.read(&mut [0])).await.unwrap(), 0);
    let mut word = [0; 8];
    assert_eq!(words.try_read(&mut word).unwrap(), 8);
    assert_eq!(u64::from_be_bytes(word), NUMBER | ENDED);
}

#[tokio::test]
async fn who_leaves_waits_until_its_last_words_are_understood() {
    let sessions: [Arc<Session>; 2] = [Arc::default(), Arc::default()];
    serve(&sessions[0], connect(&sessions[1]));
    while !sessions.iter().all(|session| session.is_connected()) {
        tokio::task::yield_now().await;
    }
    soon(sessions[0].leave()).await;
    assert!(sessions.iter().all(|session| session.is_over() && !session.is_connected()));
}
