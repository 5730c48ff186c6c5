//! Random scripts through both proxies, held against the same promises as the relay alone.
//!
//! `SCRIPTS` says how many, `SCRIPT_SEED` which is the first: a script that fails prints its own.

#[path = "../../../tunnel/tests/scripts/bytes.rs"]
mod bytes;
#[expect(dead_code, reason = "both ends are TCP's here")]
#[path = "../../../tunnel/tests/scripts/end.rs"]
mod end;
#[path = "../../../tunnel/tests/scripts/script.rs"]
mod script;
#[path = "../../../tunnel/tests/scripts/verdict.rs"]
mod verdict;

use std::env;
use std::net::{TcpListener, TcpStream};

use tests::patience::{is_emulated, patience};
use tests::peers::{accept, connect, listen, raise_descriptor_limit};
use tests::world::{HSM, RAW, World};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::bytes::Bytes;
use self::end::{End, Progress, Socket};
use self::script::Script;
use self::verdict::{Report, judge, may_have_crossed};

crate::scenarios![whatever_its_ends_do_the_chain_keeps_its_promises];

fn whatever_its_ends_do_the_chain_keeps_its_promises(world: &World) {
    let from_env = |name| env::var(name).ok().map(|value: String| value.parse().unwrap());
    let first = from_env("SCRIPT_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    let count = from_env("SCRIPTS").unwrap_or_else(|| if is_emulated() { 500 } else { 300 });
    // After an abort that vsock cannot tell of, it is this that ends a half-closed connection: at
    // one end of the tunnel, before the other gives up and closes.
    let limits = format!("half-close-timeout = '{}s'", if is_emulated() { 30 } else { 15 });
    let _tunnel = world.tunnel_with(&limits, &limits);
    raise_descriptor_limit();
    let listeners = [HSM, RAW].map(listen);
    let failures = run_all(world, &listeners, first..first + count);
    let (crossed, failures): (Vec<_>, Vec<_>) =
        failures.into_iter().partition(|failure| failure.may_have_crossed);
    if !crossed.is_empty() {
        crate::say(&format!("in {} of {count} scripts an abort crossed an end", crossed.len()));
    }
    let shortest = failures.iter().chain(&crossed).min_by_key(|failure| failure.text.len());
    assert!(
        failures.is_empty() && crossed.len() as u64 <= 1 + count / 100,
        "{} of {count} failed, {} more where ends may have crossed\n{}",
        failures.len(),
        crossed.len(),
        shortest.map_or("", |failure| &failure.text)
    );
}

#[tokio::main(flavor = "current_thread")]
async fn run_all(
    world: &World,
    listeners: &[TcpListener; 2],
    mut seeds: impl Iterator<Item = u64>,
) -> Vec<Failure> {
    let (mut failures, mut running) = (Vec::new(), JoinSet::new());
    loop {
        while running.len() < CONCURRENT
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
            Some(result) => failures.extend(result.unwrap().err()),
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
struct Failure {
    text: String,
    may_have_crossed: bool,
}

fn socket(stream: TcpStream) -> Socket {
    stream.set_nonblocking(true).unwrap();
    Socket::Tcp(tokio::net::TcpStream::from_std(stream).unwrap())
}

const CONCURRENT: usize = 64;
