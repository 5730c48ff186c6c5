//! More at once than are let in, and those who take their time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tests::patience::patience;
use tests::peers::{bounded, connections, listen};
use tests::visits::{Failure, Upstream, Visit};
use tests::world::{HSM, RAW};

use crate::Trial;
use crate::chain::{CLIENTS, Chain, MARGIN, VISITED, upstreams};
use crate::report::Report;

/// Thousands connect before any of them says a word.
pub(crate) fn storm(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    // As many as may be open wait for an answer at once.
    let upstreams = [HSM, RAW].map(|address| Upstream::start(address, MOST));
    let limits = [MOST, 2 * MOST].map(|most| format!("max-connections = {most}"));
    let mut chain = Chain::start(trial.world, trial.seed, &limits[0], &limits[1]);
    chain.warm_up(&[(HSM, true)], &mut report);
    let rounds = trial.pick(3, 100);
    for round in 0..=rounds {
        let seen = rush(trial, round);
        chain.count(seen.iter().sum());
        if round == 0 {
            // As much as it will ever hold.
            chain.settle(&mut report);
        }
        let [served, aborted, broken] = seen;
        report.done("served", served);
        report.done("sent away", aborted);
        report.hold(broken == 0, || format!("N1: {broken} of a storm were misled, or hang"));
        report.hold(served >= MOST as u64 / 2, || format!("only {served} of a storm were served"));
        // And whoever comes next is served again.
        let ledger = chain.visit(&[(HSM, true), (RAW, false)], CLIENTS, 200);
        report.visits(&ledger, false);
    }
    report.upstreams(&upstreams);
    let refused = chain.status().connections.refused.get("limit").copied().unwrap_or_default();
    report.hold(refused > 0, || "outproxy has sent nobody away".into());
    report.note(format!("outproxy has sent away {refused} of them"));
    chain.end(&mut report, MARGIN);
    report
}

/// How many were served, aborted, and lied to.
fn rush(trial: Trial<'_>, round: u64) -> [u64; 3] {
    let connect = |number: usize| {
        let to = [HSM, RAW][number % 2];
        TcpStream::connect_timeout(&to, patience())
            .map(|stream| (bounded(stream), number.is_multiple_of(2)))
    };
    let streams: Vec<_> =
        trial.world.enclave.run(|| (0..STORM).map(connect).filter_map(Result::ok).collect());
    let gone = STORM - streams.len();
    let seen = [(); 3].map(|()| AtomicU64::new(0));
    seen[1].fetch_add(gone as u64, Ordering::Relaxed);
    let share = streams.len().div_ceil(THREADS).max(1);
    let mut streams = streams.into_iter();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (mut part, seen) = (streams.by_ref().take(share).collect::<Vec<_>>(), &seen);
            let mut rng = Rng::with_seed(trial.seed + round * STORM as u64 + thread as u64);
            scope.spawn(move || {
                for (stream, may_end_early) in &mut part {
                    let came = match Visit::random(&mut rng, *may_end_early).make_on(stream) {
                        Ok(()) => 0,
                        Err(Failure::Aborted(_) | Failure::Refused(_)) => 1,
                        Err(Failure::Broken(_)) => 2,
                    };
                    seen[came].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    seen.map(AtomicU64::into_inner)
}

/// Those who read or write a little now and then, beside others.
pub(crate) fn slow(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let upstreams = upstreams();
    let enclave = &trial.world.enclave;
    let mut chain = Chain::start(trial.world, trial.seed, "", "");
    chain.warm_up(VISITED, &mut report);
    let addresses = [1, 2].map(|offset| SocketAddr::new(HSM.ip(), HSM.port() + offset));
    let listeners = addresses.map(listen);
    let count = trial.pick(50, 500);
    let [readers, writers] =
        [0, 1].map(|which| connections(enclave, addresses[which], &listeners[which], count));
    chain.count(2 * count as u64);
    let mut times = [Vec::new(), Vec::new()];
    let moved = AtomicU64::new(0);
    for _ in 0..trial.pick(3, 20) {
        for (beside, times) in times.iter_mut().enumerate() {
            let over = AtomicBool::new(beside == 0);
            let ledger = thread::scope(|scope| {
                let (over, moved) = (&over, &moved);
                scope.spawn(|| trickle(readers.iter().map(|(c, u)| (u, c)), 1 << 16, over, moved));
                scope.spawn(|| trickle(writers.iter().map(|(c, u)| (c, u)), 10, over, moved));
                let ledger = chain.visit(VISITED, CLIENTS, trial.pick(2000, 5000));
                over.store(true, Ordering::Relaxed);
                ledger
            });
            report.visits(&ledger, false);
            times.push(ledger.quantile(500));
        }
    }
    let [alone, beside] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    report.done("slow ones", 2 * count);
    report.note(format!(
        "a visit takes {alone:.1?} alone, {beside:.1?} beside the slow ones, which had {} kB",
        moved.into_inner() / 1000
    ));
    report.hold(beside <= alone * SLOWER, || {
        format!("{beside:.1?} beside slow ones, {alone:.1?} alone")
    });
    report.upstreams(&upstreams);
    drop((readers, writers));
    chain.end(&mut report, 2 * MARGIN);
    report
}

/// Has each write as much as it can, and its peer read a little of that.
#[expect(clippy::disallowed_methods, reason = "they are slow")]
fn trickle<'a>(
    streams: impl Iterator<Item = (&'a TcpStream, &'a TcpStream)>,
    size: usize,
    over: &AtomicBool,
    moved: &AtomicU64,
) {
    let (block, mut little) = (vec![7; size], [0; 1024]);
    let streams: Vec<_> = streams.collect();
    for (from, to) in &streams {
        from.set_nonblocking(true).unwrap();
        to.set_nonblocking(true).unwrap();
    }
    let or_nothing = |result: std::io::Result<usize>| match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        result => result.unwrap(),
    };
    while !over.load(Ordering::Relaxed) {
        for (mut from, mut to) in streams.iter().copied() {
            or_nothing(from.write(&block));
            let count = or_nothing(to.read(&mut little));
            assert!(little[..count].iter().all(|byte| *byte == 7), "N1: other bytes");
            moved.fetch_add(count as u64, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// `max-connections` of outproxy; inproxy has twice as many.
const MOST: usize = 200;
/// How many come at once.
const STORM: usize = 3000;
const THREADS: usize = 600;
/// How much longer others may take beside slow ones, which take their part of the machine, too.
const SLOWER: u32 = 3;
