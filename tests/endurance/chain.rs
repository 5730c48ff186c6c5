//! Both proxies, and whether they are at rest again.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use outproxy::admin::fetch;
use outproxy::status::Status;
use tests::namespace::reuse_ports;
use tests::patience::patience;
use tests::process::Process;
use tests::proxies::Outproxy;
use tests::visits::{Ledger, Plan, Upstream, Visits, visit_while};
use tests::world::{ALLOWED, HSM, HSM2, RAW, World};

use crate::report::{Report, Usage};

/// Both proxies of a world.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    pub(crate) world: &'a World,
    pub(crate) outproxy: Outproxy,
    pub(crate) inproxy: Process,
    outproxy_config: String,
    inproxy_config: String,
    before: [Usage; 2],
    /// How many connections this inproxy has got, as far as that is known.
    pub(crate) connections: Option<u64>,
    /// How long it may take until both are at rest.
    pub(crate) rest: Duration,
    seed: u64,
}

impl<'a> Chain<'a> {
    /// Starts both, with `[limits]`.
    pub(crate) fn start(
        world: &'a World,
        seed: u64,
        outproxy_limits: &str,
        inproxy_limits: &str,
    ) -> Self {
        let outproxy = world.outproxy_config(ALLOWED, outproxy_limits);
        Self::start_with(world, seed, &outproxy, world.inproxy_config(inproxy_limits))
    }

    /// Starts both, with whole configurations but for `[metrics]`.
    pub(crate) fn start_with(
        world: &'a World,
        seed: u64,
        outproxy: &str,
        inproxy_config: String,
    ) -> Self {
        let outproxy_config = with_metrics(outproxy);
        reuse_ports().unwrap();
        world.enclave.run(reuse_ports).unwrap();
        let outproxy = world.outproxy(&outproxy_config);
        let inproxy = world.inproxy(&inproxy_config);
        let before = [&*outproxy, &inproxy].map(Usage::of);
        let connections = Some(0);
        Self {
            world,
            outproxy,
            inproxy,
            outproxy_config,
            inproxy_config,
            before,
            connections,
            rest: patience(),
            seed,
        }
    }

    /// Does something while clients visit.
    pub(crate) fn visit_while(
        &mut self,
        to: &[(SocketAddr, bool)],
        clients: usize,
        body: impl FnOnce(&mut Self, &Visits),
    ) -> Ledger {
        self.visit_at_most(to, clients, None, body)
    }

    /// Has so many visits made.
    pub(crate) fn visit(&mut self, to: &[(SocketAddr, bool)], clients: usize, most: u64) -> Ledger {
        self.visit_at_most(to, clients, Some(most), |_, _| {})
    }

    fn visit_at_most(
        &mut self,
        to: &[(SocketAddr, bool)],
        clients: usize,
        most: Option<u64>,
        body: impl FnOnce(&mut Self, &Visits),
    ) -> Ledger {
        self.seed += 1000;
        let plan = Plan { enclave: &self.world.enclave, to, clients, most, seed: self.seed };
        let ledger = visit_while(plan, |visits| body(self, visits));
        self.count(ledger.connections());
        ledger
    }

    /// So many connections more were made.
    pub(crate) fn count(&mut self, connections: u64) {
        self.connections = self.connections.map(|all| all + connections);
    }

    /// Has it used once what it will use, so that what it holds from then on is the baseline.
    pub(crate) fn warm_up(&mut self, to: &[(SocketAddr, bool)], report: &mut Report) {
        let ledger = self.visit(to, CLIENTS, 1000);
        report.hold(ledger.connections() == ledger.served, || {
            format!("N1: the first visits were not served: {:?}", ledger.broken)
        });
        self.settle(report);
    }

    /// Waits until it is at rest; what it holds then is the baseline from now on.
    pub(crate) fn settle(&mut self, report: &mut Report) {
        self.await_rest(report);
        let now = self.usage();
        for (before, now) in self.before.iter_mut().zip(now) {
            before.memory = now.memory;
        }
    }

    /// Starts outproxy again, as systemd does.
    pub(crate) fn restart_outproxy(&mut self) {
        self.outproxy = self.world.outproxy(&self.outproxy_config);
    }

    /// Starts inproxy again, in the same enclave.
    pub(crate) fn restart_inproxy(&mut self) {
        self.inproxy = self.world.inproxy(&self.inproxy_config);
        // Those that the old one had, and did not log, nobody knows.
        self.connections = None;
    }

