//! The end-to-end tests: each scenario in a process and a world of its own, so that none can
//! disturb another.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod application;
mod config;
mod doctor;
mod enclave;
mod facts;
mod health;
mod hsm;
mod limits;
mod logging;
mod outage;
mod policy;
mod relay;
mod reload;
mod scripts;
mod telemetry;

use std::env;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};
use tests::patience::is_emulated;
use tests::world::World;

/// What happens in a world.
type Scenario = (&'static str, fn(&World));

/// Lists the scenarios of a module by the names of their functions.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub(crate) const ALL: &[crate::Scenario] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use scenarios;

const THEMES: &[(&str, &[Scenario])] = &[
    ("application", application::ALL),
    ("config", config::ALL),
    ("doctor", doctor::inproxy::ALL),
    ("doctor", doctor::machine::ALL),
    ("doctor", doctor::upstreams::ALL),
    ("enclave", enclave::ALL),
    (FACTS, facts::buffers::ALL),
    (FACTS, facts::closing::ALL),
    (FACTS, facts::connecting::ALL),
    (FACTS, facts::proxies::ALL),
    (FACTS, facts::stalls::ALL),
    ("health", health::ALL),
    ("hsm", hsm::ALL),
    ("limits", limits::ALL),
    ("logging", logging::ALL),
    ("outage", outage::ALL),
    ("policy", policy::ALL),
    ("relay", relay::ALL),
    ("reload", reload::ALL),
    ("scripts", scripts::ALL),
    (TELEMETRY, telemetry::ALL),
    (TELEMETRY, telemetry::faults::ALL),
    (TELEMETRY, telemetry::hostile::ALL),
];

/// What the host learns from inside an enclave.
const TELEMETRY: &str = "telemetry";

/// What is true of AF_VSOCK only.
const FACTS: &str = "facts";

/// Where each instruction is emulated these would take too long. What matters there, AF_VSOCK, has
/// its part in the others.
const NATIVE: &[&str] = &[
    "application::a_thousand_labels_make_a_thousand_keys",
    "application::a_thousand_requests_at_once_for_one_label_make_one_key",
    "outage::an_hsm_that_is_silent_is_survived",
];

fn main() -> ExitCode {
    tests::link::serve_if_asked();
    if let Ok(wanted) = env::var(SCENARIO) {
        let (_, scenario) = all().find(|(name, _)| *name == wanted).unwrap();
        scenario(&World::enter());
        return ExitCode::SUCCESS;
    }
    let trial = |(name, _): (String, _)| {
        let is_ignored =
            if is_emulated() { NATIVE.contains(&name.as_str()) } else { name.starts_with(FACTS) };
        Trial::test(name.clone(), move || run(&name)).with_ignored_flag(is_ignored)
    };
    libtest_mimic::run(&Arguments::from_args(), all().map(trial).collect()).exit_code()
}

fn all() -> impl Iterator<Item = (String, fn(&World))> {
    THEMES.iter().flat_map(|(theme, scenarios)| {
        scenarios.iter().map(move |(name, scenario)| (format!("{theme}::{name}"), *scenario))
    })
}

/// Says aloud what else is to be known of a scenario that holds.
#[expect(clippy::print_stderr, reason = "whoever runs it is to know")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Runs a scenario by running this very program again.
#[expect(clippy::print_stderr, reason = "the output of a scenario is its own")]
fn run(name: &str) -> Result<(), libtest_mimic::Failed> {
    let output = Command::new(env::current_exe()?).env(SCENARIO, name).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        // What it has to say beyond its success.
        eprint!("{text}");
        return Ok(());
    }
    Err(format!("{}\n{text}", output.status).into())
}

/// Names the scenario in the process that is its own.
const SCENARIO: &str = "E2E_SCENARIO";
