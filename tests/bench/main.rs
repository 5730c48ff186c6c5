//! Runs the proxies and their peers side by side, and says how they compare.
//!
//! Client and in-relay are in the enclave's network, out-relay and server in the host's, and a
//! Unix socket, or AF_VSOCK in the virtual machine of tests/lab, joins them. Chains are measured
//! in turn, round by round; only ratios of one run mean anything.

mod chain;
mod chart;
mod lab;
mod load;
mod measure;
mod poller;
mod relays;
mod results;
mod scenario;
mod serve;
mod table;
mod targets;
mod usage;
mod wire;

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tests::patience::is_emulated;

use chain::{Chain, Kind, Programs};
use lab::Lab;
use measure::measure;
use results::Results;
use scenario::{EMULATED, MOST_PROCESSES, NATIVE, Scenario, Theme};
use targets::Verdict;

/// Compares inproxy and outproxy with their peers on this machine.
///
/// The binaries are those in the directory `BIN_DIR`. Exits with 0, or with 1 if `--check` or
/// `--hold` says so.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

/// What this program is when it starts itself.
#[derive(Debug, Subcommand)]
enum Role {
    #[command(hide = true)]
    Load(load::Load),
    #[command(hide = true)]
    Serve {
        address: SocketAddr,
        #[arg(long)]
        single: bool,
    },
}

