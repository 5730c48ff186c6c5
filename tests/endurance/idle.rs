//! As many tunnels as descriptors allow, of which most say nothing.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use tests::peers::{connections, listen, ping};
use tests::world::{HSM, HSM2};

use crate::Trial;
use crate::chain::{Chain, MARGIN};
use crate::report::Report;

/// A hundred that exchange, alone and beside thousands that do not.
pub(crate) fn idle(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(SPARE) / 2;
    let wanted = trial.pick(2000, 10_000);
    let count = wanted.min(most);
    if count < wanted {
        report.note(format!("{limit} descriptors are for {count} tunnels, not for {wanted}"));
    }
    let limits = format!("max-connections = {}", count + ACTIVE);
    let mut chain = Chain::start(trial.world, trial.seed, &limits, &limits);
    let enclave = &trial.world.enclave;
    let listeners = [HSM, HSM2].map(listen);
    // As much as it will ever hold: the allocator keeps some of that for the next time.
    drop(connections(enclave, HSM, &listeners[0], count));
    chain.settle(&mut report);

    let mut active = connections(enclave, HSM2, &listeners[1], ACTIVE);
    let time = Duration::from_secs(trial.pick(2, 30));
    let alone = exchange(&mut active, time);
    let mut idle = connections(enclave, HSM, &listeners[0], count);
    let held = chain.usage();
    let beside = exchange(&mut active, time);
    // Nobody was forgotten.
    for (client, upstream) in &mut idle {
        ping(client, upstream);
    }
    report.done("idle tunnels", count);
    report.done("active tunnels", ACTIVE);
    report.done("exchanges", alone.len() + beside.len());
    for (times, how) in [(alone, "alone"), (beside, "beside the idle ones")] {
        let at = |per_mille| times[times.len() * per_mille / 1000];
        let [median, slow] = [500, 990].map(at);
        report.note(format!("{how} an exchange takes {median:.1?}, 1 of 100 over {slow:.1?}"));
    }
    let [outproxy, inproxy] = held.map(|usage| usage.memory >> 20);
    report.note(format!("meanwhile {outproxy} MiB of outproxy, {inproxy} MiB of inproxy"));
    drop((active, idle));
    chain.count(2 * count as u64 + ACTIVE as u64);
    chain.end(&mut report, MARGIN);
    report
}

/// All at once, each one exchange after the other; how long those took, the shortest first.
fn exchange(tunnels: &mut [(TcpStream, TcpStream)], limit: Duration) -> Vec<Duration> {
    let deadline = Instant::now() + limit;
    let run = |(client, upstream): &mut (TcpStream, TcpStream)| {
        let mut times = Vec::new();
        while Instant::now() < deadline {
            let start = Instant::now();
            ping(client, upstream);
            times.push(start.elapsed());
        }
        times
    };
    let mut times: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            tunnels.iter_mut().map(|tunnel| scope.spawn(move || run(tunnel))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    times.sort_unstable();
    times
}

const ACTIVE: usize = 100;
/// Descriptors for all else than idle tunnels, in either proxy and here.
const SPARE: usize = 600;
