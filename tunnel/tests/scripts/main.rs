//! Ten thousand random scripts against the relay.
//!
//! `SCRIPTS` says how many, `SCRIPT_SEED` which is the first: a script that fails prints its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bytes;
mod end;
mod script;
#[expect(dead_code, reason = "what may cross between two proxies does not in one")]
mod verdict;

use std::env;
use std::fmt::Debug;
use std::future::pending;
use std::str::FromStr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tunnel::relay::{Outcome, Relay, Summary, Timeouts};
use tunnel::stream::Stream;

use bytes::Bytes;
use end::{End, Progress, Socket};
use script::Script;
use verdict::{Report, judge};

#[test]
fn whatever_its_ends_do_the_relay_keeps_its_promises() {
    let first = from_env("SCRIPT_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    let scripts = from_env("SCRIPTS").unwrap_or(10_000);
    let threads = std::thread::available_parallelism().unwrap().get();
    let failures: Vec<_> = std::thread::scope(|scope| {
        let spawn = |thread| {
            let seeds = (first..first + scripts).skip(thread).step_by(threads);
            scope.spawn(|| run_all(seeds))
        };
        let spawned: Vec<_> = (0..threads).map(spawn).collect();
        spawned.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let shortest = failures.iter().min_by_key(|failure| failure.len());
    assert!(failures.is_empty(), "{} of {scripts} failed\n{}", failures.len(), shortest.unwrap());
}

fn from_env<T: FromStr<Err: Debug>>(name: &str) -> Option<T> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Runs many scripts at once, but their ends and the relays one at a time: an end of a Unix socket
/// cannot ask whether the other was closed and half-close its own in one step.
#[tokio::main(flavor = "current_thread")]
async fn run_all(mut seeds: impl Iterator<Item = u64>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut running = JoinSet::new();
    loop {
        while running.len() < CONCURRENT
            && let Some(seed) = seeds.next()
        {
            running.spawn(run(Script::random(seed)));
        }
        match running.join_next().await {
            Some(result) => failures.extend(result.unwrap().err()),
            None => return failures,
        }
    }
}

async fn run(script: Script) -> Result<(), String> {
    let [client_is_tcp, upstream_is_tcp] = [script.seed & 1, script.seed & 2].map(|bit| bit == 0);
    let (client, near) = pair(client_is_tcp).await;
    let (upstream, far) = pair(upstream_is_tcp).await;
    let (relay_aborted, aborted) = watch::channel(false);
    let relay = async {
        let (summary, lingering) = Relay::new(near, far).run(TIMEOUTS, pending::<()>()).await;
        relay_aborted.send_replace(!matches!(summary.outcome, Outcome::Finished));
        lingering.closed().await;
        summary
    };

    let bytes = [0, 1].map(|end| Bytes::new(script.seed * 2 + end));
    let [client_seen, upstream_seen] = [(); 2].map(|()| watch::Sender::new(Progress::default()));
    let client = End {
        socket: client,
        part: &script.client,
        sends: bytes[0],
        expects: bytes[1],
        progress: &client_seen,
        peer: &upstream_seen,
        relay_aborted: aborted.clone(),
    };
    let upstream = End {
        socket: upstream,
        part: &script.upstream,
        sends: bytes[1],
        expects: bytes[0],
        progress: &upstream_seen,
        peer: &client_seen,
        relay_aborted: aborted,
    };
    let all = async { tokio::join!(relay, client.perform(), upstream.perform()).0 };
    let summary = timeout(DEADLINE, all).await;
    let client = Report { seen: client_seen.borrow().clone(), is_tcp: client_is_tcp };
    let upstream = Report { seen: upstream_seen.borrow().clone(), is_tcp: upstream_is_tcp };
    let verdict = match &summary {
        Err(_) => Err("it hangs"),
        Ok(summary) => {
            judge(&client, &upstream).and_then(|()| judge_summary(summary, &client, &upstream))
        }
    };
    verdict.map_err(|broken| {
        let seed = script.seed;
        format!("{broken}; SCRIPT_SEED={seed}\n{script:?}\n{client:#?}\n{upstream:#?}\n{summary:?}")
    })
}

/// What the relay says of a tunnel, held against what its ends saw.
fn judge_summary(
    summary: &Summary<()>,
    client: &Report,
    upstream: &Report,
) -> Result<(), &'static str> {
    let finished = match summary.outcome {
        Outcome::Aborted(..) => false,
        Outcome::Finished => true,
        Outcome::HalfCloseTimeout | Outcome::IdleTimeout | Outcome::Stopped(()) => {
            return Err("nothing else can be the outcome");
        }
    };
    for (sender, receiver, counted) in
        [(client, upstream, summary.sent), (upstream, client, summary.received)]
    {
        if counted > sender.seen.written || counted < receiver.seen.read {
            return Err("the count is wrong");
        }
        if finished && !sender.may_look_finished_to(receiver) {
            return Err("it is not finished");
        }
        if !finished && !sender.has_aborted() && !receiver.has_aborted() {
            return Err("nobody aborted");
        }
    }
    Ok(())
}

/// An end and the stream that the relay has of it, with buffers that are soon full.
async fn pair(is_tcp: bool) -> (Socket, Stream) {
    if is_tcp {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_recv_buffer_size(BUFFER).unwrap();
        let end = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (relays, _) = listener.accept().await.unwrap();
        tunnel::tcp::set_upstream_options(&relays);
        for stream in [&end, &relays] {
            SockRef::from(stream).set_send_buffer_size(BUFFER).unwrap();
        }
        (Socket::Tcp(end), Stream::Tcp(relays))
    } else {
        let (end, relays) = UnixStream::pair().unwrap();
        (Socket::Unix(end), Stream::Unix(relays))
    }
}

const CONCURRENT: usize = 64;
const DEADLINE: Duration = Duration::from_secs(20);
/// Longer than any script: a time-out here would be a stream that was forgotten.
const TIMEOUTS: Timeouts = Timeouts { idle: None, half_close: Duration::from_secs(60) };
const BUFFER: usize = 64 * 1024;