#[derive(Args, Debug)]
struct Options {
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "THEME,..")]
    only: Vec<Theme>,
    /// Only these chains, beside our own.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PEER,..")]
    peers: Vec<Kind>,
    /// How often each chain is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each load runs, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    millis: u64,
    /// Writes every sample to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a chart to a file, as SVG.
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Where AWS vsock-proxy is.
    #[arg(long, value_name = "BIN")]
    vsock_proxy: Option<PathBuf>,
    /// Fails if a target is not reached.
    #[arg(long)]
    check: bool,
    /// Fails if what had been reached is lost.
    #[arg(long)]
    hold: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.role {
        Some(Role::Load(load)) => load::run(load).context("load").map(|()| true),
        Some(Role::Serve { address, single }) => {
            serve::run(*address, *single).context("serve").map(|()| true)
        }
        None => compare(cli.options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether every target was reached, if that was asked for.
fn compare(options: Options) -> anyhow::Result<bool> {
    let programs = Programs { vsock_proxy: options.vsock_proxy.clone() };
    let kinds = choose(&options, &programs);
    let lab = Lab::enter()?;
    let mut bench = Bench { lab, programs, kinds, options, results: Results::default() };
    bench.run();
    let Bench { kinds, options, results, .. } = bench;
    let verdicts = targets::verdicts(&results, is_emulated());
    let mut out = io::stdout().lock();
    table::write_medians(&mut out, &results, &kinds)?;
    table::write_verdicts(&mut out, &verdicts)?;
    for failure in results.failures() {
        writeln!(out, "FAILED  {failure}")?;
    }
    if let Some(path) = &options.json {
        write(path, &format!("{:#}\n", results.to_json()))?;
    }
    if let Some(path) = &options.chart {
        let one = if is_emulated() { Kind::Socat } else { Kind::Haproxy };
        write(path, &chart::draw(&results, &kinds, one))?;
    }
    for lost in verdicts.iter().filter(|verdict| verdict.is_lost()) {
        let held = lost.held().map(|held| format!("{held} was")).unwrap_or_default();
        writeln!(out, "LOST  {}: {:.2}, where {held} reached", lost.target, lost.measured.median)?;
    }
    let is_whole = results.failures().is_empty();
    let is_reached = is_whole && verdicts.iter().all(Verdict::is_reached);
    let is_held = is_whole && !verdicts.is_empty() && !verdicts.iter().any(Verdict::is_lost);
    Ok((!options.check || is_reached) && (!options.hold || is_held))
}

/// The chains that are wanted and can be had.
fn choose(options: &Options, programs: &Programs) -> Vec<Kind> {
    let is_wanted =
        |kind: &Kind| kind.is_ours() || options.peers.is_empty() || options.peers.contains(kind);
    let can_be_had = |kind: &Kind| match programs.missing(*kind) {
        Some(reason) => {
            say(&format!("bench: without {kind}: {reason}"));
            false
        }
        None => true,
    };
    Kind::value_variants().iter().copied().filter(is_wanted).filter(can_be_had).collect()
}

/// What a run works with.
#[derive(Debug)]
struct Bench {
    lab: Lab,
    programs: Programs,
    kinds: Vec<Kind>,
    options: Options,
    results: Results,
}

impl Bench {
    fn run(&mut self) {
        let all = if is_emulated() { EMULATED } else { NATIVE };
        for theme in [Theme::Bulk, Theme::Rr, Theme::Conn, Theme::Idle] {
            if !self.options.only.is_empty() && !self.options.only.contains(&theme) {
                continue;
            }
            let scenarios: Vec<_> =
                all.iter().copied().filter(|all| all.theme() == theme).collect();
            if theme == Theme::Idle {
                self.run_fresh(&scenarios);
            } else {
                self.run_warm(theme, &scenarios);
            }
        }
    }

    /// All chains run all the time, and are warm before they are measured.
    fn run_warm(&mut self, theme: Theme, scenarios: &[Scenario]) {
        let chains: Vec<_> =
            self.kinds.clone().into_iter().filter_map(|kind| self.start(theme, kind)).collect();
        for scenario in scenarios {
            say(&format!("bench: {scenario}"));
            for chain in &chains {
                let limit = Duration::from_millis(self.options.millis / 4);
                self.measure(*scenario, chain, limit);
            }
            for round in 0..self.options.rounds {
                // Nobody is always first.
                let first = round % chains.len().max(1);
                for chain in chains[first..].iter().chain(&chains[..first]) {
                    let limit = Duration::from_millis(self.options.millis);
                    let measured = self.measure(*scenario, chain, limit);
                    self.record(*scenario, chain.kind, round, measured);
                }
            }
        }
    }

    /// Each measurement has a new chain: memory that was used before would hide what is used now.
    fn run_fresh(&mut self, scenarios: &[Scenario]) {
        for scenario in scenarios {
            say(&format!("bench: {scenario}"));
            for round in 0..self.options.rounds {
                for kind in self.kinds.clone() {
                    let is_too_much = kind.forks()
                        && matches!(scenario, Scenario::Idle { tunnels } if *tunnels > MOST_PROCESSES);
                    if is_too_much || kind == Kind::Direct {
                        continue;
                    }
                    if let Some(chain) = self.start(scenario.theme(), kind) {
                        let measured = self.measure(*scenario, &chain, Duration::ZERO);
                        self.record(*scenario, kind, round, measured);
                    }
                }
            }
        }
    }

    fn start(&mut self, theme: Theme, kind: Kind) -> Option<Chain> {
        match Chain::start(kind, &self.lab, theme.placement().relays, &self.programs) {
            Ok(chain) => Some(chain),
            Err(error) => {
                self.fail(format!("{kind}: {error:#}"));
                None
            }
        }
    }

    fn measure(
        &mut self,
        scenario: Scenario,
        chain: &Chain,
        limit: Duration,
    ) -> Vec<(results::Metric, f64)> {
        measure(scenario, chain, &self.lab, limit).unwrap_or_else(|error| {
            self.fail(format!("{}: {scenario}: {error:#}", chain.kind));
            vec![]
        })
    }

    fn record(
        &mut self,
        scenario: Scenario,
        kind: Kind,
        round: usize,
        measured: Vec<(results::Metric, f64)>,
    ) {
        for (metric, value) in measured {
            self.results.add((scenario, metric), kind, round, value);
        }
    }

    fn fail(&mut self, failure: String) {
        say(&format!("bench: {failure}"));
        self.results.add_failure(failure);
    }
}

fn write(path: &PathBuf, content: &str) -> anyhow::Result<()> {
    fs::write(path, content).with_context(|| format!("failed to write `{}`", path.display()))
}

#[expect(clippy::print_stderr, reason = "whoever waits wants to know how far it is")]
fn say(text: &str) {
    eprintln!("{text}");
}
