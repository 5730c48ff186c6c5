//! What the proxies must survive, again and again: load, kills, reloads, and the loss of whatever
//! they need. Each trial has a process and a world of its own, and ends with the proxies at rest.
#![expect(clippy::unwrap_used, reason = "a trial that cannot go on has failed")]

mod chain;
mod idle;
mod kills;
mod names;
mod reloads;
mod report;
mod resources;
mod scrapes;
mod scripts;
mod soak;
mod storm;
mod table;
mod upstreams;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};
use tests::peers::raise_descriptor_limit;
use tests::world::World;

use report::Report;

/// Has inproxy and outproxy endure what may happen to them, and tells what they lost.
///
/// The binaries are those in the directory `BIN_DIR`, or beside this one. Exits with 1 if a promise
/// was broken.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Cli {
    /// Minutes, in the place of hours.
    #[arg(long)]
    short: bool,
    /// Only these trials.
    #[arg(long, value_delimiter = ',', value_name = "TRIAL,..", value_parser = PossibleValuesParser::new(TRIALS.iter().map(|(name, _)| *name)))]
    only: Vec<String>,
    /// What random choices begin with; default: another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Writes the report to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The trial that this process is.
    #[arg(long, hide = true)]
    trial: Option<String>,
}

/// Where a trial happens, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial<'a> {
    pub(crate) world: &'a World,
    pub(crate) seed: u64,
    short: bool,
}

impl Trial<'_> {
    /// One number for the short form, another for the long one.
    pub(crate) fn pick<T>(self, short: T, long: T) -> T {
        if self.short { short } else { long }
    }
}

type Try = fn(Trial<'_>) -> Report;

const TRIALS: &[(&str, Try)] = &[
    ("soak", soak::soak),
    ("idle", idle::idle),
    ("scripts", scripts::scripts),
    ("kill-outproxy", kills::outproxy),
    ("kill-inproxy", kills::inproxy),
    ("reloads", reloads::reloads),
    ("upstreams", upstreams::upstreams),
    ("names", names::names),
    ("descriptors", resources::descriptors),
    ("memory", resources::memory),
    ("system-tables", resources::system_tables),
    ("full-disk", resources::full_disk),
    ("log", resources::log),
    ("storm", storm::storm),
    ("slow", storm::slow),
    ("scrapes", scrapes::scrapes),
];

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("endurance: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
fn run(cli: &Cli) -> anyhow::Result<bool> {
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..1 << 48));
    if let Some(name) = &cli.trial {
        return perform(name, seed, cli.short);
    }
    let is_wanted = |name: &str| cli.only.is_empty() || cli.only.iter().any(|only| only == name);
    let mut trials = Vec::new();
    for (name, _) in TRIALS.iter().filter(|(name, _)| is_wanted(name)) {
        say(&format!("endurance: {name}, with seed {seed}"));
        trials.push(start(name, seed, cli.short).with_context(|| format!("trial `{name}`"))?);
    }
    let mut out = io::stdout().lock();
    table::write(&mut out, &trials)?;
    if let Some(path) = &cli.json {
        let all = json!({ "seed": seed, "short": cli.short, "trials": trials });
        fs::write(path, format!("{all:#}\n"))
            .with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    Ok(trials.iter().all(|trial| trial["broken"].as_array().is_some_and(Vec::is_empty)))
}

/// Is one trial, and prints its report as a line of JSON.
fn perform(name: &str, seed: u64, short: bool) -> anyhow::Result<bool> {
    let (_, trial) = TRIALS.iter().find(|(known, _)| *known == name).context("no such trial")?;
    fastrand::seed(seed);
    let world = World::enter();
    raise_descriptor_limit();
    let report = trial(Trial { world: &world, seed, short });
    writeln!(io::stdout(), "{}", report.to_json())?;
    Ok(true)
}

/// Runs a trial by running this very program again.
fn start(name: &str, seed: u64, short: bool) -> anyhow::Result<Value> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--trial", name, "--seed", &seed.to_string()]).stdin(Stdio::null());
    if short {
        command.arg("--short");
    }
    let started = Instant::now();
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let mut report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        say(&text);
        // What the first panic says comes first.
        let why = text.lines().filter(|line| !line.is_empty()).take(4).collect::<Vec<_>>();
        json!({ "broken": [format!("{}: {}", output.status, why.join(" "))] })
    });
    report["trial"] = name.into();
    report["seconds"] = started.elapsed().as_secs_f64().into();
    for broken in report["broken"].as_array().into_iter().flatten() {
        say(&format!("endurance: {name}: {broken}"));
    }
    Ok(report)
}

#[expect(clippy::print_stderr, reason = "whoever waits wants to know how far it is")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
