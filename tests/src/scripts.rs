//! Random scripts through both proxies, held against the same promises as the relay alone.

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#[path = "../../tunnel/tests/scripts/bytes.rs"]
pub(crate) mod bytes;
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#[path = "../../tunnel/tests/scripts/end.rs"]
pub(crate) mod end;
#[path = "../../tunnel/tests/scripts/script.rs"]
pub(crate) mod script;
#[path = "../../tunnel/tests/scripts/verdict.rs"]
pub(crate) mod verdict;

use std::net::{TcpListener, TcpStream};
use std::ops::Range;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::bytes::Bytes;
use self::end::{End, Progress, Socket};
use self::script::Script;
use self::verdict::{Report, judge, may_have_crossed};
use crate::patience::{is_emulated, patience};
use crate::peers::{accept, connect, listen, raise_descriptor_limit};
use crate::world::{HSM, RAW, World};

/// Runs the script of each seed through the tunnel of a world, half of them routed and half raw, so
/// many at once.
///
/// The proxies must have [`limits`].
#[must_use]
pub fn perform(world: &World, seeds: Range<u64>, concurrent: usize) -> Verdicts {
    raise_descriptor_limit();
    let listeners = [HSM, RAW].map(listen);
    let count = seeds.end - seeds.start;
    let failures = run_all(world, &listeners, seeds, concurrent);
    let (crossed, broken) = failures.into_iter().partition(|failure| failure.may_have_crossed);
    Verdicts { count, broken, crossed }
}

/// `[limits]` of both proxies.
///
/// After an abort that vsock cannot tell of, it is this that ends a half-closed connection: at one
/// end of the tunnel, before the other gives up and closes.
#[must_use]
pub fn limits() -> String {
    format!("half-close-timeout = '{}s'", if is_emulated() { 30 } else { 15 })
}

/// What came of scripts.
#[derive(Debug)]
pub struct Verdicts {
    count: u64,
    /// Promises that were broken.
    pub broken: Vec<Failure>,
    /// Those of raw tunnels where an abort crossed an end, which vsock cannot tell.
    pub crossed: Vec<Failure>,
}

impl Verdicts {
    /// Whether nothing is broken, and not more crossed than must be expected.
    #[must_use]
    pub fn hold(&self) -> bool {
        self.broken.is_empty() && self.crossed.len() as u64 <= 1 + self.count / 100
    }

    /// The failure that is told in the fewest words: a broken promise, if there is one.
    #[must_use]
    pub fn shortest(&self) -> &str {
        let told = if self.broken.is_empty() { &self.crossed } else { &self.broken };
        told.iter().map(|failure| failure.text.as_str()).min_by_key(|text| text.len()).unwrap_or("")
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run_all(
    world: &World,
    listeners: &[TcpListener; 2],
    mut seeds: impl Iterator<Item = u64>,
    concurrent: usize,
) -> Vec<Failure> {
    let (mut failures, mut running) = (Vec::new(), JoinSet::new());
    loop {
        while running.len() < concurrent
            && let Some(seed) = seeds.next()
        {
            let tunnel = usize::from(seed % 2 == 1);
            // One after the other, so that each client meets its upstream.
            let client = connect(&world.enclave, [HSM, RAW][tunnel]);
            let upstream = accept(&listeners[tunnel]);
            let is_raw = tunnel == 1;
            running.spawn(run(Script::random(seed), client, upstream, is_raw));
        }
        match running.join_next().await {
            Some(result) => failures.extend(result.expect("a script").err()),
            None => return failures,
        }
    }
}

async fn run(
    script: Script,
    client: TcpStream,
    upstream: TcpStream,
    is_raw: bool,
) -> Result<(), Failure> {
    let seed = script.seed;
    let bytes = [0, 1].map(|end| Bytes::new(seed * 2 + end));
    let [client_seen, upstream_seen] = [(); 2].map(|()| watch::Sender::new(Progress::default()));
    let (_never, relay_aborted) = watch::channel(false);
    let client = End {
        socket: socket(client),
        part: &script.client,
        sends: bytes[0],
        expects: bytes[1],
        progress: &client_seen,
        peer: &upstream_seen,
        relay_aborted: relay_aborted.clone(),
    };
    let upstream = End {
        socket: socket(upstream),
        part: &script.upstream,
        sends: bytes[1],
        expects: bytes[0],
        progress: &upstream_seen,
        peer: &client_seen,
        relay_aborted,
    };
    let both = async { tokio::join!(client.perform(), upstream.perform()) };
    let over = timeout(2 * patience(), both).await;
    let [client, upstream] = [client_seen, upstream_seen]
        .map(|seen| Report { seen: seen.borrow().clone(), is_tcp: true });
    let verdict = over.map_err(|_| "it hangs").and_then(|_| judge(&client, &upstream));
    verdict.map_err(|broken| Failure {
        text: format!("{broken}; SCRIPT_SEED={seed}\n{script:?}\n{client:#?}\n{upstream:#?}"),
        // Of a routed tunnel the proxies tell each other beside the stream.
        may_have_crossed: is_raw
            && broken.contains("clean end")
            && may_have_crossed(&client, &upstream),
    })
}

/// A promise that was broken.
#[derive(Debug)]
pub struct Failure {
    text: String,
    may_have_crossed: bool,
}

fn socket(stream: TcpStream) -> Socket {
    stream.set_nonblocking(true).expect("O_NONBLOCK");
    Socket::Tcp(tokio::net::TcpStream::from_std(stream).expect("a runtime"))
}
