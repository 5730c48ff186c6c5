//! Name servers that are dead, lie, are slow, or cannot make up their mind.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tests::dns::{Answer, NameServer};
use tests::peers::{is_readable_within, listen};
use tests::visits::Ledger;
use tests::world::{HSM, HSM2};

use crate::Trial;
use crate::chain::{CLIENTS, Chain, MARGIN, upstreams_at};
use crate::report::Report;

/// One fault after the other, while clients visit a name.
pub(crate) fn names(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let world = trial.world;
    let upstreams = upstreams_at(&[(HSM, true), (HSM2, true)]);
    // Where a name must not lead.
    let forbidden = listen(SocketAddr::from(([127, 0, 0, 1], HSM.port())));
    let server = NameServer::start(Answer::Address(v4(HSM)));
    let hosts = NAMES.map(|name| format!("'{name}'")).join(", ");
    let outproxy =
        world.outproxy_config(&hosts, "") + &format!("[dns]\nservers = ['{}']\n", server.address);
    let forwards = NAMES.map(|name| {
        format!("[[forward]]\nname = '{}'\nhost = '{name}'\nports = [2223]\n", &name[..5])
    });
    let inproxy = world.inproxy_config("") + &forwards.concat();
    let mut chain = Chain::start_with(world, trial.seed, &outproxy, inproxy);
    let [named, unknown] = NAMES.map(|name| address_of(world, name));
    let to = &[(named, true)];
    chain.warm_up(to, &mut report);

    for _ in 0..trial.pick(1, 20) {
        for (what, answer) in served() {
            server.set(answer);
            let ledger = visit_for(&mut chain, to, PHASE);
            check(&mut report, what, &ledger, false);
        }
        for address in PROHIBITED {
            server.set(Answer::Address(*address));
            // What it has said before holds for a second.
            visit_for(&mut chain, to, Duration::from_millis(2500));
            let ledger = visit_for(&mut chain, to, PHASE / 4);
            check(&mut report, "led astray", &ledger, true);
        }
        server.set(Answer::Address(v4(HSM)));
        visit_for(&mut chain, to, Duration::from_millis(2500));
        check(&mut report, "back", &visit_for(&mut chain, to, PHASE / 4), false);
        // Nothing is known of this one.
        server.set(Answer::Silence);
        let ledger = visit_for(&mut chain, &[(unknown, true)], PHASE / 4);
        check(&mut report, "of a name nobody knows", &ledger, true);
    }
    let was_led = is_readable_within(&forbidden, Duration::ZERO);
    report.hold(!was_led, || "a name has led to this machine itself".into());
    report.upstreams(&upstreams);
    chain.end(&mut report, MARGIN);
    report
}

/// What a name server may do without anybody losing a connection: the last good answer is used.
fn served() -> [(&'static str, Answer); 6] {
    [
        ("well", Answer::Address(v4(HSM))),
        ("dead", Answer::Silence),
        ("failing", Answer::Failure),
        ("slow", Answer::Late(v4(HSM), Duration::from_millis(700))),
        ("of a liar", Answer::Mismatch(Ipv4Addr::LOCALHOST)),
        ("flipping", Answer::Flip([v4(HSM), v4(HSM2)])),
    ]
}

fn visit_for(chain: &mut Chain<'_>, to: &[(SocketAddr, bool)], time: Duration) -> Ledger {
    chain.visit_while(to, CLIENTS / 2, |_, visits| visits.pause(time))
}

fn check(report: &mut Report, what: &'static str, ledger: &Ledger, must_abort: bool) {
    let slowest = ledger.quantile(1000);
    let Ledger { served, aborted, .. } = *ledger;
    if must_abort {
        report.done(what, aborted);
        report.hold(served == 0 && aborted > 0, || {
            format!("{what}: {served} were served, {aborted} aborted")
        });
    } else {
        report.done(what, served);
        report.hold(served > 0 && aborted == 0, || {
            format!("{what}: {served} were served, {aborted} aborted")
        });
        report.hold(slowest <= WAIT, || format!("{what}: somebody waited {slowest:.1?}"));
    }
    for broken in &ledger.broken {
        report.broken(format!("{what}: {broken}"));
    }
}

fn address_of(world: &tests::world::World, name: &str) -> SocketAddr {
    let hosts = world.enclave.run(|| fs::read_to_string("/etc/hosts")).unwrap();
    let line = hosts.lines().find(|line| line.contains(name)).unwrap();
    let address: IpAddr = line.split_whitespace().next().unwrap().parse().unwrap();
    SocketAddr::new(address, HSM.port())
}

fn v4(address: SocketAddr) -> Ipv4Addr {
    match address.ip() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("HSMs have IPv4 addresses here"),
    }
}

const NAMES: [&str; 2] = ["known.example", "never.example"];
const PROHIBITED: &[Ipv4Addr] =
    &[Ipv4Addr::LOCALHOST, Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::UNSPECIFIED];
/// How long a name server has a fault: longer than an answer holds, and a question may take.
const PHASE: Duration = Duration::from_secs(4);
/// The most that a client waits for an old answer, 1.8 s, and what a busy machine adds.
const WAIT: Duration = Duration::from_secs(10);
