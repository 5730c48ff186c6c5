//! What it costs to be watched.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outproxy::admin::fetch;
use tests::peers::{connections, listen};
use tests::world::{ALLOWED, HSM, HSM2};

use crate::Trial;
use crate::chain::{Chain, MARGIN, METRICS};
use crate::report::Report;

/// Metrics are read in every other window, under full load, beside idle tunnels and many rules.
///
/// One reading in a second would be lost in the noise of a busy machine. So they are read as often
/// as fits, and what outproxy's thread used more for the bytes that it has moved is shared among
/// the readings. A thread has a second in a second: so much of it as one reading takes is what one
/// in a second costs of the throughput, at most.
pub(crate) fn scrapes(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let limits = format!("max-connections = {}", 2 * IDLE);
    let rules = (0..RULES).map(|rule| {
        format!("[[allow]]\nname = 'rule-{rule}'\nhosts = ['h{rule}.example']\nports = [443]\n")
    });
    let outproxy = trial.world.outproxy_config(ALLOWED, &limits) + &rules.collect::<String>();
    let inproxy = trial.world.inproxy_config(&limits);
    let mut chain = Chain::start_with(trial.world, trial.seed, &outproxy, inproxy);
    let enclave = &trial.world.enclave;
    let listeners = [HSM, HSM2].map(listen);
    let idle = connections(enclave, HSM, &listeners[0], IDLE);
    let busy = connections(enclave, HSM2, &listeners[1], BUSY);
    chain.count((IDLE + BUSY) as u64);

    let rounds = trial.pick(8, 60);
    let mut costs: Vec<f64> = Vec::new();
    let (over, moved) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut read = 0;
    thread::scope(|scope| {
        for (client, upstream) in &busy {
            let (over, moved) = (&over, &moved);
            scope.spawn(move || send(client, over));
            scope.spawn(move || receive(upstream, over, moved));
        }
        // The first is to get going.
        let _ = window(&chain, &moved, false);
        for round in 0..rounds {
            let mut windows = [false, true].map(|reads| (reads, None));
            windows.rotate_left(round % 2);
            for (reads, measured) in &mut windows {
                *measured = Some(window(&chain, &moved, *reads));
            }
            windows.sort_unstable_by_key(|(reads, _)| *reads);
            let [without, with] = windows.map(|(_, measured)| measured.unwrap());
            let expected = without.cpu / without.bytes * with.bytes;
            costs.push((with.cpu - expected) / f64::from(with.readings));
            read += with.readings;
        }
        over.store(true, Ordering::Relaxed);
    });
    costs.sort_unstable_by(f64::total_cmp);
    let cost = costs[costs.len() / 2];
    report.done("readings", read);
    report.done("MB", moved.load(Ordering::Relaxed) / 1_000_000);
    report.note(format!(
        "a reading takes {:.0} µs of outproxy's thread: {:.3} % of it, once a second",
        cost * 1e6,
        cost * 100.0
    ));
    report.hold(read as usize >= rounds, || "metrics could hardly be read".into());
    report
        .hold(cost < MOST, || format!("to read metrics once a second takes {cost:.4} of a thread"));
    drop((idle, busy));
    chain.end(&mut report, MARGIN);
    report
}

/// What happened in a window.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Of outproxy, in seconds.
    cpu: f64,
    bytes: f64,
    readings: u32,
}

#[expect(clippy::disallowed_methods, reason = "a window is so long")]
fn window(chain: &Chain<'_>, moved: &AtomicU64, reads: bool) -> Window {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint = METRICS.parse().unwrap();
    let (cpu, bytes) = (chain.outproxy.cpu(), moved.load(Ordering::Relaxed));
    let deadline = Instant::now() + WINDOW;
    let mut readings = 0;
    while reads && Instant::now() < deadline {
        let next = Instant::now() + WINDOW / READINGS;
        let page = runtime.block_on(fetch(&endpoint, "/metrics")).unwrap();
        assert!(page.contains("tunnel_bytes_total"), "{page}");
        readings += 1;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    thread::sleep(deadline.saturating_duration_since(Instant::now()));
    Window {
        cpu: (chain.outproxy.cpu() - cpu).as_secs_f64(),
        bytes: (moved.load(Ordering::Relaxed) - bytes) as f64,
        readings,
    }
}

fn send(mut to: &TcpStream, over: &AtomicBool) {
    to.set_write_timeout(Some(PATIENCE)).unwrap();
    let block = vec![7; BLOCK];
    while !over.load(Ordering::Relaxed) {
        or_nothing(to.write(&block));
    }
}

fn receive(mut from: &TcpStream, over: &AtomicBool, moved: &AtomicU64) {
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut block = vec![0; BLOCK];
    while !over.load(Ordering::Relaxed) {
        let count = or_nothing(from.read(&mut block));
        moved.fetch_add(count as u64, Ordering::Relaxed);
    }
}

fn or_nothing(result: std::io::Result<usize>) -> usize {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        result => result.unwrap(),
    }
}

/// Tunnels that say nothing, and such that say as much as they can.
const IDLE: usize = 500;
const BUSY: usize = 8;
/// Rules beside those that are used.
const RULES: usize = 30;
/// How long something is measured, and how often metrics are read meanwhile.
const WINDOW: Duration = Duration::from_millis(500);
const READINGS: u32 = 25;
/// How much of outproxy's thread one reading in a second may take.
const MOST: f64 = 0.01;
const BLOCK: usize = 64 * 1024;
/// How long a thread may not notice that all is over.
const PATIENCE: Duration = Duration::from_millis(100);
