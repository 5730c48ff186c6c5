//! One script, performed by the relay alone and held against its promises.

use std::future::pending;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tunnel::relay::{Outcome, Relay, Summary, Timeouts};
use tunnel::stream::Stream;

use super::bytes::Bytes;
use super::end::{End, Progress, Socket};
use super::script::Script;
use super::verdict::{Report, judge};

/// Performs it, and says which promise was broken, with all that is known of it.
pub(crate) async fn perform(script: Script) -> Result<(), String> {
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
        for stream in [&end, &relays] {
            SockRef::from(stream).set_send_buffer_size(BUFFER).unwrap();
        }
        (Socket::Tcp(end), Stream::try_from(relays).unwrap())
    } else {
        let (end, relays) = UnixStream::pair().unwrap();
        (Socket::Unix(end), Stream::try_from(relays).unwrap())
    }
}

const DEADLINE: Duration = Duration::from_secs(20);
/// Longer than any script: a time-out here would be a stream that was forgotten.
const TIMEOUTS: Timeouts = Timeouts { idle: None, half_close: Duration::from_secs(60) };
const BUFFER: usize = 64 * 1024;
