//! kill -9, at any moment.

use std::time::{Duration, Instant};

use tests::visits::Visits;

use crate::Trial;
use crate::chain::{CLIENTS, Chain, MARGIN, VISITED, upstreams};
use crate::report::Report;

/// Kills outproxy, and starts it again as systemd does.
pub(crate) fn outproxy(trial: Trial<'_>) -> Report {
    kill_often(trial, |chain| {
        chain.outproxy.kill();
        chain.restart_outproxy();
    })
}

/// Kills inproxy, and starts it again in the same enclave.
pub(crate) fn inproxy(trial: Trial<'_>) -> Report {
    kill_often(trial, |chain| {
        chain.inproxy.kill();
        chain.restart_inproxy();
    })
}

fn kill_often(trial: Trial<'_>, kill: fn(&mut Chain<'_>)) -> Report {
    let mut report = Report::default();
    let upstreams = upstreams();
    let mut chain = Chain::start(trial.world, trial.seed, "", "");
    chain.warm_up(VISITED, &mut report);
    let kills = trial.pick(20, 200);
    let mut recoveries = Vec::new();
    let ledger = chain.visit_while(VISITED, CLIENTS, |chain, visits: &Visits| {
        for _ in 0..kills {
            visits.await_service();
            visits.pause(Duration::from_micros(fastrand::u64(..50_000)));
            let start = Instant::now();
            kill(chain);
            visits.await_service();
            recoveries.push(start.elapsed().as_millis());
        }
    });
    report.done("kills", kills);
    report.visits(&ledger, true);
    let slowest = recoveries.iter().max().copied().unwrap_or_default();
    report.hold(slowest <= RECOVERY.as_millis(), || {
        format!("service was back after {slowest} ms, and {RECOVERY:?} is promised")
    });
    report.recoveries("served again", recoveries);
    report.upstreams(&upstreams);
    chain.end(&mut report, MARGIN);
    report
}

/// From the kill to the next visit that was served, the new process included, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(5);