    /// What outproxy is configured with.
    pub(crate) fn outproxy_config(&self) -> &str {
        &self.outproxy_config
    }

    /// Has outproxy read another configuration.
    pub(crate) fn reload(&mut self, config: &str) {
        self.outproxy_config = with_metrics(config);
        self.outproxy.reload(&self.outproxy_config);
    }

    /// What outproxy knows of itself.
    pub(crate) fn status(&self) -> Status {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = METRICS.parse().unwrap();
        let mut page = None;
        // It may be busy with all that ends.
        let has_told = until(|| {
            page = runtime.block_on(fetch(&endpoint, "/status")).ok();
            page.is_some()
        });
        assert!(has_told, "outproxy does not tell its status");
        serde_json::from_str(&page.unwrap()).unwrap()
    }

    pub(crate) fn usage(&self) -> [Usage; 2] {
        [&*self.outproxy, &self.inproxy].map(Usage::of)
    }

    /// Waits until both are at rest, and holds what they have and what they said against N5 and N6.
    /// They may keep `margin` bytes of memory.
    pub(crate) fn end(self, report: &mut Report, margin: u64) {
        self.await_rest(report);
        let after = self.usage();
        for (name, (before, after)) in NAMES.iter().zip(self.before.iter().zip(after)) {
            let grown = after.memory.saturating_sub(before.memory);
            report.hold(grown <= margin, || {
                format!("N5: {name} keeps {grown} bytes, and {margin} are allowed")
            });
            report.hold(after.threads == before.threads, || {
                format!("N5: {name} has {} threads, and had {}", after.threads, before.threads)
            });
        }
        self.check_account(report);
        report.usage(self.before, after);
    }

    fn await_rest(&self, report: &mut Report) {
        let open = || self.status().connections.open;
        report.hold(until_within(self.rest, || open() == 0), || {
            format!("N5: {} connections are open", open())
        });
        let descriptors = || [&*self.outproxy, &self.inproxy].map(Process::descriptors);
        let before = self.before.map(|usage| usage.descriptors);
        let is_quiet = until_within(self.rest, || {
            descriptors().iter().zip(before).all(|(now, then)| *now <= then)
        });
        report.hold(is_quiet, || {
            format!("N5: {:?} descriptors of outproxy, inproxy; {before:?} before", descriptors())
        });
    }

    fn check_account(&self, report: &mut Report) {
        let counted = || {
            let connections = self.status().connections;
            let over = connections.ended.values().chain(connections.refused.values()).sum::<u64>();
            over + connections.open as u64
        };
        let logged = || self.outproxy.account().total();
        report.hold(until(|| logged() == counted()), || {
            format!("N6: outproxy has logged {} connections, and counted {}", logged(), counted())
        });
        if let Some(connections) = self.connections {
            let logged = || self.inproxy.account().total();
            report.hold(until(|| logged() == connections), || {
                format!("N6: inproxy has logged {} of {connections} connections", logged())
            });
        }
    }
}

/// The upstreams of every address that is reached.
pub(crate) fn upstreams() -> Vec<Upstream> {
    upstreams_at(VISITED)
}

/// The upstreams of these addresses.
pub(crate) fn upstreams_at(visited: &[(SocketAddr, bool)]) -> Vec<Upstream> {
    visited.iter().map(|(address, _)| Upstream::start(*address, CLIENTS)).collect()
}

/// Waits until something is so, if it becomes so.
pub(crate) fn until(is_so: impl FnMut() -> bool) -> bool {
    until_within(patience(), is_so)
}

#[expect(clippy::disallowed_methods, reason = "no event tells of it")]
fn until_within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

fn with_metrics(config: &str) -> String {
    format!("{config}[metrics]\nlisten = '{METRICS}'\n")
}

/// Whom clients visit, and whether they may half-close before they have read. Over a raw tunnel an
/// abort after that may look like a clean end; see ARCHITECTURE.
pub(crate) const VISITED: &[(SocketAddr, bool)] = &[(HSM, true), (HSM2, true), (RAW, false)];
/// How many visit at once.
pub(crate) const CLIENTS: usize = 16;
/// What a proxy may keep of a load, in bytes: pages that an allocator has in part.
pub(crate) const MARGIN: u64 = 2 << 20;
/// Where outproxy tells of itself.
pub(crate) const METRICS: &str = "tcp:127.0.0.1:9464";
const NAMES: [&str; 2] = ["outproxy", "inproxy"];
