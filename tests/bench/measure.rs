//! One measurement of one chain: a server, a client, and what the relays used meanwhile.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde_json::Value;
use tests::patience::patience;
use tests::peers::is_readable_within;

use crate::chain::{Chain, pause};
use crate::lab::{Lab, Side};
use crate::results::Metric;
use crate::scenario::{Arguments, Scenario};
use crate::usage::Usage;

/// Runs a scenario for so long, and says what came out.
pub(crate) fn measure(
    scenario: Scenario,
    chain: &Chain,
    lab: &Lab,
    limit: Duration,
) -> anyhow::Result<Vec<(Metric, f64)>> {
    let core = scenario.theme().placement().load;
    let mut serve = own_program()?;
    serve.arg("serve").arg(chain.server.to_string());
    if scenario.is_single() {
        serve.arg("--single");
    }
    let mut server = Helper::start(lab, Side::Host, core, serve)?;
    server.line()?;
    let (side, _) = chain.entry;
    let pids = chain.pids();
    let command = client(scenario.load(limit), chain)?;
    if let Scenario::Idle { tunnels } = scenario {
        let at_rest = worse(&memory(&pids)) / 1024.0;
        fill_history(chain, lab)?;
        let mut client = Helper::start(lab, side, core, command)?;
        let mut figures = hold(&mut client, &pids, tunnels)?;
        figures.push((Metric::AtRest, at_rest));
        return Ok(figures);
    }
    let before = Usage::cpu(&pids);
    let mut client = Helper::start(lab, side, core, command)?;
    let line = client.line()?;
    client.child.wait()?;
    let cpu = Usage::cpu(&pids) - before;
    let measured: Value = serde_json::from_str(&line).context("the client failed")?;
    Ok(figures(scenario, &measured, cpu))
}

fn figures(scenario: Scenario, measured: &Value, cpu: f64) -> Vec<(Metric, f64)> {
    let number = |name: &str| measured[name].as_f64().unwrap_or(f64::NAN);
    let per_second = number("count") / number("seconds");
    match scenario {
        Scenario::Download { .. } | Scenario::Upload { .. } => {
            let gib = number("bytes") / f64::from(1 << 30);
            vec![(Metric::Rate, gib / number("seconds")), (Metric::CpuPerGib, cpu / gib)]
        }
        Scenario::RoundTrip { .. } => vec![
            (Metric::P50, number("p50")),
            (Metric::P99, number("p99")),
            (Metric::P999, number("p99.9")),
            (Metric::PerSecond, per_second),
            (Metric::CpuEach, cpu * 1e6 / number("count")),
        ],
        Scenario::Connect { .. } => {
            vec![(Metric::PerSecond, per_second), (Metric::CpuEach, cpu * 1e6 / number("count"))]
        }
        Scenario::Idle { .. } => vec![],
    }
}

/// Makes connections, one after another, until relays that remember the last ones have all that they
/// ever remember: what that takes is no tunnel's, nor would it be given back.
fn fill_history(chain: &Chain, lab: &Lab) -> anyhow::Result<()> {
    let load = Scenario::Connect { at_once: 1 }.load(patience());
    let mut command = client(load, chain)?;
    command.args(["--count", LONGEST_HISTORY]);
    let mut client = Helper::start(lab, chain.entry.0, None, command)?;
    client.line()?;
    client.child.wait()?;
    Ok(())
}

/// Memory before, with so many tunnels open, and after they have closed.
fn hold(client: &mut Helper, pids: &[u32], tunnels: usize) -> anyhow::Result<Vec<(Metric, f64)>> {
    let descriptors = || Usage::of(pids).descriptors;
    // Nothing can be open yet: the client has not been told to begin.
    let (rest, at_rest) = (memory(pids), descriptors());
    client.say()?;
    client.line()?;
    let held = memory(pids);
    client.say()?;
    let deadline = Instant::now() + patience();
    while descriptors() > at_rest {
        if Instant::now() > deadline {
            bail!("the relays do not let go of their tunnels");
        }
        pause();
    }
    let left = settled_memory(pids);
    let per_tunnel = |relay: usize| (held[relay] - rest[relay]) / tunnels as f64;
    let growth: Vec<_> = left.iter().zip(&rest).map(|(left, rest)| left - rest).collect();
    Ok(vec![
        (Metric::InPerTunnel, per_tunnel(0)),
        (Metric::OutPerTunnel, per_tunnel(1)),
        (Metric::Left, worse(&growth)),
    ])
}

/// Memory once it has not changed for a second: what is to be told of so many ends takes a moment.
fn settled_memory(pids: &[u32]) -> Vec<f64> {
    let deadline = Instant::now() + patience();
    let (mut settled, mut since) = (memory(pids), Instant::now());
    while since.elapsed() < Duration::from_secs(1) && Instant::now() < deadline {
        pause();
        let now = memory(pids);
        if now != settled {
            (settled, since) = (now, Instant::now());
        }
    }
    settled
}

/// Of each relay, in KiB.
fn memory(pids: &[u32]) -> Vec<f64> {
    pids.iter().map(|pid| Usage::of(&[*pid]).memory).collect()
}

fn worse(relays: &[f64]) -> f64 {
    relays.iter().copied().fold(f64::MIN, f64::max)
}

fn client(arguments: Arguments, chain: &Chain) -> anyhow::Result<Command> {
    let Arguments { kind, connections, size, limit } = arguments;
    let kind = kind.to_possible_value().context("a load without a name")?;
    let (_, address) = chain.entry;
    let mut command = own_program()?;
    command
        .args(["load", kind.get_name(), &address.to_string()])
        .args(["--connections", &connections.to_string(), "--size", &size.to_string()])
        .args(["--millis", &limit.as_millis().to_string()]);
    Ok(command)
}

fn own_program() -> anyhow::Result<Command> {
    Ok(Command::new(env::current_exe().context("failed to find this program")?))
}

/// This program in another role. It is killed when this goes out of scope.
#[derive(Debug)]
struct Helper {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    fn start(
        lab: &Lab,
        side: Side,
        core: Option<usize>,
        mut command: Command,
    ) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = lab.spawn(side, core, &mut command)?;
        let stdout = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        Ok(Self { child, stdout })
    }

    /// The next line that it says.
    fn line(&mut self) -> anyhow::Result<String> {
        if !is_readable_within(self.stdout.get_ref(), patience() * 2) {
            bail!("it hangs");
        }
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.is_empty() {
            bail!("it failed");
        }
        Ok(line)
    }

    /// Tells it to go on.
    fn say(&mut self) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("standard input is a pipe")?;
        Ok(stdin.write_all(b"\n")?)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connections: more than inproxy keeps lines of for a host that does not take them.
const LONGEST_HISTORY: &str = "2500";
