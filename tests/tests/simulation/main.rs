//! A thousand days of both proxies, each in a fraction of a second: the clock jumps to the next
//! event as soon as nobody has anything left to do.
//!
//! `SIMULATION_SEED` names one day, which is then told in full; `SIMULATION_SEEDS` says how many
//! there are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bytes;
mod config;
mod end;
mod journal;
mod name_server;
mod net;
mod operator;
mod plan;
mod record;
mod site;
mod trace;
mod verdict;
mod world;

use std::env;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tests::patience::scaled;

use plan::{Plan, Trouble};

fn main() -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials()).exit_code()
}

fn trials() -> Vec<Trial> {
    if let Some(seed) = from_env("SIMULATION_SEED") {
        return vec![Trial::test(format!("day_{seed}"), move || tell(seed))];
    }
    let seeds = from_env("SIMULATION_SEEDS").unwrap_or_else(|| scaled(SEEDS) as u64);
    let shards = (0..seeds).step_by(SHARD);
    let shards = shards.map(|first| first..seeds.min(first + SHARD as u64));
    shards
        .map(|shard| {
            let name = format!("the_promises_hold_on_days_{:04}_to_{:04}", shard.start, shard.end);
            Trial::test(name, move || run_all(shard))
        })
        .chain([Trial::test("a_seed_makes_the_same_day_again", repeat)])
        .collect()
}

fn run_all(seeds: Range<u64>) -> Result<(), Failed> {
    for seed in seeds {
        // Should it hang, the last one named is the one that does.
        say(&format!("SIMULATION_SEED={seed}"));
        judge(Plan::new(seed))?;
    }
    Ok(())
}

/// Lives through a day, and says what was wrong with it.
fn judge(plan: Plan) -> Result<String, Failed> {
    let plan = Arc::new(plan);
    let record = world::live(&plan);
    let broken = verdict::judge(&plan, &record);
    if broken.is_empty() {
        return Ok(trace::of(&plan, &record));
    }
    let broken = broken.join("\n");
    let again = format!("SIMULATION_SEED={} cargo test -p tests --test simulation", plan.seed);
    Err(format!("{broken}\nto see all of it: {again}").into())
}

/// The same, and tells all of it.
fn tell(seed: u64) -> Result<(), Failed> {
    let plan = Arc::new(Plan::new(seed));
    let record = world::live(&plan);
    say(&format!("{plan:#?}\n{}", trace::of(&plan, &record)));
    let broken = verdict::judge(&plan, &record);
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n").into()) }
}

fn repeat() -> Result<(), Failed> {
    for seed in 0..REPEATED {
        let [once, again] = [(); 2].map(|()| {
            let mut plan = Plan::new(seed);
            // The resolver's library measures in real time how fast a name server is, and when to
            // ask it again follows from that.
            plan.troubles.retain(|(_, trouble)| !matches!(trouble, Trouble::NameServer(_)));
            judge(plan)
        });
        let (once, again) = (once?, again?);
        if once != again {
            let mut lines = once.lines().zip(again.lines());
            let first = lines.find(|(once, again)| once != again);
            return Err(format!("day {seed} differs: {first:?}").into());
        }
    }
    Ok(())
}

fn from_env(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

#[expect(clippy::print_stderr, reason = "whoever sees the test fail is to know the seed")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// How many days there are.
const SEEDS: usize = 1000;
/// How many of them one test has, so that all cores have something to do.
const SHARD: usize = 50;
/// How many of them are lived through twice.
const REPEATED: u64 = 10;
