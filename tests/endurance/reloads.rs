//! What the operator changes, all the time.

use std::net::SocketAddr;

use tests::peers::{assert_connect_resets, assert_reset, connections, listen, ping};
use tests::process::has;
use tests::world::{HSM, HSM2, RAW};

use crate::Trial;
use crate::chain::{CLIENTS, Chain, MARGIN, upstreams_at};
use crate::report::Report;

/// A rule comes and goes under load, and now and then the file is no good.
pub(crate) fn reloads(trial: Trial<'_>) -> Report {
    const VISITED: &[(SocketAddr, bool)] = &[(HSM, true), (RAW, false)];
    let mut report = Report::default();
    let world = trial.world;
    let upstreams = upstreams_at(VISITED);
    let without = world.outproxy_config("'10.0.10.0/24'", "");
    let with = format!(
        "{without}[[allow]]\nname = 'other'\nhosts = ['{}']\nports = [2223]\n{}\n",
        HSM2.ip(),
        world.leg.cids()
    );
    let (bad, renamed) = (with.replace("ports", "prots"), without.replace("'hsm'", "'hardware'"));
    let mut chain = Chain::start_with(world, trial.seed, &without, world.inproxy_config(""));
    chain.warm_up(VISITED, &mut report);

    let kept_at = SocketAddr::new(HSM.ip(), 2224);
    let [kept_by, changing] = [kept_at, HSM2].map(listen);
    let mut kept = connections(&world.enclave, kept_at, &kept_by, KEPT);
    chain.count(KEPT as u64);
    let cycles = trial.pick(15, 125);
    let ledger = chain.visit_while(VISITED, CLIENTS, |chain, _| {
        for _ in 0..cycles {
            chain.reload(&with);
            let mut lost = connections(&world.enclave, HSM2, &changing, 2);
            chain.reload(&bad);
            lost.extend(connections(&world.enclave, HSM2, &changing, 1));
            for (client, upstream) in kept.iter_mut().chain(&mut lost) {
                ping(client, upstream);
            }
            for other in [&without, &renamed] {
                chain.reload(other);
                for (client, upstream) in &mut kept {
                    ping(client, upstream);
                }
            }
            for (client, upstream) in &mut lost {
                assert_reset(client);
                assert_reset(upstream);
            }
            assert_connect_resets(&world.enclave, HSM2);
            chain.count(4);
        }
    });
    report.done("reloads", 4 * cycles);
    report.done("closed", 3 * cycles);
    report.visits(&ledger, false);
    let disallowed = chain.outproxy.account().of("disallowed");
    report.hold(disallowed == 3 * cycles, || format!("N6: {disallowed} are logged as closed"));
    let failed = has("message", "failed to reload; everything stays as it was");
    chain.outproxy.line("a failed reload", failed);
    report.upstreams(&upstreams);
    drop(kept);
    chain.end(&mut report, MARGIN);
    report
}

/// Connections that every configuration allows.
const KEPT: usize = 8;
