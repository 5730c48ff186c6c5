//! Random scripts through both proxies.
//!
//! `SCRIPTS` says how many, `SCRIPT_SEED` which is the first: a script that fails prints its own.

use std::env;

use tests::patience::is_emulated;
use tests::scripts::{limits, perform};
use tests::world::World;

crate::scenarios![whatever_its_ends_do_the_chain_keeps_its_promises];

fn whatever_its_ends_do_the_chain_keeps_its_promises(world: &World) {
    let from_env = |name| env::var(name).ok().map(|value: String| value.parse().unwrap());
    let first = from_env("SCRIPT_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    let count = from_env("SCRIPTS").unwrap_or_else(|| if is_emulated() { 500 } else { 300 });
    let _tunnel = world.tunnel_with(&limits(), &limits());
    let verdicts = perform(world, first..first + count, CONCURRENT);
    let (broken, crossed) = (verdicts.broken.len(), verdicts.crossed.len());
    if crossed > 0 {
        crate::say(&format!("in {crossed} of {count} scripts an abort crossed an end"));
    }
    assert!(
        verdicts.hold(),
        "{broken} of {count} failed, {crossed} more where ends may have crossed\n{}",
        verdicts.shortest()
    );
}

const CONCURRENT: usize = 64;
