//! Ten thousand random scripts against the relay.
//!
//! `SCRIPTS` says how many, `SCRIPT_SEED` which is the first: a script that fails prints its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bytes;
mod end;
mod perform;
mod script;
#[expect(dead_code, reason = "what may cross between two proxies does not in one")]
mod verdict;

use std::env;
use std::fmt::Debug;
use std::str::FromStr;

use tokio::task::JoinSet;

use perform::perform;
use script::Script;

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
            running.spawn(perform(Script::random(seed)));
        }
        match running.join_next().await {
            Some(result) => failures.extend(result.unwrap().err()),
            None => return failures,
        }
    }
}

const CONCURRENT: usize = 64;
